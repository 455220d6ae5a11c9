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
