"""What every column of a run's files means: the one place where that is said.

The report's ``dictionary.csv``, the page of the documentation and its test read it.
"""

_SIDES = {"bottom": "least confident", "top": "most confident"}
_OWN = {"self": "members' own rows count", "other": "members' own rows left out"}

#: Columns of ``run.summary()``, one row a trial.
SUMMARY: dict[str, str] = {
    "trial": "the trial's number, from 0",
    "queries": "points whose confidence was measured",
    "members": "queries that were training points",
    "population": "examples that could be members",
    "holdout": "examples set aside: never member, never query",
    "duplicates": "examples with an equal one in the population",
    "redraws": "training sets that held one class and were drawn again",
    "flipped_labels": "training labels flipped on purpose",
    "solver_status": "what the solver said",
    "solver_rounds": "rounds of the working set",
    "objective_value": "the linear program's optimum",
    "separable": "1 where a hyperplane separates the training points",
    "degenerate": "1 where the fit has no hyperplane",
    "training_error": "share of training points on the wrong side",
    "right_side": "share of queries on the right side of the learned hyperplane",
    "angle_degrees": "angle between learned and ideal hyperplane, degrees",
    "distance_scale": "what distances are divided by, in the units of the data",
    "extreme_count": "queries of either extreme",
    "pearson_self": "Pearson correlation of confidence and distance, members' own rows count",
    "pearson_other": "the same, members' own rows left out",
    "spearman_self": "Spearman correlation of confidence and distance, members' own rows count",
    "spearman_other": "the same, members' own rows left out",
    "spearman_error_bound": "most that counting in bins can have moved Spearman's correlation",
    "auc_confidence": "chance that a member is more confident than a non-member, ties half",
    "auc_closeness_self": "chance that a member is closer, members' own rows count: 1",
    "auc_closeness_other": "the same, members' own rows left out",
    "auc_closeness_other_null": "that AUC if membership meant nothing",
    "auc_error_bound": "most that counting in bins can have moved an AUC",
    "epochs": "epochs trained",
    "best_epoch": "epoch whose weights were kept",
    "validation_loss": "loss on the holdout at that epoch, nats",
    "member_accuracy": "share of members predicted right",
    "non_member_accuracy": "share of non-members predicted right",
    "holdout_accuracy": "share of the holdout predicted right",
    "accuracy_gap": "accuracy of members minus that of non-members",
    "member_loss": "mean loss of members, nats",
    "non_member_loss": "mean loss of non-members, nats",
    "holdout_loss": "mean loss of the holdout, nats",
    "features": "dimensions of the model's feature space",
    "ranked_by": "what confidence is ranked by",
    "space": "the space that distances are measured in",
    "zeros_replaced": "probabilities of exactly 0 that were replaced",
    "target": "1 for a model of the user's own",
    **{
        f"{side}_{key}": f"{meaning}, of the {words} queries"
        for side, words in _SIDES.items()
        for key, meaning in (
            ("count", "how many there are"),
            ("membership_rate", "share of members"),
            *(
                (f"distance_{figure}_{own}", f"{figure} normalised distance, {kind}")
                for figure in ("mean", "median")
                for own, kind in _OWN.items()
            ),
        )
    },
}

