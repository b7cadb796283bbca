"""Python that takes nothing from the working directory: neither modules nor settings of others.

It may be a folder of data, an audit or a run that somebody else has made. ``python -c`` looks for
modules there first, before those of Python itself; matplotlib, which Keras imports, takes a file
``matplotlibrc`` there for its user's settings, waits for a pipe of that name, and fails at one that
is no text.
"""

import sys

__all__ = ["ignore_settings_in_working_directory", "python"]

# TensorFlow takes the text that follows "-c" for the path of its program, and loads what lies in
# the directory of kernels below it. There is none: no name of a file has over 255 bytes, and the
# first slash of the text comes later than that.
_WITHOUT_WORKING_DIRECTORY = """\
import sys
if sys.path[:1] == [""]:
    del sys.path[0]
"""

#: For this process and for those that it starts, which cannot import confsim at once.
_IGNORE_SETTINGS = """\
import os.path
import sys

class _OtherFinders:
    # Finds matplotlib where others do. While it is imported, there is no such file.
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "matplotlib":
            return None
        found = (f.find_spec(name, path, target) for f in sys.meta_path if f is not cls)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = cls._without_settings(spec.loader.exec_module)
        return spec

    @staticmethod
    def _without_settings(execute):
        def exec_module(module):
            exists = os.path.exists
            os.path.exists = lambda path: path != "matplotlibrc" and exists(path)
            try:
                execute(module)
            finally:
                os.path.exists = exists

        return exec_module

sys.meta_path.insert(0, _OtherFinders)
"""


def python(code: str, *words: str) -> list[str]:
    """Return the command line of this interpreter that runs ``code`` with ``words`` for it."""
    return [sys.executable, "-c", _WITHOUT_WORKING_DIRECTORY + _IGNORE_SETTINGS + code, *words]


def ignore_settings_in_working_directory() -> None:
    """Have matplotlib, once it is imported, look for settings elsewhere only.

    For commands, which own their process; a library's caller has settings where they wish.
    """
    if "matplotlib" not in sys.modules:
        exec(_IGNORE_SETTINGS, {})
