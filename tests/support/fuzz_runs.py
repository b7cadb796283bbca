"""Feeds damaged and made-up run directories to whatever reads runs, as ``fuzz_data.py`` does.

``python tests/fuzz_runs.py SECONDS [SEED]`` runs for a while. One file of a run is replaced; an
attacker records its hash, a damaged disk does not. Then ``confsim-status`` and ``confsim-report``
end by themselves, in words and with an exit code of theirs, and nothing is read as something else
than was written.
"""

import contextlib
import functools
import io
import json
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import fuzz_data
from report_runs import FakeDeep, linear, publish
from toy_experiments import rewrite

from confsim import ConfsimError, open_run, shadow
from confsim.cli import report, status
from confsim.report import build
from confsim.store import files, layout, packing
from confsim.store.artifacts import entry_of_file

TRIAL = "trials/000001"

TASK = """
import numpy as np

def population():
    return {"label": np.tile([0, 1], 20), "features": np.arange(80.0).reshape(40, 2)}

def train(members, seed, context):
    score = np.random.default_rng(seed).normal(size=40)
    return lambda rows: {"log_odds_true": score[rows]}
"""

KINDS = ("linear", "deep", "shadow", "linear-packed", "deep-packed")


@functools.lru_cache
def made():
    """Small runs of both pipelines, in a folder that lasts as long as the process."""
    folder = tempfile.TemporaryDirectory()
    publish(Path(folder.name) / "linear", linear(queries=200), 2)
    publish(Path(folder.name) / "deep", FakeDeep(examples=40), 4)
    task = Path(folder.name) / "task.py"
    task.write_text(TASK)
    shadow.run(task, trials=2, out=Path(folder.name) / "shadow", workers=1)
    for kind in ("linear", "deep"):
        packed = shutil.copytree(Path(folder.name) / kind, Path(folder.name) / f"{kind}-packed")
        packing.pack(packed, open_run(packed).identity_hash)
    return folder


def _run(kind, name, path, *, recorded=False):
    """Read a run one of whose files is the given one."""
    run = path.parent / "run"
    shutil.copytree(Path(made().name) / kind, run)
    path.replace(run / name)
    with contextlib.suppress(OSError, ConfsimError, ValueError):
        if recorded and name.startswith(TRIAL):
            record = files.read_sealed(run / TRIAL / "trial.json")
            entry = {Path(name).name: entry_of_file(run / name)}
            rewrite(run / TRIAL / "trial.json", files={**record["files"], **entry})
        elif recorded and name.startswith("packs"):
            folder = (run / name).parent
            record = files.read_sealed(folder / "pack.json")
            entry = {Path(name).name: entry_of_file(run / name)}
            for copy in ("pack.json", "pack.copy.json"):
                rewrite(folder / copy, files={**record["files"], **entry})
        elif recorded:
            record = files.read_sealed(run / layout.RUN_DATA)
            entry = {name: entry_of_file(run / name)}
            rewrite(run / layout.RUN_DATA, files={**record["files"], **entry})
    commands = [(status, ["--verify"])]
    if recorded or name.endswith(".json"):  # else the hash has told
        commands.append((report, ["--partial"]))
    for command, options in commands:
        said = io.StringIO()
        with (
            mock.patch.object(build, "FIGURES", ()),  # drawing takes long, and reads nothing
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(said),
        ):
            code = command.main([str(run), *options])
        words = said.getvalue()
        if code not in (0, 1, 2, 75) or "fault of confsim" in words or not words.isascii():
            raise fuzz_data.ReaderError(f"exit code {code}: {words[-500:]}")
    page = (run / "report.html").read_text() if (run / "report.html").exists() else ""
    if "<script>alert" in page or "</style><b>" in page:
        raise fuzz_data.ReaderError("the page has markup of the run in it")
    with fuzz_data.refusing(run):
        return _content(open_run(run))


def _content(run):
    """Return everything that a run holds."""
    found = {"manifest": run.manifest, "summary": run.summary().to_csv()}
    found["joint"] = {name: value.tobytes() for name, value in run.joint().items()}
    for name in ("extremes", "examples", "holdout"):
        if run.trial(run.trials[0]).has(f"{name}.parquet"):
            found[name] = run.table(name).to_csv()
    if run.has("population.parquet"):
        found["population"] = run.population().to_csv()
    for name, mapped in (("images", run.images), ("features", run.features)):
        if run.has(f"{name}.npy"):
            found[name] = mapped().tobytes()
    return found


def _each():
    """Yield the kind of each run, and the name and the bytes of each of its files."""
    for kind in KINDS:
        folder = Path(made().name) / kind
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and (not name.startswith("trials/") or name.startswith(TRIAL)):
                yield kind, name, path.read_bytes()


def seeds(rng):
    """Undamaged inputs: name, bytes, reader, and whether damage is always noticed."""
    whole = []
    for kind, name, content in _each():
        if name.startswith("log/"):
            continue
        reader = functools.partial(_run, kind, name)
        whole.append((Path(name).name, content, reader, True))
        if not name.endswith(".json") or "summary" in name:
            forged = functools.partial(_run, kind, name, recorded=True)
            whole.append((Path(name).name, content, forged, False))
    return whole


# -- Grammars --------------------------------------------------------------------------------------

_VALUES = [None, True, -1, 0, 1, 1.5, 10**30, 10**400, 1e308, "", "=1", "<script>alert(1)</script>"]
_VALUES += [
    "</style><b>",
    "\ud800",
    "a\0b\x1b[2J",
    "../../x",
    "x" * 20_000,
    [],
    [[]],
    {},
    {"a": [1]},
]
_NAMES = ["=1", "<script>alert(1)</script>", "\ud800", "a\nb", "../x", "x" * 20_000]


def _changed(rng, value):
    """Return JSON with one place in it replaced, removed or added."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = list(value)[rng.integers(0, len(value))]
        match rng.integers(0, 12):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, _NAMES[rng.integers(0, len(_NAMES))]: value[key]}
        return {**value, key: _changed(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = int(rng.integers(0, len(value)))
        return [*value[:at], _changed(rng, value[at]), *value[at + 1 :]]
    return _VALUES[rng.integers(0, len(_VALUES))]


def _made_json(kind, name, rng):
    content = (Path(made().name) / kind / name).read_bytes()
    if "summary" in name:
        return json.dumps(_changed(rng, json.loads(content))).encode()
    return files.seal(_changed(rng, files.unseal(content, name)))


def grammars():
    """Return forged JSON of every kind: the name, what makes it, and the reader."""
    return [
        (
            Path(name).name,
            functools.partial(_made_json, kind, name),
            functools.partial(_run, kind, name, recorded="summary" in name),
        )
        for kind, name, _ in _each()
        if name.endswith(".json") and "tables" not in name
    ]


if __name__ == "__main__":
    fuzz_data.main(__doc__, whole=seeds, grammars=grammars())
