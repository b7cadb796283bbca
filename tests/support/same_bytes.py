"""Do two installations store the same bytes? Hashes of the trials of 30 small configurations.

::

    python -P tests/support/same_bytes.py --write before.json     # in the one environment
    python -P tests/support/same_bytes.py --compare before.json   # in the other

Each configuration, linear and deep, runs with every instruction set of the machine, with 1 and with
2 workers; all of these must agree among themselves, too. ``--quick`` runs each but once, with the
best instruction set and 1 worker; ``--only NAME ...`` takes the configurations whose names contain
one of the words; ``--deep no`` leaves out what needs a deep-learning framework; ``--values``
compares what pandas reads from the tables, and summaries to 12 digits, for installations whose
files are encoded, or whose sums are ordered, differently.
What is installed in the interpreter that runs this is compared; ``-P`` keeps the source tree out of
it. The exit code is 1 where bytes differ.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

LINEAR = {
    "default": "--queries 3000",
    "n-2": "--n 2 --queries 500",
    "n-300": "--n 300 --queries 5000",
    "all-are-members": "--n 50 --queries 50",
    "whole-lattice": "--n 40 --grid-size 60 --queries all",
    "kept": "--n 100 --queries 200000",
    "streamed": "--n 30 --grid-size 2100 --queries all --trials 1",
    "streamed-same-class": "--n 300 --grid-size 2100 --queries all --same-class --trials 1",
    "streamed-noisy": "--n 60 --grid-size 2100 --queries all --label-noise 0.3 --trials 1",
    "noise": "--n 200 --queries 4000 --label-noise 0.2",
    "noise-dual": "--n 3000 --queries 20000 --label-noise 0.1 --trials 1",
    "same-class": "--n 60 --queries 4000 --same-class",
    "5-dimensions": "--n 80 --queries 4000 --dimensions 5 --granularity 50",
    "10-dimensions": "--n 100 --queries 3000 --dimensions 10 --granularity 200 --label-noise 0.1",
    "1-dimension": "--n 9 --queries 800 --dimensions 1",
    "fraction": "--n 30 --queries 3000 --grid-size 10 --granularity 0.1",
    "margin-l1": "--n 100 --queries 3000 --objective margin --C 0.5 --label-noise 0.1",
    "margin-linf": "--n 100 --queries 3000 --objective margin --norm linf --C 2",
    "direct": "--n 60 --queries 3000 --solver direct --label-noise 0.1",
    "hyperplane": "--n 40 --queries 3000 --weights 1 2 --bias -1200",
    "percent": "--n 40 --queries 3000 --percent 50 --seed 9",
    "degenerate": "--n 4 --queries 900 --label-noise 0.5 --seed 3",
}
TINY = "--limit 300 --epochs 2 --batch-size 50"
SMALL = f"{TINY} --hidden 8"
DEEP = {
    "deep-mlp": f"{SMALL} --model mlp",
    "deep-cnn": f"{SMALL} --model cnn --save-logits --save-features",
    "deep-softmax": f"{TINY} --model softmax --same-class --save-model",
    "deep-balanced": f"{SMALL} --model mlp --design balanced",
    "deep-coin": f"{SMALL} --model mlp --design coin --percent 20",
    "deep-augmented": f"{SMALL} --model cnn --augment weak --cutout 3 --query-augment 4",
    "deep-sgd": f"{SMALL} --model mlp --optimizer sgd --schedule cosine --warmup 1 --ema 0.9",
    "deep-decay": f"{SMALL} --model mlp --weight-decay 0.01 --label-smoothing 0.1 --clip-norm 1",
}


def command_of(name: str) -> list[str]:
    """Return the arguments of ``python -m confsim``; where a flag stands twice, the last holds."""
    pipeline, flags = ("deep", DEEP[name]) if name in DEEP else ("linear", LINEAR[name])
    return [pipeline, "--trials", "2", *flags.split(), "--quiet"]


def values(path: Path) -> bytes:
    """Return a table's columns, each with its name and dtype; the rounded numbers of a summary."""
    if path.suffix == ".json":
        return repr(json.loads(path.read_text(), parse_float=lambda x: f"{float(x):.12g}")).encode()
    if path.suffix != ".parquet":
        return path.read_bytes()
    import pandas as pd

    columns = []
    for name, column in pd.read_parquet(path).items():
        array = column.to_numpy()
        held = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
        columns.append(f"{name} {array.dtype}\n".encode() + held)
    return b"\n".join(columns)


def digest(run: Path, read: Callable[[Path], bytes]) -> str:
    """Hash every file of every trial but ``trial.json``, which holds times; ``read`` reads them."""
    found = hashlib.sha256()
    files = [p for p in sorted((run / "trials").rglob("*")) if p.is_file()]
    for path in files:
        if path.name != "trial.json":
            data = read(path)
            found.update(f"{path.relative_to(run)} {len(data)}\n".encode())
            found.update(data)
    if not files:
        raise SystemExit(f"{run} holds no trials")
    return found.hexdigest()


def run(name: str, isa: str, workers: int, read: Callable[[Path], bytes]) -> str:
    """Run a configuration in a process of its own and return the digest of its trials."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = [*command_of(name), "--workers", str(workers), "--out", str(out)]
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "confsim", *words],
            env={**os.environ, "CONFSIM_ISA": isa},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise SystemExit(f"{name}: confsim {' '.join(words)}: {ended.stderr.strip()}")
        return digest(out, read)


def instruction_sets() -> tuple[str, ...]:
    """Return the names of those that can run here."""
    from confsim._kernels import isa

    return isa.available()


def main(argv: list[str] | None = None) -> int:
    """Run, compare, and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="store the hashes")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="compare with stored ones")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names that contain one of these")
    parser.add_argument("--quick", action="store_true", help="one instruction set, 1 worker")
    parser.add_argument("--deep", choices=("yes", "no"), default="yes")
    parser.add_argument("--values", action="store_true", help="of tables, what pandas reads")
    given = parser.parse_args(argv)
    read = values if given.values else Path.read_bytes
    names = [*LINEAR, *(DEEP if given.deep == "yes" else ())]
    before = json.loads(given.compare.read_text()) if given.compare else {}
    found, wrong = {}, 0
    for name in names:
        if given.only and not any(word in name for word in given.only):
            continue
        hashes = {
            f"{isa}, {workers} workers": run(name, isa, workers, read)
            for isa in (instruction_sets()[-1:] if given.quick else instruction_sets())
            for workers in ((1,) if given.quick else (1, 2))
        }
        found[name] = next(iter(hashes.values()))
        trouble = "".join(f"; {how}: differs" for how in hashes if hashes[how] != found[name])
        if given.compare:
            same = before.get(name) == found[name]
            trouble += "" if same else "; not stored" if name not in before else "; not as before"
        wrong += bool(trouble)
        print(f"{name}: {found[name][:16]}{trouble}", flush=True)
    if given.write:
        given.write.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{len(found)} configurations, {wrong} of them differ")
    return 1 if wrong or not found else 0


if __name__ == "__main__":
    sys.exit(main())
