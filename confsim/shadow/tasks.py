"""The user's task: where it comes from, and how its functions are called.

A :class:`Source` is small and picklable and says where a task is; :meth:`Source.load` imports it,
once a process, after threads and device are set. A :class:`Task` calls the user's functions: what
they raise becomes one line that names the task's own line of code, and what they print is not ours.
"""

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import inspect
import linecache
import os
import pickle
import sys
import sysconfig
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

from confsim._errors import ConfsimError
from confsim._suggest import did_you_mean
from confsim.experiment import Interrupted
from confsim.shadow.siblings import digest_of, files_of, packages_of

#: Functions of a task and their arguments; the first two are needed.
FUNCTIONS = {
    "population": "population()",
    "train": "train(members, seed, context)",
    "target": "target()",
    "configure": "configure(**parameters)",
}

#: Packages whose versions decide what is trained.
_FRAMEWORKS = (
    "numpy",
    "scipy",
    "sklearn",
    "torch",
    "tensorflow",
    "jax",
    "flax",
    "keras",
    "xgboost",
    "lightgbm",
    "catboost",
    "skorch",
    "scikeras",
    "transformers",
)


class TaskError(ConfsimError):
    """The user's code failed; says where."""


# ---- calling the user's code -------------------------------------------------------------------


@contextlib.contextmanager
def users_code(what: str) -> Iterator[None]:
    """Turn whatever the user's code raises into one line with its own last line.

    ``sys.exit`` is an error of the trial, not the end of the worker. A fork that comes out of the
    user's code ends here: only the process that went in goes on.
    """
    process = os.getpid()
    try:
        yield
    except (Interrupted, MemoryError, TaskError):
        raise
    except BaseException as error:
        if os.getpid() != process:
            os._exit(1)
        raise TaskError(f"{what} failed: {describe(error)}") from error
    finally:
        if os.getpid() != process:
            os._exit(0)


def describe(error: BaseException) -> str:
    """Return an error in one line, with the last line of code that is the user's own."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.msg} ({Path(error.filename).name}, line {error.lineno})"
    if isinstance(error, SystemExit):
        said = f"it called sys.exit({error.code!r})"
    else:
        said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_own(frame.filename):
            code = f": {frame.line}" if frame.line else ""
            return f"{said} ({Path(frame.filename).name}, line {frame.lineno}{code})"
    return said


def _is_own(filename: str) -> bool:
    """Whether code is the user's: neither installed, nor Python's, nor confsim's."""
    if filename.startswith("<frozen") or {"site-packages", "dist-packages"} & {
        *Path(filename).parts
    }:
        return False
    places = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    ours = os.fspath(Path(__file__).parents[1])
    return not any(filename.startswith(place + os.sep) for place in (*places, ours))


class Task:
    """A loaded task.

    Parameters
    ----------
    owner : object
        A module, or any object with the functions of a task.
    name : str
        What it is called in messages.
    """

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name = owner, name
        for function in ("train", "population"):
            self._check(function)
        if self.has("target"):
            self._check("target")

    def _check(self, name: str) -> None:
        function = getattr(self.owner, name, None)
        if callable(function):
            _check_arguments(function, name, self.name)
            return
        there = [n for n in dir(self.owner) if not n.startswith("_")]
        hint = did_you_mean(name, [n for n in there if callable(getattr(self.owner, n, None))])
        raise ValueError(f"{self.name} has no function {FUNCTIONS[name]}{hint}")

    def has(self, name: str) -> bool:
        """Whether the task has an optional function."""
        return callable(getattr(self.owner, name, None))

    def call(self, name: str, *given: Any, **named: Any) -> Any:
        """Call a function of the task; see :func:`users_code`."""
        with users_code(f"{name}() of {self.name}"):
            return getattr(self.owner, name)(*given, **named)

    def configure(self, parameters: Mapping[str, Any]) -> None:
        """Hand the parameters over, if there are any.

        Raises
        ------
        ValueError
            If the task knows no such parameter.
        """
        if not parameters:
            return
        if not self.has("configure"):
            raise ValueError(
                f"{self.name} has no function configure(**parameters), which --set "
                f"{next(iter(parameters))}=... needs"
            )
        known = inspect.signature(self.owner.configure).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            for name in parameters:
                if name not in known:
                    hint = did_you_mean(name, known) or f": it has {', '.join(known)}"
                    raise ValueError(f"configure() of {self.name} has no parameter {name}{hint}")
        self.call("configure", **parameters)


