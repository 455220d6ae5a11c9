"""Planned rows to uint8 batches: images are read, decoded and varied straight into batch buffers.

By a few threads, or by processes where many would wait for each other; either way every rank's
batches are ready before they are asked for.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from data_shards.augment.config import AugmentConfig
from data_shards.augment.subjects import Subjects
from data_shards.augment.variations import Variations, draw_variations
from data_shards.batch_memory import BatchMemory
from data_shards.config import Resampling
from data_shards.decoder_processes import open_decoders
from data_shards.decoders import Decoders, ImageBatch, ImageTask
from data_shards.planning.plan import Plan, PlanRows, rank_slice, ranks_share
from data_shards.schema import View
from data_shards.shards import RowNumbers, ShardSet

PREFETCHED_BATCHES, MOST_AHEAD = 2, 16
"""Batches that are filled before they are asked for: these, more where they are small."""

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

    variations: tuple[Variations, ...]
    """How the images of each view are varied, in the order of the fields; a device has a part of it
    to do yet where `augment.device` says so."""

    teacher_satellite: ImageBatch | None = None
    """The same tiles, varied alike, at the size that a live teacher looks at [B, T, T, 3]."""

    teacher_drone: ImageBatch | None = None
    """The same drone views at that size [B * k, T, T, 3]."""

    third_rows: RowNumbers | None = None
    """Image rows of the plan's third view [B], if it has one."""

    third: ImageBatch | None = None
    """Third views [B, S, S, 3]."""


