"""Membership inference from trials: attacks, memorisation, vulnerability by similarity.

- ``attacks``: global thresholds, LiRA and RMIA on arrays (trials, examples);
- ``evaluation``: what an attack achieves, with intervals;
- ``memorization``: accuracy with and without an example in training (Feldman & Zhang 2020);
- ``vulnerability``: how exposed each example is, and how that goes with similarity;
- ``linear``: what of this the linear pipeline's trials can answer;
- ``tables``: all of these from a run directory, into its ``tables/``.

Attacks observe trials whose training sets were drawn at random. Whoever wants to force one example
in and out of otherwise equal training sets (interventional attacks), or to poison training data,
needs other software.
"""

from confsim.membership.attacks import (
    Design,
    Gaussians,
    fit_gaussians,
    lira,
    lira_scores,
    rmia,
    threshold_scores,
)
from confsim.membership.evaluation import evaluate
from confsim.membership.linear import linear_scores
from confsim.membership.memorization import memorization
from confsim.membership.tables import MembershipTables, membership_tables
from confsim.membership.vulnerability import (
    associations,
    fixed_space,
    mean_distances,
    power_by,
    reliability,
    split_exposure,
    vulnerability,
)

__all__ = [
    "Design",
    "Gaussians",
    "MembershipTables",
    "associations",
    "evaluate",
    "fit_gaussians",
    "fixed_space",
    "linear_scores",
    "lira",
    "lira_scores",
    "mean_distances",
    "membership_tables",
    "memorization",
    "power_by",
    "reliability",
    "rmia",
    "split_exposure",
    "threshold_scores",
    "vulnerability",
]
