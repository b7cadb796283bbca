"""Folders and files given to an audit: layouts of published LiRA code, and their flaws."""

import io
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest

import confsim
from confsim import given_files as files
from confsim.cli.audit import main as audit_command
from confsim.feather import unpacked_size

M, N, K = 4, 40, 3


def arrays(models=M, seed=0):
    rng = np.random.default_rng(seed)
    keep = rng.random((models, N)) < 0.5
    keep[:, :2] = [True, False]
    return keep, rng.integers(0, K, N), rng.normal(size=(models, N, 1, 2, K))


def scores_of(logits, labels):
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    true = np.take_along_axis(p, labels[None, :, None, None, None], axis=-1)[..., 0].mean(axis=2)
    return np.log(true) - np.log(1 - true)


def build(folder, keep, labels=None, **outputs):
    """Write the published layout; ``outputs`` by kind, (models, ...)."""
    for model, kept in enumerate(keep):
        path = folder / f"experiment-{model}_{len(keep)}"
        path.mkdir(parents=True)
        np.save(path / "keep.npy", kept)
        for kind, values in outputs.items():
            (path / kind).mkdir()
            np.save(path / kind / "0000000100.npy", values[model])
    if labels is not None:
        np.save(folder / "y_train.npy", labels)
    return folder


@pytest.mark.parametrize("kind", ["scores", "logits"])
def test_the_layout_of_the_pytorch_port(tmp_path, kind):
    keep, labels, logits = arrays(6)
    scores = scores_of(logits, labels)
    for model in range(6):
        path = tmp_path / "exp" / str(model)
        path.mkdir(parents=True)
        np.save(path / "keep.npy", keep[model])
        values = scores[model] if kind == "scores" else logits[model, :, 0]
        np.save(path / f"{kind}.npy", values)
    np.save(tmp_path / "exp" / "labels.npy", labels)
    run = confsim.audit(tmp_path / "exp", out=tmp_path / "run", design="independent")
    views = run.table("augmented").sort_values(["trial", "id", "augmentation"])["log_odds_true"]
    np.testing.assert_allclose(views.to_numpy().reshape(6, N, 2), scores, rtol=1e-9)
    np.testing.assert_array_equal(run.examples()["is_member"].to_numpy().reshape(6, N), keep)


def test_models_are_taken_in_natural_order(tmp_path):
    half = arrays(12)[0]
    keep = np.stack([half, ~half], axis=1).reshape(24, N)
    scores = np.arange(24.0)[:, None] + np.zeros((24, N))
    for model in range(24):
        (tmp_path / "exp" / str(model) / "scores").mkdir(parents=True)
        np.save(tmp_path / "exp" / str(model) / "keep.npy", keep[model])
        # Of checkpoints the last in natural order counts, too.
        np.save(tmp_path / "exp" / str(model) / "scores" / "9.npy", -scores[model])
        np.save(tmp_path / "exp" / str(model) / "scores" / "10.npy", scores[model])
    run = confsim.audit(tmp_path / "exp", design="balanced", out=tmp_path / "run")
    assert run.config["model_names"] == [str(model) for model in range(24)]
    for trial in (2, 10):
        found = run.trial(trial).table("examples")
        assert set(found["log_odds_true"]) == {float(trial)}
        np.testing.assert_array_equal(found["is_member"], keep[trial])
    swapped = tmp_path / "exp" / "3" / "keep.npy"
    np.save(swapped, keep[2])
    with pytest.raises(ValueError, match=r"models 2 and 3 were not trained on complements \(row 0"):
        confsim.audit(tmp_path / "exp", design="balanced", out=tmp_path / "no")


def test_folders_and_checkpoints_that_stand_out_are_said(tmp_path):
    keep = arrays(4)[0]
    folder = build(tmp_path / "exp", keep, scores=np.random.default_rng(0).normal(size=keep.shape))
    (folder / "experiment-9_4").mkdir()
    last = folder / "experiment-2_4" / "scores"
    (last / "0000000100.npy").rename(last / "0000000050.npy")
    run = confsim.audit(folder, out=tmp_path / "run")
    assert run.config["notes"] == [
        "folders without keep.npy and outputs are left out: experiment-9_4",
        "the models' last checkpoints differ: 0000000050.npy, 0000000100.npy",
    ]


