"""What a field of a recipe carries beside its default: which values it may take, what it needs."""

from collections.abc import Iterator
from dataclasses import field, fields, is_dataclass
from operator import attrgetter, ge, gt, le, lt
from typing import Any

MOST_SEED = 2**32 - 1
"""Largest seed that every library that draws numbers takes."""


LIMITS = {"at least": ge, "above": gt, "at most": le, "below": lt}
"""How an allowed number stands to each kind of limit; NaN stands to none so."""


def bounded(
    default: float | str | tuple[float, ...] | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    needs: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
) -> Any:
    """Declare a field whose numbers have limits; None or a word, where allowed, is never outside.

    `needs` are dotted keys of the recipe that must be set when this one is not 0, and `methods` the
    only ones that look at it; all if empty.
    """
    given = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    limits = {words: limit for words, limit in given.items() if limit is not None}
    metadata = {"limits": limits, "needs": needs, "methods": methods}
    return field(default=default, metadata=metadata)


def seed(default: int = 0) -> Any:
    return bounded(default, at_least=0, at_most=MOST_SEED)


def field_problems(recipe: object) -> Iterator[str]:
    """Report every number outside its bounds, and every key that another one lacks, at once."""
    for key, value, default, metadata in _values(recipe):
        methods = metadata.get("methods")
        if methods and value != default and recipe.method not in methods:  # type: ignore[attr-defined]
            yield f"{key} ({value}) is nothing that {recipe.method} has; leave it out"  # type: ignore[attr-defined]
        limits = metadata.get("limits", {}).items()
        values = value if isinstance(value, tuple) else (value,)
        numbers = [number for number in values if isinstance(number, int | float)]
        if not all(LIMITS[words](number, limit) for words, limit in limits for number in numbers):
            allowed = " and ".join(f"{words} {limit}" for words, limit in limits)
            yield f"{key} ({value}) must be {allowed}"
        for needed in metadata.get("needs", ()) if value else ():
            if not attrgetter(needed)(recipe):
                yield f"{key} ({value}) needs {needed}; set it, or {key} to 0"


def _values(part: object, below: str = "") -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield dotted key, value, default and metadata of all fields of a config and of its parts."""
    for one in fields(part):  # type: ignore[arg-type]
        value = getattr(part, one.name)
        if is_dataclass(value):
            yield from _values(value, f"{below}{one.name}.")
        else:
            yield f"{below}{one.name}", value, one.default, one.metadata
