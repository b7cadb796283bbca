"""Tables as data sets: a row is an example, its numbers are what the network sees."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.deep.data.images import Images, encode_labels
from confsim.deep.data.limits import DataError
from confsim.experiment import Coded
from confsim.labelled_tables import LabelledTable, example_ids, numbers, read
from confsim.own_groups import own_groups


def read_table(
    path: str | Path,
    label: str | None,
    id_column: str | None,
    drop: Sequence[str],
    group: str | None = None,
    limit: int | None = None,
) -> Images:
    """Read a table; see :func:`confsim.labelled_tables.read` and ``numbers``.

    Raises
    ------
    ValueError
        If it cannot be read, has no such column, or holds what a network cannot be given.
    """
    table = read(path, label=label, id_column=id_column, drop=drop, group=group, limit=limit)
    return examples_of(table, str(path))


def examples_of(table: LabelledTable, source: str) -> Images:
    """Return the examples of a table in the order of their ids."""
    features, notes = numbers(table, source)
    try:
        codes, classes = encode_labels(_classes(table.y))
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    ids, id_names = example_ids(source, table.ids, len(features))
    order = np.argsort(ids, kind="stable")
    groups = None
    if table.group is not None:
        found = own_groups(f"{source}: group", np.asarray(table.group), len(features))
        groups = Coded(found.codes[order], found.names)
    return Images(
        features[order], codes[order], ids[order], classes, (*table.notes, *notes), id_names, groups
    )


def _classes(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels as text or whole numbers; numbers with fractions are no classes."""
    if labels.dtype.kind == "O":
        return labels.astype(str)
    if labels.dtype.kind != "f":
        return labels
    if (labels != np.floor(labels)).any():
        row = int(np.argmax(labels != np.floor(labels)))
        raise DataError(
            f"the label must be a class, but row {row} is {labels[row]}: a regression is for "
            "confsim-shadow"
        )
    return labels.astype(np.int64)
