"""Pictures of the reports of all kinds of runs, in four media, to be looked at.

``python tests/support/report_pictures.py FOLDER [KIND ...]`` makes small runs below FOLDER (those
that are there stay), their reports, and ``FOLDER/pictures/KIND-MEDIUM-N.png``; of print there is a
PDF, too.
It needs Chromium, and TensorFlow for the deep runs.
"""

import base64
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import browser as chromium
import numpy as np

import confsim

if TYPE_CHECKING:
    import pandas as pd

#: (name, width, dark, phone, print)
MEDIA = (
    ("light", 1280, False, False, False),
    ("dark", 1280, True, False, False),
    ("phone", 390, False, True, False),
    ("print", 720, False, False, True),
)

#: Pixels of a picture's height, and how many of a page.
_PART, _PARTS = 1800, 12

_TASK = """
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

X, y = load_digits(return_X_y=True)
X, y = X[:600], y[:600]

def population():
    return {"label": y, "features": X}

def train(members, seed, context):
    model = MLPClassifier(32, max_iter=60, random_state=seed).fit(X[members], y[members])
    return lambda rows: model.predict_proba(X[rows])
"""

_STATISTIC = """
from sklearn.datasets import load_diabetes
from sklearn.tree import DecisionTreeRegressor

X, y = load_diabetes(return_X_y=True)

def population():
    return {"features": X}

def train(members, seed, context):
    model = DecisionTreeRegressor(max_depth=6, random_state=seed).fit(X[members], y[members])
    return lambda rows: {"statistic": -(y[rows] - model.predict(X[rows])) ** 2}
"""

#: Runs that are compared with each other, by kind: by a number, with too few trials, by a name.
SWEEPS = {
    "sweep": ["n10", "n100", "n1000"],
    "sweep-few": ["few10", "few100"],
    "sweep-names": ["recipe", "recipe-cnn"],
}

_RECIPE = ["deep", "--recipe", "lira-cifar10-fast", "--dataset", "digits", "--limit", "400",
           "--precision", "float32", "--epochs", "3", "--warmup", "0.5", "--batch-size", "50",
           "--trials", "6"]  # fmt: skip

_FOREST = ["shadow", "--estimator", "sklearn.ensemble.RandomForestClassifier",
           "--set", "n_estimators=20", "--data", "table.csv", "--label", "cultivar",
           "--drop", "site", "--trials", "8"]  # fmt: skip

#: Commands by kind; those of ``AUDITS`` are made in Python, those of ``SWEEPS`` of several runs.
COMMANDS = {
    "linear": ["linear", "--n", "100", "--trials", "20", "--queries", "100000"],
    "cube": ["linear", "--dimensions", "3", "--grid-size", "100", "--n", "100", "--trials", "12",
             "--queries", "20000"],
    **{
        f"n{n}": ["linear", "--n", str(n), "--trials", "8", "--queries", "20000"]
        for n in (10, 100, 1000)
    },
    **{
        f"few{n}": ["linear", "--n", str(n), "--trials", "2", "--queries", "20000"]
        for n in (10, 100)
    },
    "deep": ["deep", "--trials", "8", "--epochs", "30", "--model", "mlp"],
    "canaries": ["deep", "--trials", "6", "--epochs", "15", "--model", "mlp", "--design", "coin",
                 "--canaries", "200", "--canary", "mislabelled"],
    "recipe": [*_RECIPE, "--model", "mlp"],
    "recipe-cnn": [*_RECIPE, "--model", "cnn"],
    "shadow": ["shadow", "task.py", "--trials", "16", "--design", "balanced"],
    "estimator": [*_FOREST, "--group", "site"],
    "table-canaries": [*_FOREST, "--design", "coin", "--canaries", "60",
                       "--canary", "mislabelled"],
    "statistic": ["shadow", "statistic.py", "--trials", "16"],
}  # fmt: skip


