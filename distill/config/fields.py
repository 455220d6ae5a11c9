"""What a field of a recipe carries beside its default: which values it may take, what it needs."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from operator import attrgetter
from typing import Any

MOST_SEED = 2**32 - 1
"""Largest seed that every library that draws numbers takes."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The numbers that a field may hold; None where there is no limit on that side."""

    at_least: float | None = None
    """Smallest allowed value."""

    above: float | None = None
    """Value that every allowed one exceeds."""

    at_most: float | None = None
    """Largest allowed value."""

    below: float | None = None
    """Value that every allowed one falls short of."""

    def allow(self, value: float) -> bool:
        """Return whether a field may hold `value`; NaN is never allowed."""
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    @property
    def in_words(self) -> str:
        limits = ((name.replace("_", " "), limit) for name, limit in vars(self).items())
        return " and ".join(f"{name} {limit}" for name, limit in limits if limit is not None)


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
    """Declare a field whose numbers have bounds; None or a word, where allowed, is never outside.

    Args:
        default: value of a recipe that does not say; the bounds are those of `Bounds`.
        needs: dotted keys of the recipe that must be set when this one is not 0.
        methods: the only methods that look at it; all if empty.
    """
    bounds = Bounds(at_least=at_least, above=above, at_most=at_most, below=below)
    metadata = {"bounds": bounds, "needs": needs, "methods": methods}
    return field(default=default, metadata=metadata)


def seed(default: int = 0) -> Any:
    return bounded(default, at_least=0, at_most=MOST_SEED)


def field_problems(recipe: object) -> Iterator[str]:
    """Report every number outside its bounds, and every key that another one lacks, at once."""
    for key, value, default, metadata in _values(recipe):
        methods = metadata.get("methods")
        if methods and value != default and recipe.method not in methods:  # type: ignore[attr-defined]
            yield f"{key} ({value}) is nothing that {recipe.method} has; leave it out"  # type: ignore[attr-defined]
        bounds = metadata.get("bounds")
        values = value if isinstance(value, tuple) else (value,)
        numbers = [number for number in values if isinstance(number, int | float)]
        if bounds is not None and not all(map(bounds.allow, numbers)):
            yield f"{key} ({value}) must be {bounds.in_words}"
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
