"""Two searches in turns, so that both meet the same moments of a machine that is not quiet."""

import time


def in_turns(benchmark, option, plain, *, rounds, warmup_rounds=1):
    """Time ``option`` with ``plain`` before each round; return its answer and plain seconds."""
    times = []

    def run_plain():
        begin = time.perf_counter()
        plain()
        times.append(time.perf_counter() - begin)

    found = benchmark.pedantic(option, setup=run_plain, rounds=rounds, warmup_rounds=warmup_rounds)
    return found, times[-rounds:]
