"""The blind baseline: how well members are told from others without any look at the model.

Where membership was drawn at random the answer must be: not at all. Where it was not (an audit of a
model that exists), what the baseline achieves is distribution shift, and an attack's success up to
there says nothing of the model (Das et al. 2025; Meeus et al. 2025).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_float64, check_finite, check_integer
from confsim.statistics import auc, check_membership, student_t_interval

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

CLASSIFIERS = ("logistic regression", "gradient boosting")

#: Of a run, so many trials and so many examples of each stand for all: fitting takes time.
_TARGETS = 3
_EXAMPLES = 20_000


@dataclass(frozen=True, eq=False)
class BlindBaseline:
    """What :func:`blind_baseline` found for one classifier.

    Attributes
    ----------
    classifier : str
    auc, low, high : float
        Mean over folds, with Student's t over folds: these examples and other splits of them;
        approximate, for folds share training examples.
    scores : ndarray, (examples,)
        Out-of-fold probability of being a member.
    """

    classifier: str
    auc: float
    low: float
    high: float
    scores: FloatArray

    @property
    def tells_members(self) -> bool:
        """Whether members can be told from others without the model: the interval is above 0.5."""
        return self.low > 0.5

    def __str__(self) -> str:
        verdict = (
            "members differ from the others by themselves, and attacks may succeed by that alone"
            if self.tells_members
            else "nothing tells members from the others without the model"
        )
        return (
            f"Blind baseline ({self.classifier}): AUC {self.auc:.3f}, 95% interval {self.low:.3f} "
            f"to {self.high:.3f}: {verdict}."
        )


def blind_baseline(
    features: ArrayLike,
    is_member: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    folds: int = 5,
    seed: int = 0,
) -> list[BlindBaseline]:
    """Tell members from others by cross-validated classifiers that never see the model.

    Parameters
    ----------
    features : array_like, (examples, d)
        What is known of the examples without the model: inputs, an encoder's features, distances in
        a fixed space, numbers of duplicates. Distances to the *members* do not belong here without
        care: a member has one neighbour fewer. Finite.
    is_member : array_like of bool or 0/1, (examples,)
        One trial's.
    labels : array_like, (examples,), optional
        Classes, added to the features one-hot.
    groups : array_like, (examples,), optional
        Examples of one group, such as duplicates, stay in one fold.
    folds : int
        At least 2.
    seed : int

    Returns
    -------
    list of BlindBaseline
        For logistic regression (on standardised features) and gradient boosting, both, so that
        neither is picked by its result. AUCs are taken within folds and averaged: pooled
        out-of-fold scores are biased below 0.5 when nothing differs.

    Notes
    -----
    0.5 means that these classifiers on these features found nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership import blind_baseline
    >>> rng = np.random.default_rng(0)
    >>> member = rng.random(400) < 0.5
    >>> shifted = rng.normal(size=(400, 2)) + member[:, None]
    >>> [found.tells_members for found in blind_baseline(shifted, member)]
    [True, True]
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    x, member = _checked(features, is_member, labels)
    check_integer("folds", folds, minimum=2)
    check_integer("seed", seed, minimum=0)
    if min(np.count_nonzero(member), np.count_nonzero(~member)) < folds:
        raise ValueError(f"is_member must hold at least {folds} of either class, one for each fold")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(folds, shuffle=True, random_state=seed)
    group = None if groups is None else np.asarray(groups)
    if group is not None and group.shape != member.shape:
        raise ValueError(f"groups must be as long as is_member, {len(member)}, not {group.shape}")
    parts = list(splitter.split(x, member, group))
    return [_cross_validated(name, x, member, parts, seed) for name in CLASSIFIERS]


def _checked(
    features: ArrayLike, is_member: ArrayLike, labels: ArrayLike | None
) -> tuple[FloatArray, BoolArray]:
    member = check_membership(is_member)
    x = as_float64("features", features)
    x = x.reshape(len(x), -1) if x.ndim else x
    if member.ndim != 1 or x.ndim != 2 or len(x) != len(member):
        raise ValueError(
            "features must have shape (examples, d) and is_member (examples,), not "
            f"{np.shape(features)} and {member.shape}"
        )
    check_finite("features", x)
    if member.all() or not member.any():
        missing = "non-member" if member.all() else "member"
        raise ValueError(f"is_member must hold both classes, but there is no {missing}")
    if labels is None:
        return x, member
    classes = np.asarray(labels)
    if classes.shape != member.shape:
        raise ValueError(f"labels must be as long as is_member, {len(member)}")
    kinds = np.unique(classes)
    return np.hstack([x, (classes[:, None] == kinds).astype(np.float64)]), member


def _cross_validated(
    name: str, x: FloatArray, member: BoolArray, parts: list[Any], seed: int
) -> BlindBaseline:
    scores, areas = np.full(len(member), np.nan), []
    for fit, rest in parts:
        model = _classifier(name, seed).fit(x[fit], member[fit])
        scores[rest] = model.predict_proba(x[rest])[:, 1]
        if member[rest].any() and not member[rest].all():
            areas.append(auc(scores[rest], member[rest]))
    mean, low, high = student_t_interval(areas)
    return BlindBaseline(name, mean, low, high, scores)


def _classifier(name: str, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if name == "gradient boosting":
        return HistGradientBoostingClassifier(max_iter=50, random_state=seed)
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def blind_rows(
    columns: Mapping[str, NDArray[Any]],
    labels: NDArray[Any],
    is_member: BoolArray,
    *,
    targets: Sequence[int],
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return what the examples alone tell of membership in the first trials of a run.

    Parameters
    ----------
    columns : mapping of str to ndarray, (examples,)
        What is known of the examples without the model. Columns with unknown values are not used.
    labels : ndarray, (examples,)
    is_member : ndarray of bool, (trials, examples)
    targets : sequence of int
        Numbers of the trials.
    groups : ndarray of int, (examples,), optional
        Duplicates; -1: none.
    seed : int

    Returns
    -------
    list of dict
        ``target``, ``classifier``, ``auc`` (with ``_low`` and ``_high``), ``tells_members``,
        ``uses``, and a ``reason`` where nothing can be fitted.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    count = len(labels)
    rows = np.sort(rng.permutation(count)[:_EXAMPLES])
    known = {name: np.asarray(values, np.float64)[rows] for name, values in columns.items()}
    known = {name: values for name, values in known.items() if np.isfinite(values).all()}
    features = np.column_stack([np.zeros(len(rows)), *known.values()])
    if groups is not None:
        groups = np.where(groups >= 0, groups, groups.max() + 1 + np.arange(count))[rows]
    uses = ", ".join(["label", *known])
    made: list[dict[str, Any]] = []
    for i, target in enumerate(targets[:_TARGETS]):
        row = {"target": str(target), "uses": uses, "examples": len(rows)}
        try:
            found = blind_baseline(
                features, is_member[i, rows], labels=labels[rows], groups=groups, seed=seed
            )
        except ValueError as error:
            made.append(row | {"reason": str(error)})
            continue
        made += [
            row
            | {
                "classifier": each.classifier,
                "auc": each.auc,
                "auc_low": each.low,
                "auc_high": each.high,
                "tells_members": each.tells_members,
            }
            for each in found
        ]
    return made
