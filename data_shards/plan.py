"""The order of every sample of every epoch: a pure function of shards, seed, epoch and batch size.

An epoch is a sequence of rounds. In a round every place supplies one satellite and k drone views it
has not shown before; the rounds are concatenated and cut into global batches. Only a batch that
straddles two rounds could show a place twice: those places are swapped with later ones of their
round (spec performance 2.2), which is always possible when places >= batch. Ranks take contiguous
slices of each batch, so the order does not depend on their number.
"""

from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from data_shards.draws import mix
from data_shards.errors import PlanError
from data_shards.schema import Role, View
from data_shards.shards import RowNumbers, ShardSet
from data_shards.split import Places

ROUND, DRONE, SATELLITE = 1, 2, 3
"""First name of each kind of draw, so that no two kinds share random numbers."""

Owners = npt.NDArray[np.int64]
"""For each row of an epoch, the index of the place it shows."""


@dataclass(frozen=True, kw_only=True)
class PlanRows:
    """Rows of the plan, one per pair: a satellite and k drone views of one place.

    P = rows, k = drone views per row.
    """

    place: npt.NDArray[np.int64]
    """Number of the place [P]."""

    visit: npt.NDArray[np.int64]
    """Number of the place's showing, rising over all epochs [P]; augmentation slots follow it."""

    satellite: RowNumbers
    """Image row of the satellite [P]."""

    drone: RowNumbers
    """Image rows of the drone views [P, k]."""

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, rows: slice) -> "PlanRows":
        return PlanRows(
            place=self.place[rows],
            visit=self.visit[rows],
            satellite=self.satellite[rows],
            drone=self.drone[rows],
        )


class Plan:
    """All epochs of one training run; each is arithmetic, so any step can be reached at once."""

    def __init__(
        self,
        shards: ShardSet,
        places: Places,
        *,
        seed: int,
        global_batch: int,
        drones_per_row: int = 1,
    ) -> None:
        """Prepare the plan over `places`, numbers of places in rising order.

        Raises:
            PlanError: the batch is larger than the number of places, or a place has too few views.
        """
        if global_batch < 1 or drones_per_row < 1:
            raise PlanError(
                f"global batch {global_batch} and drone views per row {drones_per_row} "
                "must be at least 1"
            )
        if global_batch > len(places):
            raise PlanError(
                f"global batch {global_batch} is larger than the {len(places)} places to plan over "
                "(training places that are not held out), so a place would stand twice in it; "
                f"choose at most {len(places)}"
            )
        self.seed, self.global_batch, self.drones_per_row = seed, global_batch, drones_per_row
        self.places = places
        self._drones = _views_by_place(shards, places, View.DRONE)
        self._satellites = _views_by_place(shards, places, View.SATELLITE)
        self._rounds = self._drones.count // drones_per_row
        if self._rounds.min() == 0:
            fewest = int(self._rounds.argmin())
            raise PlanError(
                f"place {shards.places[int(places[fewest])]} has "
                f"{int(self._drones.count[fewest])} drone images, fewer than the "
                f"{drones_per_row} of one row; lower the drone views per row"
            )
        self.steps_per_epoch = _num_steps(self._rounds, global_batch)
        self._latest: tuple[int, PlanRows] | None = None

    @property
    def pairs_per_epoch(self) -> int:
        """Rows that one epoch shows; the rest of `pairs_available` waits for another epoch."""
        return self.steps_per_epoch * self.global_batch

    @property
    def pairs_available(self) -> int:
        """Rows that the places could supply in one epoch."""
        return int(self._rounds.sum())

    def epoch(self, epoch: int) -> PlanRows:
        """Return the rows of one epoch in order; batch i is rows [i * B, (i + 1) * B)."""
        if self._latest is None or self._latest[0] != epoch:
            self._latest = epoch, self._rows(epoch)
        return self._latest[1]

    def _rows(self, epoch: int) -> PlanRows:
        owner = self._owners(epoch)
        turn = _turns(owner)
        drones = self._drones.shuffled(DRONE, self.seed, epoch, places=self.places)
        tiles = self._satellites.shuffled(SATELLITE, self.seed, epoch, places=self.places)
        first = self._drones.start[owner] + turn * self.drones_per_row
        tile = self._satellites.start[owner] + turn % self._satellites.count[owner]
        return PlanRows(
            place=self.places[owner],
            visit=epoch * self._rounds[owner] + turn,
            satellite=tiles[tile],
            drone=drones[first[:, None] + np.arange(self.drones_per_row)],
        )

    def _owners(self, epoch: int) -> Owners:
        """Return which place (as an index into `self.places`) each row shows, in whole batches."""
        turns = np.minimum(self._rounds, self.steps_per_epoch)
        owner = np.repeat(np.arange(len(turns)), turns)
        turn = np.arange(len(owner)) - np.repeat(np.cumsum(turns) - turns, turns)
        draw = mix(ROUND, self.seed, epoch, self.places[owner], turn)
        # Turn i of n stands at i / n of the epoch: with equal counts these are the rounds of the
        # text above, with unequal ones the rarer places are spread evenly.
        owner = owner[np.lexsort((draw, turn / turns[owner]))]
        if (turns == turns[0]).all():
            separate_rounds(owner, self.global_batch)
            return owner[: self.pairs_per_epoch]
        return deal(owner[: self.pairs_per_epoch], self.global_batch)


