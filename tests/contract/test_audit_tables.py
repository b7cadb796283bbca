"""Tables given to an audit: dialects, types and names as people have them."""

import bz2
import decimal
import gzip
import lzma
import os
import zipfile

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax

import confsim

N = 40


def table(seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "is_member": rng.permutation(np.arange(N) % 2),
            "label": rng.integers(0, 3, N),
            "logit_0": rng.normal(size=N) * 10.0 ** rng.integers(-9, 3, N),
            "logit_1": rng.normal(size=N),
            "logit_2": rng.normal(size=N),
        }
    )


def logits(t):
    return t[["logit_0", "logit_1", "logit_2"]].to_numpy()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What the arrays of the table give."""
    t = table()
    run = confsim.audit(
        is_member=t["is_member"],
        label=t["label"],
        logits=logits(t),
        out=tmp_path_factory.mktemp("expected") / "run",
    )
    return run.examples()


def european(t):
    return t.to_csv(index=False, sep=";", decimal=",")


def with_words(yes, no):
    return lambda t: t.assign(is_member=np.where(t["is_member"], yes, no)).to_csv(index=False)


def each_row(t, before="", after=""):
    head, *rows = t.to_csv(index=False).splitlines()
    return "\n".join([head, *(before + row + after for row in rows)])


DIALECTS = {
    "plain": lambda t: t.to_csv(index=False),
    "byte order mark": lambda t: "\ufeff" + t.to_csv(index=False),
    "UTF-16": lambda t: t.to_csv(index=False).encode("utf-16"),
    "semicolons and decimal commas": european,
    "the same from Windows": lambda t: ("\ufeff" + european(t)).replace("\n", "\r\n"),
    "line ends of old": lambda t: t.to_csv(index=False).replace("\n", "\r"),
    "a line that names the separator": lambda t: "sep=;\r\n" + t.to_csv(index=False, sep=";"),
    "such a line in capitals": lambda t: "SEP=|\n" + t.to_csv(index=False, sep="|"),
    "quoted decimal commas": lambda t: t.to_csv(index=False, decimal=",", quoting=1),
    "tabs": lambda t: t.to_csv(index=False, sep="\t"),
    "bars": lambda t: t.to_csv(index=False, sep="|"),
    "spaces after commas": lambda t: t.to_csv(index=False).replace(",", ", "),
    "true minus signs": lambda t: t.to_csv(index=False).replace("-", "\u2212"),
    "exponents with decimal commas": lambda t: t.to_csv(
        index=False, sep=";", decimal=",", float_format="%.17e"
    ),
    "row numbers": lambda t: t.to_csv(),
    "row numbers from 1": lambda t: t.set_index(np.arange(1, N + 1)).to_csv(),
    "row numbers with a name": lambda t: t.to_csv(index_label="index"),
    "row names without a header": lambda t: each_row(t, before="r,"),
    "trailing separators": lambda t: t.to_csv(index=False).replace("\n", ",\n"),
    "trailing separators of rows": lambda t: each_row(t, after=","),
    "several trailing separators of rows": lambda t: each_row(t, after=",,,"),
    "rows of separators below the last": lambda t: t.to_csv(index=False) + ",,,,\n,,,,\n",
    "UTF-32": lambda t: t.to_csv(index=False).encode("utf-32"),
    "blank lines": lambda t: "\n\n" + t.to_csv(index=False) + "\n\n",
    "capitals and spaces": lambda t: t.rename(
        columns={"is_member": "Is Member", "label": "LABEL", "logit_0": "Logit 0"}
    ).to_csv(index=False),
    "camel case": lambda t: t.rename(columns={"is_member": "isMember"}).to_csv(index=False),
    "yes and no": with_words("Yes", " no"),
    "TRUE and FALSE": with_words("TRUE", "FALSE"),
    "booleans of a German spreadsheet": with_words("WAHR", "FALSCH"),
    "members and non-members": with_words("member", "non-member"),
    "members and non-members without hyphens": with_words("Member", "Non member"),
    "membership as floats": with_words("1.0", "0.0"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("packed", [False, True])
def test_dialects_hold_the_same_numbers(tmp_path, expected, dialect, packed):
    content = DIALECTS[dialect](table())
    content = content if isinstance(content, bytes) else content.encode()
    path = tmp_path / ("t.CSV.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    found = confsim.audit(path, out=tmp_path / "run").examples()
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def write(path, t):
    if path.suffix == ".csv":
        t.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        t.to_parquet(path)
    else:
        t.to_feather(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".feather"])
def test_no_digit_is_lost(tmp_path, suffix):
    rng = np.random.default_rng(1)
    values = rng.normal(size=2000) * 10.0 ** rng.integers(-200, 98, 2000)
    t = pd.DataFrame({"is_member": np.arange(2000) % 2, "log_odds_true": values})
    run = confsim.audit(write(tmp_path / f"t{suffix}", t), out=tmp_path / "run")
    np.testing.assert_array_equal(run.examples()["log_odds_true"], values)


TYPES = {
    "as it is": lambda t: t,
    "nullable": lambda t: t.convert_dtypes(),
    "of Arrow": lambda t: t.convert_dtypes(dtype_backend="pyarrow"),
    "booleans": lambda t: t.assign(is_member=t["is_member"].astype("boolean")),
    "categories": lambda t: t.assign(label=t["label"].astype("category")),
    "decimals": lambda t: t.assign(logit_1=[decimal.Decimal(repr(float(x))) for x in t["logit_1"]]),
    "lists": lambda t: t[["is_member", "label"]].assign(logits=list(logits(t))),
    "objects": lambda t: t.astype(object),
}


@pytest.mark.parametrize("kind", TYPES)
def test_types_of_columns(tmp_path, expected, kind):
    t = TYPES[kind](table())
    found = confsim.audit(t, out=tmp_path / "frame").examples()
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    if kind != "objects":
        t.to_parquet(tmp_path / "t.parquet")
        found = confsim.audit(tmp_path / "t.parquet", out=tmp_path / "parquet").examples()
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_columns_of_classes_keep_their_numbers(tmp_path):
    """Nobody ever predicted class 2: label 3 is read in logit_3."""
    rng = np.random.default_rng(2)
    numbers = np.array([0, 1, 3, 4])
    label = rng.choice(numbers[:3], 200)
    z = rng.normal(size=(200, 4)) + 3 * (label[:, None] == numbers)
    t = pd.DataFrame({"is_member": rng.integers(0, 2, 200), "label": label})
    t = t.assign(**{f"logit_{k}": z[:, i] for i, k in enumerate(numbers)})
    examples = confsim.audit(t, out=tmp_path / "run").examples()
    np.testing.assert_array_equal(examples["label"], label)
    np.testing.assert_array_equal(examples["predicted"], numbers[z.argmax(axis=1)])
    p = np.exp(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))
    p = p[np.arange(200), np.searchsorted(numbers, label)]
    np.testing.assert_allclose(examples["log_odds_true"], np.log(p) - np.log1p(-p), rtol=1e-9)
    t.loc[7, "label"] = 2
    with pytest.raises(ValueError, match=r"label .* have columns, 0, 1, 3, 4, but row 7 is 2"):
        confsim.audit(t, out=tmp_path / "refused")


def test_columns_by_the_names_of_classes(tmp_path, expected):
    names = np.array(["dog", "cat", "ant"])
    t = table()
    t = t.assign(label=names[t["label"]]).rename(
        columns={f"logit_{k}": f"logit_{name}" for k, name in enumerate(names)}
    )
    run = confsim.audit(t, out=tmp_path / "run")
    found = run.examples()
    np.testing.assert_array_equal(found["log_odds_true"], expected["log_odds_true"])
    named = run.population().set_index("label")["label_name"].astype(str).to_dict()
    assert named == {0: "ant", 1: "cat", 2: "dog"}
    assert [named[k] for k in found["label"]] == t["label"].tolist()
    with pytest.raises(ValueError, match="must be one of ant, cat, dog, but row 3 is 'cow'"):
        confsim.audit(t.assign(label=t["label"].where(t.index != 3, "cow")), out=tmp_path / "no")


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_labels_in_words_are_numbered_alphabetically(tmp_path, expected, encoding):
    names = np.array(["cat", "dog", "éléphant"])
    t = table().assign(label=lambda t: names[t["label"]])
    (tmp_path / "t.csv").write_bytes(t.to_csv(index=False).encode(encoding))
    run = confsim.audit(tmp_path / "t.csv", out=tmp_path / "run")
    pd.testing.assert_frame_equal(run.examples(), expected)
    assert any("0 is cat, 1 is dog, 2 is éléphant" in note for note in run.config["notes"])
    t = t[t["label"] != "dog"]
    with pytest.raises(ValueError, match=r"2 names \(cat, éléphant\) for 3 classes"):
        confsim.audit(t, out=tmp_path / "refused")


def test_classes_may_be_called_like_missing_values(tmp_path):
    names = np.array(["NA", "None", "nan"])
    t = table().assign(label=lambda t: names[t["label"]])
    t.to_csv(tmp_path / "t.csv", index=False)
    run = confsim.audit(tmp_path / "t.csv", out=tmp_path / "run")
    assert set(run.population()["label_name"].astype(str)) == set(names)


def test_examples_with_names(tmp_path, expected):
    t = table().assign(id=[f"img{i}.png" for i in range(N)])
    run = confsim.audit(t, out=tmp_path / "run")
    pd.testing.assert_frame_equal(run.examples(), expected)
    assert run.population()["name"].tolist() == t["id"].tolist()
    with pytest.raises(ValueError, match=r"but img0\.png is there twice"):
        confsim.audit(t.assign(id=[f"img{i // 2}.png" for i in range(N)]), out=tmp_path / "no")


def test_models_of_a_table_in_natural_order(tmp_path):
    parts = {name: table(seed) for seed, name in enumerate(["m10", "m2", "m1"])}
    label = parts["m1"]["label"]
    t = pd.concat(
        p.assign(trial=name, id=np.arange(N), label=label) for name, p in parts.items()
    ).sample(frac=1, random_state=0)
    run = confsim.audit(t, out=tmp_path / "run")
    assert run.config["model_names"] == ["m1", "m2", "m10"]
    for trial, name in enumerate(run.config["model_names"]):
        found = run.trial(trial).table("examples", ["is_member"])["is_member"]
        np.testing.assert_array_equal(found, parts[name]["is_member"])
    indexed = confsim.audit(t.set_index(["trial", "id"]), out=tmp_path / "indexed")
    pd.testing.assert_frame_equal(indexed.examples(), run.examples())


REFUSED = {
    "missing logit": ("1,2,,0.1,0.2", "logits must be finite, but row 40"),
    "missing member": (",2,0.1,0.1,0.2", "is_member must not be missing, but row 40 is"),
    "missing label": ("1,,0.1,0.1,0.2", "label must not be missing, but row 40 is"),
    "text": ("1,2,abc,0.1,0.2", "logits must be numbers, but row 40 is 'abc'"),
    "error of a spreadsheet": ("1,2,#DIV/0!,0.1,0.2", "logits must be numbers, but row 40"),
    "maybe": ("maybe,2,0,0.1,0.2", "is_member must be .* yes or no, but row 40 is 'maybe'"),
    "percent signs": ("1,2,95.5 %,0.1,0.2", "row 40 is '95.5 %': leave out percent signs"),
    "thousands": ('1,2,"1,234.5",0.1,0.2', "row 40 is '1,234.5': leave out separators"),
    "thousands of Germans": ('1,2,"1.234,5",0.1,0.2', "row 40 is '1.234,5': leave out separators"),
    "points and commas": ('1,2,"12,5",0.1,0.2', "logits holds '12,5' and '.*': write decimal"),
    "one value more": ("1,2,3,4,5,6", "cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_rows(tmp_path, name):
    row, words = REFUSED[name]
    path = tmp_path / "bad.csv"
    path.write_text(table().to_csv(index=False) + row + "\n")
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        confsim.audit(path, out=tmp_path / "run")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "run").exists()


FILES = {
    "UTF-16 without a mark": (lambda t: t.encode("utf-16-le"), "save it as UTF-8"),
    "packed by zstd": (lambda t: b"\x28\xb5\x2f\xfd" + t.encode(), "is packed by zstd: unpack it"),
    "packed by bzip2": (lambda t: bz2.compress(t.encode()), "is packed by bzip2: unpack it"),
    "packed by xz": (lambda t: lzma.compress(t.encode()), "is packed by xz: unpack it"),
    "a column twice": (lambda t: t.replace("logit_1", "logit_0", 1), "'logit_0' is there twice"),
    "spaces between columns": (lambda t: t.replace(",", " "), "its first row is one name"),
    "no header": (lambda t: t.split("\n", 1)[1], "its first row holds numbers"),
    "a comment": (
        lambda t: "# made by us\n" + t,
        "its first line is a comment, '# made by us': leave comments out",
    ),
    "a comment with commas": (lambda t: "#a,b\n" + t, "its first line is a comment, '#a'"),
    "a header after a hash": (lambda t: "#" + t, "'#is_member': did you mean 'is_member'"),
    "a short header": (
        lambda t: "is_member,label\n" + t.split("\n", 1)[1],
        "its header has 2 columns and its first row 5",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_files(tmp_path, name):
    change, words = FILES[name]
    content = change(table().to_csv(index=False))
    path = tmp_path / "bad.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=words) as caught:
        confsim.audit(path, out=tmp_path / "run")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["t.csv.zip", "t.zip", "t.csv.gz", "t.csv"])
@pytest.mark.parametrize("beside", [False, True])
def test_packed_tables(tmp_path, name, beside):
    """As pandas and as a Mac pack them; the name does not matter."""
    path, text = tmp_path / name, table().to_csv(index=False)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("folder/t.csv", text)
            if beside:
                archive.writestr("__MACOSX/folder/._t.csv", b"\0\5\x16\7")
    examples = confsim.audit(path, out=tmp_path / "run").examples()
    assert examples["is_member"].tolist() == table()["is_member"].astype(bool).tolist()


ARCHIVES = {
    "two": ({"a.csv": "x", "b.csv": "y"}, "must hold one file, not 2"),
    "none": ({}, "must hold one file, not 0"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_hold_no_single_table(tmp_path, name):
    members, words = ARCHIVES[name]
    path = tmp_path / "t.csv"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in members.items():
            archive.writestr(member, text)
    if not members:  # an archive of nothing but its end has another start
        path.write_bytes(b"PK\x03\x04" + path.read_bytes())
        words = "cannot be read|must hold one file, not 0"
    with pytest.raises(ValueError, match=words) as caught:
        confsim.audit(path, out=tmp_path / "run")
    assert str(path) in str(caught.value)


def test_a_damaged_or_encrypted_archive_is_refused(tmp_path):
    path = tmp_path / "t.csv.zip"
    table().to_csv(path, index=False)
    whole = path.read_bytes()
    flags = whole.index(b"PK\x01\x02") + 8  # in the directory at the end
    locked = bytearray(whole)
    locked[6] |= 1
    locked[flags] |= 1
    for content in (bytes(locked), whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read") as caught:
            confsim.audit(path, out=tmp_path / "run")
        assert str(path) in str(caught.value)
        assert not (tmp_path / "run").exists()


def test_rows_that_are_left_out_are_said(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(table().to_csv(index=False) + ",,,,\n")
    run = confsim.audit(path, out=tmp_path / "run")
    assert "1 empty rows are left out" in run.config["notes"]


@pytest.mark.parametrize("prefix", ["log_prob", "logprob_", "log_probability_", "logp_", "p_"])
def test_logarithms_of_probabilities_are_logits(tmp_path, prefix):
    t = table()
    log_p = log_softmax(logits(t), axis=1)
    values = np.exp(log_p) if prefix == "p_" else log_p
    columns = {f"{prefix}{k}": values[:, k] for k in range(3)}
    found = confsim.audit(
        t[["is_member", "label"]].assign(**columns), out=tmp_path / "run"
    ).examples()
    run = confsim.audit(
        is_member=t["is_member"], label=t["label"], logits=log_p, out=tmp_path / "expected"
    )
    pd.testing.assert_frame_equal(found, run.examples(), rtol=1e-9)


COLUMNS = {
    "a suggestion": ({"is_member": "member"}, "'member': did you mean 'is_member'"),
    "a typo": ({"label": "lable"}, "'lable': did you mean 'label'"),
    "a score": ({"logit_0": "score"}, "'score': did you mean 'statistic'"),
    "twice": ({"logit_1": "logits_0"}, "columns 'logit_0' and 'logits_0' are the same"),
    "both": ({"logit_1": "probability_1"}, "must not be given together"),
    "no name": ({"label": ""}, "column 2 is called ''"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_bad_names(tmp_path, name):
    change, words = COLUMNS[name]
    with pytest.raises(ValueError, match=words):
        confsim.audit(table().rename(columns=change), out=tmp_path / "run")


def test_a_comma_that_may_separate_thousands(tmp_path):
    path = tmp_path / "t.csv"
    table().assign(logit_0="1,234").to_csv(path, index=False)
    with pytest.raises(ValueError, match="'1,234', whose comma may be"):
        confsim.audit(path, out=tmp_path / "run")


def test_lists_of_several_lengths(tmp_path):
    t = table()[["is_member", "label"]].assign(logits=list(logits(table())))
    t.at[5, "logits"] = np.zeros(2)
    t.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"t\.parquet: logits .* row 5 \(2,\)"):
        confsim.audit(tmp_path / "t.parquet", out=tmp_path / "run")


def test_a_list_that_is_missing(tmp_path):
    t = table()[["is_member", "label"]].assign(logits=list(logits(table())))
    t.at[0, "logits"] = None
    with pytest.raises(ValueError, match="logits must not be missing, but row 0 is"):
        confsim.audit(t, out=tmp_path / "run")


def test_names_that_are_not_utf8(tmp_path):
    names = [b"%d\xc8" % i for i in range(N)]
    with pytest.raises(ValueError, match="id holds text that is not UTF-8: row 0 is b'0"):
        confsim.audit(table().assign(id=names), out=tmp_path / "run")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", ["p.csv", "p.npz", "p.parquet", "x/is_member.npy"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    with pytest.raises(ValueError, match="no regular file"):
        confsim.audit(path if "/" not in name else path.parent, out=tmp_path / "run")
