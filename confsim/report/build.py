"""All of a report: read the runs, draw, tabulate, write. What ``confsim-report`` does."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from confsim._errors import ConfsimError, to_copy
from confsim._version import __version__
from confsim.report import (
    attacks,
    bins,
    figures,
    groups,
    lattice,
    pictures,
    training,
    transfer,
)
from confsim.report import sweep as sweeps
from confsim.report import tables as table_makers
from confsim.report.attacks import plain, similarity_sentences
from confsim.report.canvas import SMALL, Canvas, settings
from confsim.report.context import ReportContext, plural
from confsim.report.dictionary import dictionary, trial_columns
from confsim.report.explorer import explorer
from confsim.report.explorer import why_not as why_no_explorer
from confsim.report.first import SMALL_ROC, first_screen
from confsim.report.meanings import STORED
from confsim.report.page import Page, RenderedFigure, Section, render
from confsim.report.provenance import provenance, split
from confsim.report.registry import FigureKind
from confsim.report.sentences import incomplete_line, sentences
from confsim.report.table import Table
from confsim.store import Run, artifacts, open_run, survey

if TYPE_CHECKING:
    from confsim.membership.stored import Share

#: Every figure of one run, in the order of the page.
FIGURES: tuple[FigureKind, ...] = (
    *figures.FIGURES,
    *lattice.FIGURES,
    *attacks.FIGURES,
    *bins.FIGURES,
    *groups.FIGURES,
    *transfer.FIGURES,
    *training.FIGURES,
    *pictures.FIGURES,
)

#: What a report was made from, and its files.
RECORD = "report.json"

#: More scores than this are not attacked for a report unless somebody asks: it takes minutes.
_MANY_SCORES = 10_000_000


class Incomplete(ConfsimError):  # noqa: N818 - reads as what it says
    """Trials are missing or damaged, and a partial report was not asked for."""


@dataclass(frozen=True, repr=False)
class Report:
    """What was written.

    Attributes
    ----------
    title : str
        What was analysed.
    page : Path
    size : int
        Bytes of the page.
    figures, tables : list of str
        Names of files.
    skipped : list of (str, str)
        Figures that were left out, and why.
    sentences : list of str
        The answers of all runs.
    damage : list of str
        Manifests that are damaged and whose copies were read.
    """

    title: str
    page: Path
    size: int
    figures: list[str]
    tables: list[str]
    skipped: list[tuple[str, str]]
    sentences: list[str]
    damage: list[str]

    def __repr__(self) -> str:
        return f"Report({str(self.page)!r})"

    def __str__(self) -> str:
        figures = plural(len({name.rpartition(".")[0] for name in self.figures}), "figure")
        return (
            f"{self.title}: {self.page} ({self.size / 1e6:.2f} MB), {figures}, "
            f"{plural(len(self.tables), 'table')}"
        )

    def _repr_html_(self) -> str:
        """Show its sentences and where it is in a notebook."""
        from markupsafe import escape

        told = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.sentences)
        return f"<ul>{told}</ul><p><code>{escape(str(self.page))}</code></p>"


def report(
    runs: Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    partial: bool = False,
    attacks: bool | None = None,
    remake_tables: bool = False,
    limit: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Make tables, figures and ``report.html`` of a run, or a comparison of several.

    Parameters
    ----------
    runs : sequence of path-like
        Run directories.
    out : path-like, optional
        Where to write; default: the run itself, or ``comparison-...`` beside the first of several.
    partial : bool
        Report what is there when trials are missing or damaged.
    attacks : bool, optional
        Whether to make the membership tables where they are not there yet; default: unless that
        would score millions of lattice points a trial.
    remake_tables : bool
        Make the membership tables with default options, also in the place of tables that were made
        with others. Otherwise those are shown, and how they were made is said.
    limit : int, optional
        Bytes that one file of a run may take in memory; see :func:`confsim.open_run`.
    progress : callable, optional
        Called with a few words whenever something else is being done.

    Raises
    ------
    ValueError
        If a path is no run, runs cannot be compared, or ``out`` cannot be written.
    Incomplete
        If trials are missing or damaged, and not ``partial``.
    ConfsimError
        If a run has no finished trial.
    """
    say = progress or (lambda _: None)
    say("reading trials")
    opened = [open_run(path, limit=limit) for path in runs]
    folder = _folder(opened, out)
    for name in ("figures", "tables"):
        artifacts.check_room(folder / name)
    contexts = [gather(run, partial=partial) for run in opened]
    sweep = sweeps.arrange(contexts) if len(contexts) > 1 else None
    artifacts.sweep(folder)
    for i, context in enumerate(contexts):
        say(f"tables of attacks, run {i + 1} of {len(contexts)}")
        _add_membership(context, attacks, remake=remake_tables)
    if sweep is not None:
        return _write_comparison(sweep, folder, say)
    return _write_run(contexts[0], folder, say)


