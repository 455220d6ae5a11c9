import numpy as np
import pytest
import torch

from data_shards.batch_memory import MOST_SPARE, BatchMemory
from data_shards.decode import Scratch


def address(images: np.ndarray) -> int:
    return images.__array_interface__["data"][0]


def test_room_has_the_shape_asked_for_and_can_be_written() -> None:
    images = BatchMemory().images(3, 5)
    assert images.shape == (3, 5, 5, 3) and images.dtype == np.uint8
    assert images.flags.c_contiguous and images.flags.writeable


@pytest.mark.parametrize("size", [224, 256, 384])
def test_no_row_starts_where_the_decoder_writes_around_the_cache(size: int) -> None:
    memory = BatchMemory()
    held = [memory.images(count, size) for count in (1, 2, 5)]
    images = [image for batch in held for image in batch] + [Scratch().room(size, size)]
    assert all(address(row) % 16 for image in images for row in image)


def test_memory_that_nobody_holds_is_used_again() -> None:
    memory = BatchMemory()
    images = memory.images(4, 8)
    where = address(images)
    del images
    smaller = memory.images(3, 8)
    assert address(smaller) == where


@pytest.mark.parametrize(
    "hold",
    [
        lambda images: images,
        lambda images: images[2],
        lambda images: images[1:].reshape(-1)[5:9][::2],
        lambda images: memoryview(images),
        torch.from_numpy,
        lambda images: torch.from_numpy(images[1])[3].permute(1, 0),
    ],
    ids=["itself", "an image", "a view of a view", "a buffer", "a tensor", "a view of a tensor"],
)
def test_memory_that_somebody_holds_is_left_alone(hold) -> None:
    memory = BatchMemory()
    images = memory.images(4, 8)
    images[:] = 7
    where, held = address(images), hold(images)
    del images
    others = [memory.images(4, 8) for _ in range(3)]
    for other in others:
        other[:] = 9
    assert len({where, *map(address, others)}) == 4
    assert (np.asarray(held) == 7).all()
    del held
    assert address(memory.images(4, 8)) == where


def test_the_smallest_piece_that_suffices_is_taken() -> None:
    memory = BatchMemory()
    large, small = memory.images(8, 8), memory.images(4, 8)
    where = address(small)
    del large, small
    assert address(memory.images(3, 8)) == where


def test_pieces_that_became_too_small_do_not_stay_for_ever() -> None:
    memory = BatchMemory()
    for size in range(1, 100):
        memory.images(2, size)
    assert len(memory._pieces) <= MOST_SPARE + 1
