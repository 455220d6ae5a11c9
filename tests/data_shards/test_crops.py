"""Several crops of one decoding: consecutive steps, the same rows, other slots, the same pixels."""

import numpy as np
import pytest

from data_shards import decoders
from data_shards.augment.config import AugmentConfig
from data_shards.augment.variations import FAMILIES
from data_shards.loader import Batch, TrainLoader
from data_shards.planning.plan import Plan
from data_shards.shards import ShardSet

CROPS, STEPS = 3, 20


def batches(shards: ShardSet, *, crops: int, first=0, steps=STEPS, rank=0, world=1, **of):
    plan = Plan(shards, shards.train_places, seed=1, global_batch=8, drones_per_row=2)
    loader = TrainLoader(
        shards,
        plan,
        augment=AugmentConfig(**{"slots": 4} | of.pop("augment", {})),
        image_size=16,
        resampling="opencv-linear",
        rank=rank,
        world_size=world,
        threads=2,
        crops_per_decode=crops,
        **of,
    )
    assert loader.steps_per_epoch == crops * plan.steps_per_epoch
    return list(loader.batches(first_step=first, num_steps=steps))


def same(one: Batch, two: Batch) -> bool:
    names = ("step", "place", "slot", "satellite_rows", "drone_rows", "satellite", "drone")
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_of_one_decoding_have_its_rows_in_other_slots(tiny_shards, family: str) -> None:
    cropped = batches(tiny_shards, crops=CROPS, augment={"family": family})
    once = batches(tiny_shards, crops=1, steps=7, augment={"family": family})
    assert [batch.step for batch in cropped] == list(range(STEPS))
    for batch in cropped:
        base = once[batch.step // CROPS]
        assert np.array_equal(batch.drone_rows, base.drone_rows)
        visit = base.slot  # of the first visits, which are fewer than slots here
        assert np.array_equal(batch.slot, (visit * CROPS + batch.step % CROPS) % 4)
    # Where slot and rows are those of a single crop, so are the pixels.
    for batch in (cropped[0], cropped[3]):
        base = once[batch.step // CROPS]
        alike = batch.slot == base.slot
        assert alike.any()
        assert np.array_equal(batch.satellite[alike], base.satellite[alike])
    assert not np.array_equal(cropped[0].drone, cropped[1].drone)


def test_a_run_begins_within_the_crops_of_a_decoding(tiny_shards) -> None:
    whole = batches(tiny_shards, crops=CROPS)
    for first, end in ((4, STEPS), (5, 8), (7, 8)):
        part = batches(tiny_shards, crops=CROPS, first=first, steps=end)
        assert len(part) == end - first
        assert all(same(one, two) for one, two in zip(part, whole[first:end], strict=True))


def test_ranks_divide_the_crops_as_they_divide_rows(tiny_shards) -> None:
    whole = batches(tiny_shards, crops=CROPS, steps=5)
    parts = [batches(tiny_shards, crops=CROPS, steps=5, rank=rank, world=2) for rank in (0, 1)]
    for one, first, second in zip(whole, *parts, strict=True):
        assert np.array_equal(one.drone, np.concatenate([first.drone, second.drone]))


@pytest.mark.parametrize(("crops", "size"), [(1, None), (1, 32), (3, None), (3, 32)])
def test_an_image_is_decoded_once_for_its_crops_and_sizes(
    tiny_shards, monkeypatch: pytest.MonkeyPatch, crops: int, size: int | None
) -> None:
    decoded = []
    decode = decoders.decode

    def counting(content: bytes, **of):
        decoded.append(1)
        return decode(content, **of)

    monkeypatch.setattr(decoders, "decode", counting)
    found = batches(tiny_shards, crops=crops, steps=crops, teacher_size=size)
    assert len(decoded) == 8 * 3 and len(found) == crops
    if size:
        assert found[-1].teacher_drone.shape == (16, size, size, 3)
