"""Python in a process of its own that runs nothing which lies in the working directory.

``python -c`` looks for modules there first, before those of Python itself. It may be a folder of
data, an audit or a run that somebody else has made.
"""

import sys

__all__ = ["python"]

_WITHOUT_WORKING_DIRECTORY = """\
import sys
if sys.path[:1] == [""]:
    del sys.path[0]
"""


def python(code: str, *words: str) -> list[str]:
    """Return the command line of this interpreter that runs ``code`` with ``words`` for it."""
    return [sys.executable, "-c", _WITHOUT_WORKING_DIRECTORY + code, *words]