def share_tables(
    path: str | os.PathLike[str],
    index: int,
    count: int,
    *,
    partial: bool = False,
    remake_tables: bool = False,
    limit: int | None = None,
) -> "Share":
    """Make a shard's pieces of the tables that :func:`report` of a run will show.

    Parameters
    ----------
    path : path-like
        Run directory.
    index, count : int
        Which shard, of how many.
    partial, remake_tables, limit
        As of :func:`report`, and the same for it and all shards.

    Raises
    ------
    ValueError, Incomplete, ConfsimError
        As :func:`report`.
    """
    from confsim.membership.stored import share_of_tables

    context = gather(open_run(path, limit=limit), partial=partial)
    return share_of_tables(context.run, index, count, replace=remake_tables)


# ---- reading -----------------------------------------------------------------------------------


def gather(run: Run, *, partial: bool = False) -> ReportContext:
    """Check a run's trials and return what is to be reported."""
    found = survey(run.path, run.identity_hash, hashes=True, limit=run.limit)
    whole = sorted(found.finished)
    wanted = int(run.manifest["trials"])
    missing = [n for n in range(wanted) if n not in found.finished and n not in found.damaged]
    # Nothing is made with a damaged trial, no table either.
    context = ReportContext(
        run.restricted(whole), whole, missing, dict(sorted(found.damaged.items()))
    )
    if run.damage is not None:
        context.notes.append(f"{run.damage}; the settings shown are its copy's")
    if not whole and not found.damaged:
        look = to_copy("confsim-status", run.path)
        raise Incomplete(f"{run.path} has no finished trial to report; {look}")
    if not whole or ((missing or found.damaged) and not partial):
        raise Incomplete(
            f"{run.path} is not complete: {incomplete_line(context)}"
            + ("" if not whole else "; --partial reports the rest")
        )
    return context


def _add_membership(context: ReportContext, wanted: bool | None, *, remake: bool = False) -> None:
    """Read or make the membership tables; what stands in the way becomes a note."""
    from confsim.membership import membership_tables

    run, scores = context.run, 0.0
    if run.capabilities.lattice:
        scores = float(sum(row.get("queries") or 0 for row in context.rows))
    there = (run.path / "tables" / "membership.json").exists()
    if wanted is False or (wanted is None and scores > _MANY_SCORES and not there):
        reason = "not asked for"
        if wanted is None:
            reason = f"skipped, {scores:,.0f} scores take a while; confsim-report --attacks does it"
        context.notes.append(f"attacks: {reason}")
        return
    try:
        found = membership_tables(run, replace=remake)
    except artifacts.NoRoom:
        raise
    except (ConfsimError, ValueError) as error:
        context.notes.append(f"attacks: skipped, {error}")
        return
    context.tables = dict(found.tables)
    context.notes += found.notes
    context.answers += found.answers
    context.options = found.options


# ---- writing -----------------------------------------------------------------------------------


def _folder(runs: Sequence[Run], out: str | os.PathLike[str] | None) -> Path:
    """Return where to write."""
    if out is not None:
        return Path(out)
    if len(runs) == 1:
        return runs[0].path
    names = "".join(sorted(run.identity_hash for run in runs))
    name = hashlib.sha256(names.encode()).hexdigest()[:10]
    return runs[0].path.parent / f"comparison-{name}"


def _write_run(context: ReportContext, folder: Path, say: Callable[[str], None]) -> Report:
    drawn, files, skipped = [], [], []
    for i, kind in enumerate(FIGURES):
        say(f"figure {i + 1} of {len(FIGURES)}: {kind.title}")
        reason = kind.needs(context)
        if reason is not None:
            skipped.append((context.called(kind.title), context.called(plain(reason))))
            continue
        figure, names = _drawn(kind, context, folder)
        drawn.append(figure)
        files += names
    say("tables, explorer and page")
    tables = [table.of(context.called) for table in table_makers.run_tables(context)]
    section = _section(context, "run")
    reason = why_no_explorer(context)
    if reason is not None:
        skipped.append(("The explorer of examples.", context.called(reason)))
    page = Page(
        _title(context),
        _subtitle(context),
        [section],
        drawn,
        skipped,
        tables,
        context.unit,
        context.knows_distances,
        explorer(context) if reason is None else None,
        trial_columns(map(str, context.summary)),
    )
    also = [
        table_makers.trial_table(context, folder / "tables"),
        dictionary(tables, page.trial_columns, _columns(context)).write(folder / "tables"),
    ]
    return _write(page, folder, [context], files, tables, also)


def _columns(context: ReportContext) -> dict[str, list[str]]:
    """Return the columns of the tables that the report shows or reads, by file."""
    from confsim.membership.stored import file_of

    found = {file_of(name): list(map(str, table)) for name, table in context.tables.items()}
    if context.run.has("population.parquet"):
        found["population.parquet"] = list(map(str, context.run.population()))
    trial = context.run.trial(context.trials[0])
    for name, columns in STORED.items():
        if trial.has(f"{name}.parquet"):
            found[f"{name}.parquet"] = list(columns)
    return found


def _small_roc(context: ReportContext) -> RenderedFigure | None:
    """Draw the first screen's figure, for the page alone."""
    if SMALL_ROC.needs(context) is not None:
        return None
    canvas = Canvas(SMALL_ROC.name, narrow=True, width=SMALL)
    with settings():
        text = SMALL_ROC.draw(context, canvas)
        canvas.lay_out()
    return RenderedFigure(SMALL_ROC.name, SMALL_ROC.title, text, "", canvas.inline())


