"""The report: figures, tables, answers, page and command, on runs published through the store."""

import csv
import doctest
import hashlib
import itertools
import json
import math
import re
import resource
import subprocess
import sys
import types
from html.parser import HTMLParser
from pathlib import Path

import browser as chromium
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from report_runs import FakeDeep, linear, publish

from confsim import audit, open_run
from confsim.cli.report import main
from confsim.linear import run as run_linear
from confsim.membership.curves import on_grid
from confsim.report import build, dictionary, first, numbers
from confsim.report import sweep as sweeps
from confsim.report.build import FIGURES, gather, report
from confsim.report.canvas import Canvas, settings
from confsim.report.context import ReportContext
from confsim.report.numbers import with_interval
from confsim.report.provenance import provenance
from confsim.report.sentences import (
    Signal,
    paired_difference,
    sentences,
    share_of_members,
    signals,
    verdict,
)
from confsim.report.summary import Estimate
from confsim.report.table import Column, Table
from confsim.statistics import POSITIVE, mean_interval, roc, student_t_interval
from confsim.store import layout
from confsim.store.files import read_sealed, seal

WIDTHS = {"desktop": 1200, "phone": 390}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A linear and a deep run with their reports."""
    folder = tmp_path_factory.mktemp("runs")
    made = {
        "linear": publish(folder / "linear", linear(), 5),
        "deep": publish(folder / "deep", FakeDeep(), 6),
    }
    return {name: (run, report([run.path])) for name, run in made.items()}


@pytest.fixture(scope="module")
def pages(runs):
    return {name: made.page.read_text(encoding="utf-8") for name, (_, made) in runs.items()}


class Reader(HTMLParser):
    """Collects what a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def headings_in_order(self):
        """Whether the first heading is the title and none skips a level."""
        levels = [int(tag[1]) for tag, _ in self.tags if re.fullmatch("h[1-6]", tag)]
        deeper = (b - a for a, b in itertools.pairwise(levels))
        return levels[0] == 1 and levels.count(1) == 1 and max(deeper) <= 1

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


# ---- numbers -----------------------------------------------------------------------------------


def test_the_first_sentence_holds_the_difference_within_trials(runs):
    run, _ = runs["deep"]
    context = gather(run)
    found = paired_difference(context, "other")
    rows = run.summary()
    differences = rows["top_distance_mean_other"] - rows["bottom_distance_mean_other"]
    assert (found.value, found.low, found.high) == pytest.approx(student_t_interval(differences))
    sentence = sentences(context).closeness
    assert sentence.startswith("Confident points are closer to the training set")
    assert with_interval(found.value, found.low, found.high) in sentence


AUDITS = {
    "three models, default design": lambda rng: {
        "is_member": rng.random((3, 60)) < 0.5,
        "label": rng.integers(0, 3, 60),
        "logits": rng.normal(size=(3, 60, 3)),
    },
    "one member": lambda rng: {
        "is_member": np.arange(60) == 3,
        "logits": rng.normal(size=(60, 3)),
        "features": rng.normal(size=(60, 4)),
    },
    "one non-member": lambda rng: {
        "is_member": np.arange(60) != 3,
        "label": rng.integers(0, 3, 60),
        "logits": rng.normal(size=(60, 3)),
        "features": rng.normal(size=(60, 4)),
    },
    "one member a class, same class": lambda rng: {
        "is_member": np.arange(8) % 2 == 0,
        "label": np.arange(8) // 2,
        "logits": rng.normal(size=(8, 4)),
        "features": rng.normal(size=(8, 4)),
        "same_class": True,
    },
    "distances of members only": lambda rng: {
        "is_member": np.arange(60) < 30,
        "logits": rng.normal(size=(60, 3)),
        "distance": np.where(np.arange(60) < 30, rng.random(60), np.nan),
    },
    "the same outputs for all": lambda rng: {
        "is_member": rng.random((4, 40)) < 0.5,
        "label": np.zeros(40, dtype=int),
        "logits": np.ones((4, 40, 2)),
    },
}


