"""The meaning of every column of ``run.summary()``, of a run's files and of the report's tables."""

import re
from collections.abc import Iterable, Mapping, Sequence

from confsim.report.meanings import MADE, STORED, SUMMARY
from confsim.report.table import Column, Table

_ENDS = (("_low", "lower"), ("_high", "upper"))


def meaning(column: str, table: str | None = None) -> str:
    """Return what a column means, empty if nobody knows.

    Parameters
    ----------
    column : str
    table : str, optional
        File name of a table without its kind, such as ``attacks``; default: ``run.summary()``.

    Examples
    --------
    >>> from confsim.report.dictionary import meaning
    >>> meaning("accuracy_gap"), meaning("auc_confidence_low")[:22]
    ('accuracy of members minus that of non-members', 'lower end of the 95% i')
    >>> meaning("threshold_at_fpr_0.1pct", "attacks")
    'that threshold for 0.1%, in units of the score'
    """
    if table is None:
        return _meaning(column, SUMMARY, " over examples")
    return _meaning(column, MADE.get(table, STORED.get(table, {})))


def _meaning(column: str, told: Mapping[str, str], about: str = "") -> str:
    if column in told:
        return told[column]
    for pattern in (name for name in told if "*" in name):
        found = re.fullmatch("(.+)".join(map(re.escape, pattern.split("*"))), column)
        if found and not column.endswith(tuple(end for end, _ in _ENDS)):
            return told[pattern].format(*(part.replace("pct", "%") for part in found.groups()))
    for end, words in _ENDS:
        base = column.removesuffix(end)
        if base != column and _meaning(base, told):
            return f"{words} end of the 95% interval{about} of {base}"
    return ""


def trial_columns(names: Iterable[str]) -> list[Column]:
    """Return the columns of ``trials.csv`` with their meanings."""
    return [Column(name, name, meaning(name)) for name in names]


def dictionary(
    tables: Sequence[Table], trials: Sequence[Column], made: Mapping[str, Iterable[str]]
) -> Table:
    """Return the meaning of every column of every table that a run and its report hold.

    Parameters
    ----------
    tables : sequence of Table
        The report's.
    trials : sequence of Column
        Of ``trials.csv``.
    made : mapping of str to iterable of str
        Columns of files that others wrote, by the file's name.
    """
    rows = [row for table in tables for row in _of_report(table)]
    rows += [_row("trials.csv", c.key, c.title, c.meaning) for c in trials]
    rows += [
        _row(file, column, column, meaning(column, file.partition(".")[0]))
        for file, columns in made.items()
        for column in columns
    ]
    heads = ("file", "column", "title", "meaning")
    return Table("dictionary", "Columns", [Column(head, head, head) for head in heads], rows)


def _of_report(table: Table) -> list[dict[str, str]]:
    told = {column.key: column for column in table.columns}
    rows = []
    for field in table.fields:
        if field in told:
            rows.append(_row(f"{table.name}.csv", field, told[field].title, told[field].meaning))
            continue
        words = next(words for end, words in _ENDS if field.endswith(end))
        text = f"{words} end of the interval of {field.rpartition('_')[0]}"
        rows.append(_row(f"{table.name}.csv", field, field, text))
    return rows


def _row(file: str, column: str, title: str, text: str) -> dict[str, str]:
    return {"file": file, "column": column, "title": title, "meaning": text}
