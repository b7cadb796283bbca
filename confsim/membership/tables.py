"""Tables of a run whose trials have examples: attacks, memorisation, vulnerability.

They are made in memory; :mod:`confsim.membership.stored` decides when, and keeps them. Nothing here
knows how a run came to be.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import ConfsimError
from confsim.membership.audit import audited_trials, epsilon_bins, epsilon_rows, refusal
from confsim.membership.best import best_rows, leaders
from confsim.membership.blind import blind_rows
from confsim.membership.curves import always_drawn, grid_of, look_at, roc_rows, rows_of
from confsim.membership.evaluation import evaluate, evaluated
from confsim.membership.evidence import AGREEMENT_LEVEL, evidence_tables
from confsim.membership.matrices import Matrices
from confsim.membership.memorization import memorization
from confsim.membership.pieces import Pieces
from confsim.membership.run_attacks import Remarks, RunAttacks
from confsim.membership.shadow import Design
from confsim.membership.slices import Slices
from confsim.membership.success import Success
from confsim.membership.transfer import thresholds_of, transferred_thresholds
from confsim.membership.vulnerability import bins_of
from confsim.membership.vulnerability_tables import BINNED, VulnerabilityTables
from confsim.statistics import closeness_chance
from confsim.statistics.checks import check_row_groups
from confsim.statistics.pooled import SortedRows

if TYPE_CHECKING:
    import pandas as pd

    from confsim.store import Run

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: What is known of examples without a look at any model.
_WITHOUT_MODEL = ("fixed_distance", "density_distance", "leverage")

#: What is known of examples without any training set.
_KNOWN_BEFORE = ("fixed_distance", "density_distance", "leverage", "label")


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
        pieces: Pieces | None = None,
    ) -> None:
        self.run, self.features, self.seed, self.threads = run, features, seed, threads
        self.remarks = Remarks(list(run.config.get("notes", ())))
        self.notes = self.remarks.notes
        self._pieces = Pieces() if pieces is None else pieces
        self._curves: dict[str, list[dict[str, Any]]] = {}
        self._best: list[dict[str, Any]] = []
        self._sliced: dict[str, list[dict[str, Any]]] = {}
        self.trials = self._usable_trials() if trials is None else trials
        self.canaries = self._canaries()
        #: Whether models give some statistic, not log-odds of classes.
        self.statistic = run.trial(self.trials[0]).summary().get("ranked_by") == "statistic"
        self.data = Matrices(run, self.trials, statistic=self.statistic, only=self.canaries)
        self._slices = Slices.of(self.data)
        self.design = self._design() if trials is None else Design(self.data.is_member, seed=seed)
        self.groups = None if self.design.partner is None else self.trials_array // 2
        self._success = Success(self.data.is_member, self.groups)
        #: Why no epsilon can be bounded, and scores of the trials that are audited, by attack.
        self._no_epsilon = refusal(
            run.capabilities.design, float(run.config.get("train_ratio", 0.5))
        )
        self._audited: dict[str, FloatArray] | None = None if self._no_epsilon else {}
        self.attacks = RunAttacks(self.data, self.design, self.remarks, threads)
        self._exposure = VulnerabilityTables(self.data, self.groups, seed, threads, self.notes)

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
                "models give a statistic, no classes: attacks learn from it, and those that need "
                "probabilities are left out"
            )
        rows = [*self._attack_rows(), *self._target_rows()]
        if not rows:
            self.notes.append("attacks: none is possible")
        points = [row for curve in self._curves.values() for row in curve]
        rows += [
            {"attack": attack, "target": "none", "reason": reason}
            for attack, reason in self.remarks.skipped.items()
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
        evidence, answers = self._of_shadow_models(tables, columns)
        tables |= evidence | self._about_draws(columns)
        if self._slices is not None:
            names = dict.fromkeys(row["attack"] for row in rows)
            sliced = [row for name in names for row in self._sliced.get(name, ())]
            known = columns if self.attacks.possible else columns | self._surroundings
            of_groups = {
                "group_attacks": sliced,
                "group_similarity": self._slices.similarity(known),
            }
            tables |= {made: pd.DataFrame(found) for made, found in of_groups.items() if found}
        for table in tables.values():
            self._name_points(table)
        return tables, self.notes, answers

    def share(self, index: int, count: int) -> tuple[int, int]:
        """Publish every ``count``-th piece from ``index`` on, but those that are there already.

        Returns how many were made, and how many pieces there are of all shards.
        """
        steps: list[tuple[str, Callable[[], Any]]] = [
            (f"attack-{name}", partial(self._attack_part, name, compute, curve=True))
            for name, compute in self.attacks
        ]
        if self.attacks.possible:
            steps.insert(0, ("evidence", self._evidence_part))
        if self.run.target is not None:
            steps.append(("model", self._model_rows))
        made = 0
        for name, compute in steps[index::count]:
            if self._pieces.find(name) is None:
                self._pieces.publish(name, compute())
                made += 1
        return made, len(steps)

    def _name_points(self, table: "pd.DataFrame") -> None:
        """Add a column ``z``: the points that the attack of a row compares an example with."""
        for column in (name for name in ("attack", "other") if name in table):
            found = table[column].map(self.attacks.points)
            if "reason" in table:
                found = found.where(table["reason"].isna())
            if found.notna().any():
                table["z"] = table["z"].fillna(found) if "z" in table else found

    def _of_shadow_models(
        self, tables: "dict[str, pd.DataFrame]", columns: dict[str, NDArray[Any]]
    ) -> "tuple[dict[str, pd.DataFrame], list[str]]":
        """Return tables of what is made of scores, and answers; add those of vulnerability."""
        import pandas as pd

        if not self.attacks.possible:
            self.notes.append("transfer, agreement, discoveries: skipped, they need LiRA")
            self.notes.append("vulnerability: skipped, it needs LiRA")
            return {}, []
        lira = self.attacks.lira()
        with ThreadPoolExecutor(1) as pool:  # beside what follows: neither knows of the other
            evidence = pool.submit(self._evidence)
            if self.threads == 1:
                evidence.result()
            answers = self._exposure.add_to(tables, columns, lira, self.features)
            made = evidence.result()
        tables["success_bins"] = pd.DataFrame(self._success_rows(columns))
        main = {f"found_{name}": attack for name, attack in self._main_attacks().items()}
        tables["vulnerability"] = tables["vulnerability"].assign(
            **{column: self._success.share(attack) for column, attack in main.items()}
        )
        known = [
            {"vulnerability": column, "reliability": self._success.reliability(attack)}
            for column, attack in main.items()
        ]
        measured = tables["vulnerability_reliability"]
        tables["vulnerability_reliability"] = pd.concat(
            [measured, pd.DataFrame(known)], ignore_index=True
        )
        return made, answers

    @cached_property
    def _scores(self) -> dict[str, FloatArray]:
        """The scores of the attacks that are compared by what they find."""
        if not self.attacks.possible:
            return {}
        # With very few models an attack may answer of no example: it finds nobody, and is no row.
        return {
            name: scores
            for name, scores in self.attacks.main().items()
            if not all(bool(np.isnan(row).all()) for row in scores)
        }

    def _main_attacks(self) -> dict[str, str]:
        """Return by their short names how the main attacks are called among all."""
        names = {name: name for name in self._scores} | {"lira_online": self.attacks.lira_name}
        found = self._success.attacks
        return {name: names[name] for name in self._scores if names[name] in found}

    @cached_property
    def _surroundings(self) -> dict[str, Any]:
        """What is known of examples where nothing is learned from other models."""
        return self._exposure.similarity(self.features)

    def _about_draws(self, columns: dict[str, NDArray[Any]]) -> "dict[str, pd.DataFrame]":
        """Return the best attack, epsilon, and what is told without the model."""
        import pandas as pd

        design = self.run.capabilities.design
        found = {"best_attack": self._best}
        if self._audited is not None and self._scores:
            found |= self._epsilon(self._audited, columns)
        else:
            reason = self._no_epsilon or "it needs log-odds and three trials"
            found["epsilon"] = [{"attack": "all", "target": "none", "reason": reason}]
        if design not in ("independent", "balanced", "coin"):
            _, groups = self.data.population()
            similar = columns
            if not self.attacks.possible:
                similar = self._surroundings
            known = {name: similar[name] for name in _WITHOUT_MODEL if name in similar}
            if groups is not None and groups.max() >= 0:
                _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
                copies = np.where(groups >= 0, sizes[group], 1)
                known |= {"duplicates": copies} if copies.max() > 1 else {}
            found["blind"] = blind_rows(
                known,
                self.data.labels,
                self.data.is_member,
                targets=self.trials,
                groups=groups,
                seed=self.seed,
            )
        return {name: pd.DataFrame(made) for name, made in found.items() if made}

    def _epsilon(
        self, audited: dict[str, FloatArray], columns: dict[str, NDArray[Any]]
    ) -> dict[str, list[dict[str, Any]]]:
        """Return bounds of the main attacks, and of every attack in bins of canaries."""
        refused = {
            name: reason
            for name in [*self._scores, *audited]
            if (reason := self.attacks.why_no_audit(name)) is not None
        }
        count = audited_trials(len(self.data.ids))
        known = {name: columns[name] for name in _KNOWN_BEFORE if name in columns}
        rows = epsilon_rows(
            {name: scores for name, scores in self._scores.items() if name not in refused},
            self.attacks.signal,
            self.data.is_member,
            targets=self.trials,
            ids=self.data.ids,
            seed=self.seed,
        )
        bins = epsilon_bins(
            {name: scores for name, scores in audited.items() if name not in refused},
            self.data.is_member[:count],
            {"all": np.zeros(len(self.data.ids)), **known},
            targets=self.trials[:count],
            seed=self.seed,
        )
        why = [{"attack": name, "reason": reason} for name, reason in refused.items()]
        rows += [row | {"target": "none"} for row in why if row["attack"] in self._scores]
        return {
            "epsilon": rows,
            "epsilon_bins": bins + [row for row in why if row["attack"] in audited],
        }

    def _evidence(self) -> "dict[str, pd.DataFrame]":
        """Return tables of what the main attacks find at thresholds that can be chosen."""
        import pandas as pd

        found = self._pieces.made("evidence", self._evidence_part)
        return {name: pd.DataFrame(rows) for name, rows in found.items()}

    def _evidence_part(self) -> dict[str, list[dict[str, Any]]]:
        thresholds = {
            name: transferred_thresholds(values, self.data.is_member, partner=self.design.partner)
            for name, values in self._scores.items()
        }
        return evidence_tables(
            self._scores,
            thresholds,
            self.attacks.signal,
            self.design,
            self.trials_array,
            self.data.new_scores,
        )

    def _success_rows(self, columns: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
        """Return which members every attack finds, by similarity and class."""
        made = []
        for name, bins in BINNED:
            if name not in columns:
                continue
            parts = bins_of(columns[name], bins)
            again = {a: self._success.reliability(a, parts) for a in self._success.attacks}
            made += [
                {"level": AGREEMENT_LEVEL, "by": name, **row, "reliability": again[row["attack"]]}
                for row in self._success.rows(columns[name], parts, columns.get("memorization"))
            ]
        return made

    def _kept(self, scores: FloatArray, ordered: SortedRows) -> dict[str, Any]:
        """Return of an attack's scores, and of these in order, what bins of examples need."""

        def others() -> Iterator[FloatArray]:
            return (ordered.side(row, members=False) for row in range(len(ordered)))

        cuts = thresholds_of(others, self.design, [AGREEMENT_LEVEL])
        called = (row >= cut for row, cut in zip(scores, cuts, strict=True))
        audited = None
        if self._audited is not None:
            audited = scores[: audited_trials(len(self.data.ids))].copy()
        return {"success": self._success.counts(called), "audited": audited}

    def _attack_rows(self) -> list[dict[str, Any]]:
        """Evaluate every attack, one after another: each takes the room of its scores."""
        drawn = always_drawn(fixed_variance=self.attacks.fixed_by_default)
        possible = dict(self.attacks)
        made: list[dict[str, Any]] = []
        without: dict[str, str] = {}
        for name, compute in possible.items():
            work = partial(self._attack_part, name, compute, curve=name in drawn)
            part = self._pieces.made(f"attack-{name}", work)
            made += part["rows"]
            without |= {} if part["rows"] else {name: part["why"]}
            self._keep(name, part)
        for name in sorted(without):
            self.remarks.skip(without[name], name)
        self._best = best_rows(made, self.trials, partner=self.design.partner, seed=self.seed)
        for name in leaders(made, self._best):
            if name not in self._curves:
                self._curves[name] = roc_rows(name, possible[name](), self.data.is_member)
        shown = dict.fromkeys((*drawn, *leaders(made, self._best)))
        self._curves = {name: self._curves[name] for name in shown if name in self._curves}
        return made

    def _keep(self, name: str, part: dict[str, Any]) -> None:
        """Keep of :meth:`_attack_part` what other tables need."""
        if part["curve"] is not None:
            self._curves[name] = part["curve"]
        if part["sliced"] is not None:
            self._sliced[name] = part["sliced"]
        if part["kept"] is not None:
            self._success.keep(name, part["kept"]["success"])
            if self._audited is not None:
                self._audited[name] = part["kept"]["audited"]

    def _attack_part(
        self, name: str, compute: Callable[[], FloatArray], *, curve: bool
    ) -> dict[str, Any]:
        """Return an attack's rows, or why it has none; its curve, and its power in groups."""
        scores, grid = compute(), grid_of(self.data.is_member)
        found = evaluated(
            scores,
            self.data.is_member,
            self.trials_array,
            check_row_groups(self.groups, len(self.trials)),
            seed=self.seed,
            n_threads=self.threads,
            look=partial(look_at, grid=grid) if curve else None,
            empty=self.data.scratch.empty,
        )
        sliced = None
        if found.rows and self._slices is not None:
            options: dict[str, Any] = {"row_groups": self.groups, "seed": self.seed, "n_threads": 1}
            sliced = self._slices.power(name, scores, self.data.is_member, **options)
        null = self._null_aucs() if name == "closeness" else {}
        rows = [
            {
                "attack": name,
                **row,
                "target": str(row["target"]),
                "null_auc": null.get(row["target"], 0.5),
            }
            for row in found.rows
        ]
        return {
            "rows": rows,
            "why": "" if rows else _why_impossible(scores, self.data.is_member),
            "curve": rows_of(name, grid, found.looks) if curve else None,
            "sliced": sliced,
            "kept": self._kept(scores, found.ordered) if rows and self.attacks.possible else None,
        }

    def _target_rows(self) -> list[dict[str, Any]]:
        """Attack the model of the user's own with all shadow models; it is none of them."""
        target = self.run.target
        if target is None:
            return []
        found: list[dict[str, Any]] = self._pieces.made("model", self._model_rows)
        self.notes.append(
            f"target 'model' is the model of the user's own (trial {target}), attacked with "
            f"{len(self.trials)} shadow models; it is in no mean"
        )
        return found

    def _model_rows(self) -> list[dict[str, Any]]:
        target = self.run.target
        assert target is not None
        trials = [*self.trials, target]
        both = ExampleTables(self.run, None, self.seed, self.threads, trials)
        found = []
        for name, compute in both.attacks:
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
                    said = {"target": "model", "null_auc": null}
                    found.append({"attack": name, **row, **said})
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
