"""The type of explicit values: one row of named numbers per image."""

from typing import Any, TypeAlias

import numpy as np

AugmentValues: TypeAlias = "np.ndarray[Any, np.dtype[np.void]]"
"""Rows of a family's `VALUES`, one per image [N]."""
