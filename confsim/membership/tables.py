"""Tables of a run whose trials have examples: attacks, memorisation, vulnerability.

They are made in memory; :mod:`confsim.membership.stored` decides when, and keeps them. Nothing here
knows how a run came to be.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import ConfsimError
from confsim.membership import attacks, traces
from confsim.membership.attacks import Design
from confsim.membership.audit import epsilon_rows, refusal
from confsim.membership.best import best_rows
from confsim.membership.blind import blind_rows
from confsim.membership.curves import curve_name, order, roc_rows
from confsim.membership.evaluation import evaluate
from confsim.membership.evidence import evidence_tables, other_attacks
from confsim.membership.leverage import leverage
from confsim.membership.memorization import memorization
from confsim.membership.rmia import rmia_resolution
from confsim.membership.vulnerability import (
    answer,
    associations,
    fixed_space,
    mean_distances,
    power_by,
    reliability,
    split_exposure,
    vulnerability,
)
from confsim.statistics import closeness_chance

if TYPE_CHECKING:
    import pandas as pd

    from confsim.store import Run

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_COLUMNS = (
    "id",
    "label",
    "predicted",
    "is_member",
    "log_odds_max",
    "log_odds_true",
    "entropy",
    "modified_entropy",
    "distance_excluding_self",
)
_VULNERABILITIES = ("exposure", "exposure_lira", "effect_size", "memorization")
_SIMILARITIES = (
    "distance_out",
    "distance_in",
    "fixed_distance",
    "fixed_distance_other_group",
    "density_distance",
    "leverage",
)
#: What is known of examples without a look at any model.
_WITHOUT_MODEL = ("fixed_distance", "density_distance", "leverage")


class _Matrices:
    """The examples of a run as arrays (trials, examples); ``only`` those of some ids."""

    def __init__(
        self,
        run: "Run",
        trials: Sequence[int],
        *,
        statistic: bool,
        only: NDArray[np.int64] | None = None,
    ) -> None:
        self.trials = np.array(trials)
        columns = [*_COLUMNS, *(["statistic"] if statistic else [])]

        def read(number: int) -> "pd.DataFrame":
            table = run.trial(number).table("examples", columns)
            return table if only is None else table[np.isin(table["id"], only)]

        first = read(trials[0])
        self.ids = first["id"].to_numpy()
        self.labels = first["label"].to_numpy()
        shape = (len(trials), len(self.ids))
        self.is_member, self.correct = np.empty(shape, bool), np.empty(shape, bool)
        self.values = {name: np.empty(shape) for name in columns[4:]}
        for i, number in enumerate(trials):
            table = read(number) if i else first
            if not np.array_equal(table["id"].to_numpy(), self.ids):
                raise ConfsimError(f"trial {number} of {run.path} has other examples than the rest")
            self.is_member[i] = table["is_member"].to_numpy()
            self.correct[i] = table["predicted"].to_numpy() == self.labels
            for name, matrix in self.values.items():
                matrix[i] = table[name].to_numpy()
        self.has_predictions = bool((first["predicted"] >= 0).all())
        #: What attacks learn from, a row a trial; ``None`` where the run has none.
        self.signal = self.get("statistic" if statistic else "log_odds_true")

    def get(self, name: str) -> FloatArray | None:
        """Return a column, ``None`` where the run has nothing in it."""
        matrix = self.values.get(name)
        return None if matrix is None or np.isnan(matrix).all() else matrix


def _threshold(attack: str, column: str, values: NDArray[Any]) -> FloatArray:
    if column == "statistic":
        return np.asarray(values, dtype=np.float64)
    given: dict[str, Any] = {column: values}
    return attacks.threshold_scores(**given)[attack]


def _rmia_of_statistic(values: FloatArray, holdout: FloatArray | None, **given: Any) -> FloatArray:
    """Return scores of RMIA's ratio form, online, with exp(statistic / scale) for a probability.

    The scale is the standard deviation of the statistic between models of one example. Ratios do
    not change when all statistics are shifted, which makes what stands for a probability at most 1.
    """
    scale = float(np.sqrt(np.mean(np.var(values, axis=0)))) or 1.0
    top = max(float(values.max()), -np.inf if holdout is None else float(holdout.max()))

    def log_odds(found: FloatArray) -> FloatArray:
        log_p = (found - top) / scale - 1.0
        odds: FloatArray = log_p - np.log(-np.expm1(log_p))
        return odds

    points = None if holdout is None else log_odds(holdout)
    return attacks.rmia(log_odds(values), holdout_log_odds=points, online=True, **given)


def _why_impossible(scores: FloatArray, is_member: BoolArray) -> str:
    """Say why no target has known scores of both classes."""
    known = ~np.isnan(scores)
    kinds = {bool(kind) for kind in np.unique(is_member[known])}
    if not kinds:
        return "no score is known: too few models were trained with, or without, each example"
    if len(kinds) == 2:
        return "no target has known scores of both members and non-members"
    return f"known scores are of {'members' if kinds == {True} else 'non-members'} only"


class ExampleTables:
    """Makes the tables of a run whose trials have examples."""

    def __init__(
        self,
        run: "Run",
        features: Path | None,
        seed: int,
        threads: int,
        trials: list[int] | None = None,
    ) -> None:
        self.run, self.features, self.seed, self.threads = run, features, seed, threads
        self.notes: list[str] = list(run.config.get("notes", ()))
        self.skipped: dict[str, str] = {}
        self._scores: dict[str, FloatArray] = {}
        self.curves: dict[str, list[dict[str, Any]]] = {}
        self.trials = self._usable_trials() if trials is None else trials
        self.canaries = self._canaries()
        #: Whether models give some statistic, not log-odds of classes.
        self.statistic = run.trial(self.trials[0]).summary().get("ranked_by") == "statistic"
        self.data = _Matrices(run, self.trials, statistic=self.statistic, only=self.canaries)
        self.design = self._design() if trials is None else Design(self.data.is_member, seed=seed)
        self.groups = None if self.design.partner is None else self.trials_array // 2

    @property
    def trials_array(self) -> NDArray[np.int64]:
        """The trials that are attacked."""
        return np.array(self.trials, dtype=np.int64)

    def _canaries(self) -> NDArray[np.int64] | None:
        """Return the ids of those whose membership was drawn, where all others are members."""
        if not self.run.has("population.parquet"):
            return None
        table = self.run.population()
        if "is_canary" not in table:
            return None
        ids: NDArray[np.int64] = table["id"][table["is_canary"]].to_numpy()
        self.notes.append(
            f"attacks and all that follows are about the {len(ids)} canaries: the other examples "
            "are members of every trial"
        )
        return ids

    def _usable_trials(self) -> list[int]:
        trials = self.run.trials
        if not self.run.capabilities.partners:
            return trials
        there = set(trials)
        paired = [number for number in trials if number ^ 1 in there]
        if len(paired) < len(trials):
            self.notes.append(
                f"{len(trials) - len(paired)} trials of the balanced design have no finished "
                "partner yet and were left out"
            )
        if not paired:
            raise ConfsimError(f"{self.run.path} has no finished pair of its balanced design")
        return paired

    def _design(self) -> Design:
        partner = None
        if self.run.capabilities.partners:
            partner = np.searchsorted(self.trials_array, self.trials_array ^ 1)
        trim = self.run.capabilities.trimming
        if trim and len(self.trials) > 1:
            self.notes.append(
                "shadow models were trimmed to equally many in and out for each example, because "
                "counts alone may reveal membership"
            )
        return Design(self.data.is_member, partner, trim, self.seed)

    def make(self) -> "tuple[dict[str, pd.DataFrame], list[str], list[str]]":
        """Return the tables, notes and answers."""
        import pandas as pd

        if self.statistic:
            self.notes.append(
                "models give a statistic, no classes: attacks learn from it; confidence, entropy, "
                "correctness, rmia_offline, calibration and thresholds of classes, which need "
                "probabilities, are left out"
            )
        rows = [*self._attack_rows(), *self._target_rows()]
        if not rows:
            self.notes.append("attacks: none is possible")
        points = [row for name in sorted(self.curves, key=order) for row in self.curves[name]]
        rows += [
            {"attack": attack, "target": "none", "reason": reason}
            for attack, reason in self.skipped.items()
        ]
        tables = {"attacks": pd.DataFrame(rows)}
        if points:
            tables["roc"] = pd.DataFrame(points)
        columns: dict[str, NDArray[Any]] = {"id": self.data.ids, "label": self.data.labels}
        if not self.data.has_predictions:
            self.notes.append("memorization, correctness: skipped, the run has no predictions")
        elif len(self.trials) < 2:
            self.notes.append("memorization: skipped, it needs more than one trial")
        else:
            found = memorization(self.data.correct, self.data.is_member)
            tables["memorization"] = pd.DataFrame(columns | found)
            columns["memorization"] = found["memorization"]
        evidence = self._evidence()
        answers = self._vulnerability(columns, tables)
        tables |= evidence | self._about_draws(rows, columns)
        return tables, self.notes, answers

    def _about_draws(
        self, rows: list[dict[str, Any]], columns: dict[str, NDArray[Any]]
    ) -> "dict[str, pd.DataFrame]":
        """Return the best attack, epsilon, and what is told without the model."""
        import pandas as pd

        design = self.run.capabilities.design
        found = {
            "best_attack": best_rows(rows, self.trials, partner=self.design.partner, seed=self.seed)
        }
        why_not = refusal(design, float(self.run.config.get("train_ratio", 0.5)))
        if why_not is None and self._scores:
            found["epsilon"] = epsilon_rows(
                self._scores,
                self._signal,
                self.data.is_member,
                targets=self.trials,
                ids=self.data.ids,
                seed=self.seed,
            )
        else:
            reason = why_not or "it needs log-odds and three trials"
            found["epsilon"] = [{"attack": "all", "target": "none", "reason": reason}]
        if design not in ("independent", "balanced", "coin"):
            _, groups = self._population()
            similar = columns if self._lira_possible else self._similarity()
            known = {name: similar[name] for name in _WITHOUT_MODEL if name in similar}
            if groups is not None and groups.max() >= 0:
                _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
                known["duplicates"] = np.where(groups >= 0, sizes[group], 1)
            found["blind"] = blind_rows(
                known,
                self.data.labels,
                self.data.is_member,
                targets=self.trials,
                groups=groups,
                seed=self.seed,
            )
        return {name: pd.DataFrame(made) for name, made in found.items() if made}

    # ---- attacks

    @cached_property
    def _lira_possible(self) -> bool:
        return self.data.signal is not None and len(self.trials) >= 3

    @property
    def _signal(self) -> FloatArray:
        """What attacks learn from: log-odds of the true class, or a statistic."""
        assert self.data.signal is not None
        return self.data.signal

    @cached_property
    def _gaussians(self) -> attacks.Gaussians:
        return attacks.fit_gaussians(self._signal, self.design, n_threads=self.threads)

    @cached_property
    def _fixed_by_default(self) -> bool:
        return self.design.shadow_models < attacks.FEW_SHADOW_MODELS

    @cached_property
    def _lira(self) -> FloatArray:
        """Scores of the attack that vulnerability is measured by."""
        return attacks.lira_scores(
            self._signal,
            self._gaussians,
            online=True,
            fixed_variance=self._fixed_by_default,
        )

    def _attacks(self) -> Iterator[tuple[str, Callable[[], FloatArray]]]:
        """Yield (name, what computes its scores) of every attack that the run allows."""
        names = {
            "confidence": "log_odds_max",
            "loss": "log_odds_true",
            "modified_entropy": "modified_entropy",
            "entropy": "entropy",
            "closeness": "distance_excluding_self",
        }
        if self.statistic:
            names = {"statistic": "statistic", "closeness": names["closeness"]}
        for attack, column in names.items():
            values = self.data.get(column)
            if values is None:
                self._skip(attack, f"the run has no {column}")
            else:
                yield attack, partial(_threshold, attack, column, values)
        if self.data.has_predictions:
            yield "correctness", partial(_threshold, "correctness", "correct", self.data.correct)
        if self.run.trial(self.trials[0]).has("traces.parquet"):
            found, note = traces.run_scores(self.run, self.trials, self.data.ids)
            self.notes += [note] if note else []
            yield from ((name, partial(found.__getitem__, name)) for name in traces.ATTACKS)
        else:
            for attack in traces.ATTACKS:
                self._skip(attack, "the run keeps no traces (confsim-deep --traces)")
        self._skip(
            "quantile_regression",
            "it fits a model to features: confsim.membership.quantile_regression",
        )
        if self._lira_possible:
            yield from self._shadow_attacks()
        elif self.data.signal is None:
            self._skip("lira, rmia", "the run has no log_odds_true")
        else:
            self._skip("lira, rmia", "they need at least three trials")

    def _skip(self, attacks_: str, reason: str) -> None:
        """Say why attacks are not there, in the notes and in the table."""
        self.notes.append(f"{attacks_}: skipped, {reason}")
        self.skipped |= dict.fromkeys(attacks_.split(", "), reason)

    def _shadow_attacks(self) -> Iterator[tuple[str, Callable[[], FloatArray]]]:
        log_odds, fit = self._signal, self._gaussians
        for online in (True, False):
            for fixed in (True, False):
                name = f"lira_{'online' if online else 'offline'}_"
                name += "fixed_variance" if fixed else "own_variance"
                compute = partial(attacks.lira_scores, log_odds, fit)
                yield name, partial(compute, online=online, fixed_variance=fixed)
        given: dict[str, Any] = {
            "is_member": self.data.is_member,
            "partner": self.design.partner,
            "trim": self.design.trim,
            "seed": self.seed,
            "n_threads": 1,
        }
        views = self._views()
        if views is not None:
            for online in (True, False):
                name = f"lira_{'online' if online else 'offline'}_augmented"
                yield name, partial(attacks.lira, views, online=online, **given)
        holdout = self._holdout()
        self.notes.append(self._resolution(holdout))
        if self.statistic:
            yield "rmia_online", partial(_rmia_of_statistic, log_odds, holdout, **given)
            return
        for online in (True, False):
            name = f"rmia_{'online' if online else 'offline'}"
            compute = partial(attacks.rmia, log_odds, holdout_log_odds=holdout)
            yield name, partial(compute, online=online, **given)
        yield from other_attacks(
            log_odds,
            self.design,
            self.data.labels,
            modified_entropy=self.data.get("modified_entropy"),
            holdout=holdout,
        )

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

    def _evidence(self) -> "dict[str, pd.DataFrame]":
        """Return tables of what the main attacks find at thresholds that can be chosen."""
        import pandas as pd

        log_odds = self.data.signal
        if log_odds is None or not self._lira_possible:
            self.notes.append("transfer, agreement, discoveries: skipped, they need LiRA")
            return {}
        given: dict[str, Any] = {
            "is_member": self.data.is_member,
            "partner": self.design.partner,
            "trim": self.design.trim,
            "seed": self.seed,
            "n_threads": self.threads,
        }
        holdout = self._holdout()
        if self.statistic:
            ratios = _rmia_of_statistic(log_odds, holdout, **given)
        else:
            ratios = attacks.rmia(log_odds, holdout_log_odds=holdout, **given)
        scores = {
            "statistic" if self.statistic else "loss": log_odds,
            "lira_online": self._lira,
            "rmia_online": ratios,
        }
        self._scores = scores
        found = evidence_tables(scores, log_odds, self.design, self.trials_array)
        return {name: pd.DataFrame(rows) for name, rows in found.items()}

    def _views(self) -> FloatArray | None:
        """Return the log-odds of flipped and shifted examples (trials, examples, views)."""
        if not self.run.trial(self.trials[0]).has("augmented.parquet"):
            return None
        score = "statistic" if self.statistic else "log_odds_true"
        columns = ["id", "augmentation", score]
        views: FloatArray | None = None
        for i, number in enumerate(self.trials):
            table = self.run.trial(number).table("augmented", columns)
            if self.canaries is not None:
                table = table[np.isin(table["id"], self.canaries)]
            table = table.sort_values(["augmentation", "id"], kind="stable")
            rows = table[score].to_numpy().reshape(-1, len(self.data.ids))
            if views is None:
                views = np.empty((len(self.trials), len(self.data.ids), len(rows)))
            views[i, np.argsort(self.data.ids, kind="stable")] = rows.T
        return views

    def _holdout(self) -> FloatArray | None:
        if not self.run.trial(self.trials[0]).has("holdout.parquet"):
            return None
        score = "statistic" if self.statistic else "log_odds_true"
        rows = [self.run.trial(t).table("holdout", [score])[score].to_numpy() for t in self.trials]
        return np.stack(rows) if len(rows[0]) else None

    def _attack_rows(self) -> list[dict[str, Any]]:
        """Evaluate every attack, several at once: most of it is sorting, which frees the GIL."""

        def rows(attack: tuple[str, Callable[[], FloatArray]]) -> list[dict[str, Any]]:
            name, compute = attack
            scores = compute()
            curve = curve_name(name, fixed_variance=self._fixed_by_default)
            if curve is not None:
                self.curves[curve] = roc_rows(curve, scores, self.data.is_member)
            found = evaluate(
                scores,
                self.data.is_member,
                targets=self.trials_array,
                row_groups=self.groups,
                seed=self.seed,
                n_threads=1,
            )
            if not found:
                impossible[name] = _why_impossible(scores, self.data.is_member)
            null = self._null_aucs() if name == "closeness" else {}
            return [
                {
                    "attack": name,
                    **row,
                    "target": str(row["target"]),
                    "null_auc": null.get(row["target"], 0.5),
                }
                for row in found
            ]

        impossible: dict[str, str] = {}
        with ThreadPoolExecutor(min(2, self.threads)) as pool:
            made = [row for found in pool.map(rows, self._attacks()) for row in found]
        for name in sorted(impossible):  # threads end in any order
            self._skip(name, impossible[name])
        return made

    def _target_rows(self) -> list[dict[str, Any]]:
        """Attack the model of the user's own with all shadow models; it is none of them."""
        target = self.run.target
        if target is None:
            return []
        trials = [*self.trials, target]
        both = ExampleTables(self.run, None, self.seed, self.threads, trials)
        found = []
        for name, compute in both._attacks():
            scores = compute()[-1:]
            for row in evaluate(
                scores,
                both.data.is_member[-1:],
                targets=np.array([target]),
                seed=self.seed,
                n_threads=self.threads,
            ):
                if row["target"] == target:
                    null = both._null_aucs()[target] if name == "closeness" else 0.5
                    found.append({"attack": name, **row, "target": "model", "null_auc": null})
        self.notes.append(
            f"target 'model' is the model of the user's own (trial {target}), attacked with "
            f"{len(self.trials)} shadow models; it is in no mean"
        )
        return found

    def _null_aucs(self) -> dict[Any, float]:
        """Return the AUC of closeness if nothing leaked: a member has one candidate fewer."""
        classes = np.zeros(len(self.data.labels), dtype=np.int64)
        if self.run.config.get("same_class"):
            classes = np.unique(self.data.labels, return_inverse=True)[1]
        sizes = np.bincount(classes)
        nulls = {}
        for trial, member in zip(self.trials, self.data.is_member, strict=True):
            held = np.bincount(classes[member], minlength=len(sizes))
            nulls[trial] = closeness_chance(held, sizes - held)
        known = [value for value in nulls.values() if not np.isnan(value)]
        mean = float(np.mean(known)) if known else float("nan")
        return nulls | {"mean": mean, "pooled": mean}

    # ---- vulnerability

    def _vulnerability(
        self, columns: dict[str, NDArray[Any]], tables: "dict[str, pd.DataFrame]"
    ) -> list[str]:
        import pandas as pd

        if not self._lira_possible:
            self.notes.append("vulnerability: skipped, it needs LiRA")
            return []
        log_odds, member = self._signal, self.data.is_member
        measured = vulnerability(None, log_odds, member)
        columns |= {name: measured[name] for name in ("exposure", "effect_size")}
        columns["exposure_lira"] = split_exposure(log_odds, member, row_groups=self.groups)
        columns |= self._similarity()
        tables["vulnerability"] = pd.DataFrame(columns)
        tables["vulnerability_bins"] = pd.DataFrame(self._bins(columns))
        reliabilities = self._reliabilities(columns)
        tables["vulnerability_reliability"] = pd.DataFrame(
            {"vulnerability": list(reliabilities), "reliability": list(reliabilities.values())}
        )
        found = associations(
            columns,
            tuple(name for name in _VULNERABILITIES if name in columns),
            tuple(name for name in _SIMILARITIES if name in columns),
            reliabilities,
        )
        if found:
            self.notes.append(
                "intervals of correlations are over examples; that examples share trials is not "
                "accounted for"
            )
        tables["vulnerability_correlations"] = pd.DataFrame(
            {
                "vulnerability": [a.vulnerability for a in found],
                "similarity": [a.similarity for a in found],
                "scope": [a.scope for a in found],
                "examples": [a.examples for a in found],
                "spearman": [a.correlation.value for a in found],
                "spearman_low": [a.correlation.low for a in found],
                "spearman_high": [a.correlation.high for a in found],
                "count": [a.correlation.pairs for a in found],
                "reliability": [a.reliability for a in found],
                "spearman_corrected": [a.corrected.value for a in found],
                "spearman_corrected_low": [a.corrected.low for a in found],
                "spearman_corrected_high": [a.corrected.high for a in found],
            }
        )
        primary = next((name for name in _SIMILARITIES if name in columns), None)
        told = (primary, "fixed_distance")
        return [answer(a) for a in found if a.vulnerability == "exposure" and a.similarity in told]

    def _reliabilities(self, columns: dict[str, NDArray[Any]]) -> dict[str, float]:
        """Return the split-half reliability of each measure of vulnerability."""
        log_odds, member = self._signal, self.data.is_member

        def measured(name: str, rows: NDArray[np.int64]) -> FloatArray:
            if name == "memorization":
                found: FloatArray = memorization(self.data.correct[rows], member[rows])[name]
                return found
            if name == "exposure_lira":
                groups = None if self.groups is None else self.groups[rows]
                return split_exposure(log_odds[rows], member[rows], row_groups=groups)
            return vulnerability(None, log_odds[rows], member[rows])[name]

        return {
            name: reliability(partial(measured, name), len(member), self.groups)
            for name in _VULNERABILITIES
            if name in columns
        }

    def _similarity(self) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {}
        distance = self.data.get("distance_excluding_self")
        if distance is None:
            self.notes.append(
                "vulnerability by distance_out, distance_in: the run has no distances"
            )
        else:
            found |= mean_distances(distance, self.data.is_member)
        position, groups = self._population()
        if groups is not None:
            _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
            found["has_duplicate"] = (sizes[group] > 1) & (groups >= 0)
            if not found["has_duplicate"].any():
                self.notes.append("no example has a duplicate: nothing to leave out")
        if self.canaries is not None:
            self.notes.append("fixed_distance, density_distance: not measured among canaries")
            return found
        space = self._space(position)
        if space is None:
            self.notes.append("fixed_distance, density_distance: no images and no features")
            return found
        if self.features is not None:
            found["leverage"] = leverage(space.reshape(len(space), -1)).leverage
        return found | fixed_space(space, groups)

    def _population(self) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return each example's row in the population, and its duplicate group."""
        if not self.run.has("population.parquet"):
            return np.arange(len(self.data.ids)), None
        table = self.run.population()
        order = np.argsort(table["id"].to_numpy(), kind="stable")
        position = order[np.searchsorted(table["id"].to_numpy()[order], self.data.ids)]
        if "duplicate_group" not in table:
            return position, None
        return position, table["duplicate_group"].to_numpy()[position]

    def _space(self, position: NDArray[np.int64]) -> NDArray[Any] | None:
        if self.features is not None:
            space: NDArray[Any] = _load_features(self.features, len(self.data.ids), position)
            return space
        if self.run.has("features.npy"):
            return self.run.features()[position]
        if not self.run.has("images.npy"):
            return None
        return self.run.images()[position]

    def _bins(self, columns: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
        """Return the power of LiRA by distance, by density and by class."""
        kinds: list[tuple[str, int | None]] = [
            ("distance_out", 10),
            ("fixed_distance", 10),
            ("density_distance", 10),
            ("label", None),
        ]
        return [
            {"by": name, **row}
            for name, bins in kinds
            if name in columns
            for row in power_by(
                columns[name],
                self._lira,
                self.data.is_member,
                bins=bins,
                row_groups=self.groups,
                seed=self.seed,
                n_threads=self.threads,
            )
        ]


def _load_features(path: Path, examples: int, position: NDArray[np.int64]) -> NDArray[Any]:
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"features {path} cannot be read as .npy: {error}") from None
    if features.ndim < 2:
        raise ValueError(f"features {path} must have shape (examples, ...), not {features.shape}")
    if len(features) == examples:
        return np.asarray(features)
    if len(features) <= position.max(initial=0):
        raise ValueError(
            f"features {path} must have a row for each of the {examples} examples or for each row "
            f"of population.parquet, not {len(features)} rows"
        )
    chosen: NDArray[Any] = features[position]
    return chosen
