"""The only door to a deep-learning framework: which one, how it is configured, on what device.

:func:`prepare` chooses and configures one for this process; :func:`open_engine` then returns an
engine of :mod:`confsim.deep.engines` for it. Nothing here imports a framework before that.
"""

import importlib.util
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from confsim._devices import gpus as gpus
from confsim._errors import ConfsimError, how_to_install
from confsim._interpreter import python
from confsim.deep.engines import Epoch, Settings, Standardisation, open_engine
from confsim.deep.models import NAMED, Architecture

__all__ = [
    "BACKENDS",
    "Settings",
    "Standardisation",
    "check_installed",
    "check_trains",
    "chosen_backend",
    "gpus",
    "open_engine",
    "prepare",
    "run_apart",
    "try_training",
    "versions",
]

BACKENDS = ("tensorflow", "jax", "torch")
_EXTRAS = {"tensorflow": "deep", "jax": "jax", "torch": "torch"}


def chosen_backend(backend: str | None) -> str:
    """Return the backend: what is asked for, else ``KERAS_BACKEND``, else TensorFlow."""
    name = backend or os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in BACKENDS:
        origin = "backend" if backend else "KERAS_BACKEND"
        raise ValueError(f"{origin} must be one of {', '.join(BACKENDS)}, not {name!r}")
    return name


def check_installed(backend: str) -> None:
    """Raise ``ValueError`` that says what to install; imports nothing."""
    for package in (backend, "keras"):
        if importlib.util.find_spec(package) is None:
            there = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
            other = there and package != "keras"
            raise ValueError(
                f"backend {backend} needs {package}, which is not installed: "
                + how_to_install(_EXTRAS[backend])
                + (f"; or --backend {there[0]}, which is" if other else "")
            )


_APART = """\
import pickle, sys
sys.path[:], parent, backend, threads, device, given = pickle.load(sys.stdin.buffer)
from confsim._stopping import die_with
die_with(parent)
from confsim.deep.backend import prepare
prepare(backend, threads, device)
"""


def run_apart(
    code: str, given: object, backend: str, threads: int, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run ``code`` where a framework is configured: in a process that ends with this one.

    Parameters
    ----------
    code : str
        Python that finds ``given`` under that name.
    given : object
        Can be pickled.
    backend : str
    threads : int
    **options
        Of :func:`subprocess.run`.
    """
    device = next(iter(gpus()), None)
    order = pickle.dumps((sys.path, os.getpid(), backend, threads, device, given))
    return subprocess.run(python(_APART + code), input=order, **options)


_TRY = """\
from confsim.deep.backend import try_training
try:
    try_training(given)
except Exception as error:
    what = " ".join(str(error).split())
    own = type(error).__name__ == "ConfsimError"
    failed = f"model: {given.architecture.model} failed: {type(error).__name__}: {what}"
    sys.exit(what if own else failed)
"""


def check_trains(backend: str, settings: Settings) -> None:
    """Raise ``ValueError`` in one line unless a model can be built and trained as ``settings`` say.

    For users' models and for reduced precision, which not every device and framework computes in. A
    process of its own tries it, before anything of a run is written; Keras stays out of here.
    """
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    done = run_apart(_TRY, settings, backend, 1, **streams)
    if done.returncode:
        # Frameworks have their own words there, before and after.
        lines = done.stderr.decode(errors="replace").splitlines()
        known = [line for line in lines if line.startswith(("model: ", "precision "))]
        model = settings.architecture.model
        raise ValueError(known[-1] if known else f"model: {model} ended the process that tried it")


def try_training(settings: Settings) -> None:
    """Build a user's model and train it for one step on random images.

    Of a named model, only whether the device computes in its precision is tried, on a small one.
    """
    architecture = settings.architecture
    named = architecture.model in NAMED
    if named:
        small = Architecture("wide", (8, 8, 1), 2, precision=architecture.precision)
        settings = Settings(small, settings.optimisation)
    shape, classes = settings.architecture.input_shape, settings.architecture.classes
    images = np.random.default_rng(0).integers(0, 256, (8, *shape)).astype(np.float32)
    labels = np.arange(8) % classes
    settings = replace(settings, augmented=False, cutout=0)
    epoch = Epoch(
        np.arange(8)[None].astype(np.int32),
        np.ones((1, 8), np.float32),
        np.full(1, 1e-3, np.float32),
    )
    try:
        engine = open_engine(settings, images, labels)
        engine.train(epoch, Standardisation.of(images), 0, 1)
        engine.forward(np.arange(8), Standardisation.of(images))
    except Exception as error:
        if not named:
            raise
        what = " ".join(str(error).split())
        raise ConfsimError(
            f"precision {architecture.precision} cannot be computed here: "
            f"{type(error).__name__}: {what}"
        ) from error


def versions(backend: str) -> str:
    """Return the versions that decide what training computes; imports nothing."""
    return ", ".join(f"{name} {_version(name)}" for name in ("keras", backend))


def _version(package: str) -> str:
    for name in (package, f"{package}-cpu", f"{package}_cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"


def prepare(backend: str, threads: int, device: str | None) -> None:
    """Configure this process for a backend; before anything imports Keras.

    Parameters
    ----------
    backend : str
        One of :data:`BACKENDS`.
    threads : int
        Threads that train on a CPU.
    device : str, optional
        The CUDA device to use; ``None``: the CPU.
    """
    check_installed(backend)
    if "keras" in sys.modules:
        found = sys.modules["keras"].backend.backend()
        if found != backend:
            raise ConfsimError(f"Keras already uses {found} in this process, not {backend}")
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1" if device is None else device
    {"tensorflow": _prepare_tensorflow, "jax": _prepare_jax, "torch": _prepare_torch}[backend](
        threads, device
    )


def _prepare_tensorflow(threads: int, device: str | None) -> None:
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:
        if tf.config.threading.get_intra_op_parallelism_threads() != threads:
            raise ConfsimError(
                "TensorFlow already runs in this process with other threads"
            ) from error
    tf.config.experimental.enable_op_determinism()


def _prepare_jax(threads: int, device: str | None) -> None:
    if device is None:
        os.environ["JAX_PLATFORMS"] = "cpu"
        flags = os.environ.get("XLA_FLAGS", "")
        if threads == 1 and "multi_thread_eigen" not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    else:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        flags = os.environ.get("XLA_FLAGS", "")
        if "deterministic_ops" not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()


def _prepare_torch(threads: int, device: str | None) -> None:
    import torch

    torch.set_num_threads(threads)
    if device is not None:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
