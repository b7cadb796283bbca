"""The answer first: three sentences from the numbers, and what to be careful about."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from confsim.report.attacks import attack_name, best_attack, collapse_caveat
from confsim.report.context import ALL, MEMBERS, ReportContext, listed, plural
from confsim.report.evidence import blind_sentence
from confsim.report.numbers import number, with_interval
from confsim.report.pictures import noise_note
from confsim.report.summary import Estimate
from confsim.statistics import FEWEST_TRIALS, clopper_pearson, student_t_interval

#: With fewer trials, intervals over trials are wide and lean on normality.
_FEW_TRIALS = 10

#: A share of saturated or degenerate results worth telling.
_NOTABLE = 0.01

_EXTREMES = {"top": "the most confident", "bottom": "the least confident"}

#: From this distance from guessing on, membership is said to be given away.
_STRONG = 0.1


@dataclass(frozen=True)
class Sentences:
    """What a reader should take away.

    Attributes
    ----------
    closeness, membership : str
        One sentence each.
    cautions : list of str
        What to be careful about; never empty.
    """

    closeness: str
    membership: str
    cautions: list[str]

    @property
    def caution(self) -> str:
        """The third sentence."""
        return "Be careful: " + "; ".join(self.cautions) + "."


def sentences(context: ReportContext) -> Sentences:
    """Return the three sentences of a run."""
    return Sentences(_closeness(context), _membership(context), _cautions(context))


# ---- are confident points closer? --------------------------------------------------------------


def paired_difference(context: ReportContext, kind: str) -> Estimate:
    """Return the mean over trials of the distance of the most minus the least confident.

    Parameters
    ----------
    context : ReportContext
    kind : {"self", "other"}
    """
    top, bottom = (context.column(f"{side}_distance_mean_{kind}") for side in ("top", "bottom"))
    values = (top - bottom)[~np.isnan(top - bottom)]
    if len(values) == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean, low, high = student_t_interval(values)
    return Estimate(float(mean), float(low), float(high), len(values))


def _closeness(context: ReportContext) -> str:
    found = paired_difference(context, "other")
    if math.isnan(found.value):
        return "Distances are unknown, so closeness to the training set cannot be compared."
    if math.isnan(found.low):
        few, side = plural(found.trials, context.unit), "closer to"
        if found.value >= 0:
            side = "farther from"
        return (
            f"{few} {'is' if found.trials == 1 else 'are'} too few for an interval: on average, "
            f"the most confident points are {_short(abs(found.value))} {side} another training "
            "point than the least confident."
        )
    if found.low <= 0 <= found.high:
        return (
            "Confident points are neither clearly closer nor clearly farther: the difference of "
            f"mean distances to another training point is {_with_interval(found)}."
        )
    closer = "closer to" if found.value < 0 else "farther from"
    return (
        f"Confident points are {closer} the training set: the difference of mean distances to "
        f"another training point is {_with_interval(found)}."
    )


# ---- what does it mean for membership? ---------------------------------------------------------


def _membership(context: ReportContext) -> str:
    signal = best_signal(signals(context))
    told = verdict(signals(context), context.unit)
    if signal is None or signal.name in _EXTREMES.values():
        return f"{blind_sentence(context)}{told}."
    value = with_interval(signal.value, signal.low, signal.high, 3)
    return f"{blind_sentence(context)}{told}: AUC {value}."


@dataclass(frozen=True)
class Signal:
    """Something that may tell members from others, on a scale on which guessing is 0.5.

    Attributes
    ----------
    name : str
    value, low, high : float
        NaN bounds where there is no interval.
    """

    name: str
    value: float
    low: float
    high: float

    @property
    def strength(self) -> float:
        """How far its interval is from guessing, in either direction; 0 where it holds 0.5."""
        if math.isnan(self.low) or self.low <= 0.5 <= self.high:
            return 0.0
        return min(abs(self.low - 0.5), abs(self.high - 0.5))


def signals(context: ReportContext) -> list[Signal]:
    """Return all that the run says about membership: every attack, and the two extremes.

    Intervals are widened (Bonferroni) for how many there are, because the strongest is chosen.
    """
    means, trials = context.headline.means, len(context.trials)
    found: list[tuple[str, Estimate, float]] = []
    table = context.tables.get("attacks")
    if table is not None and not table.empty and "auc_low" in table:
        for _, row in table[table["target"].astype(str) == "mean"].iterrows():
            value, low, high = (float(row[k]) for k in ("auc", "auc_low", "auc_high"))
            area = Estimate(value, low, high, trials)
            found.append((str(row["attack"]), area, float(row.get("null_auc", 0.5))))
    names = {name for name, *_ in found}
    if "confidence" not in names and "auc_confidence" in means:
        found.append(("confidence", means["auc_confidence"], 0.5))
    null = means.get("auc_closeness_other_null")
    if "closeness" not in names and null is not None:
        found.append(("closeness", means["auc_closeness_other"], null.value))
    found = _without_winners_curse(context, found)
    enough = trials == 1 or trials >= FEWEST_TRIALS
    # Where only canaries are ever non-members, extremes differ in what canaries are.
    fair = enough and not _canaries(context)
    sides = _extreme_signals(context, len(found) + 2) if fair else []
    count = len(found) + len(sides)
    areas = [_area_signal(name, area, null, count) for name, area, null in found]
    # A single trial has no interval of its own but over examples: without one nothing is judged.
    if all(math.isnan(signal.low) for signal in areas):
        sides = []
    return [*areas, *sides]


def _without_winners_curse(
    context: ReportContext, found: list[tuple[str, Estimate, float]]
) -> list[tuple[str, Estimate, float]]:
    """Let the attack that was chosen on half of the targets stand for all that beat guessing."""
    best = best_attack(context, "auc")
    if best is None or "quoted_on" not in best or math.isnan(best["auc_low"]):
        return found
    value, low, high = (float(best[k]) for k in ("auc", "auc_low", "auc_high"))
    quoted = Estimate(value, low, high, int(best["quoted_on"]))
    return [
        (name, quoted if name == best["attack"] else area, null)
        for name, area, null in found
        if name == best["attack"] or not area.value > null
    ]


def _area_signal(name: str, area: Estimate, null: float, count: int) -> Signal:
    """Move an AUC so that guessing is at 0.5, its interval widened on the logit scale."""
    if math.isnan(area.low) or math.isnan(null):
        return Signal(name, area.value, math.nan, math.nan)
    low, high = widened(area, count)
    value, low, high = (float(np.clip(x - null + 0.5, 0, 1)) for x in (area.value, low, high))
    return Signal(name, value, low, high)


def widened(found: Estimate, count: int) -> tuple[float, float]:
    """Return a rate's interval widened (Bonferroni) for how many it was chosen from."""
    from scipy.special import expit, logit, stdtrit

    if math.isnan(found.low) or found.low == found.high:
        return found.low, found.high
    freedom = found.trials - 1 if found.trials > 1 else math.inf
    wider = stdtrit(min(freedom, 1e6), [1 - 0.025 / count, 0.975])
    at = [min(max(x, 1e-12), 1 - 1e-12) for x in (found.value, found.low, found.high)]
    centre, *ends = (float(logit(x)) for x in at)
    low, high = (expit(centre + (end - centre) * wider[0] / wider[1]) for end in ends)
    return float(low), float(high)


