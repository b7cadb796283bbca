"""Pictures in class folders: which file is an image, and of which class.

No picture is left out, and none gets another label than its owner sees, unless a note says so. The
order of images is the order of their names, so that a directory and an archive of it are the same.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from confsim.deep.data.archive import is_hidden, members
from confsim.deep.data.images import Images, encode_labels
from confsim.deep.data.limits import Budget, DataError, check_text, list_some, shown
from confsim.deep.data.pictures import SUFFIXES, decode

SPLITS = frozenset({"train", "test", "val", "valid", "validation"})

_PICTURES = """
    avif avifs heic heics heif heifs hif jp2 j2k j2c jpc jpf jpm jpx jxl jxr wdp hdp webp2
    bpg flif qoi ico cur icns svg svgz tga vda icb vst pam pfm psd psb pcx sgi rgb rgba bw ras xbm
    xpm xcf dds ktx vtf jng mng fli flc mpo exr hdr raw dng cr2 cr3 crw nef nrw arw srf sr2 orf rw2
    raf pef srw erf kdc x3f 3fr czi lif nd2 ndpi svs
"""
_ARRAYS = "npy npz mat fits fit dcm nii nrrd mha mhd"
_FILMS = "mp4 m4v avi mov mkv webm wmv mpg mpeg"

#: Pictures, or arrays of them, that are not read. What else lies beside pictures is only counted.
UNREAD_PICTURES = frozenset(f".{s}" for s in f"{_PICTURES} {_ARRAYS} {_FILMS}".split())

Parts = tuple[str, ...]


class _Found:
    """What lies below a path, by the parts of its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[Parts, bytes] = {}
        self.names: dict[Parts, str] = {}
        self.folders: set[Parts] = set()
        self.unread: list[str] = []
        self.hidden: list[str] = []

    def survey(self, budget: Budget) -> None:
        """Read all pictures and list everything else."""
        for member in members(self.path, _is_picture, budget):
            parts = tuple(p for p in member.name.split("/") if p not in ("", "."))
            if not parts:
                continue
            if is_hidden(member.name):
                self.hidden.append(member.name)
                continue
            self.folders.update(parts[:k] for k in range(1, len(parts)))
            if member.folder:
                self.folders.add(parts)
            elif parts in self.names:
                raise DataError(
                    f"{self.path} holds {shown(member.name)} twice: make the archive anew"
                )
            else:
                self.names[parts] = member.name
                if member.content is None:
                    self.unread.append(member.name)
                else:
                    self.files[parts] = member.content


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not is_hidden(name)


def read_folder(path: Path, limit: int | None = None) -> Images:
    """Read class subfolders of pictures, with or without ``train/`` and ``test/`` above.

    Ids number the files in the order of their names, so that a directory and an archive of it give
    the same images, ids and labels.

    Parameters
    ----------
    path : Path
        A directory, a ``.tar`` (compressed or not) or a ``.zip``.
    limit : int, optional
        Bytes that the data may unpack to; see :class:`~confsim.deep.data.limits.Budget`.

    Raises
    ------
    DataError
        If a picture cannot be read exactly, has no class, or has another size than the first, or a
        class has no picture; or if the archive is damaged.
    """
    budget = Budget(limit)
    found = _Found(path)
    found.survey(budget)
    _check_unread(found)
    if not found.files:
        raise DataError(f"{path} holds no PNG or JPEG files, nor other pictures that are read")
    classes = _classes(found)
    notes = [*_notes_on_folders(found, classes), *_notes_on_files(found), *_notes_on_names(classes)]
    order = sorted(found.files)
    labels, names = encode_labels(np.array([classes[parts] for parts in order]))
    images, turned = decode(
        [(f"{path}: {shown(found.names[parts])}", found.files.pop(parts)) for parts in order],
        budget,
    )
    if turned:
        notes.append(f"{len(turned):,} pictures carry an orientation mark, which was applied")
    return Images(
        images, labels, np.arange(len(images)), names, tuple(f"{path}: {note}" for note in notes)
    )


# -- Classes ---------------------------------------------------------------------------------------


def _common(names: Iterable[Parts]) -> int:
    """Count the leading folders that all names share."""
    shared = 0
    for level in zip(*(parts[:-1] for parts in names), strict=False):
        if len(set(level)) > 1:
            break
        shared += 1
    return shared


def _classes(found: _Found) -> dict[Parts, str]:
    """Return the class of each picture: the folder that it lies in, all of them equally deep."""
    shared = _common(found.files)
    depths = Counter(len(parts) - shared for parts in found.files)
    usual = max(depths, key=lambda depth: depths[depth])
    tops = {parts[shared] for parts in found.files}
    splits = {top for top in tops if top.lower() in SPLITS}
    for parts in sorted(found.files):
        if (
            len(parts) - shared != usual
            or usual < 2
            or usual > 3
            or (usual == 3 and tops != splits)
        ):
            raise DataError(
                f"{found.path}: {shown(found.names[parts])} is not in a class folder: expected "
                "CLASS/FILE or train/CLASS/FILE for every picture, with at least two classes"
            )
    if usual == 2 and tops == splits:
        raise DataError(
            f"{found.path}: {shown(found.names[min(found.files)])} is not in a class folder: "
            f"{' and '.join(sorted(tops))} hold pictures themselves (expected train/CLASS/FILE)"
        )
    what = f"{found.path}: the name of class folder"
    return {parts: check_text(parts[-2], what) for parts in found.files}


def _notes_on_folders(found: _Found, classes: dict[Parts, str]) -> list[str]:
    """Refuse class folders without a picture; return notes on other folders without any."""
    filled = {parts[:k] for parts in found.files for k in range(len(parts))}
    empty = sorted(f for f in found.folders if f not in filled and f[:-1] in filled)
    deep = {parts[:-2] for parts in found.files}
    known = set(classes.values())
    lost = [folder for folder in empty if folder[:-1] in deep and folder[-1] not in known]
    if lost:
        raise DataError(
            f"{found.path}: class folder {shown('/'.join(lost[0]))} holds no picture that is read: "
            "remove it, or convert its files to PNG"
        )
    if not empty:
        return []
    return [f"no picture lies in {list_some('/'.join(folder) for folder in empty)}"]


def _check_unread(found: _Found) -> None:
    lost = [name for name in found.unread if _suffix(name) in UNREAD_PICTURES]
    if lost:
        raise DataError(
            f"{found.path} holds {len(lost):,} files that may be images but are not read "
            f"({list_some(lost)}): convert them to PNG, or remove them"
        )


def _notes_on_files(found: _Found) -> list[str]:
    notes = []
    if found.unread:
        kinds = Counter(_suffix(name) or "no suffix" for name in found.unread)
        counts = ", ".join(f"{shown(kind)}: {count:,}" for kind, count in kinds.most_common(5))
        notes.append(
            f"{len(found.unread):,} files without the suffix of a picture were not read ({counts}; "
            f"{list_some(found.unread, 1)})"
        )
    if found.hidden:
        notes.append(
            f"{len(found.hidden):,} hidden entries were ignored ({list_some(found.hidden)})"
        )
    return notes


def _notes_on_names(classes: dict[Parts, str]) -> list[str]:
    """Say which classes a system that knows no case, or another Unicode form, takes for one."""
    alike: dict[str, list[str]] = {}
    for name in sorted(set(classes.values())):
        alike.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    return [
        f"classes {' and '.join(map(repr, names))} differ only in case or in Unicode form, and "
        f"stay {len(names)} classes"
        for names in alike.values()
        if len(names) > 1
    ]


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
