"""Which trial is next: this command's own, then anybody's, each under a claim."""

from collections import deque
from collections.abc import Iterable, Set

from confsim.runner.claims import Claims, Life
from confsim.store import Store

#: A trial whose worker dies is run this often in all.
_ATTEMPTS = 2


class Schedule:
    """The trials that this command may run, and what became of them.

    Parameters
    ----------
    store : Store
        Knows which trials have been published.
    claims : Claims
        Opened.
    own : iterable of int
        Missing trials of this command's shard: it ends when they are done.
    others : iterable of int
        Missing trials of other shards, which it takes when it has none of its own to run.
    """

    def __init__(
        self, store: Store, claims: Claims, own: Iterable[int], others: Iterable[int]
    ) -> None:
        self._store = store
        self._claims = claims
        self._own = frozenset(own)
        self._todo = deque([*sorted(self._own), *others])
        self._blocked: set[int] = set()
        self._awaited: set[int] = set()
        self._single: set[int] = set()
        self._alone: set[int] = set()
        self._deaths: dict[int, int] = {}
        self._idle_since: float | None = None
        self.done: set[int] = set()
        self.failed: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._todo)

    @property
    def next_is_alone(self) -> bool:
        """Whether the next trial is to be run while nothing else runs."""
        return bool(self._todo) and self._todo[0] in self._alone

    def take(self, limit: int) -> list[int]:
        """Claim up to ``limit`` trials to be run in one call; none if there are none to take."""
        taken: list[int] = []
        while self._todo and len(taken) < limit:
            trial = self._todo[0]
            if taken and trial in self._single | self._alone:
                break
            self._todo.popleft()
            if not self._claims.take(trial):
                self._blocked.add(trial)
                self._awaited.add(trial)
            elif self._store.has(trial):
                self.finish(trial)  # somebody was faster
            else:
                taken.append(trial)
                if trial in self._single | self._alone:
                    break
        if taken:
            self._idle_since = None
            self._awaited |= self._blocked
        return taken

    def finish(self, trial: int) -> None:
        """Note that a trial is published."""
        self._store.forget_failure(trial)
        self._claims.release(trial)
        self.done.add(trial)

    def put_back(self, trials: Iterable[int], *, single: bool = False) -> None:
        """Note that trials are to be run (again): one in a call if ``single``."""
        for trial in trials:
            self._claims.release(trial)
            self._todo.append(trial)
            if single:
                self._single.add(trial)

    def fail(self, trial: int, cause: str) -> None:
        """Give a trial up."""
        self._claims.release(trial)
        self.failed[trial] = cause

    def retry(self, trials: Iterable[int]) -> list[int]:
        """Have trials whose worker died, or lacked memory, run once more while nothing else runs.

        Returns
        -------
        list of int
            Those that were run so before; the caller gives them up.
        """
        given_up = []
        for trial in trials:
            self._deaths[trial] = self._deaths.get(trial, 0) + 1
            if self._deaths[trial] < _ATTEMPTS:
                self.put_back([trial])
                self._alone.add(trial)
            else:
                given_up.append(trial)
        return given_up

    def look_again(self) -> None:
        """See what became of trials that others had claimed."""
        if not self._blocked:
            return
        held = self._claims.held()
        lives = {owner: self._claims.life(owner) for owner in set(held.values())}
        for trial in sorted(self._blocked):
            life = lives[held[trial]] if trial in held else Life.DEAD
            if self._store.has(trial):
                self._store.forget_failure(trial)
                self.done.add(trial)
            elif life is Life.DEAD:
                if trial in held:
                    self._claims.break_claim(trial)
                self._todo.append(trial)
            else:
                if trial not in self._own and self._lives(held[trial]):
                    self._awaited.discard(trial)
                continue
            self._blocked.remove(trial)
            self._awaited.discard(trial)

    def idle(self) -> None:
        """Note that there is nothing left to run but what others have claimed.

        From now on their owners have to show that they live. Whether they lived while there was
        work to do is no matter: one that has died since would leave its trials to nobody.
        """
        if self._idle_since is None:
            self.look_again()
            self._idle_since = self._claims.now()

    def _lives(self, owner: str) -> bool:
        return self._idle_since is not None and self._claims.lived_after(owner, self._idle_since)

    @property
    def awaited(self) -> Set[int]:
        """Trials in others' hands whose end decides what this command does.

        Its own; and those of owners that have not shown to be alive since it ran out of work.
        """
        return self._awaited

    def keepers(self) -> list[str]:
        """Say who has the awaited trials, for people."""
        owners = {str(self._claims.holder(trial) or "nobody") for trial in self._awaited}
        return sorted(owners)
