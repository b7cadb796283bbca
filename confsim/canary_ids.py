"""Files that say who is a canary: a column ``id``."""

import io

import numpy as np

from confsim._errors import ConfsimError
from confsim.given_files import given_path, one_line, open_regular
from confsim.store.formats import read_csv

#: Bytes of a file of ids at most: some hundred million of them.
_LIMIT = 1 << 30


def read_ids(path: str) -> tuple[int, ...]:
    """Read the column ``id`` of a CSV file, ascending.

    Raises
    ------
    ValueError
        If the file cannot be read, has no such column, or an id is no integer or comes twice.
    """
    with open_regular(given_path(path), f"canary_ids {path}") as file:
        content = file.read(_LIMIT + 1)
    if len(content) > _LIMIT:
        raise ValueError(f"canary_ids {path} has more than {_LIMIT:,} bytes")
    try:
        table = read_csv(io.BytesIO(content))
    except (OSError, ValueError, ConfsimError) as error:
        raise ValueError(f"canary_ids {path} cannot be read: {one_line(error)}") from None
    if "id" not in table or table.empty:
        raise ValueError(f"canary_ids {path} must have a column id and a row for each canary")
    ids = table["id"].to_numpy()
    if ids.dtype.kind not in "iu":
        raise ValueError(f"canary_ids {path}: id must hold integers in every row")
    found, counts = np.unique(ids, return_counts=True)
    if counts.max() > 1:
        raise ValueError(f"canary_ids {path}: id {found[counts > 1][0]} comes more than once")
    return tuple(found.tolist())