@pytest.mark.parametrize("name", AUDITS)
@pytest.mark.filterwarnings("ignore")
def test_every_finished_audit_has_a_report(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "FIGURES", build.attacks.FIGURES)
    audit(out=tmp_path / "run", **AUDITS[name](np.random.default_rng(0)))
    assert main([str(tmp_path / "run")]) == 0, capsys.readouterr().err
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Not computed" in page
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL).split()


# ---- the verdict -------------------------------------------------------------------------------


def judged(tmp_path, *, trials, shift, examples=400, attack=None, seed=0):
    """The verdict on models whose members' log-odds are shifted."""
    rng = np.random.default_rng(seed)
    member = rng.random((trials, examples)) < 0.5
    log_odds = rng.normal(size=member.shape) + shift(member, rng)
    logits = np.stack([log_odds, np.zeros_like(log_odds)], axis=2)
    run = audit(
        is_member=member, label=np.zeros(examples, int), logits=logits, out=tmp_path / f"run{seed}"
    )
    context = gather(run)
    build._add_membership(context, None)
    return verdict(signals(context))


@pytest.mark.filterwarnings("ignore")
def test_verdict_on_noise_and_on_leaks(tmp_path):
    told = [
        judged(tmp_path, trials=8, shift=lambda m, _: 0 * m, examples=200, seed=seed)
        for seed in range(8)
    ]
    assert sum(text.startswith("No attack is better") for text in told) >= 7
    strong = judged(tmp_path, trials=8, shift=lambda m, _: 1.5 * m, seed=20)
    assert strong.startswith("Membership is given away, most ")
    few = judged(tmp_path, trials=2, shift=lambda m, _: 1.5 * m, seed=21)
    assert few.startswith("There are too few trials to say")
    one = judged(tmp_path, trials=1, shift=lambda m, _: 3 * m, seed=22)
    assert one.startswith("Membership is given away")


def signal(value, low, high, name="loss"):
    return Signal(name, value, low, high)


def test_two_trials_have_no_intervals_to_be_wide(tmp_path):
    run = run_linear(n=10, queries=2000, trials=2, out=tmp_path / "run")
    told = sentences(gather(run)).caution
    assert "2 trials only, too few for intervals over trials" in told
    assert "no member fell into the extremes" in told
    assert "wide" not in told


def test_verdict_follows_the_strongest_signal_in_either_direction():
    assert "too few trials" in verdict([])
    assert "too few trials" in verdict([signal(0.9, np.nan, np.nan)])
    assert verdict([signal(0.52, 0.49, 0.55)]).startswith("No attack is better")
    assert verdict([signal(0.52, 0.51, 0.53)]) == "Membership shows a little, most by loss"
    turned = verdict([signal(0.52, 0.51, 0.53), signal(0.3, 0.25, 0.35, "entropy")])
    assert turned == "Membership is given away, most by entropy, turned round"
    depleted = [signal(0.52, 0.51, 0.53), signal(0.015, 0.01, 0.02, "the least confident")]
    text = "Membership is given away, most in the least confident, where non-members are more "
    assert verdict(depleted).startswith(text)


@pytest.mark.filterwarnings("ignore")
def test_members_that_are_missing_among_the_least_confident_are_told(tmp_path):
    """An AUC near one half, and hardly a member among the least confident."""

    def shift(member, rng):
        return np.where(~member & (rng.random(member.shape) < 0.12), 12.0, 0.0)

    rng = np.random.default_rng(3)
    member = rng.random((8, 600)) < 0.5
    rank = 1 + np.abs(rng.normal(size=member.shape)) - 0.9999 * shift(member, rng) / 12
    logits = np.stack([rank, np.zeros_like(rank)], axis=2)
    run = audit(is_member=member, logits=logits, label=np.zeros(600, int), out=tmp_path / "run")
    context = gather(run)
    build._add_membership(context, None)
    assert context.headline.means["auc_confidence"].value < 0.56
    assert (
        "given away, most in the least confident, where non-members"
        in sentences(context).membership
    )


# ---- the first screen --------------------------------------------------------------------------


def first_screen(tmp_path, *, shift, trials=8, examples=600, seed=0):
    """The first screen of an audit whose members' log-odds are shifted."""
    rng = np.random.default_rng(seed)
    member = rng.random((trials, examples)) < 0.5
    log_odds = rng.normal(size=member.shape) + shift * member
    logits = np.stack([log_odds, np.zeros_like(log_odds)], axis=2)
    run = audit(
        is_member=member, label=np.zeros(examples, int), logits=logits, out=tmp_path / f"{seed}"
    )
    context = gather(run)
    build._add_membership(context, None)
    return context, first.first_screen(context)