def _extreme_signals(context: ReportContext, count: int) -> list[Signal]:
    """Return the chance that a point of an extreme is a member if half of all points were."""
    base, found = share_of_members(context), []
    for side, words in _EXTREMES.items():
        size = context.column(f"{side}_count")
        hits = round(float(np.nansum(size * context.column(f"{side}_membership_rate"))))
        total_size = round(float(np.nansum(size)))
        if not total_size or not 0 < base < 1:
            continue
        rates = (hits / total_size, *clopper_pearson(hits, total_size, 1 - 0.05 / count))
        shares = [r * (1 - base) / (r * (1 - base) + (1 - r) * base) for r in rates]
        found.append(Signal(words, *(float(share) for share in shares)))
    return found


def share_of_members(context: ReportContext) -> float:
    """Return the share of members among all queries; NaN where it is unknown."""
    queries, members = (np.nansum(context.column(name)) for name in ("queries", "members"))
    if queries:
        return float(members / queries)
    if context.has("joint.npz") and context.joint.including[ALL].any():
        pairs = context.joint.including[ALL].sum(axis=(1, 2))
        return float(pairs[MEMBERS] / pairs.sum())
    # Of a run with canaries these are the canaries alone.
    table = context.tables.get("attacks")
    if table is not None and "members" in table:
        pooled = table[table["target"].astype(str) == "pooled"]
        if len(pooled):
            row = pooled.iloc[0]
            return float(row["members"] / (row["members"] + row["non_members"]))
    return math.nan


def best_signal(found: list[Signal]) -> Signal | None:
    """Return the strongest signal in either direction, ``None`` if none has an interval."""
    judged = [signal for signal in found if not math.isnan(signal.low)]
    return max(judged, key=lambda signal: signal.strength, default=None)


def verdict(found: list[Signal], unit: str = "trial") -> str:
    """Judge by the strongest signal against guessing, in either direction."""
    best = best_signal(found)
    if best is None:
        return f"There are too few {unit}s to say whether membership shows"
    if not best.strength:
        return "No attack is better than guessing at membership, within its interval"
    start = "Membership is given away" if best.strength > _STRONG else "Membership shows a little"
    if best.name in _EXTREMES.values():
        kind = "members" if best.value > 0.5 else "non-members"
        return f"{start}, most in {best.name}, where {kind} are more frequent than elsewhere"
    turned = ", turned round" if best.value < 0.5 else ""
    return f"{start}, most by {attack_name(best.name)}{turned}"


# ---- what to be careful about ------------------------------------------------------------------


