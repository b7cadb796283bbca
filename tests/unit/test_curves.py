"""Ties of scores, as curves tell them."""

import numpy as np
import pytest

from confsim.membership.curves import largest_tie, roc_rows
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