def test_outputs_that_are_not_read_are_said(tmp_path):
    keep, labels, logits = arrays()
    scores = scores_of(logits, labels)
    both = build(tmp_path / "both", keep, labels, logits=logits, scores=scores)
    run = confsim.audit(both, out=tmp_path / "run")
    note = "scores were read; the logits beside them, as in experiment-0_4, were not"
    assert run.config["notes"] == [note]
    some = build(tmp_path / "some", keep, labels, logits=logits)
    (some / "experiment-2_4" / "scores").mkdir()
    np.save(some / "experiment-2_4" / "scores" / "1.npy", scores[2])
    run = confsim.audit(some, out=tmp_path / "other")
    note = "logits were read; the scores beside them, as in experiment-2_4, were not"
    assert run.config["notes"] == [note]


def test_labels_twice_are_read_once(tmp_path):
    keep, labels, logits = arrays()
    folder = build(tmp_path / "exp", keep, labels, logits=logits)
    saved(folder / "labels.npy", np.r_[labels, labels])
    run = confsim.audit(folder, out=tmp_path / "run")
    np.testing.assert_array_equal(run.examples()["label"].to_numpy().reshape(M, N)[0], labels)


def test_more_labels_and_members_than_outputs_are_cut_and_said(tmp_path):
    keep, labels, logits = arrays()
    folder = build(tmp_path / "exp", keep, labels, logits=logits[:, :30])
    run = confsim.audit(folder, out=tmp_path / "run")
    assert len(run.examples()) == M * 30
    notes = " ".join(run.config["notes"])
    assert "keep.npy has 40 rows; the 30 that have outputs" in notes
    assert "y_train.npy has 40 rows; the first 30" in notes


def test_labels_as_a_column_or_in_words(tmp_path):
    keep, labels, logits = arrays()
    expected = confsim.audit(
        build(tmp_path / "a", keep, labels, logits=logits), out=tmp_path / "run"
    ).examples()
    names = np.array(["ape", "bee", "cow"])
    for name, given in {"b": labels[:, None], "c": names[labels]}.items():
        folder = build(tmp_path / name, keep, given, logits=logits)
        found = confsim.audit(folder, out=tmp_path / f"run-{name}").examples()
        np.testing.assert_array_equal(found["log_odds_true"], expected["log_odds_true"])


def replace(path, content):
    path.write_bytes(content)


def saved(path, values, **how):
    np.save(path, values, **how)


