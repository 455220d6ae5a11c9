"""The order of every sample of every epoch: a pure function of shards, seed, epoch and batch size.

With mined neighbours it is one of their table too. `rounds.py` says which place each row shows;
here a place's turn becomes images, each drone view shown once an epoch. Ranks take
contiguous slices of each batch, so the order does not depend on their number, and any rows can be
asked for at once.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from data_shards.errors import PlanError
from data_shards.planning.neighbours import Neighbours
from data_shards.planning.place_views import ImageRows, Places, PlaceViews, views_by_place
from data_shards.planning.rounds import Order, Owners, Recent, Rounds, make_order, most_steps
from data_shards.schema import View
from data_shards.shards import RowNumbers, ShardSet

DRONE, SATELLITE, THIRD = 2, 3, 5
"""First name of each kind of draw; `data_shards.planning.rounds` holds the others."""

EPOCHS_HELD = 2
"""The one that is shown, and the next one, which a loader may prepare meanwhile."""


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

    third: RowNumbers | None = None
    """Image row of the third view [P], where the plan has one."""

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, rows: slice) -> "PlanRows":
        return PlanRows(
            place=self.place[rows],
            visit=self.visit[rows],
            satellite=self.satellite[rows],
            drone=self.drone[rows],
            third=None if self.third is None else self.third[rows],
        )


class Plan:
    """All epochs of one training run; each is arithmetic, so any step can be reached at once.

    Threads may share a plan.
    """

    def __init__(
        self,
        shards: ShardSet,
        places: Places,
        *,
        seed: int,
        global_batch: int,
        drones_per_row: int = 1,
        third_view: View | None = None,
        altitudes: Sequence[float] = (),
    ) -> None:
        """Prepare the plan.

        Args:
            shards: what is planned over.
            places: numbers of places, rising; those without an image of every view are left out.
            seed: of the run.
            global_batch: rows per step over all ranks.
            drones_per_row: drone views beside each satellite.
            third_view: one such image beside each row, taken in turn.
            altitudes: show drone views of these heights in metres only; all heights if empty.

        Raises:
            PlanError: too few places or views, or no image of an altitude or the third view.
        """
        self.seed, self.global_batch, self.drones_per_row = seed, global_batch, drones_per_row
        views = [
            views_by_place(shards, places, View.DRONE, altitudes=altitudes),
            views_by_place(shards, places, View.SATELLITE),
            *([views_by_place(shards, places, third_view)] if third_view is not None else []),
        ]
        is_whole = np.all([part.count > 0 for part in views], axis=0)
        if not is_whole.any():
            third = "" if third_view is None else f"a {third_view.word} image beside "
            raise PlanError(
                f"no place to train on has {third}both views; shard images that have them, or say "
                f"by --split which train{', or plan without a third view' if third else ''}"
            )
        self.places, self._identifiers = places[is_whole], shards.places
        self.left_out = len(places) - len(self.places)
        """Places that lack a view, so that no row can show them."""
        self.drones, self.satellites, *thirds = (v.of(np.flatnonzero(is_whole)) for v in views)
        self.third: PlaceViews | None = thirds[0] if thirds else None
        if global_batch > len(self.places):
            note = f"; {self.left_out} places that lack a view are left out"
            raise PlanError(
                f"global batch {global_batch} is larger than the {len(self.places)} places to plan "
                "over (training places that are not held out), so a place would stand twice in it"
                f"{note if self.left_out else ''}; choose at most {len(self.places)}"
            )
        if (count := int(self.drones.count.min())) < drones_per_row:
            raise PlanError(
                f"place {self.place_names[int(self.drones.count.argmin())]} has {count} drone "
                f"images, fewer than the {drones_per_row} of one row; lower the drone views per row"
            )
        self._rounds = self.drones.count // drones_per_row
        self.steps_per_epoch = most_steps(self._rounds, global_batch)
        self.neighbours: Neighbours | None = None
        """Hard samples that order the rounds, in a plan that `with_neighbours` returned."""
        self._shown = Recent[_Shown](EPOCHS_HELD)

    def with_neighbours(self, neighbours: Neighbours | None) -> "Plan":
        """Return this plan in the order of another table, or of none; images are not looked up.

        Raises:
            PlanError: the table is of other places, or none of neighbours.
        """
        if neighbours is not None:
            if neighbours.places != self.place_names:
                raise PlanError(
                    f"the neighbours are those of {len(neighbours.places)} other places than the "
                    f"{len(self.place_names)} planned; mine again"
                )
            neighbours.check()
        other = copy.copy(self)
        other.neighbours = neighbours
        other._shown = Recent(EPOCHS_HELD)
        return other

    @cached_property
    def place_names(self) -> tuple[str, ...]:
        return tuple(self._identifiers[place] for place in self.places.tolist())

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
        return self.rows(epoch, slice(0, self.pairs_per_epoch))

    def rows(self, epoch: int, part: slice) -> PlanRows:
        """Return rows `part.start` to `part.stop` - 1 of one epoch: `epoch(epoch)[part]`.

        Without making the rest, so that an epoch costs 4 bytes per image and not 32 per row.
        """
        shown = self._shown.get(epoch, lambda: _Shown(self, epoch))
        owner, turns = shown.order(part.start, part.stop)
        turn = turns.astype(np.int64)
        first = self.drones.start[owner] + turn * self.drones_per_row
        drone = shown.drones[first[:, None] + np.arange(self.drones_per_row)]
        return PlanRows(
            place=self.places[owner],
            visit=epoch * self._rounds[owner] + turn,
            satellite=_in_turn(shown.satellites, self.satellites, owner, turn),
            drone=drone.astype(np.int64),
            third=None if self.third is None else _in_turn(shown.third, self.third, owner, turn),
        )

    def prepare(self, epoch: int) -> None:
        """Make what the rows of an epoch are made of, so that they are at hand when asked for."""
        self.rows(epoch, slice(0, self.global_batch))


class _Shown:
    """What one epoch shows: the order of its places, and the order of each place's images."""

    def __init__(self, plan: Plan, epoch: int) -> None:
        places, names = plan.places, (plan.seed, epoch)
        rounds = Rounds(
            np.minimum(plan._rounds, plan.steps_per_epoch),
            places,
            seed=plan.seed,
            epoch=epoch,
            global_batch=plan.global_batch,
            neighbours=plan.neighbours,
        )
        self.order: Order = make_order(rounds, num_steps=plan.steps_per_epoch)
        self.drones = plan.drones.shuffled(DRONE, *names, places=places)
        self.satellites = plan.satellites.shuffled(SATELLITE, *names, places=places)
        self.third = (
            None if plan.third is None else plan.third.shuffled(THIRD, *names, places=places)
        )


def _in_turn(
    shuffled: ImageRows | None, views: PlaceViews, owner: Owners, turn: npt.NDArray[np.int64]
) -> RowNumbers:
    """Return the image that each place shows at its turn; they are taken round and round."""
    assert shuffled is not None, "views and their shuffled images come together"
    at = views.start[owner]
    if not views.is_single:
        at += turn % views.count[owner]
    return shuffled[at].astype(np.int64)


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