@pytest.mark.filterwarnings("ignore")
def test_the_headline_on_noise_and_on_a_leak(tmp_path):
    quiet = [first_screen(tmp_path, shift=0, examples=300, seed=seed)[1] for seed in range(6)]
    told = [screen.headline for screen in quiet]
    assert (
        sum(text == "No attack tells members from others better than guessing" for text in told)
        >= 5
    )
    context, screen = first_screen(tmp_path, shift=3, seed=20)
    found = re.fullmatch(
        r"An attacker recognises (\d+)% of members at 1% false alarms: (\d+) times guessing",
        screen.headline,
    )
    assert found is not None
    name, best, _ = first.best_rate(context)
    assert float(found[2]) == pytest.approx(best.value / first.chance_rate(context, name), abs=0.5)
    assert float(found[1]) / 100 == pytest.approx(best.value, abs=0.006)
    assert float(screen.tiles[0].value.rstrip("%")) == pytest.approx(100 * best.value, abs=0.6)
    few = first_screen(tmp_path, shift=3, trials=2, seed=21)[1]
    assert few.headline == "2 models are too few to say whether membership shows"
    assert "chosen on 1 target and measured on 1 other; guessing" in few.tiles[0].note
    # Attacks have no interval over three models: nothing is said of how they compare with guessing.
    told = [first_screen(tmp_path, shift=s, trials=3, seed=22 + s)[1].headline for s in (0, 3)]
    assert told == [
        "3 models are too few to say whether membership shows",
        "Membership shows; 3 models are too few to say how many members an attack tells",
    ]


def test_guessing_at_a_low_rate_is_what_noise_achieves():
    rng = np.random.default_rng(5)
    for size in (40, 150, 1000):
        rates = [
            roc(rng.normal(size=2 * size), np.arange(2 * size) < size).at_fpr(0.01).tpr
            for _ in range(400)
        ]
        table = pd.DataFrame({"attack": ["a"], "target": ["0"], "non_members": [size]})
        context = ReportContext(None, [0])
        context.tables["attacks"] = table
        error = np.std(rates) / np.sqrt(len(rates))
        assert first.chance_rate(context, "a") == pytest.approx(np.mean(rates), abs=4 * error)


NUMBERS = re.compile(r"(?<![\w.])-?\d[\d,.]*%?")


def test_sentences_hold_few_numbers_and_nothing_internal(runs, pages):
    for name, (run, _) in runs.items():
        context = gather(run)
        build._add_membership(context, None)
        told = sentences(context)
        screen = first.first_screen(context)
        assert 3 <= len(screen.tiles) <= 4
        printed = [screen.headline, told.closeness, told.membership, *told.cautions]
        for sentence in printed:
            assert len(NUMBERS.findall(sentence)) <= 3, sentence
            assert "_" not in sentence
        text = pages[name]
        assert str(run.path.parent) not in text[: text.index("<pre")]