FLAWS = {
    "labels from 1": (
        lambda d: saved(d / "y_train.npy", arrays()[1] + 1),
        r"y_train\.npy.* must be below 3, but row .* is 3; classes count from 0",
    ),
    "labels that contradict others": (
        lambda d: saved(d / "labels.npy", (arrays()[1] + 1) % K),
        r"labels\.npy and .*y_train\.npy differ: remove the one",
    ),
    "few labels": (
        lambda d: saved(d / "y_train.npy", arrays()[1][:20]),
        r"y_train\.npy has 20 rows, but there are 40",
    ),
    "no labels": (lambda d: (d / "y_train.npy").unlink(), r"no labels\.npy or y_train\.npy"),
    "no outputs": (
        lambda d: (d / "experiment-2_4/logits/0000000100.npy").unlink(),
        "experiment-2_4 has neither scores",
    ),
    "no keep": (
        lambda d: (d / "experiment-2_4/keep.npy").unlink(),
        r"experiment-2_4 has no keep\.npy",
    ),
    "empty": (
        lambda d: replace(d / "experiment-2_4/logits/0000000100.npy", b""),
        r"experiment-2_4/logits/0000000100\.npy cannot be read",
    ),
    "cut": (
        lambda d: replace(
            d / "experiment-2_4/logits/0000000100.npy",
            (d / "experiment-2_4/logits/0000000100.npy").read_bytes()[:-8],
        ),
        r"experiment-2_4/logits/0000000100\.npy cannot be read as \.npy: it is cut short",
    ),
    "objects": (
        lambda d: saved(d / "experiment-2_4/keep.npy", np.array([None] * N), allow_pickle=True),
        r"experiment-2_4/keep\.npy .* never unpickled",
    ),
    "NaN": (
        lambda d: saved(d / "experiment-2_4/logits/0000000100.npy", np.full((N, 1, 2, K), np.nan)),
        r"experiment-2_4/logits/0000000100\.npy must be finite, but row 0",
    ),
    "other classes": (
        lambda d: saved(d / "experiment-2_4/logits/0000000100.npy", np.zeros((N, 1, 2, K + 1))),
        r"experiment-2_4/logits/0000000100\.npy has shape \(40, 1, 2, 4\), but",
    ),
    "short keep": (
        lambda d: saved(d / "experiment-2_4/keep.npy", arrays()[0][2][:30]),
        r"experiment-2_4/keep\.npy has 30 rows, but there are 40",
    ),
    "long keep": (
        lambda d: saved(d / "experiment-2_4/keep.npy", np.tile(arrays()[0][2], 2)),
        r"experiment-2_4/keep\.npy has 80 rows, but .*experiment-0_4/keep\.npy has 40",
    ),
    "keep as indices": (
        lambda d: saved(d / "experiment-2_4/keep.npy", np.arange(N)),
        r"experiment-2_4/keep\.npy must be 0 or 1, but row 2 is 2",
    ),
    "nobody kept": (
        lambda d: saved(d / "experiment-2_4/keep.npy", np.zeros(N, bool)),
        r"experiment-2_4/keep\.npy holds no member",
    ),
    "a text": (
        lambda d: saved(d / "experiment-2_4/keep.npy", np.array(["yes"] * N)),
        r"experiment-2_4/keep\.npy must be one 0 or 1 per example",
    ),
}


