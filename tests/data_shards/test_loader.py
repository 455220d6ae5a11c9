import threading
from collections.abc import Iterator

import numpy as np
import pytest

from data_shards.augment import apply_values
from data_shards.config import AugmentConfig
from data_shards.decode import decode, resize
from data_shards.errors import PlanError, ShardError
from data_shards.loader import Batch, TrainLoader, image_batches, slot_values
from data_shards.plan import Plan
from data_shards.schema import Role, View
from data_shards.shards import ShardSet

BATCH, STEPS = 8, 14
"""Six steps make an epoch of the tiny shards: 10 places, 5 views, 2 pairs left over."""


def loader(shards: ShardSet, *, rank=0, world_size=1, threads=1, k=1, **changes) -> TrainLoader:
    plan = Plan(shards, shards.train_places, seed=1, global_batch=BATCH, drones_per_row=k)
    return TrainLoader(
        shards,
        plan,
        augment=AugmentConfig(**changes),
        image_size=16,
        rank=rank,
        world_size=world_size,
        threads=threads,
    )


def batches(shards: ShardSet, *, first_step: int = 0, **settings) -> list[Batch]:
    return list(loader(shards, **settings).batches(first_step=first_step, num_steps=STEPS))


def assert_same(one: Batch, *parts: Batch) -> None:
    """The rows of `one` are those of `parts`, one after the other, pixel by pixel."""
    assert all(part.step == one.step for part in parts)
    for name in ("place", "slot", "satellite_rows", "drone_rows", "satellite", "drone"):
        together = np.concatenate([getattr(part, name) for part in parts])
        assert (getattr(one, name) == together).all(), name


@pytest.fixture(scope="module")
def alone(tiny_shards: ShardSet) -> list[Batch]:
    """What one rank with one thread sees."""
    return batches(tiny_shards)


@pytest.fixture
def no_thread_left() -> Iterator[None]:
    yield
    assert not [t.name for t in threading.enumerate() if t.name.startswith("decode")]


pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_ranks_together_see_what_one_rank_sees(tiny_shards, alone, world_size: int) -> None:
    ranks = [batches(tiny_shards, rank=r, world_size=world_size) for r in range(world_size)]
    for one, *parts in zip(alone, *ranks, strict=True):
        assert_same(one, *parts)


@pytest.mark.parametrize("threads", [2, 7])
def test_the_number_of_threads_changes_nothing(tiny_shards, alone, threads: int) -> None:
    for one, other in zip(alone, batches(tiny_shards, threads=threads), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("first_step", [1, 5, 6, 13, 14])
def test_a_loader_that_starts_late_sees_the_tail(tiny_shards, alone, first_step: int) -> None:
    tail = batches(tiny_shards, first_step=first_step)
    for one, other in zip(alone[first_step:], tail, strict=True):
        assert_same(one, other)


def test_pixels_are_those_of_the_drawn_values(tiny_shards: ShardSet, alone) -> None:
    batch, augment = alone[3], AugmentConfig()
    for rows, view, images in (
        (batch.satellite_rows, View.SATELLITE, batch.satellite),
        (batch.drone_rows[:, 0], View.DRONE, batch.drone),
    ):
        values = slot_values(tiny_shards, augment, rows, batch.slot, view=view)
        for row, value, image in zip(rows, values, images, strict=True):
            expected = apply_values(decode(tiny_shards.read(row)), value, size=16)
            assert (image == expected).all()


def test_a_place_takes_the_next_slot_at_each_visit(tiny_shards: ShardSet, alone) -> None:
    slots = [batch.slot[batch.place == 4].tolist() for batch in alone[:6]]
    assert sum(slots, []) == [0, 1, 2, 3, 0][: len(sum(slots, []))]


def test_views_of_a_row_lie_beside_each_other(tiny_shards: ShardSet) -> None:
    still = {"flip_probability": 0, "min_crop_area": 1, "satellite_quarter_turns": False}
    plain = still | {"brightness": 0, "contrast": 0, "saturation": 0}
    batch = batches(tiny_shards, k=2, **plain)[0]
    assert batch.drone.shape == (2 * BATCH, 16, 16, 3)
    for row, image in zip(batch.drone_rows.reshape(-1), batch.drone, strict=True):
        assert (image == resize(decode(tiny_shards.read(row)), size=16)).all()


def test_an_early_close_ends_the_threads(tiny_shards: ShardSet) -> None:
    stream = loader(tiny_shards, threads=3).batches(first_step=0, num_steps=1000)
    next(stream)
    stream.close()


def test_a_broken_image_is_named_and_ends_the_threads(tiny_shards, monkeypatch) -> None:
    read = ShardSet.read
    victim = int(loader(tiny_shards).plan.epoch(0).drone[BATCH + 3, 0])

    def broken(shards: ShardSet, row: int) -> bytes:
        content = bytes(read(shards, row))
        return content[: len(content) // 2] if row == victim else content

    monkeypatch.setattr(ShardSet, "read", broken)
    stream = loader(tiny_shards, threads=3).batches(first_step=0, num_steps=1000)
    assert next(stream).step == 0
    key = tiny_shards.images.key[victim]
    with pytest.raises(ShardError, match=f"train-drone-000000.tar: {key} cannot be decoded"):
        next(stream)


def test_a_batch_that_ranks_cannot_share_is_refused(tiny_shards: ShardSet) -> None:
    with pytest.raises(PlanError, match="not divisible by 3 ranks"):
        loader(tiny_shards, world_size=3)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_row_comes_once_and_in_order(tiny_shards: ShardSet, batch_size: int) -> None:
    rows = tiny_shards.images.where(role=Role.QUERY, view=View.DRONE)
    parts = list(image_batches(tiny_shards, rows, image_size=16, batch_size=batch_size, threads=2))
    assert [len(part) for part, _ in parts[:-1]] == [batch_size] * (len(parts) - 1)
    assert np.concatenate([part for part, _ in parts]).tolist() == rows.tolist()
    images = np.concatenate([images for _, images in parts])
    for row, image in zip(rows, images, strict=True):
        assert (image == resize(decode(tiny_shards.read(row)), size=16)).all()


def test_rows_are_varied_by_the_values_beside_them(tiny_shards: ShardSet) -> None:
    rows = tiny_shards.images.where(role=Role.TRAIN, view=View.DRONE)[:6]
    values = slot_values(tiny_shards, AugmentConfig(), rows, np.arange(6) % 4, view=View.DRONE)
    images = [
        image
        for _, part in image_batches(
            tiny_shards, rows, image_size=16, batch_size=4, threads=1, values=values
        )
        for image in part
    ]
    for row, value, image in zip(rows, values, images, strict=True):
        assert (image == apply_values(decode(tiny_shards.read(row)), value, size=16)).all()


def test_leaving_a_stream_of_images_ends_the_threads(tiny_shards: ShardSet) -> None:
    rows = np.arange(len(tiny_shards.images))
    stream = image_batches(tiny_shards, rows, image_size=16, batch_size=2, threads=2)
    next(stream)
    stream.close()


def test_a_broken_image_of_a_stream_is_named_when_its_batch_is_due(
    tiny_shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ShardSet.read
    monkeypatch.setattr(
        ShardSet, "read", lambda shards, row: b"broken" if row == 5 else read(shards, row)
    )
    stream = image_batches(tiny_shards, np.arange(9), image_size=16, batch_size=3, threads=2)
    assert next(stream)[0].tolist() == [0, 1, 2]
    with pytest.raises(ShardError, match="cannot be decoded .neither JPEG nor PNG."):
        next(stream)
