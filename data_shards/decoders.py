"""Images of a batch decoded and varied into their places, by threads of this process."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, repeat
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from data_shards.augment.variations import Variations
from data_shards.batch_memory import BatchMemory
from data_shards.config import Aspect, Resampling
from data_shards.decode import (
    Content,
    DecodeError,
    OfThread,
    Pixels,
    Scratch,
    decode,
    resize,
    square,
)
from data_shards.errors import ShardError
from data_shards.shards import RowNumbers, ShardSet

ImageBatch = npt.NDArray[np.uint8]
"""Images [N, height, width, RGB]."""

ImagePlace: TypeAlias = "tuple[int, tuple[Pixels, ...], tuple[Variations, ...], int]"
"""EXIF orientation, memories [S, S, RGB], how to vary it into each, and its number there."""


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

    def images(self, shards: ShardSet) -> "Iterator[tuple[int, ImagePlace]]":
        """Return row and place of each image: plain numbers, read out of arrays at once."""
        orientation = shards.images.orientation[self.rows].tolist()
        into = zip(*self.into, strict=True)
        places = zip(orientation, into, repeat(self.variations), count())
        return zip(self.rows.tolist(), places, strict=True)


class Decoders:
    """Threads that fill image tasks; each takes the next image that nobody took."""

    def __init__(self, shards: ShardSet, *, threads: int, resampling: Resampling) -> None:
        self.shards, self.threads, self.resampling = shards, threads, resampling
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self.memory = BatchMemory()
        self.is_ended = False
        self.in_work = threads
        """Images that they have begun at a time."""
        self._of_thread = OfThread()

    def fill(self, tasks: Sequence[ImageTask]) -> "list[Future[None]]":
        """Start filling `tasks`: one job per thread, so that an image costs no hand-over."""
        for varied in (one for task in tasks for one in task.variations):
            _ = varied.changes  # read once, here: of threads that begin together, each would
        return self.shared(self._bring, [one for task in tasks for one in task.images(self.shards)])

    def shared(
        self, work: Callable[[Iterator[Any]], None], all_of: Sequence[Any]
    ) -> "list[Future[None]]":
        """Start `work` in every thread, on what no other thread took of `all_of`."""
        # Counting is one step of the interpreter, so no two threads get the same number.
        numbers = count()

        def taken() -> Iterator[Any]:
            for number in numbers:
                if number >= len(all_of) or self.is_ended:
                    return
                yield all_of[number]

        jobs = min(self.threads, len(all_of))
        return [self.pool.submit(work, taken()) for _ in range(jobs)]

    def end(self) -> None:
        """Stop behind the images in work, and wait for the threads."""
        self.is_ended = True
        self.pool.shutdown(wait=True, cancel_futures=True)

    def _bring(self, images: Iterator[tuple[int, ImagePlace]]) -> None:
        scratch = self._of_thread.scratch
        for row, place in images:
            try:
                bring(
                    self.shards.read(row),
                    place,
                    aspect=self.shards.aspect,
                    resampling=self.resampling,
                    scratch=scratch,
                )
            except DecodeError as error:
                raise unreadable(self.shards, row, str(error)) from error


def bring(
    content: Content,
    image: ImagePlace,
    *,
    aspect: Aspect,
    resampling: Resampling,
    scratch: Scratch,
) -> None:
    """Decode one image file, make it square, vary it, and put it into its places of the batches.

    Raises:
        DecodeError: it is no complete image.
    """
    orientation, into, variations, at = image
    is_alone = len(into) == 1
    is_in_place = is_alone and (not variations or variations[0].is_in_place(at))
    pixels = decode(
        content,
        orientation=orientation,
        into=into[0] if is_in_place else None,
        scratch=scratch,
    )
    pixels = square(pixels, aspect)
    if not variations:
        resize(pixels, size=into[0].shape[0], resampling=resampling, into=into[0])
        return
    for place, varied in zip(into, variations, strict=True):
        varied.apply(at, pixels, place, resampling=resampling)


def unreadable(shards: ShardSet, row: int, reason: str) -> ShardError:
    """Return the sentence on an image that cannot be decoded: tar, key and why."""
    return ShardError(
        f"{shards.describe(row)} cannot be decoded ({reason}); shard again from intact images"
    )
