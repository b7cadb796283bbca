"""The readers of :mod:`confsim.deep.data` under the path that version 0.1 had."""

from confsim.deep.data.arrays import read_npz
from confsim.deep.data.cifar import _from_pickle as _cifar_pickle
from confsim.deep.data.cifar import read_cifar
from confsim.deep.data.folder import SPLITS, read_folder
from confsim.deep.data.idx import read_idx
from confsim.deep.data.images import Images, encode_labels
from confsim.deep.data.pictures import picture as _picture

__all__ = [
    "SPLITS",
    "Images",
    "_cifar_pickle",
    "_picture",
    "encode_labels",
    "read_cifar",
    "read_folder",
    "read_idx",
    "read_npz",
]
