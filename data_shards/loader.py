"""Planned rows to uint8 batches: threads read, decode and vary images straight into a batch buffer.

Threads, not processes: the decoder and the resampler release the interpreter's lock, nothing is
pickled, and every rank's batches are ready before they are asked for.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, repeat
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from data_shards.augment.config import AugmentConfig
from data_shards.augment.subjects import Subjects
from data_shards.augment.variations import Variations, draw_variations
from data_shards.batch_memory import BatchMemory
from data_shards.config import Resampling
from data_shards.decode import DecodeError, OfThread, Pixels, decode, resize
from data_shards.errors import ShardError
from data_shards.planning.plan import Plan, PlanRows, rank_slice, ranks_share
from data_shards.schema import View
from data_shards.shards import RowNumbers, ShardSet

PREFETCHED_BATCHES = 2

ImageBatch = npt.NDArray[np.uint8]
"""Images [N, height, width, RGB]."""

ImagePlace: TypeAlias = "tuple[int, int, tuple[Pixels, ...], tuple[Variations, ...], int]"
"""Image row, EXIF orientation, memories [S, S, RGB], how to vary it into each, and its number."""

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


@dataclass(frozen=True, kw_only=True)
class ImageTask:
    """Images to be brought into their places of a batch.

    N = images, S = image size.
    """

    rows: RowNumbers
    """Image rows [N]."""

    into: tuple[ImageBatch, ...]
    """Memories of the images [N, S, S, 3], all filled from one decoding."""

    variations: tuple[Variations, ...]
    """How each is varied into each of them; none for not at all."""


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

        def submitted(decoders: "_Decoders") -> Iterator[tuple[Batch, list[Future[None]]]]:
            crops = self.crops_per_decode
            first, end = first_step // crops, -(-num_steps // crops)
            for at, rows in self.planned(first_step=first, num_steps=end, beside=decoders.pool):
                steps = range(max(at * crops, first_step), min((at + 1) * crops, num_steps))
                batches, tasks = self._prepare(steps, rows, decoders.memory)
                filling = decoders.fill(tasks)
                yield from ((batch, filling) for batch in batches)

        yield from _prefetched(
            submitted, _Decoders(self.shards, threads=self.threads, resampling=self.resampling)
        )

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
        view = View(int(self.shards.images.view[rows[0]]))
        varied = [
            slot_variations(self.shards, self.augment, rows, slot, view=view) for slot in slots
        ]
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
    *,
    view: View,
) -> Variations:
    """Draw the augmentation of image rows of one view in given slots."""
    subjects = Subjects(
        seed=augment.seed,
        slots=slots,
        key_hashes=shards.key_hashes[rows],
        place_hashes=shards.place_hashes[shards.images.place[rows]],
        view=view,
    )
    return draw_variations(augment, subjects)


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
        decoders: "_Decoders",
    ) -> Iterator[tuple[tuple[RowNumbers, ImageBatch], list[Future[None]]]]:
        for start in range(0, len(rows), batch_size):
            chosen = slice(start, start + batch_size)
            part = rows[chosen]
            images = decoders.memory.images(len(part), image_size)
            varied = () if variations is None else (variations(chosen),)
            task = ImageTask(rows=part, into=(images,), variations=varied)
            yield (part, images), decoders.fill([task])

    yield from _prefetched(submitted, _Decoders(shards, threads=threads, resampling=resampling))


class _Decoders:
    """Threads that fill image tasks; each takes the next image that nobody took."""

    def __init__(self, shards: ShardSet, *, threads: int, resampling: Resampling) -> None:
        self.shards, self.threads, self.resampling = shards, threads, resampling
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self.memory = BatchMemory()
        self._of_thread, self._is_ended = OfThread(), False

    def fill(self, tasks: list[ImageTask]) -> "list[Future[None]]":
        """Start filling `tasks`: one job per thread, so that an image costs no hand-over."""
        for varied in (one for task in tasks for one in task.variations):
            _ = varied.changes  # read once, here: of threads that begin together, each would
        images = [image for task in tasks for image in self._images(task)]
        # Counting is one step of the interpreter, so no two threads get the same number.
        numbers = count()
        jobs = min(self.threads, len(images))
        return [self.pool.submit(self._work, images, numbers) for _ in range(jobs)]

    def end(self) -> None:
        """Stop behind the images in work, and wait for the threads."""
        self._is_ended = True
        self.pool.shutdown(wait=True, cancel_futures=True)

    def _images(self, task: ImageTask) -> Iterator[ImagePlace]:
        """Return what is to be known of each image: plain numbers, read out of arrays at once."""
        orientation = self.shards.images.orientation[task.rows]
        into = zip(*task.into, strict=True)
        return zip(task.rows.tolist(), orientation.tolist(), into, repeat(task.variations), count())

    def _work(self, images: list[ImagePlace], numbers: "count[int]") -> None:
        for number in numbers:
            if number >= len(images) or self._is_ended:
                return
            self._bring(*images[number])

    def _bring(
        self,
        row: int,
        orientation: int,
        into: tuple[Pixels, ...],
        variations: tuple[Variations, ...],
        at: int,
    ) -> None:
        """Decode one image, vary it, and put it into its places of the batches."""
        is_alone = len(into) == 1
        is_in_place = is_alone and (not variations or variations[0].is_in_place(at))
        try:
            pixels = decode(
                self.shards.read(row),
                orientation=orientation,
                into=into[0] if is_in_place else None,
                scratch=self._of_thread.scratch,
            )
        except DecodeError as error:
            raise ShardError(
                f"{self.shards.describe(row)} cannot be decoded ({error}); "
                "shard again from intact images"
            ) from error
        if not variations:
            resize(pixels, size=into[0].shape[0], resampling=self.resampling, into=into[0])
            return
        for place, varied in zip(into, variations, strict=True):
            varied.apply(at, pixels, place, resampling=self.resampling)


def _prefetched(
    submitted: Callable[[_Decoders], Iterator[tuple[Filled, list[Future[None]]]]],
    decoders: _Decoders,
) -> Iterator[Filled]:
    """Yield what `submitted` asks the threads to fill, each when it is full, a few ahead."""
    pending: deque[tuple[Filled, list[Future[None]]]] = deque()
    try:
        for one in submitted(decoders):
            pending.append(one)
            if len(pending) > PREFETCHED_BATCHES:
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
