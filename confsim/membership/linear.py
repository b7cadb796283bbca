"""What the linear pipeline's trials say about membership.

A trial of the linear pipeline stores its model, not its queries; scores of all queries are computed
again from the configuration, the model and the seeds. There are far more queries than members, so
attacks that need shadow models have nothing to learn from here: confidence, closeness and leverage
are scored as they are.

Closeness excluding self is biased: a member has one candidate fewer than a non-member, so that its
AUC is below 0.5 when membership means nothing. ``matched=True`` takes one random training point
from every non-member too, which leaves little of that with many training points; with few, or among
points of the same class, where members are more often of the larger class, it is not 0.5 either.
``null_auc`` is what either is then: see :mod:`confsim.linear.chance`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import ConfsimError
from confsim._kernels import resolve_threads
from confsim.linear import chance
from confsim.membership.evaluation import TargetRows, evaluate
from confsim.membership.linear_leverage import LinearLeverage, why_not
from confsim.seeds import Purpose, stream
from confsim.statistics import clopper_pearson, closeness_chance, spearman_interval

if TYPE_CHECKING:
    import pandas as pd

    from confsim.linear.experiment import LinearExperiment
    from confsim.store import Run

FloatArray = NDArray[np.float64]

#: More queries than this are left to the summaries.
QUERIES_LIMIT = 1 << 22

#: Up to this many scores of all trials together, they are also pooled.
_POOLED_LIMIT = 1 << 24

_SIDES = ("bottom", "top")

_NOT_HERE = (
    "lira, rmia, memorization, vulnerability: not for this pipeline, whose queries are members far "
    "too rarely to learn from shadow models"
)


@dataclass(frozen=True, eq=False)
class LinearScores:
    """The scores of every query of one trial, higher meaning "member".

    Attributes
    ----------
    ids : ndarray of int64
    is_member : ndarray of bool
    confidence : ndarray
        Distance from the fitted hyperplane.
    closeness : ndarray
        Negated distance to the nearest training point, excluding self; ``matched`` or not. NaN
        where there is no neighbour.
    """

    ids: NDArray[np.int64]
    is_member: NDArray[np.bool_]
    confidence: FloatArray
    closeness: FloatArray


def linear_scores(
    run: "Run", trial: int, *, matched: bool = False, seed: int = 0, n_threads: int | None = None
) -> LinearScores:
    """Compute the scores of every query of a trial again.

    Parameters
    ----------
    run : Run
        Of ``confsim-linear``.
    trial : int
    matched : bool
        Drop one random training point for each non-member (of its class, with ``--same-class``).
    seed : int
        Of ``matched``.
    n_threads : int, optional

    Raises
    ------
    ConfsimError
        If there are too many queries to hold.
    """
    experiment = _experiment(run)
    if experiment.query_count > QUERIES_LIMIT:
        raise ConfsimError(
            f"{run.path} has {experiment.query_count:,} queries; scores of at most "
            f"{QUERIES_LIMIT:,} are computed again"
        )
    from confsim.linear.lattice import margins_into

    threads = resolve_threads(n_threads)
    model = run.trial(trial).model()
    queries = experiment.query_ids()
    ids = np.asarray(queries, dtype=np.int64)
    margin, labels = np.empty(len(ids)), np.empty(len(ids), dtype=np.int8)
    lattice = experiment.lattice
    margins_into(
        lattice,
        queries,
        (model["weights"], float(model["bias"])),
        experiment.ideal,
        margin,
        labels,
        n_threads=threads,
    )
    training = model["training_ids"]
    rows = np.searchsorted(ids, training)
    own = np.full(len(ids), -1, dtype=np.int64)
    own[rows] = np.arange(len(training))
    is_member = own >= 0
    left_out = own
    if matched:
        rng = stream(seed, Purpose.MATCHED, trial)
        by_class = (labels, labels[rows]) if experiment.same_class else None
        left_out = np.where(is_member, own, _dropped(len(training), len(ids), by_class, rng))
    nearest = lattice.nearest(
        lattice.points(training),
        queries,
        self_index=left_out,
        n_threads=threads,
        **(
            {"query_labels": labels, "training_labels": labels[rows]}
            if experiment.same_class
            else {}
        ),
    )
    assert nearest.distance_excluding_self is not None
    return LinearScores(ids, is_member, margin, -nearest.distance_excluding_self)


def _experiment(run: "Run") -> "LinearExperiment":
    from confsim.linear.experiment import LinearExperiment

    settings = dict(run.config)
    if settings.get("weights") is not None:
        settings["weights"] = tuple(settings["weights"])
    return LinearExperiment(**settings)


def _dropped(
    training: int,
    queries: int,
    by_class: tuple[NDArray[np.int8], NDArray[np.int8]] | None,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw a training point for each query, of its class if classes are given; -1 without any."""
    if by_class is None:
        return rng.integers(training, size=queries)
    query_labels, training_labels = by_class
    drawn = np.full(queries, -1, dtype=np.int64)
    for label in (-1, 1):
        candidates = np.flatnonzero(training_labels == label)
        asking = query_labels == label
        if len(candidates):
            drawn[asking] = candidates[rng.integers(len(candidates), size=np.count_nonzero(asking))]
    return drawn


