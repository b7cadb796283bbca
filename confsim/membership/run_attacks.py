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
from confsim.membership.attacks import THRESHOLD_COLUMNS, Design
from confsim.membership.evidence import class_attacks, shadow_attacks
from confsim.membership.lira import pooled_deviation, streamed_scores
from confsim.membership.matrices import Matrices
from confsim.membership.population import attack_p
from confsim.membership.quantile import quantile_regression
from confsim.membership.rmia import rmia_resolution

FloatArray = NDArray[np.float64]

#: Attacks with shadow models, and those of them that need probabilities of classes.
_SHADOW_ATTACKS = (
    "lira_online_fixed_variance",
    "lira_online_own_variance",
    "lira_offline_fixed_variance",
    "lira_offline_own_variance",
    "lira_online_shrunken_variance",
    "rmia_online",
    "rmia_offline",
    "attack_r",
    "difficulty_calibration",
    "base_online",
    "base_offline",
    "class_thresholds",
)
_OF_CLASSES = (
    "confidence",
    "loss",
    "modified_entropy",
    "entropy",
    "correctness",
    "rmia_offline",
    "difficulty_calibration",
    "base_online",
    "base_offline",
    "class_thresholds",
)
_OF_VIEWS = ("lira_online_augmented", "lira_offline_augmented")

#: Points of the holdout that a tail quantile takes, times its false-positive rate.
_POINTS = 50
#: Values (trials, points, columns) that are fitted at most: beyond that it takes minutes.
_FITTED = 20_000_000


