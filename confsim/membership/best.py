"""Which attack is best, without the winner's curse: chosen on some targets, quoted on others."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_integer
from confsim.seeds import Purpose, stream
from confsim.statistics import RATE, mean_interval

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class BestAttack:
    """What :func:`best_attack` found.

    Attributes
    ----------
    attack : str
        The best on the targets that it was chosen on.
    value, low, high : float
        Its mean on the other targets, with Student's t over them, on a scale that keeps a rate one:
        these examples, trials drawn anew. NaN bounds with too few.
    chosen_on, quoted_on : tuple of int
        Rows of targets.
    naive : float
        The best attack's mean over all targets, which picking the winner biases upwards.
    """

    attack: str
    value: float
    low: float
    high: float
    chosen_on: tuple[int, ...]
    quoted_on: tuple[int, ...]
    naive: float

    def sentence(self, what: str = "AUC") -> str:
        """Say it.

        Parameters
        ----------
        what : str
            Name of the figure.
        """
        interval = ""
        if not np.isnan(self.low):
            interval = f" (95% interval {self.low:.3f} to {self.high:.3f})"
        chosen, quoted = len(self.chosen_on), len(self.quoted_on)
        return (
            f"The best of the attacks, chosen on {chosen} target{'s' * (chosen > 1)}, is "
            f"{self.attack}: {what} {self.value:.3f}{interval} on the "
            f"{f'{quoted} others' if quoted > 1 else 'other'}."
        )


def best_attack(
    figures: Mapping[str, ArrayLike], *, partner: ArrayLike | None = None, seed: int = 0
) -> BestAttack | None:
    """Choose the attack with the largest mean figure on one half of the targets; quote the other.

    Parameters
    ----------
    figures : mapping of str to array_like, (trials,)
        By attack, a figure of each target, such as its AUC; larger is better. Targets for which any
        attack has none (NaN) are left out for all.
    partner : array_like of int, (trials,), optional
        Pairs of a balanced design stay together, and count as one in the interval.
    seed : int
        Of the split.

    Returns
    -------
    BestAttack or None
        ``None`` with fewer than two targets (or pairs), where nothing is left to quote.

    Examples
    --------
    >>> from confsim.membership import best_attack
    >>> found = best_attack({"loss": [0.6, 0.5, 0.6, 0.5], "lira": [0.7, 0.8, 0.8, 0.7]})
    >>> found.attack, len(found.chosen_on), len(found.quoted_on)
    ('lira', 2, 2)
    """
    check_integer("seed", seed, minimum=0)
    names = list(figures)
    if not names:
        raise ValueError("figures must hold at least one attack")
    rows = [np.asarray(figures[name], dtype=np.float64) for name in names]
    for name, row in zip(names, rows, strict=True):
        if row.ndim != 1 or len(row) != len(rows[0]):
            raise ValueError(
                f"figures of all attacks must be equally long, but {name!r} has the shape "
                f"{row.shape} and {names[0]!r} {rows[0].shape}"
            )
    values = np.stack(rows)
    pairs = np.arange(values.shape[1]) if partner is None else np.asarray(partner, dtype=np.int64)
    if pairs.shape != values.shape[1:]:
        raise ValueError(f"partner must be as long as the figures, {values.shape[1]}")
    known = np.flatnonzero(~np.isnan(values).any(axis=0))
    group = np.minimum(np.arange(values.shape[1]), pairs)[known]
    groups = np.unique(group)
    if len(groups) < 2:
        return None
    order = stream(seed, Purpose.BEST).permutation(groups)
    choosing = np.isin(group, order[: len(groups) // 2])
    chosen, quoted = known[choosing], known[~choosing]
    best = int(np.argmax(values[:, chosen].mean(axis=1)))
    by_group = [
        values[best, quoted[group[~choosing] == g]].mean() for g in order[len(groups) // 2 :]
    ]
    mean, low, high = mean_interval(by_group, RATE)
    return BestAttack(
        attack=names[best],
        value=mean,
        low=low,
        high=high,
        chosen_on=tuple(chosen.tolist()),
        quoted_on=tuple(quoted.tolist()),
        naive=float(values[:, known].mean(axis=1).max()),
    )


#: The figures of attacks that the best one is chosen by.
FIGURES = ("auc", "tpr_at_fpr_1pct", "tpr_at_fpr_0.1pct")


def best_rows(
    rows: Iterable[Mapping[str, Any]],
    targets: Sequence[int],
    *,
    partner: ArrayLike | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the best attack of a table of attacks by each of :data:`FIGURES`.

    Parameters
    ----------
    rows : iterable of mapping
        ``attack``, ``target`` (a trial's number as text, or a summary) and figures. Attacks without
        a figure for every target cannot be chosen.
    targets : sequence of int
        Numbers of the trials.
    partner, seed
        As :func:`best_attack`.

    Returns
    -------
    list of dict
        ``figure``, ``attack``, ``value`` (with ``_low`` and ``_high``), ``chosen_on`` and
        ``quoted_on`` (numbers of targets), ``naive``. Empty with fewer than two targets.
    """
    by_attack: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_attack.setdefault(str(row["attack"]), {})[str(row["target"])] = row
    found = []
    for figure in FIGURES:
        figures = {
            attack: [float(mine.get(str(t), {}).get(figure, np.nan)) for t in targets]
            for attack, mine in by_attack.items()
        }
        figures = {name: values for name, values in figures.items() if not np.isnan(values).any()}
        best = best_attack(figures, partner=partner, seed=seed) if figures else None
        if best is not None:
            found.append(
                {
                    "figure": figure,
                    "attack": best.attack,
                    "value": best.value,
                    "value_low": best.low,
                    "value_high": best.high,
                    "chosen_on": len(best.chosen_on),
                    "quoted_on": len(best.quoted_on),
                    "naive": best.naive,
                }
            )
    return found


def leaders(
    rows: Sequence[Mapping[str, Any]], chosen: Iterable[Mapping[str, Any]]
) -> dict[str, None]:
    """Return the attacks that a report names as the best, each once.

    Parameters
    ----------
    rows : sequence of mapping
        Of the table of attacks.
    chosen : iterable of mapping
        What :func:`best_rows` made of them. A figure that is not there, for too few targets, is led
        by the attack with the largest mean.
    """
    leading = {str(row["figure"]): str(row["attack"]) for row in chosen}
    for figure in FIGURES:
        known = [
            (float(row[figure]), str(row["attack"]))
            for row in rows
            if row["target"] == "mean" and not math.isnan(row.get(figure, math.nan))
        ]
        if known and figure not in leading:
            top = max(value for value, _ in known)
            leading[figure] = next(name for value, name in known if value == top)
    return dict.fromkeys(leading.values())