def tables(
    run: "Run", *, matched: bool, seed: int, n_threads: int | None
) -> "tuple[dict[str, pd.DataFrame], list[str]]":
    """Return the membership tables of a linear run, and notes."""
    import pandas as pd

    notes = [_NOT_HERE]
    summary = run.summary()
    found = {
        "extremes_membership": pd.DataFrame(_extremes_membership(summary)),
        "angle_correlations": pd.DataFrame(_angle_correlations(summary)),
    }
    queries = int(summary["queries"].iloc[0])
    if queries > QUERIES_LIMIT:
        notes.append(f"attacks: skipped, {queries:,} queries are too many to compute again")
        return found, notes
    experiment = _experiment(run)
    reason = why_not(experiment.n, experiment.lattice.dimensions)
    measured = LinearLeverage(experiment.lattice, seed) if reason is None else None
    rows = _attack_rows(run, matched, measured, seed, n_threads, notes)
    if measured is None:
        notes.append(f"leverage: skipped, {reason}")
        rows.append({"attack": "leverage", "target": "none", "reason": reason})
    else:
        found["leverage_bins"] = pd.DataFrame(measured.bins())
        found["leverage_correlations"] = pd.DataFrame(measured.correlations())
    return {"attacks": pd.DataFrame(rows), **found}, notes


def _attack_rows(
    run: "Run",
    matched: bool,
    measured: LinearLeverage | None,
    seed: int,
    n_threads: int | None,
    notes: list[str],
) -> list[dict[str, Any]]:
    """Evaluate trial by trial; all trials together only where they fit."""
    trials = run.trials
    queries = _experiment(run).query_count
    pool = queries * len(trials) <= _POOLED_LIMIT
    scores: dict[str, list[FloatArray]] = {}
    by_target: dict[str, TargetRows] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    membership = []
    for trial in trials:
        plain = linear_scores(run, trial, seed=seed, n_threads=n_threads)
        by_attack = {"confidence": plain.confidence, "closeness": plain.closeness}
        if matched:
            other = linear_scores(run, trial, matched=True, seed=seed, n_threads=n_threads)
            by_attack["closeness_matched"] = other.closeness
        if measured is not None:
            by_attack["leverage"] = measured.add(
                trial, plain.ids, plain.is_member, plain.confidence, plain.closeness
            )
        if pool:
            membership.append(plain.is_member)
        for name, values in by_attack.items():
            if pool:
                scores.setdefault(name, []).append(values)
            else:
                one = by_target.setdefault(name, TargetRows(queries))
                one.add(values[None], plain.is_member[None], [trial])
    for name, matrix in scores.items():
        found[name] = evaluate(
            np.stack(matrix), np.stack(membership), targets=trials, seed=seed, n_threads=n_threads
        )
    if not pool:
        notes.append("attacks: too many scores to pool; rows are per target, and their mean")
        for name, one in by_target.items():
            found[name] = [*one.rows, *([one.mean()] if one.rows else [])]
    by_chance = _Chance(run)
    return [
        {
            "attack": name,
            **row,
            "target": str(row["target"]),
            "null_auc": by_chance.of(name, row["target"]),
        }
        for name, rows in found.items()
        for row in rows
    ]


