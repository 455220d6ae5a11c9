"""The images of one view, place by place: what a plan shows in turn and a mining pass looks at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
import numpy.typing as npt

from data_shards.draws import Bits, mix
from data_shards.errors import PlanError
from data_shards.schema import Role, View
from data_shards.shards import RowNumbers, ShardSet

Places = npt.NDArray[np.int64]


def held_out_places(shards: ShardSet, *, fraction: float, seed: int) -> Places:
    """Return the numbers of the training places kept from training: a `fraction`, drawn by `seed`.

    The draw looks at a place's identifier only, so adding places moves few others.
    """
    places = shards.train_places
    count = round(fraction * len(places))
    order = np.argsort(mix(seed, shards.place_hashes[places]), kind="stable")
    return cast(Places, np.sort(places[order[:count]]))


def trained_places(shards: ShardSet, *, fraction: float, seed: int) -> Places:
    return np.setdiff1d(shards.train_places, held_out_places(shards, fraction=fraction, seed=seed))


MOST_HEIGHTS_NAMED = 8
"""Heights that a sentence lists before it stops."""

SHUFFLED_AT_ONCE = 2**16
"""Images that are shuffled at a time, so that they stay near the processor."""

ImageRows = npt.NDArray[np.int32] | npt.NDArray[np.int64]
"""Rows of the image table, 32 bits wide where they fit."""


@dataclass(frozen=True, kw_only=True)
class PlaceViews:
    """Image rows of one view, those of one place beside each other.

    N = images, P = places.
    """

    rows: ImageRows
    """Image rows [N], sorted by place and position."""

    start: npt.NDArray[np.int64]
    """Where each place begins in `rows` [P]."""

    count: npt.NDArray[np.int64]
    """Images of each place [P]."""

    @cached_property
    def is_single(self) -> bool:
        return bool(self.count.max(initial=0) <= 1)

    def of(self, chosen: npt.NDArray[np.integer]) -> "PlaceViews":
        """Return the views of the chosen places alone, given as numbers 0 to P - 1."""
        return replace(self, start=self.start[chosen], count=self.count[chosen])

    def shuffled(self, *names: int, places: Places) -> ImageRows:
        """Return `rows` with the images of each place in an order that names and place decide.

        Made a piece at a time, so that it costs little more memory than it returns.
        """
        shuffled = np.empty_like(self.rows)
        seed = mix(*names, places)
        end = np.cumsum(self.count)
        first = 0
        while first < len(places):
            done = int(end[first] - self.count[first])
            last = max(first + 1, int(np.searchsorted(end, done + SHUFFLED_AT_ONCE, side="right")))
            self._shuffle(slice(first, last), seed[first:last], into=shuffled)
            first = last
        return shuffled

    def _shuffle(self, part: slice, seed: Bits, *, into: ImageRows) -> None:
        """Shuffle the images of some places: sort by (place, draw, number) in one word each."""
        count, start = self.count[part], self.start[part]
        owner = np.repeat(np.arange(len(count)), count)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        place_bits = np.uint64(int(len(count)).bit_length())
        low = np.uint64(2 ** int(count.max()).bit_length() - 1)
        draw = mix(seed[owner] + number.astype(np.uint64)) >> place_bits
        word = owner.astype(np.uint64) << (np.uint64(64) - place_bits) | draw & ~low
        drawn = np.sort(word | number.astype(np.uint64)) & low
        begin = start[owner]
        into[begin + number] = self.rows[begin + drawn.astype(np.int64)]

    def spread(self, most: int) -> tuple[RowNumbers, npt.NDArray[np.int64]]:
        """Return at most `most` images per place, evenly over its positions, 0 for all of them.

        Returns:
            Image rows [M] and the number 0 to P - 1 of the place each shows [M].
        """
        taken = np.minimum(self.count, most) if most else self.count
        owner = np.repeat(np.arange(len(taken)), taken)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(taken) - taken, taken)
        at = self.start[owner] + number * self.count[owner] // taken[owner]
        return self.rows[at].astype(np.int64), owner


def views_by_place(
    shards: ShardSet, places: Places, view: View, *, altitudes: Sequence[float] = ()
) -> PlaceViews:
    """Find the training images of one view of `places`; with `altitudes`, of these heights only.

    Raises:
        PlanError: a height that no such image has; the sentence names those there are.
    """
    rows = shards.images.where(role=Role.TRAIN, view=view, places=places)
    rows = at_altitudes(shards, rows, altitudes)
    place = shards.images.place[rows]
    start = np.searchsorted(place, places, side="left")
    end = np.searchsorted(place, places, side="right")
    fits = len(shards.images) < 2**31
    return PlaceViews(rows=rows.astype(np.int32) if fits else rows, start=start, count=end - start)


def at_altitudes(shards: ShardSet, rows: RowNumbers, altitudes: Sequence[float]) -> RowNumbers:
    """Return those image rows whose height in metres is one of `altitudes`; all if it is empty.

    Raises:
        PlanError: a height that none of them has; the sentence names those there are.
    """
    if not altitudes:
        return rows
    heights = shards.images.altitude_m[rows]
    for altitude in altitudes:
        if not (heights == np.float32(altitude)).any():
            known = np.unique(heights[~np.isnan(heights)])
            more = ", ..." if len(known) > MOST_HEIGHTS_NAMED else ""
            named = ", ".join(f"{height:g}" for height in known[:MOST_HEIGHTS_NAMED])
            advice = "these shards tell no heights, so leave altitudes empty"
            raise PlanError(
                f"no drone image to train on was taken at {altitude:g} m; "
                f"{f'choose among {named}{more}' if len(known) else advice}"
            )
    return rows[np.isin(heights, np.asarray(altitudes, dtype=np.float32))]
