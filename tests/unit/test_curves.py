"""Ties of scores, as curves tell them, and whose curves are kept."""

import numpy as np
import pytest

from confsim.membership.best import FIGURES, best_rows, leaders
from confsim.membership.curves import always_drawn, largest_tie, roc_rows
from confsim.membership.run_attacks import needs_others
from confsim.report.attacks import roc_panel
from confsim.statistics import roc


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_tie_is_that_of_the_commonest_score(seed):
    rng = np.random.default_rng(seed)
    scores, member = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.5
    counts = np.unique(scores, return_counts=True)[1]
    assert largest_tie(roc(scores, member)) == counts.max()
    assert largest_tie(roc(rng.random(40), member)) == 1
    infinite = np.where(scores > 2, np.inf, -np.inf)
    assert largest_tie(roc(infinite, member)) == max(np.sum(scores > 2), np.sum(scores <= 2))


def test_only_steps_of_tied_scores_are_marked_and_counted():
    import pandas as pd
    from matplotlib.figure import Figure

    rng = np.random.default_rng(0)
    member = rng.random((4, 400)) < 0.5
    smooth = rng.normal(size=(4, 400)) + member
    tied = np.where(smooth > 1, 1.0, smooth)
    curves = pd.DataFrame(
        [*roc_rows("confidence", smooth, member), *roc_rows("loss", tied, member)]
    )
    axis = Figure().subplots()
    (said,) = roc_panel(axis, curves, ["confidence", "loss"])
    count = np.mean(np.sum(smooth > 1, axis=1))
    assert said == f"loss: {count:,.0f} of 400 examples share one score"
    assert sum(line.get_marker() == "s" for line in axis.get_lines()) == 1


def test_the_leader_of_each_figure_is_the_one_chosen_else_the_largest_mean():
    rng = np.random.default_rng(0)
    rows = [
        {"attack": name, "target": str(target), **dict(zip(FIGURES, rng.random(3), strict=True))}
        for name in "abcdef"
        for target in (0, 1, 2, 3, "mean", "pooled")
    ]
    chosen = best_rows(rows, range(4))
    assert list(leaders(rows, chosen)) == list(dict.fromkeys(row["attack"] for row in chosen))
    means = {row["attack"]: row for row in rows if row["target"] == "mean"}
    largest = [max(means, key=lambda name: means[name][figure]) for figure in FIGURES]
    assert list(leaders(rows, [])) == list(dict.fromkeys(largest))
    partly = leaders(rows, chosen[:1])
    assert list(partly) == list(dict.fromkeys([chosen[0]["attack"], *largest[1:]]))
    nothing = [{**row, "auc": np.nan} for row in rows]
    assert list(leaders(nothing, [])) == list(dict.fromkeys(largest[1:]))


def test_curves_are_told_apart_by_whether_an_attack_learns_from_other_models():
    for fixed in (True, False):
        names = always_drawn(fixed_variance=fixed)
        assert len(names) == len(set(names))
        assert [needs_others(name) for name in names] == [False] * 5 + [True] * 4
    alone = ("entropy", "correctness", "lt_iqr", "final_minus_mean", "attack_p")
    assert not any(needs_others(name) for name in (*alone, "quantile_regression"))
    learned = ("lira_online_shrunken_variance", "lira_offline_augmented", "attack_r", "base_online")
    assert all(needs_others(name) for name in learned)
