"""Explicit values: one row of named numbers per image."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

AugmentValues: TypeAlias = "np.ndarray[Any, np.dtype[np.void]]"
"""Rows of a family's `VALUES`, one per image [N]."""


def plain_rows(values: AugmentValues, names: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield the named fields of each row as Python's own numbers; several in a field stay an array.

    An image asks for a dozen, and of a structured array each costs as much as ten of a tuple.
    """
    columns = (values[name] for name in names)
    return zip(
        *(list(column) if column.ndim > 1 else column.tolist() for column in columns), strict=True
    )


PHOTOMETRIC = np.dtype(
    [
        ("is_joint", "?"),
        ("jitter_order", "u1"),
        ("brightness", "<f4"),
        ("contrast", "<f4"),
        ("saturation", "<f4"),
        ("hue", "<f4"),
        ("kernel_size", "u1"),
        ("kernel", "<f4", (7, 7)),
        ("is_grid", "?"),
        ("boxes", "<f4", (25, 4)),
        ("fill", "u1", (3,)),
        ("quarter_turns", "u1"),
    ]
)
"""What the training device does to an image, in this order: colour factors and hue, rounded step by
step or once (`is_joint`); a filter in the middle `kernel_size` rows and columns of `kernel`; a
black grid; boxes of fractions, filled; quarter turns."""


def neutral(count: int) -> AugmentValues:
    """Return rows of `PHOTOMETRIC` that change nothing [N]."""
    rows = np.zeros(count, dtype=PHOTOMETRIC)
    for factor in ("brightness", "contrast", "saturation"):
        rows[factor] = 1.0
    return rows
