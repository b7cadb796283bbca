"""Feeds damaged and made-up files to what training reads, as ``fuzz_data.py`` does.

``python tests/support/fuzz_training.py SECONDS [SEED]`` runs for a while. These are tables for
estimators and of the field, ids of canaries, features in place of a model's own, and checkpoints.
"""

import gzip
import io
import tarfile
from pathlib import Path
from unittest import mock

import fuzz_audits
import fuzz_data
import numpy as np

from confsim import ConfsimError, benchmark_tables
from confsim.benchmark_tables import BENCHMARKS, Benchmark
from confsim.canary_ids import read_ids
from confsim.deep.training import Checkpoint, EarlyStopping
from confsim.labelled_tables import read
from confsim.membership.matrices import _load_features

N = fuzz_audits.N


def _table(path):
    with fuzz_data.refusing(path):
        found = read(str(path), label="label")
    X = found.X.to_csv() if hasattr(found.X, "to_csv") else found.X.tobytes()
    return X, [str(value) for value in found.y]


def _ids(path):
    with fuzz_data.refusing(path):
        return read_ids(str(path))


def _features(path):
    with fuzz_data.refusing(path):
        return np.asarray(_load_features(path, N, np.arange(N))).tobytes()


def _benchmark(path):
    """Read a table of the field, of twelve rows, in the layout that the file's name tells."""
    small = Benchmark(**{**vars(BENCHMARKS["texas100"]), "rows": N, "widths": (8,)})
    with mock.patch.dict(BENCHMARKS, texas100=small), fuzz_data.refusing(path.parent):
        found = benchmark_tables.read("texas100", path.parent)
    return found.X.tobytes(), found.y.tolist()


def _benchmarks(rng):
    """Yield the layouts of such a table."""
    X, y = rng.integers(0, 2, (N, 8), np.uint8), np.arange(N) + 1
    packed, arrays = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, rows in (("feats", X), ("labels", y[:, None])):
            lines = "".join(",".join(map(str, row)) + "\n" for row in rows).encode()
            entry = tarfile.TarInfo(f"texas/100/{name}")
            entry.size = len(lines)
            tar.addfile(entry, io.BytesIO(lines))
    np.savez(arrays, features=X, labels=np.eye(100)[y - 1])
    yield "dataset_texas.tgz", packed.getvalue(), _benchmark, True
    yield "dataset_texas.tgz", gzip.decompress(packed.getvalue()), _benchmark, False
    yield "texas100.npz", arrays.getvalue(), _benchmark, True


class _Engine:
    """What a checkpoint is loaded into."""

    def __init__(self) -> None:
        self.held = {"model/a": np.zeros((3, 2), np.float32), "seed": np.zeros(2, np.int64)}

    def state(self):
        return self.held

    def load(self, state):
        self.held = state


def _checkpoint(path):
    engine, stopping = _Engine(), EarlyStopping(1, 0.0)
    position = Checkpoint(path, b"the trial").resume(engine, stopping)
    if position == (0, 0):
        raise ConfsimError("it counts for nothing")
    return position, {name: value.tobytes() for name, value in engine.held.items()}, stopping.best


def _made_checkpoint():
    """Return the bytes of a checkpoint."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "epoch.npz"
        engine = _Engine()
        engine.held["model/a"][:] = 1.5
        Checkpoint(path, b"the trial").save(engine, EarlyStopping(1, 0.0), (3, 1))
        return path.read_bytes()


def seeds(rng):
    """Undamaged inputs: name, bytes, reader, and whether damage is always noticed."""
    tabular = [
        (name, content, _table, False)
        for name, content, reader, _ in fuzz_audits.seeds(rng)
        if reader is fuzz_audits._audit and ".npz" not in name
    ]
    features = io.BytesIO()
    np.save(features, rng.normal(size=(N, 3)))
    return [
        *tabular,
        *_benchmarks(rng),
        ("ids.csv", b"id\n1\n5\n7\n", _ids, False),
        ("features.npy", features.getvalue(), _features, False),
        ("epoch.npz", _made_checkpoint(), _checkpoint, True),
    ]


GRAMMARS = (
    ("d.npz", fuzz_audits.made_npz, _table),
    ("d.csv", fuzz_audits.made_csv, _table),
    ("d.parquet", fuzz_audits.made_arrow, _table),
    ("d.feather", fuzz_audits.made_arrow, _table),
    ("ids.csv", fuzz_audits.made_csv, _ids),
    ("f.npy", fuzz_audits.made_npz, _features),
)


if __name__ == "__main__":
    fuzz_data.main(__doc__, whole=seeds, grammars=GRAMMARS)
