"""Which place each row of an epoch shows: rounds of places, cut into batches without repeats.

An epoch is a sequence of rounds; a place has at most one turn in a round, and its turns are spread
evenly over them. Where all places have as many turns, each round holds every place, only a batch
that straddles two rounds could show a place twice, and any round can be made alone in O(places)
(spec performance 2.2). Otherwise the whole epoch is dealt out once, 8 bytes a row.
"""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from data_shards.draws import mix
from data_shards.planning.neighbours import Neighbours, chained
from data_shards.planning.place_views import Places

ROUND, PHASE = 1, 4
"""First name of each kind of draw, so that no two kinds share random numbers."""

ORDERS_HELD = 4
"""A batch touches two rounds; each is held as it was drawn and as it is shown."""

WATCHED_BATCHES = 16
"""Batches for which `deal` remembers which places could become due."""

Owners = npt.NDArray[np.int32]
"""For each row, the number 0 to P - 1 of the place it shows."""

Turns = npt.NDArray[np.int32]
"""For each row, how often its place stood in the epoch before."""

Value = TypeVar("Value")


Order = Callable[[int, int], tuple[Owners, Turns]]
"""The owners and turns of the rows `start` to `stop` - 1 of one epoch; threads may ask at once."""


class Recent(Generic[Value]):
    """The newest few results of slow functions, for threads to share."""

    def __init__(self, most: int) -> None:
        self._most, self._held, self._lock = most, dict[Hashable, Value](), threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the result named `key`; two threads that both miss it both make it."""
        with self._lock:
            if key in self._held:
                return self._held[key]
        value = make()
        with self._lock:
            self._held[key] = value
            while len(self._held) > self._most:
                del self._held[next(iter(self._held))]
        return value


class Rounds:
    """The rounds of one epoch before they are cut into batches; each is made on its own."""

    def __init__(
        self,
        turns: npt.NDArray[np.int64],
        places: Places,
        *,
        seed: int,
        epoch: int,
        global_batch: int,
        neighbours: Neighbours | None,
    ) -> None:
        """Spread the `turns` [P] of each of `places` [P] over as many rounds as the most of them.

        Args:
            turns: rows of each place in the epoch.
            places: numbers of the places in the shards; draws are named by them.
            seed: of the run.
            epoch: counted from 0.
            global_batch: rows per batch; neighbours are brought together within batches.
            neighbours: nearest wrong places; None draws the order of every round.
        """
        self.turns, self.places, self.global_batch = turns, places, global_batch
        self.seed, self.epoch, self.neighbours = seed, epoch, neighbours
        self.count = int(turns.max())
        self.is_even = bool((turns == self.count).all())
        # Turn k of n falls into round floor((k + phase) * count / n): distinct rounds, evenly.
        self._phase = (mix(PHASE, seed, epoch, places) % np.uint64(self.count)).astype(np.int64)

    def __getitem__(self, number: int) -> Owners:
        """Return the places of one round in order."""
        if self.is_even:
            members = np.arange(len(self.places))
        else:
            before = (number * self.turns + self._phase) // self.count
            after = ((number + 1) * self.turns + self._phase) // self.count
            members = np.flatnonzero(after > before)
        draw = mix(ROUND, self.seed, self.epoch, number, self.places[members])
        # The member's own number in the low bits makes the sort exact everywhere, ties included.
        low = np.uint64(2 ** len(self.places).bit_length() - 1)
        order = (np.sort((draw & ~low) | members.astype(np.uint64)) & low).astype(np.int32)
        if self.neighbours is None:
            return order
        first = int(((number * self.turns + self._phase) // self.count).sum())
        return chained(
            order,
            self.neighbours,
            first=self.global_batch - first % self.global_batch,
            batch=self.global_batch,
        )


def make_order(rounds: Rounds, *, num_steps: int) -> Order:
    """Return the rows of an epoch of `num_steps` batches, no place twice in any of them."""
    batch = rounds.global_batch
    if rounds.is_even and len(rounds.places) >= 2 * batch:
        return RoundByRound(rounds)
    sequence = np.concatenate([rounds[number] for number in range(rounds.count)])
    owner, turn = deal(sequence[: num_steps * batch], batch)  # of unequal places, or of few
    return lambda start, stop: (owner[start:stop], turn[start:stop])


class RoundByRound:
    """An epoch of equal places, at least twice as many as a batch: each round is made when needed.

    Swaps at a round's head reach no further than its first batch, so its tail, which the next
    round must look at, is known without it.
    """

    def __init__(self, rounds: Rounds) -> None:
        assert rounds.is_even and len(rounds.places) >= 2 * rounds.global_batch
        self._rounds, self._recent = rounds, Recent[Owners](ORDERS_HELD)

    def __call__(self, start: int, stop: int) -> tuple[Owners, Turns]:
        """Return owners and turns of the rows `start` to `stop` - 1."""
        size = len(self._rounds.places)
        owner = np.empty(stop - start, dtype=np.int32)
        at = start
        while at < stop:
            number, first = divmod(at, size)
            end = min(stop, (number + 1) * size)
            part = self._recent.get(("whole", number), lambda n=number: self._separated(n))  # type: ignore[misc]
            owner[at - start : end - start] = part[first : first + end - at]
            at = end
        return owner, (np.arange(start, stop) // size).astype(np.int32)

    def _drawn(self, number: int) -> Owners:
        return self._recent.get(("drawn", number), lambda: self._rounds[number])

    def _separated(self, number: int) -> Owners:
        """Return one round whose first rows share no place with the last ones of the round before.

        Those are in one batch together.
        """
        order = self._drawn(number)
        shared = number * len(order) % self._rounds.global_batch
        if shared:
            order = order.copy()
            separate(order, self._drawn(number - 1)[-shared:], batch=self._rounds.global_batch)
        return order


def separate(order: Owners, before: Owners, *, batch: int) -> None:
    """Reorder a permutation in place until the batch that `before` begins holds no value twice.

    A value of `before` among the first rows is swapped for one of the rows behind them; at least
    as many of those are free, since `before` has no other value twice (spec performance 2.2).
    """
    head = batch - len(before)
    is_taken = np.zeros(len(order), dtype=bool)
    is_taken[before] = True
    repeated = np.flatnonzero(is_taken[order[:head]])
    behind = order[head:batch]
    donors = head + np.flatnonzero(~is_taken[behind])[: len(repeated)]
    order[repeated], order[donors] = order[donors], order[repeated]


def deal(sequence: Owners, batch: int) -> tuple[Owners, Turns]:
    """Reorder values of unequal counts into batches without repeats, keeping near their order.

    Before each batch a value that remains as often as batches remain must be in it; the others come
    in order. With no count above the number of batches (the caller's promise) this never fails.

    Returns:
        The values, batch after batch, and how often each stood before.
    """
    num_batches = len(sequence) // batch
    dealt, turn = np.empty_like(sequence), np.empty(len(sequence), dtype=np.int32)
    count = np.bincount(sequence).astype(np.int32)
    shown = np.zeros_like(count)
    hand = _Hand(sequence, values=len(count))
    watched = np.arange(len(count))
    for number in range(num_batches):
        remaining = num_batches - number
        if number % WATCHED_BATCHES == 0:  # nobody else becomes due until it is asked again
            watched = np.flatnonzero(count - shown > remaining - WATCHED_BATCHES)
        part = hand.take(batch, due=watched[count[watched] - shown[watched] == remaining])
        rows = slice(number * batch, (number + 1) * batch)
        dealt[rows], turn[rows] = part, shown[part]
        shown[part] += 1
    return dealt, turn


class _Hand:
    """What `deal` has not dealt yet: values held back, then the rest of the sequence."""

    def __init__(self, sequence: Owners, *, values: int) -> None:
        self._sequence, self._at, self._held = sequence, 0, sequence[:0]
        self._is_due = np.zeros(values, dtype=bool)
        self._first = np.empty(values, dtype=np.int32)

    def take(self, batch: int, *, due: npt.NDArray[np.int64]) -> Owners:
        """Take all `due` values and the first others, each once; hold back what was passed over."""
        self._is_due[due] = True
        ahead = batch + batch // 8
        while True:
            queue = np.concatenate([self._held, self._sequence[self._at : self._at + ahead]])
            number = np.arange(len(queue), dtype=np.int32)
            self._first[queue[::-1]] = number[::-1]  # of several assignments the last one stays
            is_first = self._first[queue] == number
            is_taken = is_first & self._is_due[queue]
            others = np.flatnonzero(is_first & ~is_taken)[: batch - len(due)]
            if np.count_nonzero(is_taken) == len(due) and len(others) == batch - len(due):
                is_taken[others] = True
                break
            assert self._at + ahead < len(self._sequence), "no count is above the batches left"
            ahead += batch
        self._is_due[due] = False
        taken, held = np.flatnonzero(is_taken), len(self._held)
        end = max(int(taken[-1]) + 1, held)
        self._at += end - held
        self._held = queue[:end][~is_taken[:end]]
        return queue[taken]


def most_steps(rounds: npt.NDArray[np.int64], batch: int) -> int:
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
