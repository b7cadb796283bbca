"""Names that were meant: "did you mean" for columns, arguments and choices."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def did_you_mean(
    name: str, choices: Iterable[str], synonyms: Mapping[str, str] | None = None
) -> str:
    """Return ``": did you mean 'x'?"`` for the choice nearest to a name, "" if none is near.

    ``synonyms`` are other words for some choices.
    """
    choices = tuple(choices)
    meant = (synonyms or {}).get(name.casefold())
    if meant in choices:
        return f": did you mean {meant!r}?"
    plain = {choice.casefold().replace("_", ""): choice for choice in choices}
    given = name.casefold().replace("_", "").replace("-", "").replace(" ", "")
    near = difflib.get_close_matches(given, plain, n=1, cutoff=0.7)
    if not near:
        # "member" for "is_member", "embedding_features" for "features"
        near = [short for short in plain if len(given) > 3 and (given in short or short in given)]
    return f": did you mean {plain[near[0]]!r}?" if near else ""


def explain_keywords(
    synonyms: Mapping[str, str] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a function answer an unknown keyword with the one that was probably meant."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name not in parameters:
                    hint = did_you_mean(name, parameters, synonyms)
                    raise TypeError(f"{function.__name__}() has no argument {name!r}{hint}")
            return function(*args, **kwargs)

        return checked

    return decorate


def explain_all(package: str, found: dict[str, Any], names: Iterable[str]) -> None:
    """Have the functions among a package's public ``names`` explain unknown keywords.

    They are the package's own then, where pickles find them. Their modules keep the plain ones, for
    those inside and for doctests.
    """
    for name in names:
        if inspect.isfunction(found[name]) and not hasattr(found[name], "__wrapped__"):
            found[name] = explain_keywords()(found[name])
            found[name].__module__ = package
