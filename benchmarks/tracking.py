"""Ratios to peers: what a benchmark records, the one table at the end, and baselines of machines.

Seconds say little on machines that are shared; the ratio of two things measured side by side says
more. A benchmark calls :func:`record`; ``conftest.py`` of the repository prints :func:`table`.
"""

import json
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from confsim._kernels import isa

BASELINES = Path(__file__).with_name("baseline")

OURS = "confsim"


@dataclass(frozen=True)
class Figure:
    """One ratio, and how far the quartiles of its two sides let it move."""

    row: str
    who: str
    ratio: float
    low: float
    high: float
    goal: float | None = None
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """Whether the goal is met; empty without one."""
        if self.goal is None:
            return ""
        met = self.ratio <= self.goal if self.at_most else self.ratio >= self.goal
        return "met" if met else "MISSED"

    def moved(self, before: "Figure") -> str:
        """Say how the ratio moved, if it did by more than both spreads."""
        if self.low <= before.high and before.low <= self.high:
            return ""
        better = (self.ratio < before.ratio) == self.at_most
        return f"{'better' if better else 'WORSE'}: was {before.ratio:.2f}"


def record(
    benchmark: Any,
    row: str,
    who: str,
    *,
    goal: float | None = None,
    share: int = 1,
    plain: list[float] | None = None,
    beside: list[float] | None = None,
) -> None:
    """Say what a benchmark measured.

    Parameters
    ----------
    benchmark : fixture
    row : str
        The task; whoever does it is compared with ``"confsim"`` of the same row.
    who : str
    goal : float, optional
        Of a peer: how many times as long as confsim it is to take, at least. Of an option, with
        ``plain``: its time as a multiple of the plain one, at most.
    share : int
        The peer did one part in so many of the task.
    plain : list of float, optional
        Seconds of the same task without the option, measured in turns with it.
    beside : list of float, optional
        Seconds of ``who``, measured beside confsim, whose benchmark this is.
    """
    benchmark.extra_info.update(row=row, who=who, goal=goal, share=share)
    if plain is not None:
        benchmark.extra_info["plain"] = sorted(plain)
    if beside is not None:
        benchmark.extra_info["beside"] = sorted(beside)


def figures(benchmarks: Iterable[Any]) -> list[Figure]:
    """Return the ratios of all that was recorded, in its order."""
    done = [b for b in benchmarks if "row" in b.extra_info and b.stats.data]
    times = {(b.extra_info["row"], b.extra_info["who"]): sorted(b.stats.data) for b in done}
    found = []
    for b in done:
        info = b.extra_info
        plain, row, who = info.get("plain"), info["row"], info["who"]
        own = plain or times.get((row, OURS))
        if who == OURS or (own is None and "beside" not in info):
            continue
        their = [info["share"] * seconds for seconds in times[row, who]]
        if "beside" in info:
            own, their = their, info["beside"]
        low, middle, high = (_quantile(their, q) / _quantile(own, 1 - q) for q in (0.25, 0.5, 0.75))
        found.append(Figure(row, who, middle, low, high, info["goal"], plain is not None))
    return found


def _quantile(ordered: list[float], q: float) -> float:
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def machine_kind() -> str:
    """Name the kind of machine: processor, number of cores, instruction set."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    fields = dict(re.findall(r"^(model name|model|cpu family)\s*:\s*(.*)$", text, re.MULTILINE))
    cores = len(re.findall(r"^processor\s*:", text, re.MULTILINE)) or 1
    words = [
        fields.get("model name", platform.processor() or platform.machine()),
        *(fields[name] for name in ("cpu family", "model") if name in fields),
        f"{cores}-cores",
        isa.available()[-1],
    ]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def baseline_file(kind: str) -> Path:
    """Return where ratios of a kind of machine are stored."""
    return BASELINES / f"{kind}.json"


def load_baseline(path: Path) -> dict[tuple[str, str], Figure]:
    """Return stored ratios by row and peer; none without a file."""
    if not path.exists():
        return {}
    stored = [Figure(**entry) for entry in json.loads(path.read_text())["ratios"]]
    return {(figure.row, figure.who): figure for figure in stored}


def save_baseline(path: Path, measured: list[Figure]) -> None:
    """Store ratios; those of benchmarks that were not run stay."""
    kept = load_baseline(path) | {(figure.row, figure.who): figure for figure in measured}
    path.parent.mkdir(exist_ok=True)
    entries = [asdict(kept[key]) for key in sorted(kept)]
    path.write_text(json.dumps({"ratios": entries}, indent=1) + "\n")


def table(measured: list[Figure], before: dict[tuple[str, str], Figure]) -> list[str]:
    """Return the lines of the table: peers first, then options."""
    lines = []
    for at_most, title in (
        (False, "times as long as confsim"),
        (True, "times as long as without the option"),
    ):
        chosen = [figure for figure in measured if figure.at_most == at_most]
        if not chosen:
            continue
        width = max(len(figure.row) for figure in chosen)
        lines += ["", f"{title + ' (quartiles)':{width + 20}s}  ratio               goal"]
        for figure in chosen:
            earlier = before.get((figure.row, figure.who))
            goal = "" if figure.goal is None else f"{'<' if at_most else '>'}= {figure.goal:g}"
            words = [
                f"{figure.row:{width}s}  {figure.who:18s} {figure.ratio:7.2f} "
                f"({figure.low:.2f} to {figure.high:.2f})".ljust(width + 46),
                f"{goal:>8s} {figure.verdict:7s}",
                figure.moved(earlier) if earlier else "",
            ]
            lines.append(" ".join(words).rstrip())
    return lines


def missing_peers(reasons: Iterable[str]) -> list[str]:
    """Return the modules that skipped benchmarks could not import."""
    found = {re.search(r"could not import '([\w.]+)'", reason) for reason in reasons}
    return sorted({match[1].partition(".")[0] for match in found if match})