def test_every_column_of_the_summaries_is_explained(runs, tmp_path):
    rng = np.random.default_rng(0)
    audited = audit(
        is_member=rng.random((3, 60)) < 0.5, logits=rng.normal(size=(3, 60, 3)), out=tmp_path / "a"
    )
    for run in (*(run for run, _ in runs.values()), audited):
        unknown = [name for name in run.summary() if not dictionary.meaning(name)]
        assert not unknown
    with (runs["deep"][1].page.parent / "tables" / "dictionary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"attacks_summary.csv", "trials.csv"} <= {row["file"] for row in rows}
    assert all(row["meaning"] for row in rows)


# ---- digits ------------------------------------------------------------------------------------


@given(st.floats(1e-9, 1e6), st.floats(1e-6, 3), st.floats(1e-6, 3))
@example(value=0.9999885559082031, below=0.015625, above=7.62939453125e-06)
@example(value=9999.6, below=1e-6, above=1e-6)
@example(value=9.99999e-5, below=0.01, above=1e-6)
def test_digits_follow_the_interval(value, below, above):
    """Two significant digits of the half-width, and at most four of the number."""
    low, high = value / (1 + below), value * (1 + above)
    shown = [
        float(x.replace(",", ""))
        for x in re.findall(r"[\d.,e+-]*\d", with_interval(value, low, high))
    ]
    half, fourth = (high - low) / 2, 10.0 ** (math.floor(math.log10(float(f"{high:.3e}"))) - 3)
    if max(half / 10, fourth) >= 1:
        assert shown == [round(x) for x in (value, low, high)]
    else:
        allowed = max(0.051 * half, 0.51 * fourth)
        assert np.abs(np.subtract(shown, (value, low, high))).max() <= allowed
    digits = re.sub(r"e.*|[,.]", "", with_interval(value, low, high).split()[0]).lstrip("0")
    assert len(digits) <= max(4, len(str(round(high))))


def test_examples_in_docstrings_of_numbers():
    assert doctest.testmod(numbers).failed == 0


def test_numbers_of_a_column_have_as_many_decimals_as_each_other():
    columns = [Column(key, key, "") for key in ("class", "accuracy", "wide", "auc")]
    rows = [
        {"class": "a", "accuracy": 1.0, "wide": 0.5, "auc": 0.5, "auc_low": 0.4, "auc_high": 0.6},
        {"class": "b", "accuracy": 0.98, "wide": 0.0005, "auc": 0.50},
        {"class": "c", "accuracy": math.nan, "wide": 0.0, "auc": 0.25},
        {"class": "d", "accuracy": 0.0, "wide": 0.5, "auc": 0.5},
    ]
    cells = [[cell.text for _, cell in row] for row in Table("t", "T", columns, rows).cells()]
    assert cells == [
        ["a", "1.000", "0.5", "0.50 [0.40, 0.60]"],
        ["b", "0.980", "0.0005", "0.5"],
        ["c", "\u2013", "0", "0.25"],
        ["d", "0", "0.5", "0.5"],
    ]
    # Rows that are of different kinds keep their own.
    mixed = [Column("figure", "", ""), Column("value", "value", "")]
    rows = [{"figure": "loss", "value": 1.2}, {"figure": "accuracy", "value": 0.914}]
    cells = [[cell.text for _, cell in row] for row in Table("t", "T", mixed, rows).cells()]
    assert cells == [["loss", "1.2"], ["accuracy", "0.914"]]


def test_cautions_name_what_is_wrong(runs):
    run, _ = runs["deep"]
    told = sentences(gather(run)).caution
    for words in ("6 trials only", "2 images have a duplicate", "watched non-members"):
        assert words in told


def test_table_of_extremes_equals_the_summaries(runs):
    run, made = runs["linear"]
    with (made.page.parent / "tables" / "extremes_summary.csv").open() as file:
        rows = {row["figure"]: row for row in csv.DictReader(file)}
    row, column = rows["mean distance, excluding self"], run.summary()["top_distance_mean_other"]
    mean, low, high = mean_interval(column, POSITIVE)
    found = [float(row[key]) for key in ("top", "top_low", "top_high")]
    assert found == pytest.approx([mean, low, high])


def test_curve_on_a_grid_is_the_best_threshold_allowed():
    rng = np.random.default_rng(0)
    scores, member = rng.integers(0, 12, 400) / 3, rng.random(400) < 0.5
    curve, grid = roc(scores, member), np.array([1e-4, 0.01, 0.05, 0.2, 0.5, 1.0])
    assert on_grid(curve, grid) == pytest.approx([curve.at_fpr(a).tpr for a in grid])


@pytest.fixture
def few_figures(monkeypatch):
    """For tests of everything but figures."""
    monkeypatch.setattr(build, "FIGURES", FIGURES[1:2])


def test_curves_are_kept_and_made_again_when_the_run_grows(tmp_path, few_figures):
    run = publish(tmp_path / "run", FakeDeep(examples=120), 4)
    report([run.path])
    path = run.path / "tables" / "roc.parquet"
    first = path.stat().st_mtime_ns
    report([run.path])
    assert path.stat().st_mtime_ns == first
    publish(run.path, FakeDeep(examples=120), 5, without=(0, 1, 2, 3))
    report([run.path])
    assert pd.read_parquet(path)["targets"].eq(5).all()


def test_the_command_repeats_the_run(runs):
    from confsim.cli.linear import build_parser, experiment_from

    run, _ = runs["linear"]
    words = provenance(gather(run)).command.split()
    given = build_parser().parse_args(words[1:])
    assert experiment_from(given).identity() == run.manifest["identity"]
    assert given.trials == 5


# ---- figures -----------------------------------------------------------------------------------


def test_every_figure_is_drawn_or_says_why_not(runs):
    deep, linear_run = (runs[name][1] for name in ("deep", "linear"))
    drawn = {name: {Path(f).stem for f in runs[name][1].figures} for name in runs}
    assert drawn["linear"] >= {"joint", "extremes", "membership", "trials", "lattice_map"}
    assert "leverage" in drawn["linear"]
    elsewhere = {"lattice_map", "leverage", "groups"}  # of lattices, and of groups of one's own
    assert drawn["deep"] - {"epsilon"} == {kind.name for kind in FIGURES} - elsewhere - {"epsilon"}
    reasons = [reason for _, reason in deep.skipped]
    assert reasons[0] == "only runs over a lattice have a map"
    assert "examples have no column group" in reasons
    assert all(reason for _, reason in linear_run.skipped)
    assert all(len(made.figures) % 3 == 0 for _, made in runs.values())


def reasons_of(run) -> dict[str, str]:
    context = gather(run)
    build._add_membership(context, None)
    return {kind.title: kind.needs(context) for kind in FIGURES}


def test_reasons_for_leaving_figures_out(tmp_path):
    reasons = reasons_of(publish(tmp_path / "cube", linear(dimensions=3, grid_size=20.0), 1))
    assert "3" in reasons["Where is the model sure, and where are its training points?"]
    assert reasons["Does every trial say the same?"] == "it needs more than one trial"
    bare = publish(tmp_path / "bare", FakeDeep(images=False, joint=False, examples=100), 2)
    reasons = reasons_of(bare)
    assert "no joint histogram" in reasons["How do confidence and distance go together?"]
    assert "keeps no images" in reasons["Which images is the model sure of?"]
    assert "needs LiRA" in reasons["Are examples far from all others more exposed?"]


def test_the_same_run_gives_the_same_files(tmp_path):
    run = publish(tmp_path / "run", linear(queries=500), 3)

    def hashes(folder: Path) -> dict[str, str]:
        report([run.path], out=folder)
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    first, again = hashes(tmp_path / "a"), hashes(tmp_path / "b")
    assert first == again
    svg = (tmp_path / "a" / "figures" / "joint.svg").read_text()
    assert not re.search(r"<dc:date>|20\d\d-\d\d-\d\d", svg)


def test_fonts_are_embedded_and_figures_fit_a_paper(runs):
    folder = runs["linear"][1].page.parent / "figures"
    pdf = (folder / "joint.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", pdf)
    assert box is not None
    assert float(box[1]) / 72 == pytest.approx(6.9, abs=0.01)
    assert "<text" not in (folder / "joint.svg").read_text()


# ---- the page ----------------------------------------------------------------------------------


def test_page_is_self_contained_and_escaped(pages):
    for text in pages.values():
        page = Reader(text)
        sources = [a.get("src") or a.get("href") for _, a in page.tags]
        assert all(s.startswith(("#", "data:")) for s in sources if s)
        data = [a for a in page.all("script") if a.get("type") == "application/json"]
        assert len(page.all("script")) == 1 + len(data)
        assert not [a for _, a in page.tags if any(n.startswith("on") or n == "style" for n in a)]
        assert "@import" not in text
        ids = [a["id"] for _, a in page.tags if "id" in a]
        assert len(ids) == len(set(ids))
        targets = {a["href"][1:] for a in page.all("a")}
        assert targets <= set(ids)
    assert "made-up &lt;b&gt;data&lt;/b&gt;" in pages["deep"]
    assert "<script>alert" not in pages["deep"]


def test_page_can_be_read_without_seeing_it(pages):
    for text in pages.values():
        page = Reader(text)
        drawings = [a for a in page.all("div") if a.get("role") == "img"]
        assert drawings
        assert all(len(a["aria-label"] or "") > 20 for a in drawings)
        assert all(a.get("aria-hidden") == "true" for a in page.all("svg"))
        assert page.all("html")[0]["lang"] == "en"
        assert page.headings_in_order()
        heads = [a for a in page.all("th") if a.get("scope") == "col"]
        assert heads
        assert all(a.get("title") for a in heads)


def test_the_share_of_members_is_that_of_all_queries(runs):
    run = runs["deep"][0]
    context = gather(run)
    # Attacks on canaries look at canaries alone.
    context.tables["attacks"] = pd.DataFrame(
        {"target": ["pooled"], "members": [3], "non_members": [1]}
    )
    member = np.concatenate([run.trial(t).table("examples")["is_member"] for t in run.trials])
    assert share_of_members(context) == pytest.approx(member.mean())
    assert abs(member.mean() - 0.75) > 0.2


def test_an_audit_speaks_of_models_and_only_of_what_is_known(runs, tmp_path):
    rng = np.random.default_rng(0)
    member, label = rng.random((4, 80)) < 0.5, rng.integers(0, 3, 80)
    logits = rng.normal(size=(4, 80, 3)) + 2 * np.eye(3)[label]
    given = {"is_member": member, "label": label, "logits": logits}
    group = np.array(["a trial of its own", "b"])[rng.integers(0, 2, 80)]
    known = {"features": rng.normal(size=(80, 4)), "group": group}
    for name, more in (("without", {}), ("with", known)):
        run = audit(**given, **more, design="independent", out=tmp_path / name)
        text = report([run.path]).page.read_text(encoding="utf-8")
        told = text.replace("a trial of its own", "")
        told = re.sub("<style>.*?</style>|<script.*?</script>|<pre.*?</pre>", "", told, flags=re.S)
        found = re.findall(r".{30}\btrials?\b(?!\.\w).{10}", re.sub("<[^>]*>", " ", told))
        assert not found
        assert ("Distances are normalised" in text) == bool(more)
        assert ("including self" in text) == bool(more)
        assert Reader(text).headings_in_order()
    assert "a trial of its own" in text  # what the data say stays
    assert "Distances are normalised" in runs["linear"][1].page.read_text(encoding="utf-8")


@pytest.mark.skipif(chromium.EXECUTABLE is None, reason="chromium is not installed")
@pytest.mark.parametrize("name", ["linear", "deep"])
def test_in_a_browser(runs, name, tmp_path):
    page = runs[name][1].page
    visible = """[...document.querySelectorAll('figure')].map(f => {
        const shown = [...f.querySelectorAll('svg')].map(s => s.getBoundingClientRect())
            .filter(r => r.width > 100 && r.height > 50 && r.left >= 0
                         && r.right <= document.documentElement.clientWidth + 1);
        return shown.length})"""
    with chromium.browser(tmp_path / "profile") as tab:
        for width in WIDTHS.values():
            for dark in (False, True):
                tab.look(width, 900, dark=dark, mobile=width < 500)
                tab.open(page)
                assert tab.errors() == []
                assert all(u.startswith(("file:", "data:")) for u in tab.requests())
                assert [u for u in tab.requests() if u.startswith("file:")] == [page.as_uri()]
                assert tab.evaluate("document.documentElement.scrollWidth") <= width
                shown = tab.evaluate(visible)
                assert shown
                assert set(shown) == {1}
                ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
                assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == dark
        tab.press("Tab", 9)
        assert tab.evaluate("document.activeElement.className") == "skip"


# ---- several runs ------------------------------------------------------------------------------


def test_runs_are_compared_by_what_differs(tmp_path):
    paths = [publish(tmp_path / f"n{n}", linear(n=n), 3).path for n in (40, 10, 20)]
    made = report(paths)
    assert made.page.parent.parent == tmp_path
    assert made.page.parent.name.startswith("comparison-")
    with (made.page.parent / "tables" / "comparison.csv").open() as file:
        rows = {row["figure"]: row for row in csv.DictReader(file)}
    text = made.page.read_text()
    page = Reader(text)
    heads = re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', text)
    assert heads[:4] == ["", *(f"training points {n}" for n in (10, 20, 40))]
    found = [float(rows["AUC of confidence"][f"run_{i}"]) for i in (1, 2, 3)]
    means = [open_run(path).summary()["auc_confidence"].mean() for path in sorted(paths)]
    assert found == pytest.approx(means)
    assert "They differ in training points." in text
    assert '<h1 class="headline">With 40 training points instead of 10, the ' in text
    assert page.headings_in_order()
    # What all share is said once.
    assert [text.count(f"<dt>{name}</dt>") for name in ("grid size", "numpy")] == [1, 1]
    assert text.count("<dt>n</dt>") == 3
    assert len([a for a in page.all("figure") if a.get("id", "").startswith("figure-sweep")]) > 3


def test_the_axes_of_a_sweep_span_its_numbers_which_lie_apart(tmp_path):
    runs = [gather(publish(tmp_path / f"n{n}", linear(n=n), 4), partial=False) for n in (10, 40)]
    sweep = sweeps.arrange(runs)
    for kind in sweeps.figures(sweep):
        canvas = Canvas(kind.name)
        with settings():
            kind.draw(runs[0], canvas)
            canvas.lay_out()
        (axis,) = canvas.figure.axes
        lines = [line for line in axis.lines if line.get_marker() != "None"]
        for line in lines:
            for values, (low, high) in zip(
                line.get_data(), (axis.get_xlim(), axis.get_ylim()), strict=True
            ):
                assert low <= min(values)
                assert max(values) <= high
        places = [tuple(line.get_transform().transform((10, 1)).round(1)) for line in lines]
        assert len(set(places)) == len(places) > 0


def test_few_trials_of_a_sweep_are_said_in_plain_words(tmp_path):
    runs = [gather(publish(tmp_path / f"n{n}", linear(n=n), 2), partial=False) for n in (40, 10)]
    told = sweeps.sentence(sweeps.arrange(runs))
    assert re.fullmatch(
        r"With 40 training points instead of 10, the mean distance of the most confident to "
        r"another training point is 0\.\d+ instead of 0\.\d+; too few trials to tell that from "
        r"chance\.",
        told,
    )


def test_a_sweep_by_names_says_where_a_number_is_largest():
    sweep = sweeps.Sweep("model", [], [], [], ["model"])
    measure = next(m for m in sweeps.MEASURES if m.name == "correlation")
    low, high = ("cnn", "", Estimate(0.1, 0.0, 0.2, 9)), ("mlp", "", Estimate(0.5, 0.4, 0.6, 9))
    told, clear = sweeps._largest(sweep, measure, [low, high])
    assert told.endswith(" is largest: 0.50 with model mlp, against 0.10 with model cnn.")
    assert clear
    wide = ("mlp", "seed 1", Estimate(0.5, 0.1, 0.9, 9))
    told, clear = sweeps._largest(sweep, measure, [low, wide])
    assert told.endswith(
        " does not clearly differ: 0.50 with model mlp, seed 1; 0.10 with model cnn."
    )
    assert not clear
    told, clear = sweeps._largest(sweep, measure, [low])
    assert told.endswith(" is known of one run only: 0.10 with model cnn.")
    assert not clear
    assert not sweeps._largest(sweep, measure, [high, ("cnn", "", Estimate(0, 0, 0, 9))])[1]


def test_a_sweep_says_what_clearly_changes():
    unknown = Estimate(1, math.nan, math.nan, 2)
    assert sweeps._change(Estimate(1, 0.5, 1.5, 9), Estimate(2, 1.4, 2.6, 9)) == "overlaps"
    assert sweeps._change(Estimate(1, 0.9, 1.1, 9), Estimate(2, 1.9, 2.1, 9)) == "rises"
    assert sweeps._change(Estimate(2, 1.9, 2.1, 9), Estimate(1, 0.9, 1.1, 9)) == "falls"
    assert sweeps._change(Estimate(0, 0, 0, 9), Estimate(1, 0.9, 1.1, 9)) == "overlaps"
    assert sweeps._change(unknown, Estimate(1, 0.9, 1.1, 9)) == "unknown"
    assert sweeps._instead("n", 10, 1000) == "1,000 training points instead of 10"
    assert sweeps._instead("train_ratio", 0.2, 0.8) == "a train ratio of 0.8 instead of 0.2"
    # As many digits as the interval supports.
    angle = next(m for m in sweeps.MEASURES if m.name == "angle")
    assert angle.text(Estimate(12.8123, 3.1, 45.2, 9)) == "13 degrees"
    best = sweeps.MEASURES[0]
    assert best.text(Estimate(0.0125, 0.01, 0.015, 9)) == "1.25%"


def test_runs_that_cannot_be_compared(runs, tmp_path, capsys):
    one, other = (str(runs[name][0].path) for name in ("linear", "deep"))
    assert main([one, other, "--out", str(tmp_path / "x")]) == 2
    assert main([one, one, "--out", str(tmp_path / "x")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "cannot be compared: one is a run of confsim-linear" in lines[0]
    assert "their settings are the same" in lines[1]


# ---- bad input ---------------------------------------------------------------------------------


def test_missing_and_damaged_trials(tmp_path, capsys, few_figures):
    run = publish(tmp_path / "run", linear(), 6, without=(4,))
    (layout.trial_path(run.path, 2) / "joint.npz").write_bytes(b"broken")
    assert main([str(run.path)]) == 75
    line = capsys.readouterr().err
    assert "1 trial not finished (4); trial 2 damaged (joint.npz" in line
    assert line.count("\n") == 1
    assert main([str(run.path), "--partial", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    page = Path(told["page"]).read_text()
    assert "Partial report." in page
    assert "trial 2 damaged" in page
    assert "2 trials of 6 are missing or damaged" in told["sentences"][2]


def test_an_empty_run(tmp_path, capsys):
    run = publish(tmp_path / "run", linear(), 2, without=(0, 1))
    assert main([str(run.path), "--partial"]) == 75
    assert "has no finished trial" in capsys.readouterr().err


def test_no_run_and_a_newer_run(tmp_path, runs, capsys):
    assert main([str(tmp_path)]) == 2
    newer = tmp_path / "newer"
    newer.mkdir()
    manifest = read_sealed(runs["linear"][0].path / "manifest.json")
    (newer / "manifest.json").write_bytes(seal(manifest | {"schema": 99}))
    assert main([str(newer)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "is not a run directory" in lines[0]
    assert "use a newer confsim" in lines[1]


def test_an_unwritable_place(runs, tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    assert main([str(runs["linear"][0].path), "--out", str(file / "below")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_full_disk_is_said_before_anything_is_made(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("confsim.report.build.gather", lambda *_: pytest.fail("began"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    out = tmp_path / "out"
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        assert main([str(runs["linear"][0].path), "--out", str(out)]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"cannot write {out / 'figures'}: File too large; no part of it is left" in said
    assert not list(tmp_path.iterdir())


def test_the_usual_neighbour_is_one_of_the_nearest(runs):
    run, _ = runs["deep"]
    context = ReportContext(open_run(run.path), run.trials)
    assert len(context.examples.ids) == 300
    neighbour, distance = context.examples.usual_neighbour(0)
    assert neighbour in context.examples.nearest[:, 0]
    assert distance > 0


def test_importing_the_package_imports_no_matplotlib():
    script = (
        "import sys, confsim, confsim.cli.report, confsim.report.build;"
        "assert not {'matplotlib', 'pandas', 'jinja2'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("dataset", "model", "title"),
    [
        ("digits", "cnn", "cnn on digits"),
        ("folder:/home/me/pictures/", "cnn", "cnn on pictures"),
        ("table:/data/adult.csv", "/home/me/nets.py:small", "nets.py:small on adult.csv"),
    ],
)
def test_titles_hold_no_path(dataset, model, title):
    run = types.SimpleNamespace(config={"dataset": dataset, "model": model})
    assert build._title(run) == title


@pytest.mark.parametrize(
    ("rate", "half", "said"),
    [
        (1.0, 0.0, "100"),
        (0.9967, 0.001, "100"),
        (0.0996, 0.01, "10"),
        (0.088, 0.01, "8.8"),
        (0.5, 0.1, "50"),
        (0.0946, 0.12, "9"),
        (0.0186, 0.006, "1.9"),
    ],
)
def test_the_headline_has_few_digits_and_no_exponents(rate, half, said):
    assert first._rounded(Estimate(rate, rate - half, rate + half, 9), 100) == said
