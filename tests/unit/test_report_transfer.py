"""Figures of what attacks find say what the tables say, and show all of it."""

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_runs import FakeDeep, publish

from confsim.membership import agreement, transfer
from confsim.report import bins
from confsim.report.build import report
from confsim.report.canvas import Canvas, settings
from confsim.report.transfer import FIGURES


@dataclass
class Tables:
    """A run of which only its membership tables are known."""

    tables: dict[str, pd.DataFrame]
    notes: list[str] = field(default_factory=list)

    unit = "trial"

    def has(self, name: str) -> bool:
        return name == "examples.parquet"

    def called(self, text: str) -> str:
        return text


@pytest.fixture(scope="module")
def context():
    rng = np.random.default_rng(0)
    member = rng.random((6, 2000)) < 0.5
    skill = rng.normal(size=2000)
    scores = {
        "loss": rng.normal(size=member.shape) + member,
        "lira_online": rng.normal(size=member.shape) + member * (1 + skill),
    }
    found = agreement(scores, member)
    transferred = [
        {"attack": name, **row, "target": str(row["target"])}
        for name, values in scores.items()
        for row in transfer(values, member)
    ]
    return Tables(
        {
            "transfer": pd.DataFrame(transferred),
            "agreement": pd.DataFrame([{"level": 0.01, **row} for row in found.attacks]),
            "agreement_pairs": pd.DataFrame(found.pairs),
        }
    )


def drawn(kind: Any, context: Tables, *, narrow: bool) -> tuple[Any, Any]:
    canvas = Canvas(kind.name, narrow=narrow)
    with settings():
        words = kind.draw(context, canvas)
        canvas.lay_out()
    return canvas.figure, words


def dots(axis: Any, label: str | None = None) -> list[tuple[float, ...]]:
    lines = [line for line in axis.lines if label is None or line.get_label() == label]
    return [tuple(np.round(line.get_xdata(), 12)) for line in lines]


@pytest.mark.parametrize("narrow", [False, True])
def test_transfer_shows_wanted_and_realised(context, narrow):
    kind = FIGURES[0]
    assert kind.needs(context) is None
    figure, words = drawn(kind, context, narrow=narrow)
    table = context.tables["transfer"]
    rows = table[(table["target"] == "mean") & table["level"].isin((0.1, 0.01, 0.001))]
    rows = rows.sort_values("level", ascending=False, kind="stable")
    for axis, columns in zip(
        figure.axes, (("level", "realised_fpr"), ("oracle_tpr", "tpr")), strict=True
    ):
        for column in columns:
            assert tuple(np.round(np.maximum(rows[column], 1e-4), 12)) in dots(axis)
    assert "upper bound" in words.caption
    assert "wanted" in words.alt


@pytest.mark.parametrize("narrow", [False, True])
def test_agreement_shows_once_always_and_chance(context, narrow):
    kind = FIGURES[1]
    figure, words = drawn(kind, context, narrow=narrow)
    rows = context.tables["agreement"]
    for label, column in (("in every trial", "stability"), ("at least once", "coverage")):
        assert dots(figure.axes[0], label) == [tuple(np.round(rows[column], 12))]
    expected = [tuple(np.round(rows["jaccard_trials_chance"], 12))]
    assert dots(figure.axes[1], "by chance") == expected
    assert "loss and LiRA, online" in words.caption
    assert "LiRA, online finds" in words.alt


def test_figures_without_tables_say_why():
    empty = Tables({"transfer": pd.DataFrame(), "agreement": pd.DataFrame()})
    assert [kind.needs(empty) for kind in FIGURES] == [
        "there is no table of transfer",
        "there is no table of agreement",
    ]
    unusable = pd.DataFrame({"target": ["0"], "level": [0.1], "realised_fpr_low": [0.0]})
    assert "has no oracle_tpr" in FIGURES[0].needs(Tables({"transfer": unusable}))


def test_reports_hold_both(tmp_path):
    run = publish(tmp_path / "run", FakeDeep(), 4)
    report([run.path])
    names = {path.stem for path in (run.path / "figures").iterdir()}
    assert {"transfer", "agreement"} <= names


@pytest.mark.parametrize("narrow", [False, True])
def test_panels_that_share_an_axis_show_every_interval_whole(narrow):
    rows = [
        {"attack": attack, "by": by, "bin": i, "value_low": 0.1 * i, "value_high": 0.1 * i + 0.1,
         "level": 0.01, "tpr": height / 2, "tpr_low": 0.0, "tpr_high": height}
        for by, height in (("distance_out", 0.2), ("fixed_distance", 0.7), ("label", 0.9))
        for attack in ("loss", "lira_online")
        for i in range(3)
    ]  # fmt: skip
    figure, _ = drawn(bins.success, Tables({"success_bins": pd.DataFrame(rows)}), narrow=narrow)
    assert len(figure.axes) == 2
    for axis in figure.axes:
        low, high = axis.get_ylim()
        assert low < 0 < 0.7 < high < 0.9


@pytest.mark.parametrize("narrow", [False, True])
def test_numbers_below_a_narrow_panel_do_not_overlap(narrow):
    canvas = Canvas("ticks", narrow=narrow)
    with settings():
        axes = canvas.panels(4, height=2.0)
        for axis, end in zip(axes, (0.06, 0.35, 123.0, 0.012), strict=True):
            axis.plot([-end, end], [0, 1])
        canvas.lay_out()
        canvas.figure.canvas.draw()
        for axis in axes:
            low, high = axis.get_xlim()
            shown = [
                text.get_window_extent()
                for place, text in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)
                if low <= place <= high
            ]
            assert len(shown) >= 2
            assert all(a.x1 < b.x0 for a, b in itertools.pairwise(shown))
