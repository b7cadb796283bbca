"""``confsim-status RUN``: what is done, running, missing or damaged; repair; a list of runs.

It only reads (``--repair`` and ``--pack`` move what is finished), so it can be called at any time,
during a run and from any machine that sees the directory.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confsim._errors import ConfsimError
from confsim.cli import common, listing
from confsim.runner.claims import STALE_AFTER, Claims, Life
from confsim.runner.packing import mend, pack
from confsim.runner.progress import duration
from confsim.store import files, layout, open_run, survey
from confsim.store.packs import PACKS, InPack, Packs
from confsim.store.writer import repair_manifest, set_aside, set_aside_run_data

#: Seconds before the newest trial whose trials make the rate.
_WINDOW = 900.0


#: Bytes of a failed trial's report, of which the first line is shown.
_REPORT_LIMIT = 1 << 24


@dataclass(frozen=True)
class Status:
    """The state of a run.

    Attributes
    ----------
    run : Path
        Its directory.
    command : str
        What runs it.
    trials : int
        How many are wanted.
    done, missing : list of int
        Finished trials, and those that nobody has begun.
    running : dict of int to str
        Who runs it, by trial.
    stale : dict of int to str
        Who had claimed it and is dead, or has not moved for a minute, by trial. Any command that
        may run the trial takes it over.
    failed, damaged : dict of int to str
        The cause, by trial.
    shared_damage : str, optional
        What is wrong with what all trials share.
    per_minute : float, optional
        Trials finished a minute lately, if any are running.
    strange : list of str
        What stands among the trials and is none: it is not read.
    packed : int
        Finished trials that lie in packs.
    damaged_packs : dict of str to str
        What is wrong with packs, by name.
    """

    run: Path
    command: str
    trials: int
    done: list[int]
    running: dict[int, str]
    stale: dict[int, str]
    missing: list[int]
    failed: dict[int, str]
    damaged: dict[int, str]
    shared_damage: str | None
    per_minute: float | None
    strange: list[str]
    packed: int
    damaged_packs: dict[str, str]

    @property
    def seconds_left(self) -> float | None:
        """How long it takes at the present rate."""
        if self.per_minute is None:
            return None
        return 60 * (self.trials - len(self.done)) / self.per_minute

    @property
    def exit_code(self) -> int:
        """0 complete, 1 failed or damaged, 75 incomplete."""
        if self.failed or self.damaged or self.damaged_packs or self.shared_damage:
            return 1
        return 0 if len(self.done) >= self.trials else os.EX_TEMPFAIL

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "run": str(self.run),
            "command": self.command,
            "trials": self.trials,
            "done": len(self.done),
            "running": {str(trial): owner for trial, owner in self.running.items()},
            "stale": {str(trial): owner for trial, owner in self.stale.items()},
            "missing": self.missing,
            "failed": {str(trial): why for trial, why in self.failed.items()},
            "damaged": {str(trial): why for trial, why in self.damaged.items()},
            "shared_damage": self.shared_damage,
            "packed": self.packed,
            "damaged_packs": self.damaged_packs,
            "strange": self.strange,
            "trials_per_minute": self.per_minute,
            "seconds_left": self.seconds_left,
            "complete": self.exit_code == 0,
        }


def status(path: Path, *, verify: bool = False, limit: int | None = None) -> Status:
    """Look at a run.

    Parameters
    ----------
    path : Path
        The run directory.
    verify : bool
        Compare the hash of every file, not only its size.
    limit : int, optional
        Bytes that one file may take in memory; see :func:`confsim.open_run`.

    Raises
    ------
    ValueError
        If it is not a run directory.
    """
    run = open_run(path, limit=limit)
    state = survey(path, run.identity_hash, hashes=verify, limit=run.limit)
    running, stale = _claimed(path, state.finished | state.damaged.keys())
    known = state.finished | state.damaged.keys() | running.keys() | stale.keys()
    wanted = range(int(run.manifest["trials"]))
    failed = {trial: why for trial, why in _failures(path) if trial not in known}
    return Status(
        path,
        str(run.manifest["command"]),
        len(wanted),
        sorted(state.finished.intersection(wanted)),
        running,
        stale,
        [trial for trial in wanted if trial not in known and trial not in failed],
        failed,
        state.damaged,
        layout.run_data_damage(path, hashes=verify, limit=run.limit),
        _per_minute(path, state.finished) if running else None,
        layout.strange_names(path),
        len(state.finished.difference(layout.unpacked_numbers(path))),
        state.packs,
    )


def _claimed(path: Path, settled: Collection[int]) -> tuple[dict[int, str], dict[int, str]]:
    """Return who runs what, and which claims of whom are stale."""
    claims = Claims(path)
    held = {trial: name for trial, name in sorted(claims.held().items()) if trial not in settled}
    judged = {name: _judge(claims, name) for name in set(held.values())}
    running, stale = (
        {trial: judged[name][1] for trial, name in held.items() if judged[name][0] is alive}
        for alive in (True, False)
    )
    return running, stale


def _judge(claims: Claims, name: str) -> tuple[bool, str]:
    """Say whether an owner may be alive, and who it is.

    One look tells nothing of an owner elsewhere but the time of its last heartbeat, by clocks that
    may differ.
    """
    life, owner = claims.life(name), claims.read(name)
    if owner is None:
        return False, f"a command that is gone ({name})" if name else "a command that is gone"
    if life is Life.ALIVE:
        return True, str(owner)
    if life is Life.DEAD:
        return False, f"{owner}, which is dead"
    seconds = max(0.0, claims.seconds_since_heartbeat(name) or 0.0)
    return seconds <= STALE_AFTER, f"{owner}, last sign of life {duration(seconds)} ago"


def _failures(path: Path) -> Iterable[tuple[int, str]]:
    folder = path / layout.LOG
    for report in sorted(folder.glob("failed-*.txt")) if files.is_folder(folder) else []:
        number = report.stem.removeprefix("failed-")
        trial = layout.trial_number(number)
        if trial is None:
            continue
        try:
            text = files.read_bounded(report, _REPORT_LIMIT).decode(errors="replace")
            yield trial, next(iter(text.splitlines()), "").strip()
        except (OSError, ConfsimError) as error:
            yield trial, f"its report cannot be read: {error}"


def _per_minute(path: Path, finished: frozenset[int]) -> float | None:
    """Return the rate lately; ``None`` if the files' times do not tell (a copy, a clock's jump)."""
    with os.scandir(path / layout.TRIALS) as entries:
        times = [
            entry.stat(follow_symlinks=False).st_mtime
            for entry in entries
            if layout.trial_number(entry.name) in finished
        ]
    if not times:
        return None
    newest = max(times)
    lately = [moment for moment in times if newest - moment <= _WINDOW]
    span = max(newest, time.time()) - min(lately)
    return 60 * len(lately) / span if 0 < span <= 2 * _WINDOW else None


def repair(found: Status) -> list[Path]:
    """Set damaged trials aside, for the command that made the run to make them again.

    A pack that is damaged is taken apart, and set aside with the damaged trials in it.
    """
    moved, names, packs = [], set(found.damaged_packs), Packs(found.run)
    for trial in found.damaged:
        place = layout.place_of(found.run, trial, packs)
        if isinstance(place, InPack):
            names.add(place.path.name)
        elif place is not None:
            moved.append(set_aside(found.run, trial))
    if names:
        moved += mend(open_run(found.run), sorted(names))
    if found.shared_damage is not None:
        moved.append(set_aside_run_data(found.run))
    Claims(found.run).sweep()  # of what a repair left that was killed
    return moved


def ranges(numbers: Sequence[int]) -> str:
    """Write ascending numbers shortly: ``0, 3-7``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def render(found: Status) -> str:
    """Write a status for people."""
    lines = [
        f"{found.run}: {found.command}, {len(found.done)} of {found.trials} trials are done",
        f"  done     {len(found.done):6d}",
        f"  running  {len(found.running):6d}",
        f"  stale    {len(found.stale):6d}",
        f"  missing  {len(found.missing):6d}  {ranges(found.missing)}".rstrip(),
        f"  failed   {len(found.failed):6d}",
        f"  damaged  {len(found.damaged):6d}",
    ]
    if found.packed:
        lines.insert(2, f"  packed   {found.packed:6d}  of these")
    if found.per_minute is not None and found.seconds_left is not None:
        lines.append(
            f"  {found.per_minute:.3g} trials a minute, about {duration(found.seconds_left)} left"
        )
    for owner in sorted(set(found.running.values())):
        mine = [trial for trial, name in found.running.items() if name == owner]
        lines.append(f"  {owner} runs {ranges(mine)}")
    for owner in sorted(set(found.stale.values())):
        mine = [trial for trial, name in found.stale.items() if name == owner]
        lines.append(f"  {owner} has left {ranges(mine)}, to be taken over by any command")
    lines += [f"  trial {trial} failed: {why}" for trial, why in found.failed.items()]
    lines += [f"  trial {trial} is damaged: {why}" for trial, why in found.damaged.items()]
    if found.shared_damage is not None:
        lines.append(f"  what all trials share is damaged: {found.shared_damage}")
    lines += [f"  pack {name} is damaged: {why}" for name, why in found.damaged_packs.items()]
    lines += [f"  {name} is no trial of this run and is not read" for name in found.strange]
    return "\n".join(lines)


