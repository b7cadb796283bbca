"""``confsim.audit``: a user's own model, from any framework, as a run directory like any other.

What is given is read (:mod:`~confsim.auditing.reading`), checked
(:mod:`~confsim.auditing.outputs`), put behind the seam that the pipelines use
(:mod:`~confsim.auditing.experiment`, one trial a model) and run like them. Nothing is trained here;
what is missing disables, by name, the analyses that need it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import warn

from numpy.typing import ArrayLike

from confsim._errors import ConfsimWarning
from confsim._kernels import resolve_threads
from confsim._suggest import explain_keywords
from confsim.auditing.columns import COLUMNS, SYNONYMS
from confsim.auditing.experiment import DESIGNS, AuditExperiment
from confsim.auditing.frames import from_columns
from confsim.auditing.outputs import Outputs
from confsim.auditing.reading import Data, read
from confsim.given_files import naming
from confsim.scores import Zeros

if TYPE_CHECKING:
    from confsim.runner import Outcome
    from confsim.store import Run

__all__ = ["COLUMNS", "DESIGNS", "audit", "run_audit"]


@explain_keywords(SYNONYMS)
def audit(
    data: Data = None,
    *,
    is_member: ArrayLike | None = None,
    label: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    probabilities: ArrayLike | None = None,
    confidence: ArrayLike | None = None,
    log_odds_true: ArrayLike | None = None,
    loss: ArrayLike | None = None,
    statistic: ArrayLike | None = None,
    predicted: ArrayLike | None = None,
    features: ArrayLike | None = None,
    distance: ArrayLike | None = None,
    id: ArrayLike | None = None,  # noqa: A002 - the name of the column
    duplicate_group: ArrayLike | None = None,
    group: ArrayLike | None = None,
    holdout_label: ArrayLike | None = None,
    holdout_logits: ArrayLike | None = None,
    holdout_probabilities: ArrayLike | None = None,
    holdout_log_odds_true: ArrayLike | None = None,
    design: str = "unknown",
    percent: float = 5.0,
    same_class: bool = False,
    votes: int | None = None,
    smoothing: float | None = None,
    seed: int = 0,
    unpack_limit: float | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    n_threads: int | None = None,
) -> "Run":
    """Make a run directory from the outputs of models that were trained elsewhere.

    Shapes are (examples, ...) for one model and (models, examples, ...) for several; ``label``,
    ``id``, ``duplicate_group``, ``group`` and ``holdout_label`` are always (examples,).
    ``is_member`` and one score are needed; what else is missing disables, by name, the analyses
    that need it.

    Parameters
    ----------
    data : path, mapping or DataFrame, optional
        An ``.npz``, Parquet, Feather or CSV file with named columns, a folder of ``.npy`` files, a
        folder in a layout of published LiRA code, a mapping of arrays, or a DataFrame. Instead, or
        in addition, columns are given as keywords.
    is_member : array_like of bool or 0/1, ([models,] examples)
        Whether the example was trained on.
    label : array_like of int or str, (examples,)
        True classes: numbers from 0, or names, which are numbered in alphabetical order.
    logits, probabilities : array_like, ([models,] examples, classes)
        Probabilities add up to 1; rounded ones are divided by their sum. A binary model's may be
        ([models,] examples): that of class 1.
    confidence : array_like, ([models,] examples)
        Largest probability, in [0, 1].
    log_odds_true : array_like, ([models,] examples) or (models, examples, views)
        ``log p - log(1 - p)`` of the true class's probability, in nats.
    loss : array_like, ([models,] examples)
        Cross-entropy of the true class, ``-log p``, in nats.
    statistic : array_like, ([models,] examples)
        Any other score that is higher for members, such as minus a squared error.
    predicted : array_like of int or str, ([models,] examples)
        Predicted classes, where logits and probabilities are not known.
    features : array_like, ([models,] examples, d)
        What similarity is measured by, by angle.
    distance : array_like, ([models,] examples)
        To the nearest training example other than itself, instead of features.
    id : array_like of int or str, (examples,)
        Numbers or names of the examples, each once.
    duplicate_group : array_like of int or str, (examples,)
        Examples of one group are duplicates; -1, NaN or "" belong to none.
    group : array_like of int or str, (examples,)
        Groups such as sites or sexes that attacks and similarity are told apart by; NaN or "" for
        none.
    holdout_label, holdout_logits, holdout_probabilities, holdout_log_odds_true : array_like
        The same of examples that no model was trained on; log-odds instead of the others.
    design : {"unknown", "independent", "balanced"}
        How the models' training sets were drawn. ``"independent"``: each example's membership in
        each model by a separate draw. ``"balanced"``: models 2k and 2k + 1 are complements.
        ``"unknown"``: shadow models are trimmed so that counts cannot tell members from others.
    percent : float
        Size of either extreme, in percent of the examples, in (0, 50].
    same_class : bool
        Whether only training examples of the same class count as neighbours.
    votes : int, optional
        Probabilities are shares of so many votes: a forest's trees, a classifier's neighbours. They
        are smoothed, so that none is 0. Without it, zeros become half the smallest other one.
    smoothing : float, optional
        Votes added to each class, with ``votes``; default: 0.5 (Krichevsky & Trofimov 1981).
    seed : int
        Of whatever analyses draw at random.
    unpack_limit : float, optional
        GiB that a file may unpack to; more looks like a decompression bomb. Default: 1, or 100
        times the size of the file where that is more.
    out : path, optional
        Run directory; default: ``runs/confsim-audit-<hash>``.
    overwrite : bool
        Remove a run that is there first.
    n_threads : int, optional

    Returns
    -------
    Run

    Raises
    ------
    ValueError, TypeError
        If something is wrong with the data: the message names the file or the column, and the row.
        Nothing has been written then.
    KeyboardInterrupt
        If a signal ended it; the same call goes on from there.

    Warns
    -----
    ConfsimWarning
        If the numbers had to be changed: probabilities of exactly 0, sums that miss 1. The same
        words are in the run's notes.

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
    ['attack_p', 'confidence', 'correctness', 'entropy', 'loss', 'modified_entropy']
    """
    from confsim.runner.command import whole_run

    columns = {
        "is_member": is_member,
        "label": label,
        "logits": logits,
        "probabilities": probabilities,
        "confidence": confidence,
        "log_odds_true": log_odds_true,
        "loss": loss,
        "statistic": statistic,
        "predicted": predicted,
        "features": features,
        "distance": distance,
        "id": id,
        "duplicate_group": duplicate_group,
        "group": group,
        "holdout_label": holdout_label,
        "holdout_logits": holdout_logits,
        "holdout_probabilities": holdout_probabilities,
        "holdout_log_odds_true": holdout_log_odds_true,
    }
    outcome = run_audit(
        data,
        columns,
        design=design,
        percent=percent,
        same_class=same_class,
        zeros=Zeros(votes, smoothing),
        seed=seed,
        unpack_limit=unpack_limit,
        out=out,
        overwrite=overwrite,
        n_threads=n_threads,
    )
    return whole_run(outcome)


def run_audit(
    data: Data,
    columns: Mapping[str, Any],
    *,
    zeros: Zeros,
    design: str,
    percent: float,
    same_class: bool,
    seed: int,
    unpack_limit: float | None,
    out: str | os.PathLike[str] | None,
    overwrite: bool,
    n_threads: int | None,
    space: Path | None = None,
) -> "Outcome":
    """Do what :func:`audit` does, and return how it ended.

    Parameters
    ----------
    data : path, mapping or DataFrame, optional
    columns : mapping of str to array_like or None
        Further columns, by name; they come before those of ``data``.
    zeros : Zeros
        How probabilities of exactly 0 are treated.
    space : path, optional
        File of a fixed space that will be used with the run: checked, too.
    """
    from confsim.runner.inline import run_inline
    from confsim.store import check_place

    threads = resolve_threads(n_threads)
    check_place(out)  # before data are read
    given = read(data, unpack_limit)
    own = from_columns(columns)
    if "logits" in own.columns or "probabilities" in own.columns:
        given.classes = own.classes  # a file's names of classes say nothing of other columns
    with naming("" if own.columns else given.source):
        given.columns |= own.columns
        outputs = Outputs.of(given, threads, zeros)
        experiment = AuditExperiment.of(
            outputs,
            design=design,
            percent=percent,
            same_class=same_class,
            seed=seed,
            model_names=given.models,
        )
    if space is not None:
        outputs.check_space(space)
    for note in zeros.notes:
        warn(note, ConfsimWarning, stacklevel=4)
    return run_inline(
        experiment, trials=experiment.models, out=out, overwrite=overwrite, threads=threads
    )
