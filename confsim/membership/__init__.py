"""Membership inference from trials: attacks, memorisation, vulnerability by similarity.

- ``shadow``: which trials may vote on a target; what all attacks with shadow models stand on;
- ``attacks``: global thresholds; ``lira``, ``rmia``: those attacks on arrays (trials, examples);
- ``signals``: log-odds of the true class from logits;
- ``population`` (Attack-P, Attack-R), ``calibration`` (difficulty calibration, BASE),
  ``thresholds`` (of each class), ``quantile`` (regression), ``traces``: other attacks;
- ``epsilon``: lower bounds on epsilon from canaries;
- ``evaluation``: what an attack achieves, with intervals; ``transfer``: the same at thresholds that
  an attacker could choose; ``best``: which attack to quote;
- ``agreement``: whether attacks find the same examples; ``success``: which, by similarity;
  ``discoveries``: lists with few false ones;
- ``blind``: how well members are told from others without the model;
- ``leverage``: how much a linear fit bends towards each point; ``linear_leverage``: that in the
  trials of the linear pipeline;
- ``memorization``: accuracy with and without an example in training (Feldman & Zhang 2020);
- ``vulnerability``: how exposed each example is, and how that goes with similarity;
  ``fixed_space``: similarity in a space that no trial has changed;
- ``linear``: what of this the linear pipeline's trials can answer;
- ``tables``: all of these from a run directory, into its ``tables/``; ``pieces``: what shards make
  of them; ``scratch``: room for matrices that memory need not hold.

Attacks observe trials whose training sets were drawn at random. Whoever wants to force one example
in and out of otherwise equal training sets (interventional attacks), or to poison training data,
needs other software.
"""

from confsim._suggest import explain_all
from confsim.membership.agreement import Agreement, agreement
from confsim.membership.attacks import (
    Design,
    Gaussians,
    fit_gaussians,
    lira,
    lira_scores,
    rmia,
    threshold_scores,
)
from confsim.membership.best import BestAttack, best_attack
from confsim.membership.blind import BlindBaseline, blind_baseline
from confsim.membership.calibration import base, difficulty_calibration
from confsim.membership.discoveries import benjamini_hochberg, discoveries, p_values
from confsim.membership.epsilon import EpsilonBound, epsilon_lower_bound
from confsim.membership.evaluation import evaluate
from confsim.membership.fixed_space import fixed_space
from confsim.membership.leverage import Leverage, leverage, leverage_without
from confsim.membership.linear import linear_scores
from confsim.membership.memorization import memorization
from confsim.membership.population import attack_p, attack_r
from confsim.membership.quantile import quantile_regression
from confsim.membership.reliability import reliability
from confsim.membership.rmia import Resolution, rmia_resolution
from confsim.membership.rmia_tuning import RmiaTuning, tune_rmia
from confsim.membership.signals import class_log_odds
from confsim.membership.stored import MembershipTables, membership_tables
from confsim.membership.success import success_by
from confsim.membership.thresholds import class_thresholds
from confsim.membership.traces import trace_scores
from confsim.membership.transfer import transfer, transferred_thresholds
from confsim.membership.vulnerability import (
    associations,
    mean_distances,
    power_by,
    split_exposure,
    vulnerability,
)

__all__ = [
    "Agreement",
    "BestAttack",
    "BlindBaseline",
    "Design",
    "EpsilonBound",
    "Gaussians",
    "Leverage",
    "MembershipTables",
    "Resolution",
    "RmiaTuning",
    "agreement",
    "associations",
    "attack_p",
    "attack_r",
    "base",
    "benjamini_hochberg",
    "best_attack",
    "blind_baseline",
    "class_log_odds",
    "class_thresholds",
    "difficulty_calibration",
    "discoveries",
    "epsilon_lower_bound",
    "evaluate",
    "fit_gaussians",
    "fixed_space",
    "leverage",
    "leverage_without",
    "linear_scores",
    "lira",
    "lira_scores",
    "mean_distances",
    "membership_tables",
    "memorization",
    "p_values",
    "power_by",
    "quantile_regression",
    "reliability",
    "rmia",
    "rmia_resolution",
    "split_exposure",
    "success_by",
    "threshold_scores",
    "trace_scores",
    "transfer",
    "transferred_thresholds",
    "tune_rmia",
    "vulnerability",
]

explain_all(__name__, globals(), __all__)
