"""Packing the finished trials of a run, and mending packs, beside commands that work in it.

Who runs trials is not in the way: only finished ones are packed, each stays readable at any moment,
and one command packs at a time, by a claim of its own. Who removes the run is: so this command has
an owner's file like all that work in a run directory.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from confsim._errors import ConfsimError
from confsim.runner.claims import STALE_AFTER, Claims, Life
from confsim.runner.overwriting import wait_for_removal
from confsim.store import Run, packing, packs
from confsim.store.packing import Packed
from confsim.store.writer import set_aside_pack

#: Seconds between two looks at a command that packs, or may be dead.
_LOOK_EVERY = 0.2


def pack(run: Run) -> Packed:
    """Pack every finished trial of a run that has a directory of its own.

    Raises
    ------
    ConfsimError
        If another command packs at this moment.
    CannotWrite
        If the directory is full or cannot be written. No trial is lost.
    """
    with _packing(run.path) as claims:

        def go_on() -> None:
            claims.heartbeat()

        return packing.pack(run.path, run.identity_hash, limit=run.limit, go_on=go_on)


def mend(run: Run, names: list[str]) -> list[Path]:
    """Take damaged packs apart: whole trials get directories of their own, the rest is set aside.

    Parameters
    ----------
    run : Run
    names : list of str
        Of the packs.

    Returns
    -------
    list of Path
        Where the packs are now.

    Raises
    ------
    ConfsimError
        If a command may be at work on a whole trial of a pack. The pack stays.
    """
    with _packing(run.path) as claims:
        moved = []
        by_name = {pack.path.name: pack for pack in packs.Packs(run.path).packs}
        for name in names:
            if name in by_name:
                identity, owner = run.identity_hash, claims.owner.name
                left = packing.unpack(run.path, by_name[name], identity, owner, claims.take)
                if left:
                    raise ConfsimError(
                        f"pack {name} stays: trial {left[0]} is claimed by "
                        f"{claims.holder(left[0]) or 'a command that is gone'}; try again"
                    )
            moved.append(set_aside_pack(run.path, name))
        return moved


@contextlib.contextmanager
def _packing(path: Path) -> Iterator[Claims]:
    """Be the one command that packs."""
    claims = Claims(path)
    claims.open()
    try:
        wait_for_removal(path, claims, lambda text: None)
        _take(path, claims)
        try:
            claims.sweep()  # of claims that dead commands left
            yield claims
        finally:
            claims.release_packing()
    finally:
        claims.sweep()
        claims.close()


def _take(path: Path, claims: Claims) -> None:
    """Claim the packing; watch whoever has it and may be dead."""
    deadline = time.monotonic() + 2 * STALE_AFTER
    while (holder := claims.take_packing()) is not None:
        if claims.life(holder) is Life.ALIVE or time.monotonic() > deadline:
            raise ConfsimError(f"{claims.read(holder) or holder} packs trials of {path} already")
        claims.heartbeat()
        time.sleep(_LOOK_EVERY)
