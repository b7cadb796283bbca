"""Damaged and made-up data end in one clear line. ``CONFSIM_FUZZ=600`` fuzzes for 600 seconds."""

import os
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("PIL.Image", reason="Pillow is not installed")
import fuzz_audits
import fuzz_data
import fuzz_runs
import fuzz_training

#: Its first number.
PYARROW = int(version("pyarrow").partition(".")[0])

#: Inputs that hang, crash, deceive or exhaust a reader that trusts them.
CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())

#: How a file of the corpus is read: the name that it gets, and the reader, by its suffixes.
READERS = {
    "pickle": ("data_batch_1", fuzz_data._cifar),
    "png": ("p.png", fuzz_data._picture),
    "tar.gz": ("a.tar", fuzz_data._folder),
    "zip": ("a.zip", fuzz_data._folder),
    "npz": ("d.npz", fuzz_data._npz),
    "csv": ("groups.csv", fuzz_data._groups),
    "parquet": ("t.parquet", fuzz_training._table),
    "feather": ("t.feather", fuzz_audits._audit),
    "tsv": ("t.tsv", fuzz_training._table),
    "npy": ("features.npy", fuzz_training._features),
    "idx": ("train-images-idx3-ubyte", fuzz_data._idx),
    "audit.npz": ("d.npz", fuzz_audits._audit),
}


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_the_corpus_is_refused(tmp_path, path):
    if path.name == "damaged_statistics.parquet" and PYARROW < 20:
        pytest.skip("pyarrow does not read such statistics yet")
    name, reader = READERS[path.name.partition(".")[2]]
    assert not fuzz_data.attempt(tmp_path / "data", name, path.read_bytes(), reader)


@pytest.mark.parametrize(
    ("of", "rounds"), [(fuzz_audits, 300), (fuzz_training, 300), (fuzz_runs, 20)]
)
def test_random_damage_of_audits_and_runs(of, rounds):
    inputs = {
        fuzz_audits: {"whole": fuzz_audits.seeds, "grammars": fuzz_audits.GRAMMARS},
        fuzz_training: {"whole": fuzz_training.seeds, "grammars": fuzz_training.GRAMMARS},
        fuzz_runs: {"whole": fuzz_runs.seeds, "grammars": fuzz_runs.grammars()},
    }[of]
    seconds = float(os.environ.get("CONFSIM_FUZZ", "0"))
    if seconds:
        fuzz_data.fuzz(seconds, seed=int.from_bytes(os.urandom(4), "big"), **inputs)
    count, read = fuzz_data.fuzz(rounds=rounds, seed=0, **inputs)
    assert count == rounds
    assert read > 0


def test_random_damage():
    seconds = float(os.environ.get("CONFSIM_FUZZ", "0"))
    if seconds:
        fuzz_data.fuzz(seconds, seed=int.from_bytes(os.urandom(4), "big"))
    count, read = fuzz_data.fuzz(rounds=600, seed=0)
    assert count == 600
    assert read > 20


@pytest.mark.parametrize("fault", ["traceback", "two lines", "other data"])
def test_the_fuzzer_notices(tmp_path, fault):
    def reader(path):
        if fault == "traceback":
            raise KeyError(path)
        if fault == "two lines":
            raise fuzz_data.ConfsimError("one\ntwo")
        return "something else"

    with pytest.raises(fuzz_data.ReaderError):
        fuzz_data.attempt(tmp_path / "data", "x", b"", reader, expected="something")
