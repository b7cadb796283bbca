"""Optimisers and schedules against literal transcriptions of their definitions, in float64.

The process uses one backend, as in ``test_deep_engines``: run once for each with
``CONFSIM_TEST_BACKEND``.
"""

import importlib.util
import math
import os

import numpy as np
import pytest

from confsim.deep import backend as backends
from confsim.deep.engines import Epoch, Settings, Standardisation
from confsim.deep.models import Architecture
from confsim.deep.optimisation import SCHEDULES, Optimisation, learning_rates
from confsim.deep.training import Schedule


def installed(name):
    return all(importlib.util.find_spec(package) for package in (name, "keras"))


WANTED = os.environ.get("CONFSIM_TEST_BACKEND")
BACKEND = WANTED or next((name for name in backends.BACKENDS if installed(name)), None)
needs_keras = pytest.mark.skipif(BACKEND is None, reason="no Keras backend is installed")

STEPS, BATCH = 4, 10
RATES = np.float32([0.02, 0.05, 0.03, 0.01])


# -- Transcriptions: the network is tanh(x a + b) c + d, in float64 --------------------------------


def gradients(weights, x, labels):
    a, b, c, d = weights
    h = np.tanh(x @ a + b)
    z = h @ c + d
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(x)), labels] -= 1
    p /= len(x)
    back = (p @ c.T) * (1 - h * h)
    return [x.T @ back, back.sum(axis=0), h.T @ p, p.sum(axis=0)]


def orthogonalised(matrix):
    x = matrix / (np.linalg.norm(matrix) + 1e-7)
    for _ in range(5):
        s = x @ x.T
        x = 3.4445 * x + (-4.7750 * s + 2.0315 * s @ s) @ x
    return x


class Transcribed:
    """The optimisers as their papers have them, one weight after another."""

    def __init__(self, settings, weights):
        self.settings, self.t = settings, 0
        self.m = [np.zeros_like(w) for w in weights]
        self.v = [np.zeros_like(w) for w in weights]

    def adam(self, k, g, rate):
        self.m[k] = 0.9 * self.m[k] + 0.1 * g
        self.v[k] = 0.999 * self.v[k] + 0.001 * g * g
        # Kingma & Ba's efficient form, with the small number beside the uncorrected root.
        step = rate * math.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
        return step * self.m[k] / (np.sqrt(self.v[k]) + 1e-7)

    def sgd(self, k, g, rate):
        o = self.settings
        self.m[k] = o.momentum * self.m[k] - rate * g
        return rate * g - o.momentum * self.m[k] if o.nesterov else -self.m[k]

    def muon(self, k, g, rate):
        o = self.settings
        self.m[k] = o.momentum * self.m[k] + g
        u = g + o.momentum * self.m[k] if o.nesterov else self.m[k]
        u = orthogonalised(u.T).T if u.shape[0] > u.shape[1] else orthogonalised(u)
        return rate * 0.2 * math.sqrt(max(u.shape)) * u

    def step(self, weights, gs, rate):
        o, self.t = self.settings, self.t + 1
        if o.clip_norm is not None:
            norm = math.sqrt(sum(float((g * g).sum()) for g in gs))
            gs = [g * min(1.0, o.clip_norm / norm) for g in gs]
        moved = []
        for k, (w, g) in enumerate(zip(weights, gs, strict=True)):
            if w.ndim >= 2:
                w = w - rate * o.weight_decay * w
            hidden = o.name == "muon" and k == 0
            update = {"adam": self.adam, "sgd": self.sgd, "muon": self.adam}[o.name]
            moved.append(w - (self.muon if hidden else update)(k, g, rate))
        return moved


@pytest.fixture(scope="module")
def data():
    backends.prepare(BACKEND, 1, None)
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (STEPS * BATCH, 6)).astype(np.uint8), np.arange(STEPS * BATCH) % 3


@needs_keras
@pytest.mark.parametrize(
    "optimisation",
    [
        Optimisation(),
        Optimisation(weight_decay=0.3),
        Optimisation(clip_norm=0.05),
        Optimisation("sgd"),
        Optimisation("sgd", momentum=0.6, nesterov=False, weight_decay=0.5),
        Optimisation("sgd", momentum=0.0, clip_norm=0.1),
        Optimisation("muon", momentum=0.95),
        Optimisation("muon", nesterov=False, weight_decay=0.2, clip_norm=0.2),
    ],
    ids=str,
)
@pytest.mark.parametrize("hidden", [5, 9])
def test_steps_are_those_of_the_definition(data, optimisation, hidden):
    images, labels = data
    architecture = Architecture("mlp", (6,), 3, hidden=hidden)
    engine = backends.open_engine(Settings(architecture, optimisation), images, labels)
    engine.reset(1)
    weights = [w.astype(np.float64) for w in engine.named_weights().values()]
    assert [w.shape for w in weights] == [(6, hidden), (hidden,), (hidden, 3), (3,)]
    s = Standardisation.of(images)
    rows = np.arange(STEPS * BATCH, dtype=np.int32).reshape(STEPS, BATCH)
    engine.train(Epoch(rows, np.ones((STEPS, BATCH), np.float32), RATES), s, 0, STEPS)
    transcribed = Transcribed(optimisation, weights)
    for chosen, rate in zip(rows, RATES.astype(np.float64), strict=True):
        x = (images[chosen] - s.mean.astype(np.float64)) * s.scale
        weights = transcribed.step(weights, gradients(weights, x, labels[chosen]), rate)
    for found, expected in zip(engine.named_weights().values(), weights, strict=True):
        assert np.allclose(found, expected, atol=3e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("warmup", "steps"), [(0, 10), (4, 10), (1, 7), (9, 10), (0, 1)])
def test_schedules_are_their_formulas(schedule, warmup, steps):
    found = learning_rates(schedule, 0.4, warmup, steps)
    assert found.dtype == np.float32
    for t in range(steps):
        if t < warmup:
            expected = 0.4 * (t + 1) / warmup
        else:
            u = (t - warmup) / (steps - warmup)
            expected = {
                "constant": 0.4,
                "cosine": 0.2 + 0.2 * math.cos(math.pi * u),
                "cosine-7-16": 0.4 * math.cos(7 * math.pi * u / 16),
                "one-cycle": 0.4 - 0.4 * u,
            }[schedule]
        assert found[t] == pytest.approx(expected, rel=1e-6)


def test_epochs_have_their_parts_of_the_schedule():
    schedule = Schedule(5, 20, learning_rate=0.3, schedule="one-cycle", warmup=1.5)
    parts = np.concatenate([schedule.rates(epoch, 8) for epoch in range(5)])
    assert np.array_equal(parts, learning_rates("one-cycle", 0.3, 12, 40))
    assert len(parts) == 40
    assert parts.argmax() in (11, 12)


def test_a_constant_rate_is_what_was_asked_for():
    assert set(Schedule(3, 20).rates(2, 8)) == {np.float32(1e-3)}
