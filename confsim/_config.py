"""What is installed and in use here: for bug reports, and for the provenance of a run."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from confsim._kernels import available_cpus, isa, isa_in_use, resolve_threads
from confsim._version import __version__

_PACKAGES = (
    "numpy",
    "scipy",
    "highspy",
    "scikit-learn",
    "pandas",
    "pyarrow",
    "keras",
    "tensorflow",
)


def show_config() -> None:
    """Print versions, threads and instruction sets, ready to paste into a bug report."""
    for name, value in config().items():
        print(f"{name:>16}  {value}", file=sys.stdout)


def config() -> dict[str, str]:
    """Return what :func:`show_config` prints."""
    forced = os.environ.get("CONFSIM_ISA")
    found = {
        "confsim": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": f"{available_cpus()} for this process, {os.cpu_count()} in all",
        "threads": f"{resolve_threads(None)} ({'OpenMP' if isa.has_openmp() else 'no OpenMP'})",
        "instruction set": isa_in_use() + (" (CONFSIM_ISA)" if forced else ""),
        "available": ", ".join(isa.available()),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
