"""Copies of a complete run for other tools: CSV files in the older layout, and one archive.

Both are written beside their final name and renamed, so that a reader sees all of a file or none.
"""

import contextlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from confsim._errors import ConfsimError
from confsim.store import Run, artifacts, files

if TYPE_CHECKING:
    import pyarrow

HEADER = ("ID", "Train distance", "Confidence", "Membership", "Trial")

SIDES = ("top", "bottom")

#: What the CSV files were made from.
RECORD = "exports.json"

#: Raised when the same trials give other files.
VERSION = 2

#: Rows that are looked at to see whether values repeat.
_SAMPLE = 1024


def export(run: Run, *, csv: bool, archive: bool, trials: int) -> list[str]:
    """Write what was asked for; the run is complete.

    Parameters
    ----------
    run : Run
    csv, archive : bool
        What to write.
    trials : int
        How many trials the command named; all that are finished are written.

    Returns
    -------
    list of str
        What there is to know about the files.
    """
    told = []
    if csv:
        write_csv(run)
        folders = ", ".join(sorted({str(path.parent) for path in csv_paths(run)}))
        told.append(
            f"CSV files of {len(run.trials)} trials are in {folders}, without the folder of the "
            "settings that earlier programs put above; their experiment_models.npz is model.npz "
            "of each trial now"
        )
        if len(run.trials) > trials:
            told.append(
                f"--csv writes every finished trial of a run: {len(run.trials)}, not the {trials} "
                "of --trials"
            )
    if archive:
        told.append(f"archive {write_zip(run)}")
    return told


# ---- CSV ---------------------------------------------------------------------------------------


def csv_paths(run: Run) -> list[Path]:
    """Return the CSV files of a run, whether they are there or not."""
    return [
        run.path / folder / f"{side}_percent.csv"
        for folder, _ in run.capabilities.folders
        for side in SIDES
    ]


def write_csv(run: Run) -> list[Path]:
    """Write ``[FOLDER/]{top,bottom}_percent.csv`` with one row for each point of an extreme.

    Columns: ``ID``, ``Train distance`` (normalised, including self), ``Confidence``, ``Membership``
    (True or False) and ``Trial``, counted from 1. Rows come in the order of the trials. Numbers
    have the fewest digits that give the same float64 again.

    Returns
    -------
    list of Path
        The files. They are not written again where nothing has changed.

    Raises
    ------
    ValueError
        If the run was stored with ``--keep summary``, or its pipeline has no such export.
    """
    if not run.capabilities.folders:
        raise ValueError(f"{run.manifest['command']} has no CSV export")
    artifacts.sweep(run.path)
    made_from = _made_from(run)
    record = artifacts.read_record(run.path / RECORD)
    paths = csv_paths(run)
    confidences = [column for _, column in run.capabilities.folders]
    if record is not None and record["made_from"] == artifacts.digest(made_from):
        names = {str(path.relative_to(run.path)) for path in paths}
        if record["files"].keys() == names and artifacts.are_whole(record, run.path):
            return paths
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(artifacts.replacing(path)) for path in paths]
        writers = [_Hashing(file) for file in opened]
        pool = stack.enter_context(ThreadPoolExecutor(min(4, os.cpu_count() or 1)))
        for writer in writers:
            writer.write((",".join(HEADER) + "\n").encode())
        for number, batch in _batches(run):
            # Formatting frees the interpreter; what is written keeps its order.
            sides = pool.map(lambda side, n=number, b=batch: _lines(n, b, side, confidences), SIDES)
            texts = [text for folder in zip(*sides, strict=True) for text in folder]
            for writer, text in zip(writers, texts, strict=True):
                writer.write(text)
    entries = {
        str(path.relative_to(run.path)): writer.entry()
        for path, writer in zip(paths, writers, strict=True)
    }
    artifacts.write_record(
        run.path / RECORD, made_from=made_from, options={"version": VERSION}, entries=entries
    )
    return paths


