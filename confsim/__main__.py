"""``python -m confsim``: the command ``confsim``."""

import sys

from confsim.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