def _cautions(context: ReportContext) -> list[str]:
    checks = (
        _incomplete,
        _few_trials,
        _duplicates,
        _saturation,
        collapse_caveat,
        _canaries,
        _stopping,
        _degenerate,
        _redraws,
        _few_members,
        _noise,
        _unreliable,
    )
    found = [text for check in checks if (text := check(context))]
    nothing = (
        "no particular weakness was found (trials, duplicates, saturation, early stopping and "
        "degenerate fits were checked), but trials share one population, so intervals speak for "
        "it alone"
    )
    return found or [nothing]


def _incomplete(context: ReportContext) -> str:
    absent = len(context.missing) + len(context.damaged)
    if not absent:
        return ""
    return f"{plural(absent, 'trial')} of {absent + len(context.trials)} are missing or damaged"


def _few_trials(context: ReportContext) -> str:
    count = len(context.trials)
    if count >= _FEW_TRIALS:
        return ""
    if count < FEWEST_TRIALS:
        return f"{plural(count, context.unit)} only, too few for intervals over {context.unit}s"
    return f"{plural(count, context.unit)} only, so intervals are wide"


def _duplicates(context: ReportContext) -> str:
    if not context.duplicates:
        return ""
    return (
        f"{plural(context.duplicates, context.noun)} have a duplicate in the population, which "
        "can stand in for them"
    )


def saturated_share(context: ReportContext) -> float:
    """Return the share of the most confident whose stored confidence is exactly 1; NaN if unknown.

    The first trial stands for the run: its rows are read, and only two columns of them.
    """
    trial = context.run.trial(context.trials[0])
    if not trial.has("extremes.parquet"):
        return math.nan
    column = "sigmoid" if "grid_size" in context.config else "softmax"
    try:
        table = trial.table("extremes", ["side", column])
    except (KeyError, ValueError):
        return math.nan
    top = table[column].to_numpy()[(table["side"] == "top").to_numpy()]
    return float(np.mean(top >= 1.0)) if len(top) else math.nan


def _saturation(context: ReportContext) -> str:
    share = saturated_share(context)
    if math.isnan(share) or share < _NOTABLE:
        return ""
    column = "sigmoid" if "grid_size" in context.config else "softmax"
    return (
        f"{column} confidence rounds to exactly 1 for {share:.0%} of the most confident, which are "
        "therefore ranked by the score behind it"
    )


def _stopping(context: ReportContext) -> str:
    if context.config.get("early_stopping") != "nonmembers":
        return ""
    return "early stopping watched non-members, which leaks them into the model"


def _canaries(context: ReportContext) -> str:
    if not context.run.has("population.parquet") or "is_canary" not in context.run.population():
        return ""
    return (
        "only canaries are ever non-members, so shares and AUCs over all queries compare canaries "
        "with other examples; the attacks' tables are about canaries alone"
    )


def _degenerate(context: ReportContext) -> str:
    count = context.headline.totals.get("degenerate", 0)
    if not count:
        return ""
    return f"{plural(count, 'fit')} of {len(context.trials)} degenerate (no hyperplane)"


def _redraws(context: ReportContext) -> str:
    redraws = context.headline.totals.get("redraws", 0)
    if redraws <= _NOTABLE * len(context.trials):
        return ""
    return (
        f"{plural(redraws, 'training set')} held one class and were drawn again, which favours "
        "balanced ones"
    )


def _few_members(context: ReportContext) -> str:
    members, rows = context.column("members"), context.headline.membership
    hits = [
        round(float(row[f"{side}_membership_rate"] * row[f"{side}_count"]))
        for side in rows
        for row in context.rows
    ]
    if np.isnan(members).all() or sum(hits) >= 50:
        return ""
    found = f"only {plural(sum(hits), 'member')}" if sum(hits) else "no member"
    where = f" of all {context.unit}s" if len(context.trials) > 1 else ""
    return f"{found} fell into the extremes{where}, so membership rates are uncertain"


def _noise(context: ReportContext) -> str:
    noise: Any = context.config.get("label_noise") or 0
    return f"{noise:.0%} of training labels were flipped on purpose" if noise else ""


def _unreliable(context: ReportContext) -> str:
    told = noise_note(context)
    return f"the risk of a single {context.noun} is mostly noise here" if "mostly" in told else ""


# ---- words -------------------------------------------------------------------------------------


def _short(value: float) -> str:
    return number(value, 3)


def _with_interval(found: Estimate) -> str:
    return with_interval(found.value, found.low, found.high, 3)


def incomplete_line(context: ReportContext) -> str:
    """Say which trials are not reported, for the page and for the error."""
    parts = []
    if context.missing:
        count = len(context.missing)
        parts.append(f"{plural(count, 'trial')} not finished ({listed(context.missing)})")
    parts += [f"trial {n} damaged ({why})" for n, why in list(context.damaged.items())[:8]]
    if len(context.damaged) > 8:
        parts.append(f"{len(context.damaged) - 8} more trials damaged")
    return "; ".join(parts)
