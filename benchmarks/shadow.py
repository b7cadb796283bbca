"""What a trial of shadow models costs beyond its training, and how two workers scale.

``python benchmarks/shadow.py`` trains 64 random forests on the 1,797 digits with one worker and
with two. The task notes how much CPU time its own code takes; what its worker process takes from
the beginning of one trial to that of the next, less this, are runner, tables and store.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

import confsim

GOAL = 15.0
TREES = 50


class Forest:
    """A task that notes in ``folder``, for each trial, when it begins and what its code takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.points, self.labels = load_digits(return_X_y=True)

    def population(self) -> dict:
        """Return the digits, with their pixels as the fixed space."""
        return {"label": self.labels, "features": self.points}

    def train(self, members, seed, context):
        """Fit a forest."""
        began = time.process_time()
        model = RandomForestClassifier(TREES, random_state=seed)
        model.fit(self.points[members], self.labels[members])
        fitting = time.process_time() - began

        def predict(rows):
            asked = time.process_time()
            found = model.predict_proba(self.points[rows])
            own = fitting + time.process_time() - asked
            with (self.folder / str(context.trial)).open("w") as file:
                file.write(f"{began} {own} {time.time()}")
            return {"probabilities": found}

        return predict


def measured(workers: int, trials: int, root: Path) -> tuple[float, float, float]:
    """Return milliseconds a trial: of training, beyond it (both CPU time), and of wall time."""
    folder = root / f"notes-{workers}"
    folder.mkdir()
    settings = {"design": "balanced", "workers": workers, "votes": TREES, "quiet": True}
    confsim.shadow.run(Forest(folder), trials=trials, out=root / f"run-{workers}", **settings)
    notes = np.array([np.loadtxt(folder / str(trial)) for trial in range(trials)])
    began, own, ended = notes.T
    # Trials of one worker follow each other; those of several are told apart by nothing here.
    whole = np.diff(began).mean() if workers == 1 else np.nan
    wall = np.diff(np.sort(ended)[workers:]).mean()
    return 1e3 * own.mean(), 1e3 * (whole - own[:-1].mean()), 1e3 * wall


def main() -> int:
    """Measure; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=64)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        own, beyond, alone = measured(1, given.trials, Path(folder))
        _, _, shared = measured(2, given.trials, Path(folder))
    met = beyond < GOAL
    verdict = "met" if met else "MISSED"
    print(f"training and predicting, CPU    {own:6.1f} ms a trial")
    print(f"beyond them, CPU                {beyond:6.1f} ms (goal {GOAL:g}) {verdict}")
    print(f"wall time with one worker       {alone:6.1f} ms")
    print(f"with two                        {shared:6.1f} ms: {alone / shared:.2f} times as fast")
    return int(not met)


if __name__ == "__main__":
    raise SystemExit(main())