class _Chance:
    """The AUC of each attack if membership meant nothing: simulated, or by the formula."""

    def __init__(self, run: "Run") -> None:
        self._experiment, self._trials = _experiment(run), len(run.trials)
        self._by_class: dict[bool, dict[int, float]] = {False: {}, True: {}}
        if chance.closeness(self._experiment) is None:
            self._count_classes(run)

    def _count_classes(self, run: "Run") -> None:
        """Apply the formula to the classes of each trial's training points."""
        experiment, lattice = self._experiment, self._experiment.lattice
        same_class = experiment.same_class
        queries = [experiment.query_count]
        if same_class:
            labels = lattice.labels(experiment.query_ids(), *experiment.ideal)
            queries = [int(np.count_nonzero(labels == side)) for side in (-1, 1)]
        for trial in run.trials:
            members = [experiment.n]
            if same_class:
                ids = run.trial(trial).model()["training_ids"]
                labels = lattice.labels(ids, *experiment.ideal)
                members = [int(np.count_nonzero(labels == side)) for side in (-1, 1)]
            others = np.subtract(queries, members)
            for matched, found in self._by_class.items():
                found[trial] = closeness_chance(members, others, matched=matched)

    def of(self, attack: str, target: Any) -> float:
        """Return the AUC of an attack on a target, on average or pooled."""
        if attack not in ("closeness", "closeness_matched"):
            return 0.5
        matched = attack == "closeness_matched"
        simulated = chance.closeness(self._experiment, matched)
        if simulated is not None:
            return simulated.pooled(self._trials) if target == "pooled" else simulated.mean
        found = self._by_class[matched]
        if not found:
            return 0.5 if matched else float("nan")
        return found.get(target, float(np.nanmean(list(found.values()))))


def _extremes_membership(summary: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the share of members in each extreme, pooled, beside that among all queries."""
    rows = []
    for side in _SIDES:
        count = summary[f"{side}_count"].to_numpy()
        members = int(np.sum(np.round(summary[f"{side}_membership_rate"].to_numpy() * count)))
        total = int(count.sum())
        low, high = clopper_pearson(members, total)
        rows.append(
            {
                "side": side,
                "members": members,
                "count": total,
                "membership_rate": members / total,
                "membership_rate_low": float(low),
                "membership_rate_high": float(high),
                "membership_rate_of_queries": float(
                    summary["members"].sum() / summary["queries"].sum()
                ),
                "interval": "Clopper-Pearson on pooled counts, approximate",
            }
        )
    return rows


def _angle_correlations(summary: "pd.DataFrame") -> list[dict[str, Any]]:
    """Correlate, over trials, the angle from the ideal hyperplane with what the extremes hold."""
    rows = []
    for side in _SIDES:
        for figure in ("membership_rate", "distance_mean_self", "distance_mean_other"):
            column = f"{side}_{figure}"
            found = spearman_interval(summary["angle_degrees"], summary[column])
            rows.append(
                {
                    "of": "angle_degrees",
                    "with": column,
                    "spearman": found.value,
                    "spearman_low": found.low,
                    "spearman_high": found.high,
                    "trials": found.pairs,
                }
            )
    return rows
