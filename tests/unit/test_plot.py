"""Figures drawn into Axes of the user's, and runs that report themselves."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from report_runs import FakeDeep, linear, publish

import confsim
from confsim import ConfsimError, plot
from confsim.report import bins
from confsim.report.build import gather

OPTIONS = {"names": ("$a", "b"), "own_groups": ("north", "$south$")}


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("plot") / "deep", FakeDeep(**OPTIONS), 5)


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("plot") / "linear", linear(), 4)


EACH = {
    "roc": {"names": ["lira_online_fixed_variance"]},
    "low_rates": {"rate": "0.1pct"},
    "vulnerability": {"by": "fixed_distance", "figure": "tpr_at_fpr_1pct"},
    "vulnerability_correlations": {"measure": "memorization"},
    "memorization": {},
    "classes": {"figure": "auc"},
    "joint": {"members": True},
    "extremes": {"own_rows": True},
    "membership": {"by": "distance"},
    "trials": {"own_rows": True},
    "success": {"by": "fixed_distance"},
    "groups": {"figure": "tpr_at_fpr_1pct"},
    "training": {"figure": "accuracy"},
    "transfer": {"rate": "fpr"},
    "agreement": {"figure": "jaccard"},
    "images": {"which": "unsure", "count": 5},
}


@pytest.mark.parametrize("name", EACH)
def test_every_figure_is_drawn_into_the_axes_given(deep, name):
    before = dict(mpl.rcParams)
    for options in ({}, EACH[name]):
        figure = Figure()
        first, second = figure.subplots(1, 2)
        drawn = getattr(plot, name)(deep, second, **options)
        assert drawn is second
        assert second.has_data() or second.child_axes  # images have panels of their own
        assert not first.has_data()
        figure.canvas.draw()
    assert dict(mpl.rcParams) == before


def test_a_map_is_drawn_of_a_lattice_in_two_dimensions(plane, deep):
    for field in ("confidence", "distance"):
        axes = Figure().subplots()
        assert plot.lattice_map(plane, axes, field=field).has_data()
    with pytest.raises(ConfsimError, match="nothing to draw here: only runs over a lattice"):
        plot.lattice_map(deep)


def test_leverage_is_drawn_of_a_linear_run(plane, deep):
    axes = plot.leverage(plane, Figure().subplots())
    table = pd.read_csv(plane.path / "tables" / "leverage_bins.csv")
    known = table["auc_confidence"].dropna()
    (line,) = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert line.get_ydata() == pytest.approx(known)
    with pytest.raises(ConfsimError, match="nothing to draw here"):
        plot.leverage(deep)


def test_bounds_on_epsilon_are_drawn_where_something_is_proved(deep):
    context = gather(deep)
    rows = [
        {"attack": "loss", "by": "fixed_distance", "bin": i, "value_low": i, "value_high": i + 1}
        for i in range(3)
    ]
    context.tables["epsilon_bins"] = pd.DataFrame(rows).assign(epsilon=[0.0, 0.0, np.nan])
    assert bins.epsilon.needs(context) == "no bin proves more than an epsilon of 0"
    context.tables["epsilon_bins"]["epsilon"] = [0.0, 0.7, np.nan]
    assert bins.epsilon.needs(context) is None
    axes = Figure().subplots()
    bins.epsilon_panel(axes, context, "fixed_distance")
    (line,) = axes.get_lines()
    assert line.get_xydata().tolist() == [[0.5, 0.0], [1.5, 0.7]]


def test_training_curves_are_medians_over_trials(deep):
    axes = plot.training(deep, Figure().subplots())
    curves = pd.concat([deep.trial(n).table("training") for n in deep.trials])
    median = curves.groupby("epoch")["batch_loss"].median()
    (line,) = [line for line in axes.get_lines() if line.get_label() == "last training batch"]
    assert line.get_ydata() == pytest.approx(median.to_numpy())
    assert len(axes.get_lines()) == 2 * (5 + 1) + 1


def test_of_many_trials_some_curves_are_drawn(tmp_path):
    run = publish(tmp_path / "many", FakeDeep(examples=12), 33)
    axes = plot.training(run, Figure().subplots())
    assert len(axes.get_lines()) == 2 * (30 + 1) + 1


def test_curves_are_those_of_the_table(deep):
    axes = plot.roc(deep, Figure().subplots(), names=["loss"])
    table = pd.read_parquet(deep.path / "tables" / "roc.parquet")
    rows = table[table["attack"] == "loss"]
    (line,) = [line for line in axes.get_lines() if line.get_label() == "loss"]
    assert line.get_xdata() == pytest.approx(rows["fpr"])
    floor = rows["fpr"].min() / 3
    assert line.get_ydata() == pytest.approx(np.maximum(rows["tpr"], floor))


def test_what_cannot_be_drawn_is_refused(deep, plane):
    with pytest.raises(ValueError, match=r"names must be one of confidence, .*, not 'lire'"):
        plot.roc(deep, names=["lire"])
    with pytest.raises(ValueError, match="by must be one of"):
        plot.vulnerability(deep, by="label")
    with pytest.raises(ConfsimError, match="no table of examples"):
        plot.roc(plane)


@pytest.mark.parametrize("given", ["runs/mine", None])
def test_something_that_is_no_run_is_named(given):
    said = "'runs/mine'" if given else "DIRECTORY"
    for function in (plot.roc, plot.extremes, confsim.membership.membership_tables):
        with pytest.raises(TypeError, match=rf"run must be a Run, as confsim\.open_run\({said}\)"):
            function(given)


def test_every_function_is_public_and_documented():
    assert confsim.plot is plot
    assert set(EACH) | {"epsilon", "lattice_map", "leverage"} == set(plot.__all__)
    assert all(getattr(plot, name).__doc__ for name in plot.__all__)


def test_a_run_reports_itself(deep, tmp_path):
    attacks = deep.attacks()
    assert {"attack", "target", "auc"} <= set(attacks)
    made = deep.report(out=tmp_path / "out")
    assert made.page == tmp_path / "out" / "report.html"
    assert str(made.page) in made._repr_html_()
    assert repr(made) == f"Report({str(made.page)!r})"
    size = f"{made.page.stat().st_size / 1e6:.2f} MB"
    figures, tables = len(made.figures) // 3, len(made.tables)
    assert str(made) == f"{made.title}: {made.page} ({size}), {figures} figures, {tables} tables"