def separate_rounds(owner: Owners, batch: int) -> None:
    """Reorder rounds of permutations in place until no value stands twice in a batch.

    Only a batch that straddles two rounds can hold a value twice; the second one is swapped with
    the first later value that the batch lacks, which lies in the same round when values >= batch.
    """
    seen = np.full(int(owner.max(initial=0)) + 1, -1)
    for start in range(0, len(owner) - batch + 1, batch):
        block = owner[start : start + batch]
        marks = np.arange(start, start + batch)
        seen[block] = marks
        if not (seen[block] == marks).all():
            _swap_repeated(owner, start, start + batch)


def _swap_repeated(owner: Owners, start: int, end: int) -> None:
    """Swap every repeated value of one batch for the first later value that the batch lacks."""
    held: set[int] = set()
    members = set(owner[start:end].tolist())
    donor = end
    for at in range(start, end):
        if int(owner[at]) in held:
            while int(owner[donor]) in members:
                donor += 1
            owner[at], owner[donor] = owner[donor], owner[at]
            members.add(int(owner[at]))
        held.add(int(owner[at]))


def deal(owner: Owners, batch: int) -> Owners:
    """Reorder values of unequal counts into batches without repeats, keeping near their order.

    Before each batch a value that remains as often as batches remain must be in it; the others come
    in order. With no count above the number of batches (the caller's promise) this never fails.
    """
    num_batches = len(owner) // batch
    left = np.bincount(owner)
    held_back: list[int] = []
    coming = iter(owner.tolist())
    dealt: list[int] = []
    for remaining in range(num_batches, 0, -1):
        due = set(np.flatnonzero(left == remaining).tolist())
        members, free = set[int](), batch - len(due)
        still_held: list[int] = []
        held = iter(held_back)
        queue = chain(held, coming)
        while len(members) < batch:
            value = next(queue)
            if value in members or (value not in due and not free):
                still_held.append(value)
                continue
            members.add(value)
            dealt.append(value)
            free -= value not in due
        left[list(members)] -= 1
        held_back = [*still_held, *held]
    return np.array(dealt, dtype=np.int64)


def _num_steps(rounds: npt.NDArray[np.int64], batch: int) -> int:
    """Return the most batches of distinct places: the largest T, T * batch <= sum(min(rounds, T)).

    A place stands at most once in each of T batches, so it fills at most min(rounds, T) rows; and
    `deal` reaches this bound.
    """
    low, high = 0, int(rounds.sum()) // batch
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(rounds, middle).sum()) >= middle * batch:
            low = middle
        else:
            high = middle - 1
    return low


def _turns(owner: Owners) -> npt.NDArray[np.int64]:
    """Return, for each row, how often its place stood before it."""
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(owner)))
    turn = np.empty(len(owner), dtype=np.int64)
    turn[order] = np.arange(len(owner)) - np.repeat(starts, sizes)
    return turn


@dataclass(frozen=True, kw_only=True)
class _Views:
    """Image rows of one view, those of one place beside each other.

    N = images, P = places.
    """

    rows: RowNumbers
    """Image rows [N], sorted by place and position."""

    start: npt.NDArray[np.int64]
    """Where each place begins in `rows` [P]."""

    count: npt.NDArray[np.int64]
    """Images of each place [P]."""

    def shuffled(self, *names: int, places: Places) -> RowNumbers:
        """Return `rows` with the images of each place in an order that `names` and place decide."""
        owner = np.repeat(np.arange(len(places)), self.count)
        number = np.arange(len(owner)) - self.start[owner]
        return self.rows[np.lexsort((mix(*names, places[owner], number), owner))]


def _views_by_place(shards: ShardSet, places: Places, view: View) -> _Views:
    rows = shards.images.where(role=Role.TRAIN, view=view, places=places)
    start = np.searchsorted(shards.images.place[rows], places, side="left")
    end = np.searchsorted(shards.images.place[rows], places, side="right")
    return _Views(rows=rows, start=start, count=end - start)


def rank_slice(index: int, *, rank: int, world_size: int, global_batch: int) -> slice:
    """Return which rows of an epoch are one rank's part of its batch `index`.

    Raises:
        PlanError: the global batch is not divisible by the number of ranks.
    """
    share = ranks_share(global_batch=global_batch, world_size=world_size)
    start = index * global_batch + rank * share
    return slice(start, start + share)


def ranks_share(*, global_batch: int, world_size: int) -> int:
    """Return the rows of each rank.

    Raises:
        PlanError: the global batch is not divisible by the number of ranks.
    """
    if world_size < 1 or global_batch % world_size:
        down = max(global_batch - global_batch % max(world_size, 1), world_size)
        raise PlanError(
            f"global batch {global_batch} is not divisible by {world_size} ranks; choose {down} or "
            f"{down + max(world_size, 1)}, or another number of ranks"
        )
    return global_batch // world_size
