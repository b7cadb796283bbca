"""The attacks that a run allows, each with what computes its scores, and why others are not there.

Scores that several tables need are made once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.membership import attacks, traces
from confsim.membership.attacks import Design
from confsim.membership.evidence import other_attacks
from confsim.membership.lira import pooled_deviation, streamed_scores
from confsim.membership.matrices import Matrices
from confsim.membership.rmia import rmia_resolution

FloatArray = NDArray[np.float64]


@dataclass(eq=False)
class Remarks:
    """What readers of the tables must be told.

    Attributes
    ----------
    notes : list of str
    skipped : dict of str to str
        The reason, by attack.
    """

    notes: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def skip(self, names: str, reason: str) -> None:
        """Say why attacks, named with commas between, are not there."""
        self.notes.append(f"{names}: skipped, {reason}")
        self.skipped |= dict.fromkeys(names.split(", "), reason)


class RunAttacks:
    """Iterates over (name, what computes its scores) of every attack that the run allows.

    Parameters
    ----------
    data : Matrices
    design : Design
    remarks : Remarks
        To which is added what is skipped.
    threads : int
    """

    def __init__(self, data: Matrices, design: Design, remarks: Remarks, threads: int) -> None:
        self.data, self.design, self.remarks, self.threads = data, design, remarks, threads

    @property
    def possible(self) -> bool:
        """Whether attacks with shadow models are."""
        return self.data.signal is not None and len(self.data.trials) >= 3

    @property
    def signal(self) -> FloatArray:
        """What attacks learn from: log-odds of the true class, or a statistic."""
        assert self.data.signal is not None
        return self.data.signal

    @cached_property
    def holdout(self) -> FloatArray | None:
        """The same of points that no trial was trained on."""
        return self.data.holdout()

    @cached_property
    def pooled(self) -> FloatArray:
        """The standard deviations of LiRA that are pooled over examples."""
        return pooled_deviation(self.signal, self.design, self.threads)

    @cached_property
    def fixed_by_default(self) -> bool:
        """Whether LiRA's variances are pooled over examples where nothing else is said."""
        return self.design.shadow_models < attacks.FEW_SHADOW_MODELS

    def lira(self) -> FloatArray:
        """Return the scores of the attack that vulnerability is measured by."""
        return self.data.kept(
            "lira_online", lambda: self._lira(online=True, fixed=self.fixed_by_default)
        )

    def _lira(self, *, online: bool, fixed: bool) -> FloatArray:
        return streamed_scores(
            self.signal,
            self.design,
            self.pooled if fixed else None,
            online=online,
            weight=np.inf if fixed else 0.0,
            n_threads=self.threads,
        )

    def rmia(self) -> FloatArray:
        """Return the scores of RMIA, online."""
        compute = _rmia_of_statistic if self.data.statistic else attacks.rmia
        given = self._given() | {"holdout_log_odds": self.holdout}
        return self.data.kept("rmia_online", lambda: compute(self.signal, **given))

    def main(self) -> dict[str, FloatArray]:
        """Return the scores of the attacks that are compared by what they find."""
        plain = "statistic" if self.data.statistic else "loss"
        return {plain: self.signal, "lira_online": self.lira(), "rmia_online": self.rmia()}

    def _given(self) -> dict[str, Any]:
        return {
            "is_member": self.data.is_member,
            "partner": self.design.partner,
            "trim": self.design.trim,
            "seed": self.design.seed,
            "n_threads": self.threads,
        }

    def __iter__(self) -> Iterator[tuple[str, Callable[[], FloatArray]]]:
        """Yield (name, what computes its scores) of every attack that the run allows."""
        names = {
            "confidence": "log_odds_max",
            "loss": "log_odds_true",
            "modified_entropy": "modified_entropy",
            "entropy": "entropy",
            "closeness": "distance_excluding_self",
        }
        if self.data.statistic:
            names = {"statistic": "statistic", "closeness": names["closeness"]}
        for attack, column in names.items():
            if self.data.has_column(column):
                yield attack, partial(_threshold_of, self.data, attack, column)
            else:
                self.remarks.skip(attack, f"the run has no {column}")
        if self.data.has_predictions:
            yield "correctness", partial(_threshold, "correctness", "correct", self.data.correct)
        if self.data.has("traces.parquet"):
            found, note = traces.run_scores(self.data.run, self.data.trials.tolist(), self.data.ids)
            self.remarks.notes += [note] if note else []
            yield from ((name, partial(found.__getitem__, name)) for name in traces.ATTACKS)
        else:
            for attack in traces.ATTACKS:
                self.remarks.skip(attack, "the run keeps no traces (--traces)")
        self.remarks.skip(
            "quantile_regression",
            "it fits a model to features: confsim.membership.quantile_regression",
        )
        if self.possible:
            yield from self._shadow_attacks()
        elif self.data.signal is None:
            self.remarks.skip("lira, rmia", "the run has no log_odds_true")
        else:
            self.remarks.skip("lira, rmia", "they need at least three trials")

    def _shadow_attacks(self) -> Iterator[tuple[str, Callable[[], FloatArray]]]:
        log_odds = self.signal
        for online in (True, False):
            for fixed in (True, False):
                name = f"lira_{'online' if online else 'offline'}_"
                name += "fixed_variance" if fixed else "own_variance"
                if online and fixed == self.fixed_by_default:
                    yield name, self.lira
                else:
                    yield name, partial(self._lira, online=online, fixed=fixed)
        given = self._given()
        views = self.data.views()
        if views is not None:
            for online in (True, False):
                name = f"lira_{'online' if online else 'offline'}_augmented"
                yield name, partial(attacks.lira, views, online=online, **given)
        holdout = self.holdout
        self.remarks.notes.append(self._resolution(holdout))
        yield "rmia_online", self.rmia
        if self.data.statistic:
            return
        yield (
            "rmia_offline",
            partial(attacks.rmia, log_odds, holdout_log_odds=holdout, online=False, **given),
        )
        yield from other_attacks(
            log_odds,
            self.design,
            self.data.labels,
            statistic=self._class_statistic,
            holdout=holdout,
            n_threads=self.threads,
        )

    def _class_statistic(self) -> FloatArray:
        """Return what thresholds of classes are learned on."""
        entropy = self.data.get("modified_entropy")
        return self.signal if entropy is None else np.negative(entropy, out=entropy)

    def _resolution(self, holdout: FloatArray | None) -> str:
        """Say what RMIA's points Z are, and which false-positive rates they cannot resolve."""
        points = None if holdout is None else holdout.shape[1]
        found = rmia_resolution(self.data.is_member, holdout_points=points)
        kind = "the holdout" if found.z == "holdout" else "the target's other non-members"
        note = f"rmia: Z is {kind}, {found.points} points"
        coarse = found.unresolved(int((~self.data.is_member).sum(axis=1).max()))
        if coarse:
            note += f": too few for false-positive rates of {max(coarse):g} and below"
        return note