def build_parser() -> common.Parser:
    """Return the command's parser."""
    parser = common.Parser(
        prog="confsim-status",
        description="Say which trials of a run are done, running, stale, missing, failed, damaged.",
        epilog="exit codes: 0 complete, 75 incomplete, 1 failed or damaged, 2 not a run",
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        type=common.path_of,
        help="the run directory; a folder of runs is listed: done, begun, what differs, headline",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare the hash of every file (default: presence and sizes)",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="verify, and set damaged trials aside in RUN/damaged; the command that made the run "
        "then makes them again",
    )
    parser.add_argument(
        "--pack",
        action="store_true",
        help="pack finished trials into few large files, for file systems that count files; they "
        "are read, resumed and reported as before (safe at any time)",
    )
    common.add_limit_option(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return common.main(build_parser(), _main, argv)


def _main(given: argparse.Namespace) -> int:
    found_runs = [] if given.repair else listing.runs_in(given.run, limit=given.limit)
    if found_runs:
        text = json.dumps([run.as_json() for run in found_runs])
        print(text if given.json else listing.render(found_runs), flush=True)
        return 1 if any(run.problem for run in found_runs) else 0
    damage = layout.manifest_damage(given.run)
    if damage is not None and not (given.repair and layout.has_copy(given.run)):
        return _manifest_damaged(given, damage)
    if damage is not None:
        print(f"set aside: {repair_manifest(given.run)}", file=sys.stderr)
    found = status(given.run, verify=given.verify or given.repair, limit=given.limit)
    moved = repair(found) if given.repair else []
    if moved:
        for path in moved:
            print(f"set aside: {path}", file=sys.stderr)
        found = status(given.run)
    if given.pack:
        _pack(given)
        found = status(given.run, limit=given.limit)
    print(json.dumps(found.as_json()) if given.json else render(found), flush=True)
    return found.exit_code


def _pack(given: argparse.Namespace) -> None:
    """Pack what can be packed, and say what was."""
    done = pack(open_run(given.run, limit=given.limit))
    print(
        f"{done.trials} trials were packed into {done.packs} packs in {given.run / PACKS}",
        file=sys.stderr,
    )
    for trial, why in done.left.items():
        print(f"trial {trial} is left as it is: {why}", file=sys.stderr)


def _manifest_damaged(given: argparse.Namespace, error: layout.ManifestDamaged) -> int:
    """Say so, and with ``--repair`` set the manifest aside; no trial is touched."""
    told = {"run": str(given.run), "manifest_damage": error.reason, "complete": False}
    print(json.dumps(told) if given.json else str(error), flush=True)
    if not given.repair:
        return common.FAILED
    print(f"set aside: {repair_manifest(given.run)}", file=sys.stderr)
    return os.EX_TEMPFAIL


if __name__ == "__main__":
    sys.exit(main())
