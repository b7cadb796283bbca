"""confsim: how a model's confidence relates to similarity with its training set, and to membership.

Public names are loaded when they are first used (PEP 562), so that ``import confsim`` costs a
fraction of a second and worker processes import only what they need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from confsim._version import __version__

_HOME_OF = {
    "ConfsimError": "confsim._errors",
    "ConfsimWarning": "confsim._errors",
    "Lattice": "confsim.linear.lattice",
    "LinearBinaryClassifier": "confsim.linear.classifier",
    "Nearest": "confsim.neighbors",
    "Run": "confsim.store",
    "audit": "confsim.auditing",
    "boundary_confidence": "confsim.confidence",
    "extremes": "confsim.confidence",
    "nearest_training": "confsim.neighbors",
    "open_run": "confsim.store",
    "show_config": "confsim._config",
    "sigmoid_confidence": "confsim.confidence",
    "softmax_confidence": "confsim.confidence",
}
_SUBPACKAGES = ("deep", "linear", "membership", "plot", "shadow")

# Literal, because type checkers read it.
__all__ = [
    "ConfsimError",
    "ConfsimWarning",
    "Lattice",
    "LinearBinaryClassifier",
    "Nearest",
    "Run",
    "__version__",
    "audit",
    "boundary_confidence",
    "deep",
    "extremes",
    "linear",
    "membership",
    "nearest_training",
    "open_run",
    "plot",
    "shadow",
    "show_config",
    "sigmoid_confidence",
    "softmax_confidence",
]

if TYPE_CHECKING:
    from confsim import deep, linear, membership, plot, shadow
    from confsim._config import show_config
    from confsim._errors import ConfsimError, ConfsimWarning
    from confsim.auditing import audit
    from confsim.confidence import (
        boundary_confidence,
        extremes,
        sigmoid_confidence,
        softmax_confidence,
    )
    from confsim.linear.classifier import LinearBinaryClassifier
    from confsim.linear.lattice import Lattice
    from confsim.neighbors import Nearest, nearest_training
    from confsim.store import Run, open_run


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        from confsim._suggest import explain_all

        found = {name: getattr(import_module(_HOME_OF[name]), name)}
        explain_all(__name__, found, (name,))
        value = found[name]
    elif name in _SUBPACKAGES:
        value = import_module(f"confsim.{name}")
    else:
        raise AttributeError(f"module 'confsim' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
