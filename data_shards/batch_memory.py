"""Memory of batches, used again once nobody holds what was in it.

Fresh memory is zeroed by the system page by page, at a twentieth to a tenth of what decoding costs.
"""

from collections.abc import Callable
from sys import getrefcount

import numpy as np
import numpy.typing as npt

from data_shards.decode import STREAMED, cached_start

Piece = npt.NDArray[np.uint8]

MOST_SPARE = 8
"""Free pieces that are kept when another is needed: a few batches of two or three views."""


def fresh_piece(size: int) -> Piece:
    return np.empty(size, dtype=np.uint8)


class BatchMemory:
    """Pieces of memory for one reader of batches; only the thread that reads them may ask."""

    def __init__(self, allocate: Callable[[int], Piece] = fresh_piece) -> None:
        """Take fresh memory of so many bytes from `allocate`."""
        self._allocate = allocate
        self._pieces: list[Piece] = []

    def images(self, count: int, size: int) -> Piece:
        """Return room for images [count, size, size, RGB] that nobody holds; its content is old."""
        needed = count * size * size * 3
        with_start = needed + STREAMED
        free = [at for at in range(len(self._pieces)) if _is_free(self._pieces, at)]
        fitting = [at for at in free if self._pieces[at].size >= with_start]
        if fitting:
            piece = self._pieces[min(fitting, key=lambda at: self._pieces[at].size)]
        else:
            for at in reversed(free[MOST_SPARE:]):
                del self._pieces[at]
            piece = self._allocate(with_start)
            self._pieces.append(piece)
        start = cached_start(piece)
        return piece[start : start + needed].reshape(count, size, size, 3)


def _is_free(pieces: list[Piece], at: int) -> bool:
    """Return whether the list alone holds a piece.

    Whatever looks at a piece holds a reference to it: NumPy's views are based on the array that
    owns the memory, not on each other, and torch's tensors hold the view they were made from.
    """
    return getrefcount(pieces[at]) == _REFERENCES


_REFERENCES = 2
"""Of a piece in the list alone: the list's, and that of the call which counts."""
