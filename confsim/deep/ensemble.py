"""Many trials in one program, for GPUs on which a single small model leaves most of the chip idle.

A hundred trials of a small network are bound by launches, not by arithmetic. Here K of them advance
together: the JAX engine's own step, mapped over a leading axis of weights, optimiser states,
batches and standardisations, with the images shared. Each trial keeps its own members, order,
dropout and early stopping, and is the trial that :func:`confsim.deep.training.train` would have
trained, up to the rounding of batched products. On a CPU mapped convolutions are far slower than
single ones; on a GPU it depends on the network, and ``sharing`` measures it where that is asked
for (``benchmarks/README.md`` has figures).
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.deep.engines import FORWARD, Epoch, Standardisation
from confsim.deep.engines.convolutions import multiply_for_gradients
from confsim.deep.engines.jax import JaxEngine
from confsim.deep.training import (
    CALL_SECONDS,
    Checkpoint,
    EarlyStopping,
    Judged,
    Plan,
    Schedule,
    Trained,
    checkpoint_of,
    epoch_of,
    judged,
    note,
    trace,
    weight_seed,
)
from confsim.experiment import Context, Interrupted

#: Seconds between checkpoints: they bring all weights back from the device.
CHECKPOINT_SECONDS = 60.0


@dataclass
class _Member:
    """One trial of an ensemble."""

    plan: Plan
    stopping: EarlyStopping
    checkpoint: Checkpoint
    done: int
    finished: bool = False
    traces: list[NDArray[np.float32]] = field(default_factory=list)


class Ensemble:
    """Trains up to ``size`` trials at once with a JAX engine's model.

    Parameters
    ----------
    engine : JaxEngine
    size : int
        Smaller groups are filled up, so that the program is compiled once.
    """

    def __init__(self, engine: JaxEngine, size: int) -> None:
        import jax

        self.engine = engine
        self.size = size
        self.steps_a_call = 4
        multiply_for_gradients(engine.model)
        over_trials = jax.vmap(engine.step, in_axes=(0, None, 0, 0, None))
        self._train = engine.program(over_trials, donate_argnums=0)
        self._infer = jax.jit(jax.vmap(engine.infer, in_axes=(0, 0, None, 0, 0, None)))
        self._choose = jax.jit(_choose)

    def train(
        self, schedule: Schedule, plans: Sequence[Plan], context: Context
    ) -> Iterator[tuple[Plan, Trained]]:
        """Train the trials; yield each when the engine has its weights.

        Raises
        ------
        Interrupted
            If the context asks to stop; the trials then have their checkpoints.
        """
        by_steps: dict[int, list[Plan]] = {}
        for plan in plans:
            by_steps.setdefault(schedule.steps(len(plan.members)), []).append(plan)
        for alike in by_steps.values():
            for start in range(0, len(alike), self.size):
                yield from self._group(schedule, alike[start : start + self.size], context)

    def rehearse(
        self, epoch: Epoch, standardisation: Standardisation, start: int, stop: int
    ) -> None:
        """Take steps of an epoch in all trials alike and forget them, to see how long they take."""
        state = _stack([self.engine.values()] * self.size)
        s = standardisation
        batches = _stack([(epoch.arrays, (s.mean, s.scale))] * self.size)
        _, losses = self._train(state, self.engine.data, *batches, start, stop)
        losses.block_until_ready()

    def _group(
        self, schedule: Schedule, plans: Sequence[Plan], context: Context
    ) -> Iterator[tuple[Plan, Trained]]:
        members, state, best = self._begin(schedule, plans, context)
        saved = time.monotonic()
        while not all(member.finished for member in members):
            try:
                state = self._epoch(schedule, members, state, context)
            except Interrupted:
                # This epoch is lost; what is saved here are the weights at its start.
                self._save(members, self._before, best, context)
                raise
            best = self._judge(schedule, members, state, best)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save(members, state, best, context)
                saved = time.monotonic()
        watching = len(plans[0].validation) > 0
        for k, member in enumerate(members[: len(plans)]):
            self.engine.set_values(_member(best, k))
            self.engine.take_averages()
            loss = member.stopping.best if watching else float("nan")
            best_epoch = member.stopping.best_epoch or member.done
            yield (
                member.plan,
                Trained(member.done, best_epoch, loss, member.traces, member.checkpoint.curve),
            )

    def _begin(
        self, schedule: Schedule, plans: Sequence[Plan], context: Context
    ) -> tuple[list[_Member], Any, Any]:
        """Return the members, and their stacked states and best states."""
        members, states, bests = [], [], []
        for k in range(self.size):
            plan = plans[min(k, len(plans) - 1)]
            stopping = EarlyStopping(schedule.patience, schedule.min_delta)
            seed = weight_seed(schedule.seed, plan.trial)
            self.engine.reset(seed, plan.members, plan.standardisation)
            traces: list[NDArray[np.float32]] = []
            checkpoint = checkpoint_of(schedule, plan, context, traces)
            done, _ = checkpoint.resume(self.engine, stopping)
            states.append(self.engine.values())
            if stopping.weights:
                self.engine.load(stopping.weights)
            bests.append(self.engine.values())
            members.append(_Member(plan, stopping, checkpoint, done, traces=traces))
        return members, _stack(states), _stack(bests)

    def _epoch(
        self, schedule: Schedule, members: list[_Member], state: Any, context: Context
    ) -> Any:
        """Run an epoch of every member; a finished one goes through the motions."""
        import jax

        shape = self.engine.settings.architecture.input_shape
        last = schedule.epochs - 1
        epochs = [epoch_of(schedule, shape, m.plan, min(m.done, last)).arrays for m in members]
        batches = jax.device_put((_stack(epochs), _standardisation(members)))
        # Kept for an interruption, because the buffers that go in are consumed.
        self._before = jax.tree.map(lambda value: value.copy(), state)
        done, steps = 0, len(epochs[0][0])
        while done < steps:
            if context.should_stop():
                raise Interrupted
            stop = min(done + self.steps_a_call, steps)
            started = time.perf_counter()
            state, losses = self._train(state, self.engine.data, *batches, done, stop)
            losses.block_until_ready()
            rate = (stop - done) / max(time.perf_counter() - started, 1e-6)
            self.steps_a_call = max(1, int(rate * CALL_SECONDS))
            done = stop
            for member in members:
                passed = (member.done + done / steps) / schedule.epochs
                said = note(schedule, min(member.done, last), member.checkpoint.curve)
                context.progress(member.plan.trial, 0.9 * min(1.0, passed), said)
        self._last_losses = np.asarray(losses, np.float64).tolist()
        return state

    def _judge(self, schedule: Schedule, members: list[_Member], state: Any, best: Any) -> Any:
        """End the epoch of every member; return the best states with the improved ones in them."""
        chosen = np.zeros(len(members), bool)
        watching = len(members[0].plan.validation) > 0
        found = self._judged(members, state) if watching else [judged(v) for v in self._last_losses]
        if len(members[0].plan.traced):
            logits = self._logits(members, state, [member.plan.traced for member in members])
            for k, member in enumerate(members):
                if not member.finished:
                    member.traces.append(trace(logits[k], member.plan.traced_labels))
        for k, member in enumerate(members):
            if member.finished:
                continue
            member.done += 1
            member.checkpoint.curve.append(found[k])
            if not watching:
                chosen[k] = member.done >= schedule.epochs
            else:
                member.finished = member.stopping.see(member.done, found[k][1], dict)
                chosen[k] = member.stopping.best_epoch == member.done
                # Diverged from the start: there is no best, so the last weights show it.
                chosen[k] |= member.stopping.best_epoch == 0
            member.finished |= member.done >= schedule.epochs
        return self._choose(chosen, state, best)

    def _judged(self, members: list[_Member], state: Any) -> list[Judged]:
        logits = self._logits(members, state, [member.plan.validation for member in members])
        return [
            judged(last, found, member.plan.validation_labels)
            for last, found, member in zip(self._last_losses, logits, members, strict=True)
        ]

    def _logits(
        self, members: list[_Member], state: Any, rows: list[NDArray[np.int64]]
    ) -> list[NDArray[Any]]:
        """Return the logits of each member's model for its rows."""
        longest = max(map(len, rows))
        filled = np.stack([np.resize(r, -(-longest // FORWARD) * FORWARD) for r in rows])
        parts = [
            np.asarray(
                self._infer(
                    self.engine.examined(state),
                    state[1],
                    self.engine.data,
                    filled[:, start : start + FORWARD].astype(np.int32),
                    _standardisation(members),
                    None,
                )[0]
            )
            for start in range(0, filled.shape[1], FORWARD)
        ]
        logits = np.concatenate(parts, axis=1)
        return [found[: len(wanted)] for found, wanted in zip(logits, rows, strict=True)]

    def _save(self, members: list[_Member], state: Any, best: Any, context: Context) -> None:
        seen: set[int] = set()
        for k, member in enumerate(members):
            if member.finished or not member.done or member.plan.trial in seen:
                continue
            seen.add(member.plan.trial)
            if member.stopping.best_epoch:
                self.engine.set_values(_member(best, k))
                member.stopping.weights = self.engine.weights()
            self.engine.set_values(_member(state, k))
            context.scratch(member.plan.trial)  # made again, if this command was taken for dead
            member.checkpoint.save(self.engine, member.stopping, (member.done, 0))


def _stack(trees: list[Any]) -> Any:
    import jax

    return jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *trees)


def _member(tree: Any, k: int) -> Any:
    import jax

    return jax.tree.map(lambda leaf: leaf[k], tree)


def _standardisation(
    members: list[_Member],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    each = [member.plan.standardisation for member in members]
    return np.stack([s.mean for s in each]), np.stack([s.scale for s in each])


def _choose(chosen: Any, state: Any, best: Any) -> Any:
    """Take the chosen members from ``state`` and the others from ``best``."""
    import jax

    def pick(new: Any, old: Any) -> Any:
        return jax.numpy.where(chosen.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(pick, state, best)
