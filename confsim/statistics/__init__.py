"""ROC curves, rank correlations and intervals: arrays in, numbers out; no files, no models.

- ``checks``: what counts as membership;
- ``curves``: ROC curves and their operating points;
- ``intervals``: of rates, AUCs and means over trials, never beyond what is possible;
- ``correlation``: Spearman's, within groups, its split-half reliability;
- ``chance``: what an AUC is where membership means nothing;
- ``crossed``: intervals for new trials and new examples at once;
- ``bootstrap``: trials and examples resampled together.
"""

from confsim.statistics.bootstrap import BOOTSTRAP_CAPTION, FEWEST_RESAMPLED, two_way_bootstrap
from confsim.statistics.chance import closeness_chance
from confsim.statistics.checks import check_membership
from confsim.statistics.correlation import (
    Correlation,
    average_ranks,
    corrected_for_attenuation,
    spearman,
    spearman_brown,
    spearman_interval,
)
from confsim.statistics.crossed import CrossedAuc
from confsim.statistics.curves import (
    FEW_FALSE_POSITIVES,
    FPR_LEVELS,
    PRIORS,
    OperatingPoint,
    Roc,
    auc,
    auc_by_column,
    percent_name,
    roc,
    tpr_at_fpr,
)
from confsim.statistics.intervals import (
    CORRELATION,
    FEWEST_TRIALS,
    POSITIVE,
    RATE,
    UNBOUNDED,
    agresti_caffo,
    clopper_pearson,
    delong,
    delong_interval,
    mean_interval,
    student_t_interval,
)

__all__ = [
    "BOOTSTRAP_CAPTION",
    "CORRELATION",
    "FEWEST_RESAMPLED",
    "FEWEST_TRIALS",
    "FEW_FALSE_POSITIVES",
    "FPR_LEVELS",
    "POSITIVE",
    "PRIORS",
    "RATE",
    "UNBOUNDED",
    "Correlation",
    "CrossedAuc",
    "OperatingPoint",
    "Roc",
    "agresti_caffo",
    "auc",
    "auc_by_column",
    "average_ranks",
    "check_membership",
    "clopper_pearson",
    "closeness_chance",
    "corrected_for_attenuation",
    "delong",
    "delong_interval",
    "mean_interval",
    "percent_name",
    "roc",
    "spearman",
    "spearman_brown",
    "spearman_interval",
    "student_t_interval",
    "tpr_at_fpr",
    "two_way_bootstrap",
]