@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_is_named_with_its_file(tmp_path, name):
    keep, labels, logits = arrays()
    folder = build(tmp_path / "exp", keep, labels, logits=logits)
    flaw, words = FLAWS[name]
    flaw(folder)
    with pytest.raises(ValueError, match=words) as caught:
        confsim.audit(folder, out=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not (tmp_path / "run").exists()


# ---- single files ------------------------------------------------------------------------------


def npz(path, **given):
    np.savez(path, **given)
    return path


def npy_called_npz(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def deflated(path):
    """An archive of one array that unpacks to a thousand times its size."""
    content = io.BytesIO()
    np.save(content, np.zeros(1 << 24, np.uint8))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("is_member.npy", content.getvalue())


def with_member(path, name, content):
    """An archive of two columns, and of one more file."""
    npz(path, is_member=[0, 1], confidence=[0.5, 0.6])
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")  # of a name that is there
        archive.writestr(name, content)


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def renamed(path):
    """One bit of the archive's directory is another, so that a column has another name there."""
    content = npz(path, is_member=[0, 1], confidence=[0.5, 0.6], label=[0, 1]).read_bytes()
    path.write_bytes(b"label.np9".join(content.rsplit(b"label.npy", 1)))


FILES = {
    "a damaged name": (renamed, "File name in directory 'label.np9' and header .* differ"),
    "no array": (
        lambda p: with_member(p, "notes.txt", b"my own"),
        "notes.txt cannot be read as .npy",
    ),
    "an array twice": (
        lambda p: with_member(p, "confidence.npy", npy([0.1, 0.2])),
        "it holds the array confidence twice",
    ),
    "more than an array": (
        lambda p: with_member(p, "loss.npy", npy([0.1, 0.2]) + npy([0.3, 0.4])),
        r"loss cannot be read as .npy: it holds more than an array of shape \(2,\)",
    ),
    "a single array": (npy_called_npz, r"is a single array \(\.npy\) without a name"),
    "objects": (
        lambda p: npz(p, is_member=np.array([0, 1, None], dtype=object)),
        "is_member cannot be read as .npy: it holds Python objects, which are never unpickled",
    ),
    "empty": (lambda p: p.write_bytes(b""), "no .npz file"),
    "cut": (
        lambda p: p.write_bytes(npz(p, is_member=np.arange(9) % 2).read_bytes()[:-30]),
        "no .npz file",
    ),
    "Latin-1": (
        lambda p: npz(p, is_member=[0, 1], confidence=[0.5, 0.6], label=[b"caf\xe9", b"tea"]),
        r"label holds text that is not UTF-8: row 0 is b'caf\\xe9'",
    ),
    "numbers beyond int64": (
        lambda p: npz(p, is_member=[0, 1], confidence=[0.5, 0.6], id=np.uint64([1, 2**63])),
        r"id must be below 2\*\*63, but row 1 is 9223372036854775808",
    ),
    "an unpacking without end": (deflated, "unpack to 16,777,344 or more, beyond the limit"),
    "records": (
        lambda p: npz(p, is_member=[0, 1], confidence=np.zeros(2, [("a", "f8")])),
        "confidence must be numbers, not records",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setattr(files, "UNPACK_FLOOR", 1 << 20)
    path = tmp_path / "data.npz"
    make, words = FILES[name]
    make(path)
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        confsim.audit(path, out=tmp_path / "run")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "run").exists()


TABLE = {"is_member": [0, 1] * 50_000, "confidence": [0.5] * 100_000}

BOMBS = {
    "data.npz": lambda p: np.savez_compressed(p, **TABLE),
    "data.csv.gz": lambda p: pd.DataFrame(TABLE).to_csv(p, index=False),
    "data.csv.zip": lambda p: pd.DataFrame(TABLE).to_csv(p, index=False),
    "data.parquet": lambda p: pd.DataFrame(TABLE).to_parquet(p),
    "lz4.feather": lambda p: pd.DataFrame(TABLE).to_feather(p, compression="lz4"),
    "zstd.feather": lambda p: pd.DataFrame(TABLE).to_feather(p, compression="zstd"),
    "coded.feather": lambda p: pd.DataFrame(TABLE).astype("category").to_feather(p),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_unpacks_to_much_is_refused_unless_it_is_meant(tmp_path, monkeypatch, name, capsys):
    for limit in ("UNPACK_FLOOR", "UNPACK_RATIO"):
        monkeypatch.setattr(files, limit, 1)
    path = tmp_path / name
    BOMBS[name](path)
    command = [str(path), "--out", str(tmp_path / "run")]
    assert audit_command([*command, "--unpack-limit", "0.00001"]) == 2
    assert f"{path} cannot be read" in capsys.readouterr().err
    assert audit_command(command) == 2
    assert "--unpack-limit" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert audit_command([*command, "--unpack-limit", "0.01"]) == 0
    assert audit_command([*command, "--unpack-limit", "0"]) == 2


def test_a_dictionary_counts_with_what_it_unpacks_to(tmp_path):
    table = pd.DataFrame({"label": pd.Categorical(["x" * 1_000_000, "y"])})
    for compression in ("lz4", "zstd"):
        table.to_feather(tmp_path / "t.feather", compression=compression)
        content = (tmp_path / "t.feather").read_bytes()
        assert len(content) < 20_000
        assert unpacked_size(content) > 1_000_000


def test_every_cut_of_an_archive_is_refused(tmp_path):
    path = npz(tmp_path / "data.npz", is_member=[0, 1], confidence=[0.5, 0.6])
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"data\.npz"):
            confsim.audit(path, out=tmp_path / "run")


def test_the_other_byte_order_holds_the_same_numbers(tmp_path):
    keep, labels, logits = arrays(1)
    given = {
        "is_member": keep[0],
        "label": labels,
        "logits": logits[0, :, 0, 0],
        "features": logits[0, :, 0, 1].astype(np.float32),
    }
    expected = confsim.audit(given, out=tmp_path / "run")
    swapped = {name: v.astype(v.dtype.newbyteorder(">")) for name, v in given.items()}
    again = confsim.audit(npz(tmp_path / "data.npz", **swapped), out=tmp_path / "run")
    assert again.identity_hash == expected.identity_hash
    swapped["features"] = np.zeros((N, 0), ">f4")
    with pytest.raises(ValueError, match="features must have at least one column"):
        confsim.audit(swapped, out=tmp_path / "no")
    assert not (tmp_path / "no").exists()