class TrainLoader:
    """Batches of one rank, epoch after epoch, from any step on."""

    def __init__(
        self,
        shards: ShardSet,
        plan: Plan,
        *,
        augment: AugmentConfig,
        image_size: int,
        resampling: Resampling,
        rank: int,
        world_size: int,
        threads: int,
        teacher_size: int | None = None,
        crops_per_decode: int = 1,
    ) -> None:
        """Prepare rows [rank * b, (rank + 1) * b) of every global batch, b = batch / world size.

        With `teacher_size` every image is rendered at that size too. With several crops per decode
        so many steps follow each other with the same rows, each in another augmentation slot.

        Raises:
            PlanError: the global batch is not divisible by the world size.
        """
        self.shards, self.plan, self.augment = shards, plan, augment
        self.image_size, self.resampling, self.threads = image_size, resampling, threads
        self.rank, self.world_size, self.crops_per_decode = rank, world_size, crops_per_decode
        self.sizes = [image_size, *([] if teacher_size is None else [teacher_size])]
        ranks_share(global_batch=plan.global_batch, world_size=world_size)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every image comes as often as it is cropped."""
        return self.plan.steps_per_epoch * self.crops_per_decode

    def batches(self, *, first_step: int, num_steps: int) -> Iterator[Batch]:
        """Yield the batches of steps `first_step` to `num_steps` - 1; seeking costs one plan.

        Closing the iterator, or an error in it, ends its threads.

        Raises:
            ShardError: an image cannot be decoded; the sentence names tar and key.
        """

        def submitted(decoders: Decoders) -> Iterator[tuple[Batch, list[Future[None]]]]:
            crops = self.crops_per_decode
            first, end = first_step // crops, -(-num_steps // crops)
            for at, rows in self.planned(first_step=first, num_steps=end, beside=decoders.pool):
                steps = range(max(at * crops, first_step), min((at + 1) * crops, num_steps))
                batches, tasks = self._prepare(steps, rows, decoders.memory)
                filling = decoders.fill(tasks)
                yield from ((batch, filling) for batch in batches)

        decoders = open_decoders(self.shards, threads=self.threads, resampling=self.resampling)
        images = self.plan.global_batch // self.world_size * (1 + self.plan.drones_per_row)
        yield from _prefetched(submitted, decoders, batch_size=images)

    def planned(
        self, *, first_step: int, num_steps: int, beside: ThreadPoolExecutor | None = None
    ) -> Iterator[tuple[int, PlanRows]]:
        """Yield the number and this rank's rows of steps `first_step` to `num_steps` - 1.

        With `beside`, the next epoch is prepared there while one is shown.
        """
        per_epoch = self.plan.steps_per_epoch
        coming: Future[None] | None = None
        for step in range(first_step, num_steps):
            epoch, index = divmod(step, per_epoch)
            if index == 0 and coming is not None:
                coming.result()
            part = rank_slice(
                index,
                rank=self.rank,
                world_size=self.world_size,
                global_batch=self.plan.global_batch,
            )
            yield step, self.plan.rows(epoch, part)
            is_first = index == 0 or step == first_step
            if is_first and beside is not None and (epoch + 1) * per_epoch < num_steps:
                # Behind the yield, so that the images of this very batch come first.
                coming = beside.submit(self.plan.prepare, epoch + 1)

    def _prepare(
        self, steps: range, rows: PlanRows, memory: BatchMemory
    ) -> tuple[list[Batch], list[ImageTask]]:
        """Return the batches of steps on the same rows, with room for images, and their tasks."""
        crops, num_slots = self.crops_per_decode, self.augment.slots
        slots = [(rows.visit * crops + step % crops) % num_slots for step in steps]
        of_drones = [np.repeat(slot, rows.drone.shape[1]) for slot in slots]
        tasks = [
            self._task(rows.satellite, slots, memory),
            self._task(rows.drone.reshape(-1), of_drones, memory),
        ]
        if rows.third is not None:
            tasks.append(self._task(rows.third, slots, memory))
        batches = []
        for number, (step, slot) in enumerate(zip(steps, slots, strict=True)):
            start = number * len(self.sizes)
            satellite, drone, *third = (task.into[start] for task in tasks)
            larger = [task.into[start + 1] for task in tasks[:2]] if self.sizes[1:] else [None] * 2
            batches.append(
                Batch(
                    step=step,
                    place=rows.place,
                    slot=slot,
                    satellite_rows=rows.satellite,
                    drone_rows=rows.drone,
                    satellite=satellite,
                    drone=drone,
                    variations=tuple(task.variations[start] for task in tasks),
                    teacher_satellite=larger[0],
                    teacher_drone=larger[1],
                    third_rows=rows.third,
                    third=third[0] if third else None,
                )
            )
        return batches, tasks

    def _task(
        self, rows: RowNumbers, slots: list[npt.NDArray[np.int64]], memory: BatchMemory
    ) -> ImageTask:
        """Return the task of N images of one view [N] in each of several slots."""
        varied = [slot_variations(self.shards, self.augment, rows, slot) for slot in slots]
        return ImageTask(
            rows=rows,
            into=tuple(memory.images(len(rows), size) for _ in slots for size in self.sizes),
            variations=tuple(one for one in varied for _ in self.sizes),
        )


def slot_variations(
    shards: ShardSet,
    augment: AugmentConfig,
    rows: RowNumbers,
    slots: npt.NDArray[np.int64],
) -> Variations:
    """Draw the augmentation of image rows [N], each as its view is varied, in given slots [N]."""
    view_N = shards.images.view[rows]
    views = np.unique(view_N)  # tars of others mix them
    chosen = [np.flatnonzero(view_N == view) for view in views]
    drawn = [
        draw_variations(
            augment,
            Subjects(
                seed=augment.seed,
                slots=slots[at],
                key_hashes=shards.key_hashes[rows[at]],
                place_hashes=shards.place_hashes[shards.images.place[rows[at]]],
                view=View(int(view)),
            ),
        )
        for view, at in zip(views, chosen, strict=True)
    ]
    if len(drawn) == 1:
        return drawn[0]
    order = np.argsort(np.concatenate(chosen))
    return replace(drawn[0], values=np.concatenate([one.values for one in drawn])[order])


def image_batches(
    shards: ShardSet,
    rows: RowNumbers,
    *,
    image_size: int,
    resampling: Resampling,
    batch_size: int,
    threads: int,
    variations: Callable[[slice], Variations] | None = None,
) -> Iterator[tuple[RowNumbers, ImageBatch]]:
    """Yield every row of `rows` once, in order, as (rows [B], images [B, S, S, 3]).

    With `variations`, which is asked for those of a part of `rows`, the images are varied, else
    only resized.

    Raises:
        ShardError: an image cannot be decoded; the sentence names tar and key.
    """

    def submitted(
        decoders: Decoders,
    ) -> Iterator[tuple[tuple[RowNumbers, ImageBatch], list[Future[None]]]]:
        for start in range(0, len(rows), batch_size):
            chosen = slice(start, start + batch_size)
            part = rows[chosen]
            images = decoders.memory.images(len(part), image_size)
            varied = () if variations is None else (variations(chosen),)
            task = ImageTask(rows=part, into=(images,), variations=varied)
            yield (part, images), decoders.fill([task])

    decoders = open_decoders(shards, threads=threads, resampling=resampling)
    yield from _prefetched(submitted, decoders, batch_size=batch_size)


def _prefetched(
    submitted: Callable[[Decoders], Iterator[tuple[Filled, list[Future[None]]]]],
    decoders: Decoders,
    *,
    batch_size: int,
) -> Iterator[Filled]:
    """Yield what `submitted` asks to be filled, each when it is full.

    A few batches ahead, and so many of `batch_size` images that all who decode have work.
    """
    num_ahead = min(max(PREFETCHED_BATCHES, -(-decoders.in_work // batch_size)), MOST_AHEAD)
    pending: deque[tuple[Filled, list[Future[None]]]] = deque()
    try:
        for one in submitted(decoders):
            pending.append(one)
            if len(pending) > num_ahead:
                yield _full(*pending.popleft())
        while pending:
            yield _full(*pending.popleft())
    finally:
        decoders.end()


def _full(filled: Filled, futures: list[Future[None]]) -> Filled:
    """Wait until every image is in its place."""
    for future in futures:
        future.result()
    return filled