#: Columns of the tables of trials and of the population.
STORED: dict[str, dict[str, str]] = {
    "extremes": {
        "trial": "number of the trial, from 0",
        "side": "bottom or top",
        "id": "lattice point or example",
        "is_member": "whether it was a training point",
        "boundary": "boundary confidence, 0 to 1",
        "sigmoid": "sigmoid confidence, 0 to 1",
        "softmax": "largest class probability, 0 to 1; NaN where no probability is known",
        "statistic": "the model's own score, higher for members, no unit",
        "distance": "to the nearest training point, including self",
        "distance_excluding_self": "to the nearest other training point",
        "distance_raw": "distance in lattice units",
    },
    "examples": {
        "trial": "number of the trial",
        "id": "the example",
        "label": "true class, -1 unknown",
        "predicted": "likeliest class, -1 unknown",
        "is_member": "whether it was trained on",
        "softmax": "largest class probability",
        "log_odds_max": "log-odds of the likeliest class, nats",
        "log_odds_true": "log-odds of the true class, nats",
        "loss": "cross-entropy, nats",
        "entropy": "of the predicted distribution, nats",
        "modified_entropy": "Song and Mittal 2021, nats",
        "statistic": "the model's own score, higher for members",
        "distance": "to the nearest training example, angle / pi; NaN unknown",
        "distance_excluding_self": "to the nearest other training example",
        "nearest_id": "that other training example, -1 none",
    },
    "holdout": {
        "trial": "number of the trial",
        "id": "the example",
        "label": "true class, -1 unknown",
        "log_odds_true": "log-odds of the true class, nats",
        "statistic": "the model's own score",
    },
    "augmented": {
        "trial": "number of the trial",
        "id": "the example",
        "augmentation": "view, 0 is the example itself",
        "log_odds_true": "log-odds of the true class, nats",
    },
    "traces": {
        "trial": "number of the trial",
        "id": "the example",
        "epoch": "epoch, from 1",
        "log_odds_true": "log-odds of the true class after that epoch, nats",
    },
    "training": {
        "trial": "number of the trial",
        "epoch": "epoch, from 1, those included that early stopping gave up again",
        "batch_loss": "loss of the epoch's last batch, nats",
        "validation_loss": "mean loss of what early stopping watches, nats; NaN without it",
        "validation_accuracy": "share of that predicted right",
    },
    "population": {
        "id": "the example",
        "label": "class, -1 unknown",
        "label_name": "name of the class",
        "duplicate_group": "examples of one group are duplicates",
        "group": "own group that results are told apart by, empty: of none",
        "split": "population or holdout",
        "is_canary": "whether it is a canary",
        "label_before": "label before it was made a canary, -1 for added images",
    },
}

_EXAMPLE = {"id": "the example's number in the data", "label": "its class, -1 unknown"}
_RATE = "largest share of members found at a false-positive rate of at most {}"
_POWER = {
    "pairs": "scores known: one for each example and trial",
    "auc": "area under the ROC curve of the scores, pooled over trials",
    "tpr_at_fpr_*": f"{_RATE}, of the pooled scores",
}
_RELIABILITY = (
    "split-half reliability: rank correlation between halves of the trials, stepped up to all "
    "(Spearman-Brown); about 0 where it is noise"
)
_BIN = {
    "by": "what examples are sorted by: a column of vulnerability",
    "bin": "number of the bin, from 0: the smallest values first",
    "value_low": "smallest value in the bin",
    "value_high": "largest value in the bin",
    "examples": "examples in the bin",
}
_Z = (
    "points that RMIA and Attack-P compare an example with: holdout, or the target's other "
    "non-members"
)
_REASON = "why there is no number"
_INTERVAL = "what the intervals of the row are about"

