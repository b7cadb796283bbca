"""A command that runs a toy experiment, with the options that the cluster and fault tests need."""

import argparse
import sys
from pathlib import Path

from toy_experiments import Toy

from confsim._errors import ConfsimError
from confsim.runner import GRACE, run


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--shard")
    parser.add_argument("--steal", action="store_true", default=None)
    parser.add_argument("--grace", type=float, default=GRACE)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--marks", default="")
    given = parser.parse_args()
    try:
        outcome = run(
            Toy(seconds=given.seconds, marks=given.marks),
            trials=given.trials,
            out=given.out,
            workers=given.workers,
            shard=given.shard,
            steal=given.steal,
            grace=given.grace,
        )
    except (ValueError, ConfsimError) as error:
        print(f"confsim-toy: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
