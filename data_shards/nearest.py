"""Refusing a name nobody knows, with the nearest one that exists."""

import difflib
from collections.abc import Iterable

from data_shards.errors import SkyDistillError


def choose(name: str, known: Iterable[str], *, what: str, error: type[SkyDistillError]) -> str:
    """Return `name` if it is known.

    Raises:
        error: it is not; the sentence names the nearest known name and lists all of them.
    """
    names = list(known)
    if name in names:
        return name
    raise error(f"{what} {name!r} is unknown{did_you_mean(name, names)}; known: {', '.join(names)}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return `, did you mean 'x'?`-like words, or nothing when no name is near."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
