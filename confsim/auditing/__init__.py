"""``confsim.audit``: a user's own model, from any framework, as a run directory like any other.

What is given is read (:mod:`~confsim.auditing.reading`), checked
(:mod:`~confsim.auditing.outputs`), put behind the seam that the pipelines use
(:mod:`~confsim.auditing.experiment`, one trial a model) and run like them. Nothing is trained here;
what is missing disables, by name, the analyses that need it.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from confsim._kernels import resolve_threads
from confsim.auditing.columns import COLUMNS
from confsim.auditing.experiment import DESIGNS, AuditExperiment
from confsim.auditing.outputs import Outputs
from confsim.auditing.reading import read

if TYPE_CHECKING:
    from confsim.store import Run

__all__ = ["COLUMNS", "DESIGNS", "audit"]


def audit(
    data: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    design: str = "unknown",
    percent: float = 5.0,
    same_class: bool = False,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    n_threads: int | None = None,
    **columns: Any,
) -> "Run":
    """Make a run directory from the outputs of models that were trained elsewhere.

    Parameters
    ----------
    data : path or mapping, optional
        An ``.npz``, Parquet or CSV file with named columns, a folder of ``.npy`` files, a folder in
        the layout of published LiRA code, or a mapping of arrays. Instead, or in addition, columns
        are given as keywords.
    design : {"unknown", "independent", "balanced"}
        How the models' training sets were drawn. ``"independent"``: each example's membership in
        each model by a separate draw. ``"balanced"``: models 2k and 2k + 1 are complements.
        ``"unknown"``: shadow models are trimmed so that counts cannot tell members from others.
    percent : float
        Size of either extreme, in percent of the examples, in (0, 50].
    same_class : bool
        Whether only training examples of the same class count as neighbours.
    seed : int
        Of whatever analyses draw at random.
    out : path, optional
        Run directory; default: ``runs/confsim-audit-<hash>``.
    overwrite : bool
        Remove a run that is there first.
    n_threads : int, optional
    **columns
        ``is_member`` is needed; ``label``, ``logits``, ``probabilities``, ``confidence``,
        ``log_odds_true``, ``predicted``, ``features``, ``distance``, ``id``, ``duplicate_group``
        and, of examples that no model was trained on, ``holdout_label`` with ``holdout_logits`` or
        ``holdout_probabilities``, or ``holdout_log_odds_true``. Shapes are (examples, ...) for one
        model and (models, examples, ...) for several; ``label``, ``id``, ``duplicate_group`` and
        ``holdout_label`` are always (examples,).

    Returns
    -------
    Run

    Raises
    ------
    ValueError, TypeError
        If something is wrong with the data: the message names the column, and the row.

    Warns
    -----
    ConfsimWarning
        If probabilities of exactly 0 had to be replaced by 1e-45.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> import confsim
    >>> from confsim.membership import membership_tables
    >>> rng = np.random.default_rng(0)
    >>> member = rng.random(400) < 0.5
    >>> label = rng.integers(0, 3, 400)
    >>> logits = rng.normal(size=(400, 3)) + (1 + member)[:, None] * np.eye(3)[label]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = confsim.audit(is_member=member, label=label, logits=logits, out=folder + "/run")
    ...     attacks = membership_tables(run)["attacks"]
    >>> sorted(attacks[attacks["target"] == "0"]["attack"])
    ['confidence', 'correctness', 'entropy', 'loss', 'modified_entropy']
    """
    from confsim.runner.command import whole_run
    from confsim.runner.inline import run_inline

    threads = resolve_threads(n_threads)
    given = read(data) | {name: np.asarray(value) for name, value in columns.items()}
    outputs = Outputs.of(given, threads)
    experiment = AuditExperiment.of(
        outputs, design=design, percent=percent, same_class=same_class, seed=seed
    )
    outcome = run_inline(
        experiment, trials=experiment.models, out=out, overwrite=overwrite, threads=threads
    )
    return whole_run(outcome)
