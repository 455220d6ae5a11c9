"""Which images are varied, and the random numbers that belong to each of them."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from data_shards.draws import mix, uniform
from data_shards.schema import View

Draws = npt.NDArray[np.float64]
"""Numbers in [0, 1), one per image [N]."""

FLIP = 0
"""Name of the draw that mirrors; the same in every family."""


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """N images of one view, each in a slot.

    A draw is a pure function of its name, the augmentation seed, the slot, and the image (or its
    place): not of the run's seed, the epoch, the rank, or the images beside it.
    """

    seed: int
    """Augmentation seed."""

    slots: npt.NDArray[np.int64]
    """Variation asked for, 0 to `AugmentConfig.slots` - 1 [N]."""

    key_hashes: npt.NDArray[np.uint64]
    """64 bits that name each image [N]."""

    place_hashes: npt.NDArray[np.uint64]
    """64 bits that name each image's place [N]."""

    view: View

    def __len__(self) -> int:
        return len(self.key_hashes)

    def of(self, chosen: npt.NDArray[np.integer]) -> "Subjects":
        """Return the chosen images alone, given as numbers 0 to N - 1."""
        return replace(
            self,
            slots=self.slots[chosen],
            key_hashes=self.key_hashes[chosen],
            place_hashes=self.place_hashes[chosen],
        )

    def draw(self, name: int) -> Draws:
        """Draw a number of each image [N]."""
        return uniform(mix(name, self.seed, self.slots, self.key_hashes))

    def draw_of_place(self, name: int) -> Draws:
        """Draw a number that all images of a place share in a slot [N]."""
        return uniform(mix(name, self.seed, self.slots, self.place_hashes))

    def draws(self, first_name: int, count: int) -> Draws:
        """Draw `count` numbers of each image, under rising names [N, count]."""
        names = first_name + np.arange(count)
        return uniform(mix(names, self.seed, self.slots[:, None], self.key_hashes[:, None]))

    def between(self, name: int, low: float, high: float) -> Draws:
        """Draw a number from `low` to `high` of each image [N]."""
        return low + (high - low) * self.draw(name)

    def integers(self, name: int, low: int, high: int) -> npt.NDArray[np.int64]:
        """Draw a whole number from `low` to `high` of each image, both included [N]."""
        return low + np.floor((high - low + 1) * self.draw(name)).astype(np.int64)