def _drawn(
    kind: FigureKind, context: ReportContext, folder: Path
) -> tuple[RenderedFigure, list[str]]:
    wide, narrow = Canvas(kind.name), Canvas(kind.name, narrow=True)
    for canvas in (wide, narrow):
        with settings():
            text = kind.draw(context, canvas)
            canvas.lay_out()
    inlined = [canvas.inline(photographs=kind.photographs) for canvas in (wide, narrow)]
    drawn = RenderedFigure(kind.name, context.called(kind.title), text, *inlined)
    return drawn, wide.save(folder / "figures")


def _write_comparison(sweep: sweeps.Sweep, folder: Path, say: Callable[[str], None]) -> Report:
    drawn, files = [], []
    for kind in sweeps.figures(sweep):
        say(f"figure: {kind.title}")
        figure, names = _drawn(kind, sweep.contexts[0], folder)
        drawn.append(figure)
        files += names
    tables = [table_makers.comparison(sweep)]
    sections = [_section(m, f"run-{i + 1}") for i, m in enumerate(sweep.contexts)]
    common, own = split([section.provenance for section in sections])
    sections = [replace(s, provenance=p) for s, p in zip(sections, own, strict=True)]
    page = Page(
        sweeps.sentence(sweep).rstrip("."),
        f"{len(sweep.contexts)} runs of {sweep.contexts[0].run.manifest['command']}. They differ "
        f"in {', '.join(map(sweeps.label_of, sweep.differing))}.",
        sections,
        drawn,
        [],
        tables,
        sweep.contexts[0].unit,
        any(context.knows_distances for context in sweep.contexts),
        common=common,
    )
    also = [dictionary(tables, [], {}).write(folder / "tables")]
    return _write(page, folder, sweep.contexts, files, tables, also)


def _section(context: ReportContext, key: str) -> Section:
    return Section(
        key,
        f"Run {context.run.path.name}",
        first_screen(context),
        _small_roc(context),
        sentences(context),
        similarity_sentences(context),
        provenance(context),
        incomplete_line(context),
    )


def _write(
    page: Page,
    folder: Path,
    contexts: Sequence[ReportContext],
    figure_files: list[str],
    tables: list[Table],
    also: list[str],
) -> Report:
    names = [*(table.write(folder / "tables") for table in tables), *also]
    page.files.extend(f"figures/{name}" for name in figure_files)
    page.files.extend(f"tables/{name}" for name in names)
    target = folder / "report.html"
    # A path that is no UTF-8 is shown with its bytes escaped.
    text = render(page).encode(errors="backslashreplace")
    artifacts.write(target, text)
    first = page.sections[0].first.headline if len(page.sections) == 1 else page.title
    _record(folder, contexts, [*page.files, target.name], first)
    sentences = [
        sentence
        for section in page.sections
        for sentence in (
            section.sentences.closeness,
            section.sentences.membership,
            section.sentences.caution,
        )
    ]
    damage = [str(m.run.damage) for m in contexts if m.run.damage is not None]
    return Report(
        page.title, target, len(text), figure_files, names, page.skipped, sentences, damage
    )


def _record(
    folder: Path, contexts: Sequence[ReportContext], names: Sequence[str], headline: str
) -> None:
    """Record what was written and of what; what an earlier report wrote beyond that goes."""
    made_from = [
        {"run": m.run.identity_hash, "trials": m.trials, "membership": m.options} for m in contexts
    ]
    entries = {}
    for name in names:
        with contextlib.suppress(OSError):  # a report that is made beside this one took it away
            entries[name] = artifacts.entry_of_file(folder / name)
    before = artifacts.read_record(folder / RECORD)
    artifacts.write_record(
        folder / RECORD,
        made_from=made_from,
        options={"confsim": __version__, "runs": made_from},
        entries=entries,
        more={"headline": headline},
    )
    artifacts.remove_obsolete(before, folder, entries)


def _title(context: ReportContext) -> str:
    config = context.config
    if "grid_size" in config:
        return f"{config['n']:,} training points on a lattice of {config['dimensions']} dimensions"
    if "dataset" in config:
        # Of data and of a model of the user's own the file's name, not where it lies.
        kind, _, path = str(config["dataset"]).partition(":")
        model = PurePath(str(config.get("model", "a model"))).name
        return f"{model} on {PurePath(path).name or kind}"
    if context.unit == "model":
        count, examples = len(context.trials), config.get("examples")
        return f"{plural(count, 'model')} audited" + (
            f" on {examples:,} examples" if examples else ""
        )
    if "task" in config:
        return f"{plural(len(context.trials), 'shadow model')} of {config['task']}"
    return f"{context.run.manifest['command']}: {context.run.path.name}"


def _subtitle(context: ReportContext) -> str:
    manifest = context.run.manifest
    return (
        f"{manifest['command']}, {plural(len(context.trials), context.unit)}, seed "
        f"{manifest.get('seed')}, run {context.run.identity_hash[:10]}"
    )