def _check_arguments(function: Any, name: str, task: str) -> None:
    """Raise ``ValueError`` if a function of a task cannot be called as :data:`FUNCTIONS` says."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a kind that does not tell
        return
    try:
        signature.bind(*("members", "seed", "context")[: 3 * (name == "train")])
    except TypeError as error:
        raise ValueError(
            f"{name}{signature} of {task} must be called as {FUNCTIONS[name]}: {error}"
        ) from None


# ---- where tasks come from ---------------------------------------------------------------------


@dataclass(frozen=True)
class Source(ABC):
    """Where a task is.

    Attributes
    ----------
    name : str
        What it is called: the file as it was given, or a class.
    sha256 : str
        Hash of its source.
    """

    name: str
    sha256: str

    @abstractmethod
    def load(self) -> Task:
        """Import the task; its parameters are not yet set."""

    def imports(self) -> set[str]:
        """Return the packages that its text imports, also later, in a function."""
        return set()


@dataclass(frozen=True)
class FileSource(Source):
    """A Python file, with the modules beside it that it imports."""

    path: str

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> "FileSource":
        """Read the file, and check that it is Python.

        Raises
        ------
        ValueError
            If it cannot be read, or has a syntax error: the message names the line.
        """
        whole = Path(path).expanduser().absolute()
        name = os.fspath(path)
        return cls(name, digest_of(files_of(whole, name)), os.fspath(whole))

    def load(self) -> Task:
        """Import the file; what lies beside it can be imported, too."""
        path = Path(self.path)
        if FileSource.of(path).sha256 != self.sha256:
            raise ConfsimError(
                f"task {self.name}, or a module beside it, was changed after this command began"
            )
        name = f"confsim_task_{path.stem}"
        loader = importlib.machinery.SourceFileLoader(name, self.path)
        spec = importlib.util.spec_from_file_location(name, self.path, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # pickles and dataclasses look there
        sys.path.insert(0, os.fspath(path.parent))
        with users_code(f"importing {self.name}"):
            loader.exec_module(module)
        return Task(module, self.name)

    def imports(self) -> set[str]:
        """Return the packages that it imports, also in functions."""
        return packages_of(files_of(Path(self.path), self.name))


@dataclass(frozen=True)
class ObjectSource(Source):
    """An object, pickled by value into a file that lives as long as the command."""

    path: str

    @classmethod
    def of(cls, task: Any, folder: Path) -> "ObjectSource":
        """Pickle an object, also one whose class was defined in a notebook.

        Raises
        ------
        TypeError
            If it cannot be pickled.
        """
        Task(task, _name_of(task))
        path = folder / "task.pickle"
        path.write_bytes(pickled(task, f"task {_name_of(task)}"))
        return cls(_name_of(task), _hash_of(task), os.fspath(path))

    def load(self) -> Task:
        """Unpickle the object."""
        with users_code(f"loading {self.name}"):
            owner = pickle.loads(Path(self.path).read_bytes())
        return Task(owner, self.name)


def pickled(value: Any, what: str) -> bytes:
    """Pickle an object by value where its class cannot be imported elsewhere, as in a notebook.

    Raises
    ------
    TypeError
        If it cannot be pickled; ``what`` names it.
    """
    try:
        import cloudpickle
    except ImportError:  # older versions of joblib bring a copy of their own
        from joblib.externals import cloudpickle
    module = sys.modules.get((value if isinstance(value, type) else type(value)).__module__)
    if module is not None and _only_here(module.__name__):
        cloudpickle.register_pickle_by_value(module)
    try:
        found: bytes = cloudpickle.dumps(value)
    except (TypeError, pickle.PicklingError, AttributeError) as error:
        raise TypeError(f"{what} cannot be sent to worker processes: {error}") from None
    return found


def _only_here(module: str) -> bool:
    """Whether a module cannot be imported by a process that has but this one's path."""
    root = module.partition(".")[0]
    known = root in sys.builtin_module_names or root == "__main__"
    return not known and importlib.machinery.PathFinder.find_spec(root) is None


def _name_of(task: Any) -> str:
    return task.__name__ if isinstance(task, type) else type(task).__name__


def _hash_of(task: Any) -> str:
    """Return the hash of the source of an object's class and functions, and of its values."""
    import joblib

    kind = task if isinstance(task, type) else type(task)
    functions = [getattr(task, name, None) for name in FUNCTIONS]
    texts = [_source(part) for part in (kind, *functions) if part is not None]
    values = {} if isinstance(task, type) else dict(getattr(task, "__dict__", {}))
    plain = {name: value for name, value in values.items() if not callable(value)}
    return hashlib.sha256("\0".join([*texts, joblib.hash(plain)]).encode()).hexdigest()


def _source(part: Any) -> str:
    linecache.checkcache()
    try:
        return inspect.getsource(part)
    except (OSError, TypeError):  # typed at a prompt: the compiled code stands for it
        code = getattr(part, "__code__", None)
        return "" if code is None else f"{code.co_code!r} {code.co_consts!r} {code.co_names!r}"


def source_of(task: Any, folder: Path) -> Source:
    """Return where a task is: a path, a module, or an object with the functions."""
    if isinstance(task, (str, os.PathLike)):
        return FileSource.of(task)
    if isinstance(task, ModuleType):
        if not getattr(task, "__file__", None):
            raise TypeError(f"task {task.__name__} is a module without a file")
        return FileSource.of(str(task.__file__))
    return ObjectSource.of(task, folder)


def framework_versions(imported: set[str]) -> dict[str, str]:
    """Return the versions of the frameworks that are imported, or will be."""
    names = [name for name in _FRAMEWORKS if name in sys.modules or name in imported]
    owners = packages_distributions()
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError, IndexError):
            found[name] = version(owners.get(name, [name])[0])
    return found
