"""The table of ratios that benchmarks end in, and what is collected for it."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tracking
from tracking import Figure


def benchmark(row, who, seconds, **settings):
    """Return a benchmark that was run, as ``pytest-benchmark`` keeps it."""
    found = SimpleNamespace(extra_info={}, stats=SimpleNamespace(data=seconds))
    tracking.record(found, row, who, **settings)
    return found


def test_a_peer_is_compared_with_the_same_row():
    found = tracking.figures(
        [
            benchmark("a", "peer", [8.0, 10.0, 12.0], goal=4),
            benchmark("a", "confsim", [1.0, 2.0, 3.0]),
            benchmark("b", "peer", [1.0]),
            benchmark("c", "confsim", [1.0]),
        ]
    )
    assert found == [Figure("a", "peer", 5.0, 9 / 2.5, 11 / 1.5, 4)]
    assert found[0].verdict == "met"


def test_part_of_a_task_counts_for_all_of_it():
    parts = [benchmark("a", "confsim", [2.0]), benchmark("a", "peer", [1.0], share=20, goal=11)]
    (found,) = tracking.figures(parts)
    assert (found.ratio, found.verdict) == (10.0, "MISSED")


def test_an_option_is_compared_with_its_turns():
    plain = [4.0, 2.0, 3.0]
    (found,) = tracking.figures([benchmark("a", "same class", [3.3] * 3, plain=plain, goal=1.2)])
    assert found.ratio == pytest.approx(1.1)
    assert found.at_most
    assert found.verdict == "met"


def test_a_peer_measured_beside_confsim():
    (found,) = tracking.figures([benchmark("a", "faiss", [2.0], beside=[7.0, 6.0, 8.0], goal=3)])
    assert (found.ratio, found.who, found.verdict) == (3.5, "faiss", "met")


@pytest.mark.parametrize(
    ("now", "at_most", "said"),
    [
        ((5.0, 4.5, 5.5), False, ""),
        ((3.0, 2.5, 4.5), False, ""),
        ((3.0, 2.5, 3.5), False, "WORSE: was 5.00"),
        ((8.0, 7.0, 9.0), False, "better: was 5.00"),
        ((8.0, 7.0, 9.0), True, "WORSE: was 5.00"),
        ((3.0, 2.5, 3.5), True, "better: was 5.00"),
    ],
)
def test_what_moved_by_more_than_both_spreads(now, at_most, said):
    before = Figure("a", "peer", 5.0, 4.0, 6.0, at_most=at_most)
    assert Figure("a", "peer", *now, at_most=at_most).moved(before) == said


def test_a_baseline_keeps_what_was_not_run(tmp_path):
    path = tmp_path / "some-machine.json"
    first, second = (
        Figure("a", "peer", 5.0, 4.0, 6.0, 4.0),
        Figure("b", "x", 1.1, 1.0, 1.2, 1.2, True),
    )
    tracking.save_baseline(path, [first, second])
    changed = Figure("a", "peer", 7.0, 6.5, 7.5, 4.0)
    tracking.save_baseline(path, [changed])
    known = tracking.load_baseline(path)
    assert known == {("a", "peer"): changed, ("b", "x"): second}
    lines = "\n".join(tracking.table([first, second], known))
    assert "5.00 (4.00 to 6.00)" in lines
    assert "WORSE: was 7.00" in lines
    assert tracking.load_baseline(tmp_path / "none.json") == {}


def test_stored_baselines_can_be_read():
    for path in tracking.BASELINES.glob("*.json"):
        assert tracking.load_baseline(path), path


def test_missing_peers_are_named_once():
    reasons = [
        "('bench.py', 3, \"Skipped: could not import 'pykdtree.kdtree': No module\")",
        "Skipped: could not import 'pykdtree.kdtree': No module named 'pykdtree'",
        "Skipped: TensorFlow is not installed",
    ]
    assert tracking.missing_peers(reasons) == ["pykdtree"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs the interpreter's -P")
@pytest.mark.parametrize("full", [False, True])
def test_only_benchmarks_are_collected(full):
    words = ["--benchmark-only", "--collect-only", "-q", "-p", "no:cacheprovider"]
    found = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *words, *["--benchmark-full"] * full],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    names = [line for line in found.splitlines() if "::" in line]
    assert names
    assert all(name.startswith("benchmarks/") for name in names)
    assert any("sklearn/20" in name for name in names) == full
