"""Attacks and similarity in groups of the user's own: sites, sexes, sources.

Groups come from the column ``group`` of a run's population. Every figure has a 95% interval of its
own, none of them accounts for how many there are: who looks for the largest looks at many.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.membership.matrices import Matrices
from confsim.membership.vulnerability import power_by
from confsim.statistics import CORRELATION, POSITIVE, RATE, mean_interval, spearman_interval

FloatArray = NDArray[np.float64]

#: What is averaged over a group's examples, and on which scale its interval is taken.
_AVERAGED = {
    "exposure": RATE,
    "memorization": CORRELATION,
    "distance_out": POSITIVE,
    "fixed_distance": POSITIVE,
    "density_distance": POSITIVE,
}

#: Distances that exposure is related to within a group.
_RELATED = ("distance_out", "fixed_distance")


class Slices:
    """Measures, group by group, what is measured of all examples.

    Parameters
    ----------
    names : ndarray of str, (groups,)
    codes : ndarray of float64, (examples,)
        Numbers of the examples' groups, NaN for those of none.
    """

    def __init__(self, names: NDArray[Any], codes: FloatArray) -> None:
        self.names, self.codes = names, codes

    @classmethod
    def of(cls, data: Matrices) -> "Slices | None":
        """Return the groups of a run's examples, ``None`` where they have none."""
        if not data.run.has("population.parquet"):
            return None
        table = data.run.population()
        if "group" not in table:
            return None
        position, _ = data.population()
        text = table["group"].astype(str).to_numpy()[position]
        names, codes = np.unique(text, return_inverse=True)
        numbers: FloatArray = np.where(text == "", np.nan, codes.reshape(-1).astype(np.float64))
        return None if np.isnan(numbers).all() else cls(names, numbers)

    def power(self, attack: str, scores: FloatArray, is_member: Any, **options: Any) -> list[Any]:
        """Return an attack's power in each group, of pooled scores.

        Parameters
        ----------
        attack : str
        scores, is_member : ndarray, (trials, examples)
        **options
            Of :func:`confsim.membership.vulnerability.power_by`.

        Returns
        -------
        list of dict
            A row for each group: ``attack``, ``group``, ``examples``, ``pairs``, ``members``, and
            ``auc`` and ``tpr_at_fpr_...`` with their bounds, which are absent where a group has
            not both members and others.
        """
        found = []
        for row in power_by(self.codes, scores, is_member, bins=None, **options):
            code = row.pop("value_low")
            del row["bin"], row["value_high"]
            inside = is_member[:, self.codes == code] & ~np.isnan(scores[:, self.codes == code])
            about = {"attack": attack, "group": str(self.names[int(code)])}
            found.append({**about, "members": int(np.count_nonzero(inside)), **row})
        return found

    def similarity(self, columns: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
        """Return means over each group's examples, and how exposure goes with distance in it.

        Parameters
        ----------
        columns : dict of str to ndarray, (examples,)
            Exposure, distances: those that there are are used.

        Returns
        -------
        list of dict
            ``group``, ``examples``, ``figure``, ``value``, ``value_low``, ``value_high``: Student-t
            intervals over examples of means, and intervals over examples of Spearman correlations.
        """
        found = []
        for code in np.unique(self.codes[~np.isnan(self.codes)]):
            chosen = np.flatnonzero(self.codes == code)
            about = {"group": str(self.names[int(code)]), "examples": len(chosen)}
            for name, scale in _AVERAGED.items():
                if name not in columns:
                    continue
                values = np.asarray(columns[name], np.float64)[chosen]
                if np.isnan(values).all():
                    continue
                mean, low, high = mean_interval(values, scale)
                ends = {"value": mean, "value_low": low, "value_high": high}
                found.append({**about, "figure": f"mean {name}", **ends})
            for name in _RELATED if "exposure" in columns else ():
                if name not in columns:
                    continue
                r = spearman_interval(columns["exposure"][chosen], columns[name][chosen])
                ends = {"value": r.value, "value_low": r.low, "value_high": r.high}
                found.append({**about, "figure": f"spearman exposure {name}", **ends})
        return found