def make_runs(folder: Path, kinds: list[str]) -> None:
    """Make what is not there yet."""
    wanted = {*kinds, *(name for kind in kinds for name in SWEEPS.get(kind, ()))}
    (folder / "task.py").write_text(_TASK)
    (folder / "statistic.py").write_text(_STATISTIC)
    _table().to_csv(folder / "table.csv", index=False)
    for name, words in COMMANDS.items():
        if name in wanted and not (folder / name).exists():
            command = [sys.executable, "-P", "-m", "confsim", *words, "--out", name, "--quiet"]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    for name, columns in audits().items():
        if name in wanted and not (folder / name).exists():
            confsim.audit(columns, out=folder / name, **AUDITS[name])


def _table() -> "pd.DataFrame":
    """Return wines of three cultivars, from sites that are made up."""
    from sklearn.datasets import load_wine

    found: pd.DataFrame = load_wine(as_frame=True).frame.rename(columns={"target": "cultivar"})
    return found.assign(site=np.array(["north", "south"])[np.arange(len(found)) % 2])


#: Further settings of the audits by kind.
AUDITS: dict[str, dict[str, Any]] = {
    "audit": {"design": "independent"},
    "one": {},
    "groups": {"design": "independent"},
    "tied": {"design": "independent"},
}


def audits(n: int = 800) -> dict[str, dict[str, Any]]:
    """Return what is audited, by kind: so many examples."""
    rng = np.random.default_rng(0)
    member, label = rng.random((8, n)) < 0.5, rng.integers(0, 10, n)
    logits = rng.normal(size=(8, n, 10)) + (2 + 1.2 * member)[..., None] * np.eye(10)[label]
    many = {"is_member": member, "label": label, "features": rng.normal(size=(n, 16))}
    sites = np.array(["Aachen", "Basel", "Chur", "a clinic with a long name", ""])
    return {
        "audit": {**many, "logits": logits},
        "one": {"is_member": member[0], "label": label, "logits": logits[0]},
        "groups": {**many, "logits": logits, "group": sites[rng.integers(0, 5, n)]},
        # Models that are equally sure of each of their members.
        "tied": {**many, "log_odds_true": np.where(member, 9.0, logits.max(axis=2))},
    }


def report(folder: Path, name: str) -> Path:
    """Make the report of a run, or of a sweep; return its page."""
    runs = SWEEPS.get(name, [name])
    words = [sys.executable, "-P", "-m", "confsim", "report", *runs, "--out", f"reports/{name}"]
    subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / "reports" / name / "report.html"


def photograph(tab: chromium.Browser, page: Path, target: Path) -> None:
    """Write the pictures of a page."""
    for medium, width, dark, phone, printed in MEDIA:
        tab.look(width, 900, dark=dark, mobile=phone, printed=printed)
        tab.open(page)
        print(page, medium, *tab.errors())
        height = tab.evaluate("document.documentElement.scrollHeight")
        for part, top in enumerate(range(0, height, _PART)[:_PARTS]):
            clip = {"x": 0, "y": top, "width": width, "height": min(_PART, height - top)}
            found = tab.call(
                "Page.captureScreenshot",
                format="png",
                captureBeyondViewport=True,
                clip={**clip, "scale": 1},
            )
            path = target.with_name(f"{target.name}-{medium}-{part}.png")
            path.write_bytes(base64.b64decode(found["data"]))
    tab.look(1000, 900, dark=False, mobile=False)
    tab.open(page)
    found = tab.call("Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69)
    target.with_name(f"{target.name}-print.pdf").write_bytes(base64.b64decode(found["data"]))


def main(folder: Path, kinds: list[str]) -> None:
    """Make runs, reports and pictures."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    parts = {"n10", "n100", "n1000", "few10", "recipe-cnn"}
    kinds = kinds or [name for name in (*COMMANDS, *AUDITS, *SWEEPS) if name not in parts]
    make_runs(folder, kinds)
    pages = {kind: report(folder, kind) for kind in kinds}
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        chromium.browser(Path(profile)) as tab,
    ):
        for kind, page in pages.items():
            photograph(tab, page, folder / "pictures" / kind)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