def needs_others(attack: str) -> bool:
    """Whether an attack learns from models other than its target."""
    return attack in _SHADOW_ATTACKS or attack in _OF_VIEWS


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

    def skip(self, reason: str, *names: str) -> None:
        """Say why attacks are not there."""
        self.notes.append(f"{', '.join(names)}: skipped, {reason}")
        self.skipped |= dict.fromkeys(names, reason)


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

    @property
    def lira_name(self) -> str:
        """How the attack is called that vulnerability is measured by."""
        return f"lira_online_{'fixed' if self.fixed_by_default else 'own'}_variance"

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
            out=self.data.new_scores(),
        )

    def rmia(self) -> FloatArray:
        """Return the scores of RMIA, online."""
        compute = _rmia_of_statistic if self.data.statistic else attacks.rmia
        given = self._given() | {"holdout_log_odds": self.holdout}
        return self.data.kept(
            "rmia_online", lambda: compute(self.signal, **given, out=self.data.new_scores())
        )

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
        names = ["confidence", "loss", "modified_entropy", "entropy", "closeness"]
        if self.data.statistic:
            names = ["statistic", "closeness"]
            self.remarks.skip("models give a statistic, no classes", *_OF_CLASSES)
        for attack in names:
            column, sign = THRESHOLD_COLUMNS.get(attack, (attack, 1.0))
            if self.data.has_column(column):
                yield attack, partial(_signed, self.data, column, sign)
            else:
                self.remarks.skip(f"the run has no {column}", attack)
        if self.data.has_predictions:
            yield "correctness", partial(_as_scores, self.data, self.data.correct)
        elif not self.data.statistic:
            self.remarks.skip("the run has no predictions", "correctness")
        if self.data.has("traces.parquet"):
            found, note = traces.run_scores(self.data.run, self.data.trials.tolist(), self.data.ids)
            self.remarks.notes += [note] if note else []
            yield from ((name, partial(found.__getitem__, name)) for name in traces.ATTACKS)
        else:
            self.remarks.skip("the run keeps no traces (--traces)", *traces.ATTACKS)
        if self.data.signal is None:
            names_left = ("attack_p", "quantile_regression", *_SHADOW_ATTACKS, *_OF_VIEWS)
            self.remarks.skip("the run has no log_odds_true", *names_left)
            return
        yield (
            "attack_p",
            lambda: attack_p(
                self.signal,
                self.data.is_member,
                holdout_log_odds=self.holdout,
                n_threads=self.threads,
                out=self.data.new_scores(),
            ),
        )
        yield from self._quantile_regression()
        if self.possible:
            yield from self._shadow_attacks()
        else:
            self.remarks.skip("they need at least three trials", *_SHADOW_ATTACKS, *_OF_VIEWS)

    def _quantile_regression(self) -> Iterator[tuple[str, Callable[[], FloatArray]]]:
        """Yield the attack that learns from the holdout, where that is large enough."""
        points = 0 if self.holdout is None else self.holdout.shape[1]
        levels = [level for level in (0.01, 0.1) if points * level >= _POINTS]
        found = self.data.spaces() if levels else None
        if not levels:
            reason = f"it needs a holdout of {_POINTS / 0.1:.0f} points, and there are {points}"
        elif found is None:
            reason = "the run keeps no fixed space that holds the holdout, too"
        elif len(self.data.trials) * points * found[0].shape[1] > _FITTED:
            reason = (
                "it would fit a model to each trial for minutes: "
                "confsim.membership.quantile_regression does it"
            )
        else:
            yield "quantile_regression", partial(self._above_quantile, *found, levels[0])
            return
        self.remarks.skip(reason, "quantile_regression")

    def _above_quantile(
        self,
        space: NDArray[Any],
        examples: NDArray[np.int64],
        held: NDArray[np.int64],
        level: float,
    ) -> FloatArray:
        points = self.holdout
        assert points is not None
        return quantile_regression(
            self.signal,
            space[examples],
            self.data.labels,
            holdout_log_odds=points,
            holdout_features=space[held],
            holdout_labels=self.data.holdout_labels(),
            fpr=level,
            seed=self.design.seed,
        )

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
        if views is None:
            self.remarks.skip("models were asked for one view of each example", *_OF_VIEWS)
        else:
            for online in (True, False):
                name = f"lira_{'online' if online else 'offline'}_augmented"
                yield name, partial(self._of_views, views, online=online, **given)
        holdout = self.holdout
        self.remarks.notes.append(self._resolution(holdout))
        yield "rmia_online", self.rmia
        if not self.data.statistic:
            yield (
                "rmia_offline",
                lambda: attacks.rmia(
                    log_odds,
                    holdout_log_odds=holdout,
                    online=False,
                    out=self.data.new_scores(),
                    **given,
                ),
            )
        new = self.data.new_scores
        yield from shadow_attacks(log_odds, self.design, new, n_threads=self.threads)
        if self.data.statistic:
            return
        yield from class_attacks(
            log_odds,
            self.design,
            self.data.labels,
            new,
            statistic=self._class_statistic,
            n_threads=self.threads,
        )
        if self.design.trim:
            self.remarks.skip(
                "counts of models in and out of each class may reveal membership",
                "class_thresholds",
            )

    def _of_views(self, views: FloatArray, **given: Any) -> FloatArray:
        return attacks.lira(views, **given, out=self.data.new_scores())

    def points(self, attack: str) -> str | None:
        """Name the points that an attack compares an example with, ``None`` if it does not."""
        if attack != "attack_p" and not attack.startswith("rmia"):
            return None
        return "non-members" if self.holdout is None else "holdout"

    def why_no_audit(self, attack: str) -> str | None:
        """Say why guesses by an attack's scores prove no epsilon, ``None`` if they do.

        A guess may follow from the model and from other trials, not from the target's own coins.
        """
        if attack == "closeness":
            return "its scores are distances to the target's training set, which no model gave"
        if self.points(attack) == "non-members":
            return "its scores know who the target's non-members are: the run has no holdout"
        return None

    def _class_statistic(self) -> FloatArray:
        """Return what thresholds of classes are learned on."""
        if not self.data.has_column("modified_entropy"):
            return self.signal
        return _signed(self.data, "modified_entropy", -1.0)

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


def _signed(data: Matrices, column: str, sign: float) -> FloatArray:
    """Return a column with a sign."""
    values = data.get(column)
    assert values is not None
    return values if sign > 0 else np.multiply(sign, values, out=data.new_scores())


def _as_scores(data: Matrices, values: NDArray[Any]) -> FloatArray:
    found = data.new_scores()
    found[...] = values
    return found


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
