"""Copies of a complete run for other tools: CSV files in the older layout, and one archive.

Both are written beside their final name and renamed, so that a reader sees all of a file or none.
"""

import csv as _csv
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from confsim.store import Run

HEADER = ("ID", "Train distance", "Confidence", "Membership", "Trial")

#: Folder of the run and confidence column, by command. Empty folder: the run directory itself.
_FOLDERS = {
    "confsim-linear": {"distance_conf": "boundary", "sigmoid_conf": "sigmoid"},
    "confsim-deep": {"": "softmax"},
}


def export(run: Run, *, csv: bool, archive: bool, trials: int) -> None:
    """Write what was asked for; the run is complete."""
    if csv:
        write_csv(run, trials)
    if archive:
        write_zip(run)


def write_csv(run: Run, trials: int) -> list[Path]:
    """Write ``[FOLDER/]{top,bottom}_percent.csv`` with one row a point of an extreme.

    Columns: ``ID``, ``Train distance`` (normalised, including self), ``Confidence``, ``Membership``
    (0 or 1) and ``Trial``, counted from 1. Rows come in the order of the trials.

    Raises
    ------
    ValueError
        If the run was stored with ``--keep summary``.
    """
    written = []
    for folder, confidence in _FOLDERS[run.manifest["command"]].items():
        for side in ("top", "bottom"):
            path = run.path / folder / f"{side}_percent.csv"
            path.parent.mkdir(exist_ok=True)
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            with partial.open("w", newline="") as file:
                writer = _csv.writer(file)
                writer.writerow(HEADER)
                for rows in _rows(run, side, confidence, trials):
                    writer.writerows(rows)
            partial.rename(path)
            written.append(path)
    return written


def _rows(run: Run, side: str, confidence: str, trials: int) -> Iterator[Any]:
    columns = ["side", "id", "distance", confidence, "is_member", "trial"]
    for number in run.trials:
        if number >= trials:
            continue
        trial = run.trial(number)
        if not trial.has("extremes.parquet"):
            raise ValueError("--csv needs the extremes, which --keep summary leaves out")
        for batch in trial.batches("extremes", columns):
            chosen = batch[batch["side"] == side]
            yield zip(
                chosen["id"],
                chosen["distance"],
                chosen[confidence],
                chosen["is_member"].astype(int),
                chosen["trial"] + 1,
                strict=True,
            )


def write_zip(run: Run) -> Path:
    """Pack the run directory into ``RUN.zip`` beside it; Parquet is compressed already."""
    path = run.path.with_name(run.path.name + ".zip")
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(run.path.rglob("*")):
            inside = file.relative_to(run.path)
            if file.is_file() and not any(part.startswith(".") for part in inside.parts):
                archive.write(file, Path(run.path.name) / inside)
    partial.rename(path)
    return path