def _made_from(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {"identity": run.identity_hash, "version": VERSION}
    for number in run.trials:
        trial = run.trial(number)
        if not trial.has("extremes.parquet"):
            raise ValueError("--csv needs the extremes, which --keep summary leaves out")
        found[str(number)] = trial.record["files"]["extremes.parquet"]["sha256"]
    return found


def _batches(run: Run) -> Iterator[tuple[int, "pyarrow.RecordBatch"]]:
    """Yield each trial's number, and its extremes piece by piece."""
    confidences = [column for _, column in run.capabilities.folders]
    columns = ["side", "id", "distance", *confidences, "is_member"]
    for number in run.trials:
        for batch in run.trial(number).arrow_batches("extremes", columns):
            _check_numbers(run, number, batch, ("distance", *confidences))
            yield number, batch


def _lines(
    number: int, batch: "pyarrow.RecordBatch", side: str, confidences: Sequence[str]
) -> list["pyarrow.Buffer"]:
    """Return the lines of one side of a batch for the file of each confidence.

    What the files have in common is formatted once.
    """
    import pyarrow.compute as pc

    rows = batch.filter(pc.equal(batch["side"], side))
    ids, distances = _id_texts(rows["id"]), _decimals(rows["distance"])
    ends = pc.if_else(rows["is_member"], f"True,{number + 1}\n", f"False,{number + 1}\n")
    return [_joined(ids, distances, _decimals(rows[name]), ends) for name in confidences]


def _joined(*columns: "pyarrow.Array") -> "pyarrow.Buffer":
    """Return the bytes of all rows, with commas between columns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = pc.binary_join_element_wise(*columns, ",", null_handling="replace")
    if not len(rows):
        return pa.py_buffer(b"")
    _, offsets, content = rows.buffers()
    places = np.frombuffer(offsets, np.int32)
    start, end = int(places[rows.offset]), int(places[rows.offset + len(rows)])
    return content.slice(start, end - start)


def _check_numbers(
    run: Run, number: int, rows: "pyarrow.RecordBatch", columns: Sequence[str]
) -> None:
    """Raise unless columns hold what confsim writes: a run of somebody else may hold anything."""
    import pyarrow as pa

    kinds = dict.fromkeys(columns, pa.types.is_floating)
    kinds["is_member"] = pa.types.is_boolean
    for name, is_kind in kinds.items():
        kind = rows.schema.field(name).type
        if not is_kind(kind):
            raise ConfsimError(
                f"trial {number} of {run.path} has {kind} in column {name} of its extremes, which "
                "no version of confsim writes; nothing is exported"
            )


def _id_texts(column: "pyarrow.Array") -> "pyarrow.Array":
    """Return ids as text; texts, if it holds any, are none that a spreadsheet computes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return pc.cast(column, pa.string())
    texts = (None if text is None else artifacts.csv_text(str(text)) for text in column.to_pylist())
    quoted = (text and '"' + text.replace('"', '""') + '"' for text in texts)
    return pa.array(quoted, pa.string())


def _decimals(column: "pyarrow.Array") -> "pyarrow.Array":
    """Return numbers as text, with the fewest digits that give them again.

    Where all are whole they get decimal points, lest a reader take them for integers; one number
    with a fraction or an exponent tells a reader as much.
    """
    if _few_differ(column):  # formatting takes longer than looking for what is there already
        coded = column.dictionary_encode()
        return _decimals_of(coded.dictionary).take(coded.indices)
    return _decimals_of(column)


def _decimals_of(numbers: "pyarrow.Array") -> "pyarrow.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.cast(numbers, pa.string())
    if not pc.all(pc.equal(numbers, pc.trunc(numbers))).as_py():
        return texts
    if pc.any(pc.match_substring_regex(texts, "[en]")).as_py():  # 1e+11, inf
        return texts
    return pc.binary_join_element_wise(texts, ".0", "")


def _few_differ(column: "pyarrow.Array") -> bool:
    """Whether a column repeats its values often, judged by a sample of all of it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = pa.array(np.linspace(0, max(0, len(column) - 1), min(len(column), _SAMPLE), dtype=int))
    return bool(pc.count_distinct(column.take(rows)).as_py() * 2 < len(rows))


class _Hashing:
    """Writes and hashes."""

    def __init__(self, file: BinaryIO) -> None:
        import hashlib

        self._file, self._digest, self._size = file, hashlib.sha256(), 0

    def write(self, content: "bytes | pyarrow.Buffer") -> None:
        view = memoryview(content)
        self._file.write(view)
        self._digest.update(view)
        self._size += len(view)

    def entry(self) -> dict[str, Any]:
        return {"size": self._size, "sha256": self._digest.hexdigest()}


# ---- archive -----------------------------------------------------------------------------------


def write_zip(run: Run) -> Path:
    """Pack the run directory into ``RUN.zip`` beside it; Parquet is compressed already.

    Only files are packed: no links, which may lead out of the directory.
    """
    folder, target = _absolute(run.path), zip_path(run.path)
    # A name that is no UTF-8 cannot be written into an archive as it is.
    inside = os.fsencode(folder.name).decode(errors="backslashreplace")
    artifacts.sweep_beside(folder)
    with (
        artifacts.replacing(target) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive,
    ):
        for path in _files_of(folder):
            archive.write(path, f"{inside}/{path.relative_to(folder).as_posix()}")
    return target


def _files_of(folder: Path) -> Iterator[Path]:
    """Yield the regular files below a folder, in the order of their names, without hidden ones."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if files.is_folder(entry):
            yield from _files_of(entry)
        elif files.is_file(entry):
            yield entry


def zip_path(run: Path) -> Path:
    """Return where the archive of a run directory is."""
    folder = _absolute(run)
    return folder.with_name(folder.name + ".zip")


def _absolute(run: Path) -> Path:
    """Return a path with a name to call an archive by, which ``.`` has not."""
    return Path(os.path.abspath(run))  # noqa: PTH100 - resolve() would follow links