def _threshold_of(data: Matrices, attack: str, column: str) -> FloatArray:
    values = data.get(column)
    assert values is not None
    return _threshold(attack, column, values)


def _threshold(attack: str, column: str, values: NDArray[Any]) -> FloatArray:
    if column == "statistic":
        return np.asarray(values, dtype=np.float64)
    given: dict[str, Any] = {column: values}
    return attacks.threshold_scores(**given)[attack]


def _rmia_of_statistic(
    values: FloatArray, holdout_log_odds: FloatArray | None, **given: Any
) -> FloatArray:
    """Return scores of RMIA's ratio form, online, with exp(statistic / scale) for a probability.

    The scale is the standard deviation of the statistic between models of one example. Ratios do
    not change when all statistics are shifted, which makes what stands for a probability at most 1.
    """
    scale = float(np.sqrt(np.mean(np.var(values, axis=0)))) or 1.0
    top = max(
        float(values.max()), -np.inf if holdout_log_odds is None else float(holdout_log_odds.max())
    )

    def log_odds(found: FloatArray) -> FloatArray:
        log_p = (found - top) / scale - 1.0
        odds: FloatArray = log_p - np.log(-np.expm1(log_p))
        return odds

    points = None if holdout_log_odds is None else log_odds(holdout_log_odds)
    return attacks.rmia(log_odds(values), holdout_log_odds=points, online=True, **given)
