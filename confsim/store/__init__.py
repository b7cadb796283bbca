"""The run directory: every file name, how a trial is published, and how a run is read.

This room owns the files and knows nothing else: no models, no processes, no figures. It rests on
one property of the file system, that a rename inside it is atomic. A trial is written into a
temporary directory and renamed into place when it is complete, so whoever looks sees a whole trial
or none.

- ``layout``: the names, the schema, identities, and what makes a trial count as damaged;
- ``formats``: Parquet, npz, npy and JSON whose bytes depend on their content alone;
- ``writer``: :class:`Store`, through which worker processes publish;
- ``reader``: :class:`Run`, which checks the hash of all it reads and returns pandas objects.

What survives what: a finished trial survives any crash of the process that made it. A loss of power
may damage what was written last; sizes are checked on resuming, and hashes on reading and by
``confsim-status --verify``, so damage is detected, not prevented.
"""

from confsim.store.layout import (
    MANIFEST,
    SCHEMA,
    CannotWrite,
    default_path,
    identity_hash,
    survey,
)
from confsim.store.reader import Run, Trial, check_run, open_run
from confsim.store.writer import Store, check_place, check_target, create

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "CannotWrite",
    "Run",
    "Store",
    "Trial",
    "check_place",
    "check_run",
    "check_target",
    "create",
    "default_path",
    "identity_hash",
    "open_run",
    "survey",
]
