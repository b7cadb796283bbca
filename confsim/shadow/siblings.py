"""Which files a task is made of: itself, and the modules beside it that it imports.

Found by reading, never by importing: ``import`` statements anywhere in the text, also in functions,
and in turn those of the modules found. What is imported by a computed name, and data that are read,
is not seen.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

from confsim.given_files import open_regular


def parsed(path: Path, content: bytes, name: str) -> ast.Module:
    """Return the syntax tree of a file.

    Raises
    ------
    ValueError
        If it is no Python; the message names the line.
    """
    try:
        return ast.parse(content, name)
    except SyntaxError as error:
        place = f", line {error.lineno}" if error.lineno else ""
        raise ValueError(f"task {name}{place}: {error.msg}") from None
    except ValueError as error:
        raise ValueError(f"task {name} is no Python file: {error}") from None


def files_of(path: Path, name: str) -> dict[str, tuple[bytes, ast.Module]]:
    """Return content and syntax of a task's files by their place in its folder, itself first.

    Parameters
    ----------
    path : Path
        The task file.
    name : str
        What it is called in messages.

    Raises
    ------
    ValueError
        If one of them is no Python, or the task file cannot be read.
    """
    folder, waiting = path.parent, [path]
    found: dict[str, tuple[bytes, ast.Module]] = {}
    while waiting:
        file = waiting.pop()
        key = file.relative_to(folder).as_posix()
        if key in found:
            continue
        try:
            with open_regular(file, f"task {name}") as opened:
                content = opened.read()
        except ValueError:
            if file == path:
                raise
            continue
        called = name if file == path else file.name
        found[key] = content, parsed(file, content, called)
        waiting += [other for other in _imported(found[key][1], file, folder) if other.is_file()]
    return found


def digest_of(files: dict[str, tuple[bytes, ast.Module]]) -> str:
    """Return the hash of a task: of its file, and of those beside it where it imports any."""
    (content, _), *_ = files.values()
    others = list(files.items())[1:]
    digest = hashlib.sha256(content)
    for key, (part, _) in sorted(others):
        digest.update(f"\0{key}\0{hashlib.sha256(part).hexdigest()}".encode())
    return digest.hexdigest()


def packages_of(files: dict[str, tuple[bytes, ast.Module]]) -> set[str]:
    """Return the packages that a task's files import."""
    found = set()
    for _, tree in files.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def _imported(tree: ast.Module, file: Path, folder: Path) -> Iterator[Path]:
    """Yield where modules would be that a file imports, were they in the task's folder."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _places(folder, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            root = folder
            if node.level:
                root = file.parent
                for _ in range(node.level - 1):
                    root = root.parent
                if not root.is_relative_to(folder):
                    continue
            parts = node.module.split(".") if node.module else []
            yield from _places(root, parts)
            for alias in node.names:
                yield from _places(root, [*parts, alias.name])


def _places(root: Path, parts: list[str]) -> Iterator[Path]:
    """Yield the files that importing ``a.b.c`` runs: packages on the way, and the module."""
    for depth in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:depth])
        yield place / "__init__.py"
        yield place.with_name(place.name + ".py")