#: Columns of the tables that attacks are made into. ``*`` stands for a rate such as ``0.1pct``, or
#: for the name of an attack.
MADE: dict[str, dict[str, str]] = {
    "attacks": {
        "attack": "the attack; its scores are higher for members",
        "target": "number of the trial that is attacked; mean: average over targets; pooled: one "
        "threshold for all; model: the user's own model; none: not computed",
        "unanswered": "examples without a score",
        "members": "members with a score",
        "non_members": "non-members with a score",
        "auc": "area under the ROC curve: chance that a member has the higher score, ties half",
        "auc_new_examples_low": "lower end of the 95% interval of auc over trials and examples "
        "drawn anew",
        "auc_new_examples_high": "upper end of the 95% interval of auc over trials and examples "
        "drawn anew",
        "advantage": "largest true-positive minus false-positive rate",
        "balanced_accuracy": "largest mean of true-positive and true-negative rate",
        "tpr_at_fpr_*": f"{_RATE}, no interpolation; the threshold is chosen on the target's own "
        "labels: an upper bound",
        "realised_fpr_at_fpr_*": "false-positive rate at the threshold for {}",
        "threshold_at_fpr_*": "that threshold for {}, in units of the score",
        "precision_at_fpr_*_prior_*": "share of members among those called members at {}, where "
        "{} of those asked about are members",
        "precision_bound_at_fpr_*_prior_*": "the same at {} with the false-positive rate at its "
        "upper 95% bound, where {} are members",
        "few_false_positives": "rates at which fewer than 5 distinct false positives are expected",
        "interval": _INTERVAL,
        "null_auc": "AUC if membership meant nothing",
        "z": _Z,
        "reason": _REASON,
    },
    "best_attack": {
        "figure": "what attacks are chosen by: a column of attacks",
        "attack": "the best on the targets that it was chosen on",
        "value": "its mean on the other targets",
        "chosen_on": "targets that it was chosen on",
        "quoted_on": "targets that value is the mean of",
        "naive": "the largest mean over all targets, which is too large: the best of many",
        "z": _Z,
    },
    "roc": {
        "attack": "the attack",
        "fpr": "false-positive rate allowed",
        "tpr": "largest true-positive rate there, mean over targets",
        "tpr_low": "10th percentile over targets",
        "tpr_high": "90th percentile over targets",
        "targets": "targets that the mean is over",
        "tied": "examples that share the commonest score, mean over targets; 1: all differ",
        "scored": "examples with a score, mean over targets",
        "z": _Z,
    },
    "transfer": {
        "attack": "the attack",
        "target": "number of the trial that is attacked, or mean over targets",
        "level": "false-positive rate wanted",
        "threshold": "score that the other trials' non-members reach as rarely as that",
        "members": "members with a score",
        "non_members": "non-members with a score",
        "tpr": "share of the target's members found at that threshold",
        "realised_fpr": "share of its non-members called members there",
        "precision_prior_*": "share of members among those called members, where {} of those asked "
        "about are members",
        "oracle_tpr": "true-positive rate with the best threshold for the target itself: an upper "
        "bound",
        "few_false_positives": "whether fewer than 5 false positives are expected",
        "interval": _INTERVAL,
        "z": _Z,
    },
    "agreement": {
        "level": "false-positive rate, at thresholds chosen on the other trials",
        "attack": "the attack",
        "found": "members found, counted in every trial",
        "tpr": "share of members found",
        "coverage": "share of examples found at least once, of those that were members",
        "stability": "share found in every trial that they were members of, of those twice members",
        "jaccard_trials": "examples found in both of two trials by those found in either, mean "
        "over pairs of trials",
        "jaccard_trials_chance": "about the same if as many had been found at random",
        "z": _Z,
    },
    "agreement_pairs": {
        "level": "false-positive rate, at thresholds chosen on the other trials",
        "attack": "one attack",
        "other": "the other",
        "jaccard": "members that both find by those that either finds, mean over trials",
        "intersection": "members that both find, counted in every trial",
        "union": "members that either finds, counted in every trial",
        "spearman": "rank correlation of the two scores of members, mean over trials",
        "z": _Z,
    },
    "discoveries": {
        "p_values": "rank: exact, coarse; normal: finer, as right as the normal fit",
        "target": "number of the trial that is attacked; pooled: all as one family",
        "q": "share of false ones that is allowed for",
        "flagged": "examples on the list of members",
        "expected_false": "false ones expected among them, at most",
        "false": "false ones among them",
        "false_share": "share of false ones",
        "tpr": "share of members on the list",
        "smallest_p": "smallest p-value there is",
        "needed": "examples that must have it before any can be listed",
    },
    "epsilon": {
        "attack": "whose scores are used",
        "method": "one-run, one-run-fdp: one training run with many canaries; clopper-pearson, "
        "gdp: one canary over many runs",
        "target": "number of the trial; mean of the trials' bounds, no bound itself; or the canary",
        "epsilon": "lower bound; 0: nothing is proved",
        "delta": "of differential privacy",
        "confidence": "with which the bound of the row holds by itself",
        "rule": "how the threshold was chosen",
        "canaries": "scores given",
        "evaluated": "those left for the bound",
        "guesses": "canaries guessed about",
        "correct": "right guesses",
        "assumptions": "what must hold for the bound",
        "reason": _REASON,
        "z": _Z,
    },
    "epsilon_bins": {
        "attack": "whose scores are used",
        "method": "one-run: one training run with many canaries",
        **{name: text for name, text in _BIN.items() if name != "examples"},
        "by": "what canaries are sorted by, known without any training set; all: one bin",
        "canaries": "canaries in the bin",
        "trials": "trials whose bounds the mean is over",
        "delta": "of differential privacy",
        "rule": "how thresholds were chosen",
        "assumptions": "what must hold for each bound",
        "confidence_each": "with which each trial's bound holds; their mean has none",
        "epsilon": "mean over trials of the bounds that the bin's canaries give alone",
        "reason": _REASON,
        "z": _Z,
    },
    "blind": {
        "target": "number of the trial whose members are told from others",
        "uses": "what is known of each example without the model",
        "examples": "examples that were used",
        "classifier": "cross-validated; it never sees the model",
        "auc": "mean over folds of the area under its ROC curve; above 0.5, members differ by "
        "themselves",
        "tells_members": "whether the interval is above 0.5",
        "reason": _REASON,
    },
    "memorization": {
        **_EXAMPLE,
        "trials_in": "trials that were trained on it",
        "trials_out": "trials that were not",
        "accuracy_in": "share of trials in that predict its class",
        "accuracy_out": "share of trials out that predict its class",
        "memorization": "accuracy in minus accuracy out",
        "reliable": "at least 20 trials on both sides",
    },
    "vulnerability": {
        **_EXAMPLE,
        "memorization": "accuracy in trials with it minus accuracy in trials without it",
        "exposure": "AUC of its log-odds (or statistic), trials in against trials out: 0.5 where "
        "nothing leaks",
        "exposure_lira": "the same for LiRA, fitted on one half of the trials and scored on the "
        "other",
        "effect_size": "difference of the median log-odds in and out, in standard deviations",
        "distance_out": "mean distance to the nearest training example, trials without it",
        "distance_in": "mean distance to the nearest other training example, trials with it",
        "fixed_distance": "distance to the nearest other example in a fixed space, angle / pi",
        "fixed_distance_other_group": "the same, its duplicates left out",
        "density_distance": "mean distance to its 20 nearest others in a fixed space, after "
        "normalisation",
        "has_duplicate": "whether another example is equal",
        "leverage": "how far a ridge fit on all examples in a fixed space bends towards it",
        "found_*": "share of trials with it as a member in which {} finds it",
    },
    "vulnerability_bins": {
        **_BIN,
        **{name: f"{text}; LiRA's" for name, text in _POWER.items()},
        "exposure_reliability": f"of the bins' mean exposure: {_RELIABILITY}",
    },
    "vulnerability_reliability": {
        "vulnerability": "a column of vulnerability",
        "reliability": _RELIABILITY,
    },
    "vulnerability_correlations": {
        "vulnerability": "a column of vulnerability that says how exposed examples are",
        "similarity": "one that says how far they are from others",
        "scope": "which examples",
        "examples": "how many these are",
        "spearman": "rank correlation over examples",
        "count": "examples for which both are known",
        "reliability": f"of the first: {_RELIABILITY}",
        "spearman_corrected": "the correlation divided by the root of that: without noise",
    },
    "success_bins": {
        "level": "false-positive rate, at thresholds chosen on the other trials",
        **_BIN,
        "attack": "the attack",
        "tpr": "share of its trials as a member in which an example is found, mean over examples",
        "fpr": "share of its trials as a non-member in which it is called one",
        "coverage": "share of examples found at least once",
        "stability": "share found in every trial that they were members of, of those twice members",
        "memorization": "mean memorisation",
        "interval": _INTERVAL,
        "reliability": f"of the bins' true-positive rates: {_RELIABILITY}",
        "z": _Z,
    },
    "group_attacks": {
        "attack": "the attack",
        "group": "the user's own group",
        "members": "members with a score, counted in every trial",
        "examples": "examples of the group",
        **_POWER,
        "z": _Z,
    },
    "group_similarity": {
        "group": "the user's own group",
        "examples": "examples of the group",
        "figure": "mean of a column of vulnerability, or Spearman correlation of two",
        "value": "that figure",
    },
    "extremes_membership": {
        "side": "top: the most confident queries; bottom: the least",
        "members": "members among them, all trials",
        "count": "how many they are, all trials",
        "membership_rate": "share of members",
        "membership_rate_of_queries": "share of members among all queries",
        "interval": _INTERVAL,
    },
    "angle_correlations": {
        "of": "angle between learned and ideal hyperplane",
        "with": "the column of run.summary() that goes with it",
        "spearman": "rank correlation over trials",
        "trials": "trials that it is over",
    },
    "leverage_bins": {
        "bin": "fifth of the queries by leverage, from 0: the least",
        "leverage_low": "smallest leverage in the bin, mean over trials",
        "leverage_high": "largest leverage in the bin, mean over trials",
        "members": "members in the bin, all trials",
        "auc_confidence": "AUC of confidence for membership within the bin, mean over trials",
        "trials": "trials with members and others in the bin",
    },
    "leverage_correlations": {
        "among": "which queries",
        "with": "what goes with leverage",
        "spearman": "rank correlation within a trial, mean over trials",
        "trials": "trials that it is over",
    },
}
