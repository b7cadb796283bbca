"""Reading what is given to an audit: files, folders and tables become columns by name.

Nothing is checked here beyond what reading needs; see :mod:`confsim.auditing.outputs`.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from confsim.auditing import tables
from confsim.auditing.columns import Given, check_names, clean_all
from confsim.auditing.frames import from_columns
from confsim.auditing.lira import find_models, read_lira_folder
from confsim.given_files import (
    given_path,
    limit_of,
    load_npy,
    load_npz,
    names_in_zip,
    naming,
    open_regular,
)

if TYPE_CHECKING:
    import pandas as pd

#: What :func:`confsim.audit` takes as data.
Data: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | pd.DataFrame | None"

_ZIP, _NUMPY, _PARQUET, _ARROW = b"PK\x03\x04", b"\x93NUMPY", b"PAR1", b"ARROW1"
_TEXT = re.compile(r"\.(csv|tsv|tab|txt)(\.gz)?")


def read(data: Data, unpack_limit: float | None = None) -> Given:
    """Return columns by name, whatever holds them.

    ``unpack_limit`` are the GiB that a file may unpack to; see :func:`check_unpacked`.

    Raises
    ------
    ValueError, TypeError
        If something cannot be read: the message names the file or the column.
    """
    limit = limit_of(unpack_limit)
    if data is None:
        return Given()
    if isinstance(data, (str, os.PathLike)):
        path = given_path(data)
        with naming(str(path)):
            given = _read_folder(path) if path.is_dir() else _read_file(path, limit)
        given.source = str(path)
        return given
    if isinstance(data, Mapping):
        return from_columns(data)
    frame: Any = data
    if hasattr(frame, "to_pandas"):  # a table of another library
        frame = frame.to_pandas()
    if hasattr(frame, "columns") and hasattr(frame, "iloc"):
        return tables.from_frame(frame)
    raise TypeError(
        f"data must be a file, a folder, a mapping of arrays or a DataFrame, not "
        f"{type(data).__name__}"
    )


def _read_file(path: Path, limit: int | None) -> Given:
    """Read a file by what it holds; its name decides between kinds of text."""
    with open_regular(path) as file:
        start = file.read(8)
    suffixes = "".join(path.suffixes[-2:]).lower()
    if start.startswith(_NUMPY):
        raise ValueError(
            f"{path} is a single array (.npy) without a name: give an .npz file, or a folder of "
            "NAME.npy files"
        )
    if start.startswith(_PARQUET) or suffixes.endswith(".parquet"):
        return tables.read_parquet(path, limit)
    if start.startswith(_ARROW) or suffixes.endswith((".feather", ".arrow")):
        return tables.read_feather(path, limit)
    if suffixes.endswith((".xlsx", ".xls", ".ods")):
        raise ValueError(f"{path} is a workbook: save the sheet as CSV")
    packed = start.startswith(_ZIP) and not suffixes.endswith(".npz")
    if packed and not _arrays_in(path):
        return tables.read_csv(path, limit)
    if start.startswith(_ZIP) or suffixes.endswith(".npz"):
        return Given(clean_all(load_npz(path, limit)))
    if _TEXT.search(suffixes):
        return tables.read_csv(path, limit)
    raise ValueError(
        f"{path} must be an .npz, .parquet, .feather or .csv file, or a folder, and is none"
    )


def _arrays_in(path: Path) -> bool:
    names = names_in_zip(path)
    return not names or any(name.endswith(".npy") for name in names)


def _read_folder(path: Path) -> Given:
    if find_models(path):
        return read_lira_folder(path)
    files = sorted(path.glob("*.npy"))
    if not files:
        raise ValueError(f"{path} holds no .npy files, and no */keep.npy of published LiRA code")
    check_names(file.stem for file in files)
    return Given(clean_all({file.stem: load_npy(file) for file in files}))
