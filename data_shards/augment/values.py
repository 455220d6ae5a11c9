"""Explicit values: one row of named numbers per image."""

from typing import Any, TypeAlias

import numpy as np

AugmentValues: TypeAlias = "np.ndarray[Any, np.dtype[np.void]]"
"""Rows of a family's `VALUES`, one per image [N]."""


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
