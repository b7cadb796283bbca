"""``python -m confsim``: the command ``confsim``."""

import sys

from confsim.cli import start_program

if __name__ == "__main__":
    sys.exit(start_program())
