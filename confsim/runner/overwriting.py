"""Removing a run in order to begin another in its place, unless somebody works in it.

A command that works in a directory has an owner file there from before its first claim; one that
removes the run has the claim of the whole directory. Each makes its own and then looks for the
other's, so that of two that meet one gives way.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confsim.runner.claims import STALE_AFTER, Claims, Life

#: Seconds between two looks at a command that is in the way.
_LOOK_EVERY = 0.2


def clear(
    path: Path, claims: Claims, create: Callable[..., Any], note: Callable[[str], None]
) -> None:
    """Have ``create(overwrite=True)`` replace the run in ``path``.

    Raises
    ------
    ValueError
        If a command works there or removes the run, or one elsewhere does, which may be alive.
    """
    claims.open()
    holder = claims.take_whole()
    if holder is not None:
        raise ValueError(f"--overwrite: {claims.read(holder) or holder} removes {path} already")
    try:
        _refuse_living(path, claims, note)
        create(overwrite=True)
    finally:
        claims.release_whole()


def _refuse_living(path: Path, claims: Claims, note: Callable[[str], None]) -> None:
    """Raise ``ValueError`` if a command works in ``path``; watch those of which one cannot know."""
    told = False
    while True:
        lives = {name: claims.life(name) for name in claims.others()}
        for name, life in lives.items():
            if life is Life.ALIVE:
                raise ValueError(f"--overwrite: {claims.read(name) or name} works in {path}")
        unknown = [name for name, life in lives.items() if life is Life.UNKNOWN]
        if not unknown:
            return
        if not told:
            told = True
            who = claims.read(unknown[0]) or unknown[0]
            note(f"waiting up to {STALE_AFTER:.0f} s to learn whether {who} still works in {path}")
        time.sleep(_LOOK_EVERY)


def wait_for_removal(path: Path, claims: Claims, note: Callable[[str], None]) -> bool:
    """Wait while another command removes the run in ``path``; return whether one did."""
    name = claims.whole()
    if name is None:
        return False
    note(f"waiting for {claims.read(name) or name}, which removes the run in {path}")
    while claims.whole() is not None:
        claims.heartbeat()
        time.sleep(_LOOK_EVERY)
    return True
