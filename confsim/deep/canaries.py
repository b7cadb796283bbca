"""Canaries: the few examples that a fair coin makes members, so that epsilon can be audited.

Everything else in the population is a member of every trial. Canaries are drawn from the data and
the run's seed alone, before any trial. Nothing here trains, and the data that are given stay as
they are: a copy with the canaries in it is returned.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from confsim.deep.datasets import Dataset
from confsim.experiment import Coded
from confsim.seeds import Purpose, stream

Rows = NDArray[np.int64]

KINDS = ("mislabelled", "blank", "given")


@dataclass(frozen=True)
class Canaries:
    """How canaries are made.

    Attributes
    ----------
    kind : {"mislabelled", "blank", "given"}
        ``mislabelled``: images of the population with a label drawn from the other classes; what a
        model can learn of such an image it learns by heart. ``blank``: images without content,
        added to the population, with labels drawn from all classes. They are equal to each other:
        with more of them than classes, those of one label are told apart by nothing, and bounds are
        weaker, not wrong. ``given``: images of the population as they are.
    count : int
        How many; for ``given``, as many as ``ids``.
    ids : tuple of int
        For ``given``: whose.
    """

    kind: str
    count: int
    ids: tuple[int, ...] = ()

    def identity(self) -> dict[str, object]:
        """Return what decides which they are, beside data and seed."""
        said: dict[str, object] = {"canary": self.kind, "canaries": self.count}
        if self.kind == "given":
            text = ",".join(map(str, self.ids))
            said["canary_ids_sha256"] = hashlib.sha256(text.encode()).hexdigest()
        return said

    def put_into(self, data: Dataset, population: Rows, seed: int) -> tuple[Dataset, Rows]:
        """Return the data with the canaries in them, and the canaries' rows, ascending.

        Parameters
        ----------
        data : Dataset
        population : ndarray of int64
            Rows of the data that may be trained on.
        seed : int

        Raises
        ------
        ValueError
            If the population has too few images without a duplicate, too few classes, or does not
            hold a given id.
        """
        if self.kind == "blank":
            return self._blank(data, seed)
        if self.kind == "given":
            return data, self._given(data, population)
        return self._mislabelled(data, population, seed)

    def _given(self, data: Dataset, population: Rows) -> Rows:
        ids = np.array(self.ids, dtype=np.int64)
        absent = ids[~np.isin(ids, data.ids[population])]
        if len(absent):
            where = "is in the holdout" if absent[0] in data.ids else "is no image of the data"
            raise ValueError(f"canary_ids: {absent[0]} {where}; canaries are of the population")
        return np.flatnonzero(np.isin(data.ids, ids))

    def _blank(self, data: Dataset, seed: int) -> tuple[Dataset, Rows]:
        labels = stream(seed, Purpose.CANARIES).integers(0, data.classes, self.count)
        first = len(data.labels)
        images = np.zeros((self.count, *data.image_shape), data.images.dtype)
        group = np.full(self.count, data.groups.max() + 1)
        own = data.own_groups
        if own is not None:  # what is added is of no group
            names = own.names if "" in own.names else (*own.names, "")
            none = np.full(self.count, names.index(""))
            own = Coded(np.concatenate([own.codes, none]), names)
        made = replace(
            data,
            own_groups=own,
            images=np.concatenate([data.images, images]),
            labels=np.concatenate([data.labels, labels]),
            ids=np.concatenate([data.ids, data.ids.max() + 1 + np.arange(self.count)]),
            groups=np.concatenate([data.groups, group]),
            id_names=(*data.id_names, *(f"canary {k}" for k in range(self.count)))
            if data.id_names
            else (),
        )
        return made, np.arange(first, first + self.count)

    def _mislabelled(self, data: Dataset, population: Rows, seed: int) -> tuple[Dataset, Rows]:
        if data.classes < 2:
            raise ValueError("canary 'mislabelled' needs data of at least two classes")
        # The label of a duplicate, always a member, would speak against the canary's.
        single = population[np.bincount(data.groups)[data.groups[population]] == 1]
        if self.count > len(single):
            raise ValueError(
                f"canaries must be at most the {len(single)} images of the population that have no "
                f"duplicate, not {self.count}"
            )
        rng = stream(seed, Purpose.CANARIES)
        rows = np.sort(rng.choice(single, self.count, replace=False))
        labels = data.labels.copy()
        # Any other class with equal chance: a step of 1 to K - 1 around the circle of classes.
        labels[rows] = (labels[rows] + rng.integers(1, data.classes, self.count)) % data.classes
        return replace(data, labels=labels), rows
