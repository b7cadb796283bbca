"""Feeds damaged and made-up files to every reader of an audit, as ``fuzz_data.py`` does.

``python tests/fuzz_audits.py SECONDS [SEED]`` runs for a while. What an audit refuses is refused
with the name of the file.
"""

import gzip
import io

import fuzz_data
import numpy as np
import pandas as pd

from confsim.auditing.outputs import Outputs
from confsim.auditing.reading import read
from confsim.given_files import naming
from confsim.scores import Zeros

N = 12


def _audit(path):
    """Read as an audit does; return what it found."""
    with fuzz_data.refusing(path):
        given = read(path)
        with naming(given.source):
            return Outputs.of(given, 1, Zeros(None, None)).fingerprint


def _folder(path):
    """Read beside an array that is whole."""
    np.save(path.parent / "confidence.npy", np.linspace(0.1, 0.9, N))
    return _audit(path.parent)


def _lira(path):
    """Read as one of two models."""
    for model in (0, 1):
        folder = path.parent / f"experiment-{model}_2"
        (folder / "scores").mkdir(parents=True)
        np.save(folder / "keep.npy", np.arange(N) % 2 == model)
        np.save(folder / "scores" / "0000000001.npy", np.linspace(-3, 3, N))
    path.rename(path.parent / "experiment-1_2" / "keep.npy")
    return _audit(path.parent)


def seeds(rng):
    """Undamaged inputs: name, bytes, reader, and whether damage is always noticed."""
    table = pd.DataFrame(
        {
            "is_member": np.arange(N) % 2 == 0,
            "label": [("cat", "dog", "eel")[k % 3] for k in range(N)],
            **{f"logit_{name}": rng.normal(size=N) for name in ("cat", "dog", "eel")},
            "id": rng.permutation(N),
        }
    )
    text = table.to_csv(index=False).encode()
    made = [
        ("t.csv", text, _audit, False),
        ("t.csv.gz", gzip.compress(text), _audit, True),
        ("t.tsv", table.to_csv(index=False, sep="\t", decimal=",").encode("utf-16"), _audit, False),
    ]
    for compression in ("lz4", "zstd", "uncompressed"):
        buffer = io.BytesIO()
        table.assign(label=table["label"].astype("category")).to_feather(
            buffer, compression=compression
        )
        made.append((f"{compression}.feather", buffer.getvalue(), _audit, False))
    for compression in ("snappy", "zstd", None):
        buffer = io.BytesIO()
        table.to_parquet(buffer, compression=compression)
        made.append((f"{compression}.parquet", buffer.getvalue(), _audit, False))
    arrays = {
        "is_member": rng.random((3, N)) < 0.5,
        "label": np.arange(N) % 3,
        "logits": rng.normal(size=(3, N, 3)).astype(np.float32),
        "features": rng.normal(size=(3, N, 2)),
    }
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, **arrays)
        made.append((f"{save.__name__}.npz", buffer.getvalue(), _audit, True))
    for name, reader in (("is_member.npy", _folder), ("keep.npy", _lira)):
        buffer = io.BytesIO()
        np.save(buffer, np.arange(N) % 2 == 1)
        made.append((name, buffer.getvalue(), reader, False))
    return made


# -- Grammars --------------------------------------------------------------------------------------

_NAMES = ["is_member", "label", "id", "confidence", "loss", "predicted", "duplicate_group", "trial"]
_NAMES += ["logit_0", "logit_1", "logits", "probability_a", "feature_0", "holdout_label", "x", ""]


