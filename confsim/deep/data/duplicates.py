"""Which images are duplicates: equal ones, near ones, and those that a file lists.

Duplicates stay together on one side of a holdout. A wrong group would keep together what does not
belong together, or tear twins apart; so a row of a file that is not understood is refused, by its
number.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from confsim.deep.data.limits import Budget, DataError, read_regular, reading, shown
from confsim.given_files import NO_GROUP


#: What tools write for "belongs to no group", in lower case.
def exact_groups(images: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return group numbers by equal content: (n,) int64, in the order of first images."""
    seen: dict[bytes, int] = {}
    rows = np.ascontiguousarray(images).reshape(len(images), -1)
    keys = [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]
    return np.array([seen.setdefault(key, len(seen)) for key in keys], np.int64)


def near_groups(images: "np.ndarray[Any, Any]", threshold: float) -> "np.ndarray[Any, Any]":
    """Return group numbers by single linkage at an RMS difference of ``threshold``.

    A blocked product in float32 finds candidates, generously; differences in float64 decide.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = images.reshape(len(images), -1).astype(np.float32)
    rows -= rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    bound = threshold**2 * rows.shape[1]
    links: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
    # Small enough that a request to stop is heard between two products.
    block = max(1, 8_000_000 // len(rows))
    for start in range(0, len(rows), block):
        a = slice(start, start + block)
        near = squares[a, None] + squares[None, start:] - 2.0 * (rows[a] @ rows[start:].T)
        # Rounding of a float32 product of d terms stays far below d * 2**-24 of the squared norms.
        slack = rows.shape[1] * 2.0**-23 * (squares[a, None] + squares[None, start:])
        i, j = np.nonzero(near <= bound + slack)
        i, j = i + start, j + start
        i, j = i[i < j], j[i < j]
        links.append(_closer(images, i, j, bound))
    i = np.concatenate([link[0] for link in links])
    j = np.concatenate([link[1] for link in links])
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(len(rows), len(rows)))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _closer(
    images: "np.ndarray[Any, Any]",
    i: "np.ndarray[Any, Any]",
    j: "np.ndarray[Any, Any]",
    bound: float,
) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
    kept = np.zeros(len(i), bool)
    for start in range(0, len(i), 4096):
        part = slice(start, start + 4096)
        difference = images[i[part]].astype(np.float64) - images[j[part]]
        kept[part] = (difference.reshape(len(difference), -1) ** 2).sum(axis=1) <= bound
    return i[kept], j[kept]


def merge_groups(
    one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]"
) -> "np.ndarray[Any, Any]":
    """Return the finest grouping that is coarser than both, numbered by first image."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    sizes = (int(one.max()) + 1, int(other.max()) + 1)
    graph = coo_array(
        (np.ones(len(one), np.int8), (one, other + sizes[0])), shape=(sum(sizes),) * 2
    )
    component = connected_components(graph, directed=False)[1][one]
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


# -- Groups that a file lists ----------------------------------------------------------------------


def listed_groups(path: Path, ids: "np.ndarray[Any, Any]") -> dict[int, str]:
    """Read a table with columns ``id`` and ``group``, as spreadsheets and programs write it.

    Commas, semicolons, tabs or bars separate; quotes, blanks, a byte-order mark, ``4.0`` for 4,
    other columns and empty lines do not matter. A group of :data:`~confsim.given_files.NO_GROUP`,
    such as ``-1`` or NaN, is none: such an image is alone.

    Parameters
    ----------
    path : Path
    ids : ndarray of int64
        (n,): those of all images.

    Returns
    -------
    dict
        Group by id, for the images that have one.

    Raises
    ------
    DataError
        If a row cannot be understood, names no image, or puts one into a second group; the message
        names the row as a text editor counts it.
    """
    known = set(ids.tolist())
    listed: dict[int, str] = {}
    for row, image, group in _rows(path):
        if image not in known:
            raise DataError(f"duplicates {path}: row {row}: no image has the id {image}")
        if listed.setdefault(image, group) != group:
            raise DataError(
                f"duplicates {path}: row {row}: image {image} is in two groups, "
                f"{shown(listed[image])!r} and {shown(group)!r}"
            )
    return {image: group for image, group in listed.items() if group.lower() not in NO_GROUP}


def _rows(path: Path) -> Iterator[tuple[int, int, str]]:
    """Yield (row number, id, group)."""
    with reading(f"duplicates {path}"):
        text = _decoded(path, read_regular(path, Budget()))
        declared = re.match(r'"?sep=(.)"?(?=[\r\n])', text, re.IGNORECASE)
        if declared:  # a line of Excel's, which becomes an empty one
            text = text[declared.end() :]
        header = next((line for line in text.splitlines() if line.strip()), "")
        separator = declared[1] if declared else max(",;\t|", key=header.count)
        table = csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True
        )
        columns: dict[str, int] | None = None
        for cells in table:
            row, cells = table.line_num, [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if columns is None:
                columns = _columns(path, cells)
                continue
            if len(cells) <= max(columns.values()):
                raise DataError(
                    f"duplicates {path}: row {row} has {len(cells)} of the columns that the first "
                    "row names: each row needs id and group"
                )
            yield row, _id(path, row, cells[columns["id"]]), _group(cells[columns["group"]])
        if columns is None:
            raise DataError(f"duplicates {path} is empty: it must have columns id and group")


def _decoded(path: Path, content: bytes) -> str:
    """Decode by the byte-order mark; groups are only compared, in whatever encoding they are."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    if b"\0" in content:
        raise DataError(
            f"duplicates {path} is no text: it must be a table with columns id and group"
        )
    return content.decode("utf-8-sig", "surrogateescape")


def _columns(path: Path, cells: list[str]) -> dict[str, int]:
    names = [cell.lower() for cell in cells]
    for name in ("id", "group"):
        if names.count(name) != 1:
            how = "twice" if name in names else "not"
            raise DataError(
                f"duplicates {path} must have columns id (an integer) and group, but its first row "
                f"names {name} {how}: {shown(', '.join(cells))[:80]!r}"
            )
    return {name: names.index(name) for name in ("id", "group")}


def _id(path: Path, row: int, cell: str) -> int:
    if re.fullmatch(r"[+-]?\d{1,19}(\.0*)?", cell, re.ASCII) is None:
        raise DataError(
            f"duplicates {path}: row {row}: columns id and group must hold an integer and a name, "
            f"but the id is {shown(cell)[:40]!r}"
        )
    return int(cell.partition(".")[0])


def _group(cell: str) -> str:
    """Return a group's name; where a program has made floats of integers, the integer."""
    return cell.partition(".")[0] if re.fullmatch(r"-?\d+\.0*", cell, re.ASCII) else cell


def file_groups(listed: dict[int, str], ids: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return group numbers; an image that is not listed is alone in its group."""
    seen: dict[object, int] = {}
    keys = [listed.get(int(i), ("alone", int(i))) for i in ids]
    return np.array([seen.setdefault(key, len(seen)) for key in keys], np.int64)
