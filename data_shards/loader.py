"""Planned rows to uint8 batches: threads read, decode and vary images straight into a batch buffer.

Threads, not processes: the decoder and the resampler release the interpreter's lock, nothing is
pickled, and every rank's batches are ready before they are asked for.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from data_shards.augment import AugmentValues, apply_values, draw_values
from data_shards.config import AugmentConfig
from data_shards.decode import DecodeError, decode, resize
from data_shards.errors import ShardError
from data_shards.plan import Plan, PlanRows, rank_slice, ranks_share
from data_shards.schema import View
from data_shards.shards import RowNumbers, ShardSet

PREFETCHED_BATCHES = 2

ImageBatch = npt.NDArray[np.uint8]
"""Images [N, height, width, RGB]."""

Filled = TypeVar("Filled")
"""What the threads fill with images."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One rank's part of one step.

    B = rows of this rank, k = drone views per row, S = image size.
    """

    step: int
    place: npt.NDArray[np.int64]
    """Numbers of the places [B]."""

    slot: npt.NDArray[np.int64]
    """Augmentation slot of each row [B]."""

    satellite_rows: RowNumbers
    """Image rows [B]."""

    drone_rows: RowNumbers
    """Image rows [B, k]."""

    satellite: ImageBatch
    """Satellite tiles [B, S, S, 3]."""

    drone: ImageBatch
    """Drone views [B * k, S, S, 3], the views of one row beside each other."""


class TrainLoader:
    """Batches of one rank, epoch after epoch, from any step on."""

    def __init__(
        self,
        shards: ShardSet,
        plan: Plan,
        *,
        augment: AugmentConfig,
        image_size: int,
        rank: int,
        world_size: int,
        threads: int,
    ) -> None:
        """Prepare rows [rank * b, (rank + 1) * b) of every global batch, b = batch / world size.

        Raises:
            PlanError: the global batch is not divisible by the world size.
        """
        self.shards, self.plan, self.augment = shards, plan, augment
        self.image_size, self.threads = image_size, threads
        self.rank, self.world_size = rank, world_size
        ranks_share(global_batch=plan.global_batch, world_size=world_size)

    def batches(self, *, first_step: int, num_steps: int) -> Iterator[Batch]:
        """Yield the batches of steps `first_step` to `num_steps` - 1; seeking costs one plan.

        Raises:
            ShardError: an image cannot be decoded; the sentence names tar and key.
        """
        steps = self.planned(first_step=first_step, num_steps=num_steps)
        yield from _prefetched(
            lambda pool: (self._submit(pool, step, rows) for step, rows in steps),
            threads=self.threads,
        )

    def planned(self, *, first_step: int, num_steps: int) -> Iterator[tuple[int, PlanRows]]:
        """Yield the number and this rank's rows of steps `first_step` to `num_steps` - 1."""
        for step in range(first_step, num_steps):
            epoch, index = divmod(step, self.plan.steps_per_epoch)
            part = rank_slice(
                index,
                rank=self.rank,
                world_size=self.world_size,
                global_batch=self.plan.global_batch,
            )
            yield step, self.plan.epoch(epoch)[part]

    def _submit(
        self, pool: ThreadPoolExecutor, step: int, rows: PlanRows
    ) -> tuple[Batch, list[Future[None]]]:
        slot = rows.visit % self.augment.slots
        views = rows.drone.shape[1]
        size = (self.image_size, self.image_size, 3)
        batch = Batch(
            step=step,
            place=rows.place,
            slot=slot,
            satellite_rows=rows.satellite,
            drone_rows=rows.drone,
            satellite=np.empty((len(rows), *size), dtype=np.uint8),
            drone=np.empty((len(rows) * views, *size), dtype=np.uint8),
        )
        futures = []
        for image_rows, slots, view, into in (
            (rows.satellite, slot, View.SATELLITE, batch.satellite),
            (rows.drone.reshape(-1), np.repeat(slot, views), View.DRONE, batch.drone),
        ):
            values = slot_values(self.shards, self.augment, image_rows, slots, view=view)
            futures += [
                pool.submit(_load, self.shards, int(row), into, at, values[at])
                for at, row in enumerate(image_rows)
            ]
        return batch, futures


def slot_values(
    shards: ShardSet,
    augment: AugmentConfig,
    rows: RowNumbers,
    slots: npt.NDArray[np.int64],
    *,
    view: View,
) -> AugmentValues:
    """Draw the augmentation of image rows in given slots."""
    return draw_values(
        augment,
        key_hashes=shards.key_hashes[rows],
        place_hashes=shards.place_hashes[shards.images.place[rows]],
        slots=slots,
        view=view,
    )


def image_batches(
    shards: ShardSet,
    rows: RowNumbers,
    *,
    image_size: int,
    batch_size: int,
    threads: int,
    values: AugmentValues | None = None,
) -> Iterator[tuple[RowNumbers, ImageBatch]]:
    """Yield every row of `rows` once, in order, as (rows [B], images [B, S, S, 3]).

    With `values` (one per row) the images are varied, else only resized.

    Raises:
        ShardError: an image cannot be decoded; the sentence names tar and key.
    """

    def submit(
        pool: ThreadPoolExecutor, start: int
    ) -> tuple[tuple[RowNumbers, ImageBatch], list[Future[None]]]:
        part = rows[start : start + batch_size]
        into = np.empty((len(part), image_size, image_size, 3), dtype=np.uint8)
        futures = []
        for at, row in enumerate(part):
            variation = None if values is None else values[start + at]
            futures.append(pool.submit(_load, shards, int(row), into, at, variation))
        return (part, into), futures

    yield from _prefetched(
        lambda pool: (submit(pool, start) for start in range(0, len(rows), batch_size)),
        threads=threads,
    )


def _prefetched(
    submitted: Callable[[ThreadPoolExecutor], Iterator[tuple[Filled, list[Future[None]]]]],
    *,
    threads: int,
) -> Iterator[Filled]:
    """Yield what `submitted` asks the pool to fill, each when it is full, a few ahead of need."""
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        pending: deque[tuple[Filled, list[Future[None]]]] = deque()
        try:
            for one in submitted(pool):
                pending.append(one)
                if len(pending) > PREFETCHED_BATCHES:
                    yield _full(*pending.popleft())
            while pending:
                yield _full(*pending.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _full(filled: Filled, futures: list[Future[None]]) -> Filled:
    """Wait until every image is in its place."""
    for future in futures:
        future.result()
    return filled


def _load(shards: ShardSet, row: int, into: ImageBatch, at: int, values: np.void | None) -> None:
    """Decode one image, vary it, and put it into its place of the batch."""
    size = into.shape[1]
    try:
        pixels = decode(shards.read(row))
    except DecodeError as error:
        raise ShardError(
            f"{shards.describe(row)} cannot be decoded ({error}); shard again from intact images"
        ) from error
    into[at] = (
        resize(pixels, size=size) if values is None else apply_values(pixels, values, size=size)
    )