def made_npz(rng):
    """An archive of columns with random dtypes and shapes."""
    kinds = ["<f8", ">f4", "|u1", "<i8", ">u8", "<f2", "|b1", "<U3", "|S2", "<c8", "<M8[s]", "|V3"]
    arrays = {}
    for name in [*rng.permutation(_NAMES[:-1])[:4].tolist(), "is_member", "confidence"]:
        shape = tuple(int(size) for size in rng.choice([1, 2, N, N, 0], rng.integers(1, 4)))
        kind = np.dtype(kinds[rng.integers(0, len(kinds))])
        content = rng.integers(0, 2, shape)
        if kind.kind in "UV":
            arrays[name] = np.zeros(shape, kind)
        else:
            arrays[name] = content.astype(kind)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def made_csv(rng):
    """A table of odd names and cells."""
    cells = [
        "0",
        "1",
        "0.5",
        "",
        "nan",
        "inf",
        "-1",
        "True",
        "yes",
        "a",
        "=1",
        '"',
        "1e400",
        "[1, 2]",
    ]
    cells += ["9" * 30, "1,5", " 2 ", "\u00e9", "\0", "2020-01-01"]
    separator = str(rng.choice([",", ";", "\t", "|"]))
    names = [*rng.permutation(_NAMES)[:3].tolist(), "is_member", "confidence"]
    rows = [
        separator.join(str(c) for c in rng.choice(cells, len(names) + rng.integers(-1, 2)))
        for _ in range(rng.integers(0, 6))
    ]
    return "\n".join([separator.join(names), *rows]).encode(str(rng.choice(["utf-8", "utf-16"])))


def made_arrow(rng):
    """A Parquet or Feather table of odd types."""
    import pyarrow as pa
    import pyarrow.feather as feather
    import pyarrow.parquet as pq

    values = [
        pa.array([0, 1] * 6, pa.int8()),
        pa.array([2**64 - 1, None] * 6, pa.uint64()),
        pa.array([0.5, float("nan")] * 6),
        pa.array([True, None] * 6),
        pa.array(["a", "=b"] * 6).dictionary_encode(),
        pa.array([None] * N),
        pa.array([[0.1, 0.9]] * N),
        pa.array([[[1]], []] * 6),
        pa.array([[0.1], [0.2, 0.3]] * 6),
        pa.array([{"a": 1}] * N),
        pa.array([b"\xff"] * N),
        pa.array([1] * N, pa.timestamp("ns", "UTC")),
        pa.array([1] * N).cast(pa.decimal128(30, 2)),
        pa.array([[(1, 2)]] * N, pa.map_(pa.int8(), pa.int8())),
    ]
    names = [*rng.permutation(_NAMES)[:3].tolist(), "is_member", "confidence"]
    chosen = [values[rng.integers(0, len(values))] for _ in names]
    buffer = io.BytesIO()
    table = pa.table(chosen, names=names)
    form = rng.integers(0, 3)
    if form == 0:
        try:
            pq.write_table(table, buffer)
        except pa.ArrowException:  # some types have no place in Parquet
            return b"PAR1"
    elif form == 1:
        feather.write_feather(table, buffer)
    else:
        options = pa.ipc.IpcWriteOptions(compression=[None, "lz4", "zstd"][rng.integers(0, 3)])
        with pa.ipc.new_stream(buffer, table.schema, options=options) as stream:
            stream.write_table(table)
    return buffer.getvalue()


def made_delta(rng):
    """A Parquet table of texts, within lists and maps too, that are stored by their differences."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = "x" * int(rng.choice([0, 1, 100, 100_000]))
    texts = [text[: rng.integers(0, len(text) + 1)] for _ in range(N)]
    pairs = pa.map_(pa.string(), pa.int8())
    values, place = [
        (pa.array(texts), "label"),
        (pa.array([[t, t] for t in texts]), "label.list.element"),
        (pa.array([[[t]] for t in texts]), "label.list.element.list.element"),
        (
            pa.array([[(t, 1)] for t in texts], pairs),
            "label.key_value.key",
        ),
        (pa.array([{"a": t} for t in texts]), "label.a"),
    ][rng.integers(0, 5)]
    table = pa.table([values, [0, 1] * 6, [0.5] * N], names=["label", "is_member", "confidence"])
    encoding = ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"][rng.integers(0, 2)]
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        use_dictionary=False,
        column_encoding={place: encoding},
        data_page_version=str(rng.choice(["1.0", "2.0"])),
        compression=str(rng.choice(["none", "zstd"])),
    )
    content = bytearray(buffer.getvalue())
    for _ in range(rng.integers(0, 3)):
        content[rng.integers(4, len(content) - 8)] ^= 1 << rng.integers(0, 8)
    return bytes(content)


GRAMMARS = (
    ("d.npz", made_npz, _audit),
    ("d.csv", made_csv, _audit),
    ("d.arrow", made_arrow, _audit),
    ("d.parquet", made_delta, _audit),
)


if __name__ == "__main__":
    fuzz_data.main(__doc__, whole=seeds, grammars=GRAMMARS)
