"""How images are varied, by the family that a recipe names.

The values do not depend on the run's seed, the epoch or the rank, so a teacher cache made once
holds exactly what every student will see (spec performance 3.3).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from data_shards.augment import light, mccg, mean
from data_shards.augment.config import AugmentConfig, AugmentFamily
from data_shards.augment.subjects import Subjects
from data_shards.augment.values import AugmentValues, neutral
from data_shards.config import Resampling
from data_shards.decode import Pixels

AUGMENT_VERSION = 3
"""Part of every cache key; raised when the same seed, slot and key would give other pixels."""


FAMILIES: dict[AugmentFamily, ModuleType] = {"light": light, "mean": mean, "mccg": mccg}
"""Each has:

- `VALUES`: columns of what is drawn, and `Change`: a tuple of their names;
- `draw(config, subjects)`: rows of `VALUES`, one per image;
- `apply(pixels, change, into, resampling=)`: vary `pixels` into `into` [S, S, RGB];
- `split(values)`: the rows that `apply` then takes, and rows of `PHOTOMETRIC` for a device;
- perhaps `is_in_place(change)`: whether `pixels` may be `into` itself, so that an image of that
  size is copied nowhere; never without it."""


@dataclass(frozen=True, kw_only=True)
class Variations:
    """Explicit values of N images, and the family that knows what they mean."""

    family: AugmentFamily
    values: AugmentValues
    """One row per image [N]."""

    is_split: bool = False
    """Whether a device does the photometric part (`on_device.finish`), and `apply` the others."""

    def __len__(self) -> int:
        return len(self.values)

    def __reduce__(self) -> "tuple[Any, ...]":
        """Pickle what was drawn: the names of its columns take longer than the values."""
        return _of_bytes, (self.family, self.values.tobytes(), self.is_split)

    def __getitem__(self, chosen: slice) -> "Variations":
        return replace(self, values=self.values[chosen])

    @cached_property
    def _parts(self) -> tuple[AugmentValues, AugmentValues]:
        """What is left for `apply`, and what a device does."""
        rows = self.values
        ours, rest = FAMILIES[self.family].split(rows) if self.is_split else (rows, neutral(0))
        return ours, rest

    @property
    def photometric(self) -> AugmentValues:
        """Rows of `PHOTOMETRIC`, one per image [N]; none where the loader does all [0]."""
        return self._parts[1]

    @cached_property
    def changes(self) -> list[Any]:
        """The `Change` of each image in Python's own numbers; several in a field stay an array.

        An image asks for a dozen, and of a structured array each costs as much as ten of a tuple.
        """
        change, rows = FAMILIES[self.family].Change, self._parts[0]
        columns = (rows[name] for name in change._fields)
        plain = (list(column) if column.ndim > 1 else column.tolist() for column in columns)
        return list(map(change._make, zip(*plain, strict=True)))

    def is_in_place(self, at: int) -> bool:
        """Whether image number `at` may best be varied where it was decoded."""
        asked = getattr(FAMILIES[self.family], "is_in_place", None)
        return asked is not None and bool(asked(self.changes[at]))

    def apply(self, at: int, pixels: Pixels, into: Pixels, *, resampling: Resampling) -> None:
        """Vary `pixels`, image number `at`, into `into` [S, S, RGB]; other `pixels` stay."""
        FAMILIES[self.family].apply(pixels, self.changes[at], into, resampling=resampling)


def _of_bytes(family: AugmentFamily, values: bytes, is_split: bool) -> Variations:  # noqa: FBT001 - as it was pickled
    rows = np.frombuffer(values, dtype=FAMILIES[family].VALUES)
    return Variations(family=family, values=rows, is_split=is_split)


def draw_variations(config: AugmentConfig, subjects: Subjects) -> Variations:
    """Draw the values of N images in the family of `config`."""
    values = FAMILIES[config.family].draw(config, subjects)
    return Variations(family=config.family, values=values, is_split=config.device)
