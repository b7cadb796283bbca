"""Pieces of a run's membership tables, made by shards: a file each, whole and hashed.

A piece is what a long step of :mod:`confsim.membership.tables` finds: rows, and a few arrays with
an entry for each example. Whoever makes the tables takes the pieces that are there and were made
from the same files with the same options, and makes the rest. They are derived files like others,
and go when the tables are there.
"""

import base64
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from confsim._errors import ConfsimError
from confsim.store import artifacts, files

_NAME = "piece-*.json"

#: Bytes of a piece: thousands of targets have rows in it.
_LIMIT = 1 << 30


class Pieces:
    """The pieces that were made from one state of a run.

    Parameters
    ----------
    folder : Path or None
        Where they are; ``None``: nowhere, everything is made.
    made_from : str
        The hash of what they are made from.
    """

    def __init__(self, folder: Path | None = None, made_from: str = "") -> None:
        self._folder, self._made_from = folder, made_from

    def find(self, name: str) -> Any:
        """Return a piece, ``None`` where there is none, or it is another's, or damaged."""
        if self._folder is None:
            return None
        try:
            files.check_folder(self._folder)
            content = files.read_bounded(self._path(name), _LIMIT)
            found = files.unseal(content, name)
            if found["made_from"] != self._made_from or found["piece"] != name:
                return None
            return json.loads(found["value"], object_hook=_decoded)
        except (OSError, ConfsimError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def made(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return a piece that is there, or compute it."""
        found = self.find(name)
        return compute() if found is None else found

    def publish(self, name: str, value: Any) -> None:
        """Put a piece in its place; what was there before goes."""
        assert self._folder is not None
        # As text of its own: there are infinite thresholds, and figures that are unknown.
        text = json.dumps(value, default=_encoded)
        record = {"piece": name, "made_from": self._made_from, "value": text}
        artifacts.write(self._path(name), files.seal(record))

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / f"piece-{name}.json"


def _encoded(value: Any) -> Any:
    """Return in JSON's terms a number of NumPy's, or an array."""
    if isinstance(value, np.generic):
        return value.item()
    text = base64.b64encode(value.tobytes()).decode()
    return {"array": text, "dtype": value.dtype.str, "shape": value.shape}


def _decoded(value: dict[str, Any]) -> Any:
    if value.keys() != {"array", "dtype", "shape"}:
        return value
    content = base64.b64decode(value["array"], validate=True)
    return np.frombuffer(content, np.dtype(value["dtype"])).reshape(value["shape"])


def remove(folder: Path) -> None:
    """Remove all pieces of a run: its tables are there."""
    for path in folder.glob(_NAME):
        with contextlib.suppress(OSError):
            path.unlink()
