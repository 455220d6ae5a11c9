import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from data_shards.augment.config import AugmentConfig
from data_shards.augment.variations import FAMILIES
from data_shards.decode import decode, resize
from data_shards.errors import PlanError, ShardError
from data_shards.loader import Batch, TrainLoader, image_batches, slot_variations
from data_shards.planning import plan as planning
from data_shards.planning.plan import Plan
from data_shards.schema import Role, View
from data_shards.shards import ShardSet
from tests.data_shards.augment.conftest import varied_image

BATCH, STEPS = 8, 14
"""Six steps make an epoch of the tiny shards: 10 places, 5 views, 2 pairs left over."""


def loader(
    shards: ShardSet, *, rank=0, world_size=1, threads=1, k=1, third=None, **changes
) -> TrainLoader:
    places = shards.train_places
    plan = Plan(shards, places, seed=1, global_batch=BATCH, drones_per_row=k, third_view=third)
    return TrainLoader(
        shards,
        plan,
        augment=AugmentConfig(**changes),
        image_size=16,
        resampling="opencv-linear",
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


@pytest.mark.parametrize("threads", [2, 4])
def test_the_number_of_threads_changes_nothing(tiny_shards, alone, threads: int) -> None:
    for one, other in zip(alone, batches(tiny_shards, threads=threads), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("first_step", [1, 5, 6, 13, 14])
def test_a_loader_that_starts_late_sees_the_tail(tiny_shards, alone, first_step: int) -> None:
    tail = batches(tiny_shards, first_step=first_step)
    for one, other in zip(alone[first_step:], tail, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_pixels_are_those_of_the_drawn_values(tiny_shards: ShardSet, family) -> None:
    batch, augment = batches(tiny_shards, family=family)[3], AugmentConfig(family=family)
    for rows, view, images in (
        (batch.satellite_rows, View.SATELLITE, batch.satellite),
        (batch.drone_rows[:, 0], View.DRONE, batch.drone),
    ):
        assert_varied(tiny_shards, augment, rows, batch.slot, view, images)


def assert_varied(shards, augment, rows, slots, view, images) -> None:
    """Each image is what the values of its row and slot make of the file."""
    assert (shards.images.view[rows] == view).all()
    variations = slot_variations(shards, augment, rows, slots)
    for at, (row, image) in enumerate(zip(rows, images, strict=True)):
        pixels = decode(shards.read(row))
        expected = varied_image(variations, at, pixels, size=16, resampling="opencv-linear")
        assert (image == expected).all()


def with_street_views(shards: ShardSet) -> ShardSet:
    """The same shards, the last drone image of every place called a street view."""
    images = shards.images
    last = (images.view == View.DRONE) & (images.position == images.position.max())
    view = np.where(last, View.STREET, images.view).astype(np.uint8)
    return ShardSet(shards.folder, shards.manifest, replace(images, view=view))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_third_view_stands_beside_each_row(tiny_shards: ShardSet, family) -> None:
    shards = with_street_views(tiny_shards)
    alone = batches(shards, third=View.STREET, family=family)
    for batch in alone[:3]:
        assert batch.third.shape == (BATCH, 16, 16, 3)
        assert (shards.images.place[batch.third_rows] == batch.place).all()
        assert (shards.images.view[batch.third_rows] == View.STREET).all()
        augment = AugmentConfig(family=family)
        third = batch.third_rows, batch.slot, View.STREET, batch.third
        assert_varied(shards, augment, *third)
    halves = [batches(shards, third=View.STREET, rank=r, world_size=2)[2] for r in range(2)]
    whole = batches(shards, third=View.STREET)[2]
    assert (whole.third == np.concatenate([half.third for half in halves])).all()


def test_without_a_third_view_there_is_none(alone) -> None:
    assert alone[0].third is None and alone[0].third_rows is None


PLAIN = {
    "flip_probability": 0,
    "min_crop_area": 1,
    "satellite_quarter_turns": False,
    "brightness": 0,
    "contrast": 0,
    "saturation": 0,
}
"""Nothing is varied."""


def test_pictures_stand_upright_in_training_and_elsewhere(tiny_shards: ShardSet) -> None:
    orientation = (np.arange(len(tiny_shards.images)) % 8 + 1).astype(np.uint8)
    images = replace(tiny_shards.images, orientation=orientation)
    shards = ShardSet(tiny_shards.folder, tiny_shards.manifest, images)

    def upright(row: int, size: int) -> np.ndarray:
        pixels = decode(shards.read(row), orientation=int(orientation[row]))
        return resize(pixels, size=size, resampling="opencv-linear")

    batch = batches(shards, **PLAIN)[0]
    for row, image in zip(batch.drone_rows[:, 0], batch.drone, strict=True):
        assert (image == upright(row, 16)).all()
    for size in (16, 32):
        stream = image_batches(
            shards,
            np.arange(24),
            image_size=size,
            resampling="opencv-linear",
            batch_size=24,
            threads=2,
        )
        ((rows, given),) = stream
        for row, image in zip(rows, given, strict=True):
            assert (image == upright(row, size)).all()


def test_a_place_takes_the_next_slot_at_each_visit(tiny_shards: ShardSet, alone) -> None:
    slots = [batch.slot[batch.place == 4].tolist() for batch in alone[:6]]
    assert sum(slots, []) == [0, 1, 2, 3, 0][: len(sum(slots, []))]


def test_views_of_a_row_lie_beside_each_other(tiny_shards: ShardSet) -> None:
    batch = batches(tiny_shards, k=2, **PLAIN)[0]
    assert batch.drone.shape == (2 * BATCH, 16, 16, 3)
    for row, image in zip(batch.drone_rows.reshape(-1), batch.drone, strict=True):
        pixels = decode(tiny_shards.read(row))
        assert (image == resize(pixels, size=16, resampling="opencv-linear")).all()


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
    parts = list(
        image_batches(
            tiny_shards,
            rows,
            image_size=16,
            resampling="opencv-linear",
            batch_size=batch_size,
            threads=2,
        )
    )
    assert [len(part) for part, _ in parts[:-1]] == [batch_size] * (len(parts) - 1)
    assert np.concatenate([part for part, _ in parts]).tolist() == rows.tolist()
    images = np.concatenate([images for _, images in parts])
    for row, image in zip(rows, images, strict=True):
        pixels = decode(tiny_shards.read(row))
        assert (image == resize(pixels, size=16, resampling="opencv-linear")).all()


def test_rows_are_varied_by_the_values_beside_them(tiny_shards: ShardSet) -> None:
    rows = tiny_shards.images.where(role=Role.TRAIN, view=View.DRONE)[:6]
    augment, slots = AugmentConfig(), np.arange(6) % 4
    variations = slot_variations(tiny_shards, augment, rows, slots)
    stream = image_batches(
        tiny_shards,
        rows,
        image_size=16,
        resampling="opencv-linear",
        batch_size=4,
        threads=1,
        variations=variations.__getitem__,
    )
    images = [image for _, part in stream for image in part]
    assert_varied(tiny_shards, augment, rows, slots, View.DRONE, images)


def test_leaving_a_stream_of_images_ends_the_threads(tiny_shards: ShardSet) -> None:
    rows = np.arange(len(tiny_shards.images))
    stream = image_batches(
        tiny_shards, rows, image_size=16, resampling="opencv-linear", batch_size=2, threads=2
    )
    next(stream)
    stream.close()


def test_a_broken_image_of_a_stream_is_named_when_its_batch_is_due(
    tiny_shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ShardSet.read
    monkeypatch.setattr(
        ShardSet, "read", lambda shards, row: b"broken" if row == 5 else read(shards, row)
    )
    stream = image_batches(
        tiny_shards,
        np.arange(9),
        image_size=16,
        resampling="opencv-linear",
        batch_size=3,
        threads=2,
    )
    assert next(stream)[0].tolist() == [0, 1, 2]
    with pytest.raises(ShardError, match="cannot be decoded .no format that is read."):
        next(stream)


def test_the_next_epoch_is_planned_while_this_one_is_shown(tiny_shards, monkeypatch) -> None:
    planned: dict[int, str] = {}
    shown = planning._Shown

    def noted(plan: Plan, epoch: int):
        planned[epoch] = threading.current_thread().name
        return shown(plan, epoch)

    monkeypatch.setattr(planning, "_Shown", noted)
    assert len(list(loader(tiny_shards).batches(first_step=2, num_steps=STEPS))) == STEPS - 2
    assert planned[0] == "MainThread"
    assert planned[1].startswith("decode") and planned[2].startswith("decode"), planned
    assert planned.keys() == {0, 1, 2}, "no epoch behind the last step"


def test_no_rank_makes_the_rows_of_others(tiny_shards, monkeypatch) -> None:
    made, whole = [], Plan.rows

    def noted(plan: Plan, epoch: int, part: slice):
        made.append((threading.current_thread().name, part.stop - part.start))
        return whole(plan, epoch, part)

    monkeypatch.setattr(Plan, "rows", noted)
    batches(tiny_shards, rank=1, world_size=4)
    assert [size for name, size in made if name == "MainThread"] == [BATCH // 4] * STEPS
    assert max(size for _, size in made) <= BATCH, "an epoch is prepared, not written out"


def test_a_plan_that_fails_ahead_is_told_when_it_is_due(tiny_shards, monkeypatch) -> None:
    whole = Plan.rows

    def broken(plan: Plan, epoch: int, part: slice):
        if epoch == 1:
            raise PlanError("no second epoch")
        return whole(plan, epoch, part)

    monkeypatch.setattr(Plan, "rows", broken)
    stream = loader(tiny_shards).batches(first_step=0, num_steps=STEPS)
    assert next(stream).step == 0
    with pytest.raises(PlanError, match="no second epoch"):
        list(stream)


def test_an_error_of_the_caller_ends_the_threads(tiny_shards: ShardSet) -> None:
    def train() -> None:
        for _ in loader(tiny_shards, threads=3).batches(first_step=0, num_steps=1000):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        train()


def test_a_close_does_not_wait_for_images_nobody_will_see(tiny_shards, monkeypatch) -> None:
    read, seen = ShardSet.read, []

    def slow(shards: ShardSet, row: int):
        seen.append(row)
        time.sleep(0.05)
        return read(shards, row)

    monkeypatch.setattr(ShardSet, "read", slow)
    stream = loader(tiny_shards, threads=2).batches(first_step=0, num_steps=1000)
    next(stream)
    before = len(seen)
    stream.close()
    assert len(seen) - before <= 4, "what two threads had in work, not two batches of sixteen"


INTERRUPTED = """
import signal, sys, threading
from pathlib import Path
from data_shards.augment.config import AugmentConfig
from data_shards.loader import TrainLoader
from data_shards.planning.plan import Plan
from data_shards.shards import ShardSet

# Tests that a shell runs in the background begin with the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
shards = ShardSet.open(Path(sys.argv[1]))
plan = Plan(shards, shards.train_places, seed=1, global_batch=8)
loader = TrainLoader(
    shards, plan, augment=AugmentConfig(), image_size=64, resampling="opencv-linear",
    rank=0, world_size=1, threads=3,
)

def train():
    for batch in loader.batches(first_step=0, num_steps=10**6):
        if batch.step == 10:
            print("running", flush=True)

try:
    train()
except KeyboardInterrupt:
    print("threads left:", threading.active_count() - 1, flush=True)
    raise
"""


def test_ctrl_c_ends_loader_and_process_at_once(tiny_shards: ShardSet) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tiny_shards.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "running\n"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    finally:
        child.kill()
    assert out == "threads left: 0\n", err
    assert child.returncode in (-signal.SIGINT, 130)
    assert err.strip().endswith("KeyboardInterrupt") and err.count("Traceback") == 1
