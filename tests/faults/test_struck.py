"""Commands struck at any call that changes a file: killed there, or out of room from there on.

Whatever the call, the same command then ends with the bytes of one that nothing disturbed, and
nothing is left behind. Linear runs and packs, which have worker processes and readers beside them,
are struck in ``test_faults.py`` and ``test_packs.py``.

``CONFSIM_LONG_TESTS=1`` strikes at every call instead of a few.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from report_runs import FakeDeep, linear, publish
from struck import KILLED, Forge, forge, moments
from toy_experiments import contents, leftovers

LONG = os.environ.get("CONFSIM_LONG_TESTS") == "1"

CODE = """
from confsim import ConfsimError, exports, membership, open_run
from confsim.cli import audit, report
from confsim.report import build, canvas
import confsim.auditing, pandas, pyarrow.parquet, scipy.stats, matplotlib.backends.backend_agg

build.FIGURES = build.FIGURES[1:2]

def tried(action):
    def command(words):
        try:
            action(*words)
        except ConfsimError as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    return command

commands = {
    "report": report.main,
    "audit": lambda words: audit.main([*words, "--workers=1"]),
    "tables": tried(lambda run: membership.membership_tables(open_run(run))),
    "csv": tried(lambda run: exports.write_csv(open_run(run))),
    "zip": tried(lambda run: exports.export(open_run(run), csv=False, archive=True, trials=1)),
}
"""

#: What TensorFlow says when Keras imports it.
FRAMEWORK = re.compile(r"absl::InitializeLog|oneDNN custom operations")

#: One step a call, and a checkpoint after each.
DEEP = """
import os
os.environ["KERAS_BACKEND"] = "jax"
import jax
import keras
from confsim import ConfsimError
from confsim.deep import training
from confsim.deep.engines import jax as engine
from confsim.deep.experiment import DeepExperiment
from confsim.runner.inline import run_inline

training.CALL_SECONDS = 0.0
training._CHECKPOINT_PART = 0

def deep(words):
    data, out = words
    experiment = DeepExperiment(
        dataset=f"npz:{data}", backend="jax", model="softmax", batch_size=16, epochs=2
    )
    try:
        return run_inline(experiment, trials=2, out=out).exit_code
    except ConfsimError as error:
        print(error, file=sys.stderr)
        return 1

commands = {"deep": deep}
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with forge(tmp_path_factory.mktemp("forge"), CODE) as made:
        yield made


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    pytest.importorskip("jax", reason="JAX is not installed")
    with forge(tmp_path_factory.mktemp("training"), DEEP) as made:
        yield made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What commands are given: runs, the outputs of two models, some images."""
    folder = tmp_path_factory.mktemp("made")
    publish(folder / "linear", linear(queries=500), 3)
    publish(folder / "deep", FakeDeep(examples=60), 4)
    rng = np.random.default_rng(0)
    np.savez(
        folder / "outputs.npz",
        is_member=np.arange(60) % 2 == np.arange(2)[:, None],
        label=np.arange(60) % 3,
        logits=rng.normal(size=(2, 60, 3)),
        features=rng.normal(size=(60, 4)),
    )
    np.savez(folder / "images.npz", x=rng.random((80, 6), np.float32), y=np.arange(80) % 2)
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but records of trials and logs, which hold times."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "trial.json" and path.parent.name != "log"
    }


def strike_all(
    forge: Forge,
    folder: Path,
    fate: str,
    call: Callable[[Path], tuple[object, ...]],
    begin: Callable[[Path], object],
    found: Callable[[Path], dict[str, bytes]],
    sample: int = 3,
) -> None:
    """Strike a command at each call, in a folder of its own that ``begin`` fills, and repeat it."""
    expected = folder / "expected"
    begin(expected)
    code, err, calls = forge.strike(*call(expected), below=expected)
    assert code == 0, err
    assert calls > 5
    for at in moments(calls, sample, every=LONG):
        place = folder / str(at)
        begin(place)
        code, err, _ = forge.strike(*call(place), below=place, at=at, fate=fate)
        assert code in ((0, KILLED) if fate == "kill" else (0, 1)), err
        if fate == "full":  # checkpoints stay for the next command
            assert [name for name in hidden(place) if not name.endswith(".scratch")] == []
        if code == 1:
            said = [line for line in err.splitlines() if not FRAMEWORK.search(line)]
            assert len(said) == 1, err
            assert "No space left on device" in said[0]
        code, err, _ = forge.strike(*call(place), below=place)
        assert code == 0, f"after call {at}: {err}"
        assert found(place) == found(expected)
        assert not hidden(place)
        shutil.rmtree(place)


def hidden(place: Path) -> list[str]:
    """What no command may leave behind, in a run and beside it."""
    return sorted({*leftovers(place), *(p.name for p in place.rglob(".*"))})


@pytest.mark.parametrize("fate", ["kill", "full"])
@pytest.mark.parametrize("name", ["report", "tables", "csv", "zip"])
def test_derived_files(commands, made, tmp_path, name, fate):
    source = made / ("linear" if name in ("csv", "zip") else "deep")
    strike_all(
        commands,
        tmp_path,
        fate,
        lambda place: (name, place / "run"),
        lambda place: shutil.copytree(source, place / "run"),
        everything,
    )


@pytest.mark.parametrize("fate", ["kill", "full"])
def test_audits(commands, made, tmp_path, fate):
    strike_all(
        commands,
        tmp_path,
        fate,
        lambda place: ("audit", made / "outputs.npz", f"--out={place / 'run'}"),
        lambda place: place.mkdir(),
        lambda place: contents(place / "run"),
    )


@pytest.mark.parametrize("fate", ["kill", "full"])
def test_training_inside_an_epoch(training, made, tmp_path, fate):
    strike_all(
        training,
        tmp_path,
        fate,
        lambda place: ("deep", made / "images.npz", place / "run"),
        lambda place: place.mkdir(),
        lambda place: contents(place / "run"),
        sample=2,
    )
