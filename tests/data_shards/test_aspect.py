"""Images that are not square are squeezed, lose their ends or get black ones: everywhere alike."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_shards import decoder_processes
from data_shards.augment.config import AugmentConfig
from data_shards.augment.on_device import finish
from data_shards.augment.variations import FAMILIES
from data_shards.decode import decode, resize, square
from data_shards.errors import ShardError
from data_shards.loader import TrainLoader, image_batches
from data_shards.planning.plan import Plan
from data_shards.shards import ShardSet
from tests.conftest import shard
from tests.data_shards.augment.conftest import varied_image

ASPECTS = ("squeeze", "crop", "pad")
RESAMPLING = "opencv-linear"


@pytest.fixture(scope="module")
def wide_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two places to train on and one to test on; most images are wide or high."""
    raw, draws = tmp_path_factory.mktemp("wide") / "raw", np.random.default_rng(0)
    for number, (folder, place) in enumerate(
        (f"{folder}_{view}" if folder != "train/" else folder + view, place)
        for view in ("satellite", "drone")
        for folder, places in (("train/", (1, 2)), ("test/query", (3,)), ("test/gallery", (3,)))
        for place in places
    ):
        size = ((30, 20), (17, 40), (24, 24))[number % 3] if place < 3 else (40, 25)
        pixels = draws.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
        if place == 3:  # query and gallery are one image
            pixels = np.full((*size[::-1], 3), 90, dtype=np.uint8)
        path = raw / folder / f"{place:04d}/image-01.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return raw


@pytest.fixture(scope="module")
def wide_shards(wide_raw: Path) -> ShardSet:
    shard(wide_raw, wide_raw.parent / "shards")
    return ShardSet.open(wide_raw.parent / "shards")


def test_a_square_is_the_middle_or_has_black_ends() -> None:
    wide = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3) + 1
    assert square(wide, "squeeze") is wide
    assert np.array_equal(square(wide, "crop"), wide[:, 1:3])
    padded = square(wide, "pad")
    assert padded.shape == (5, 5, 3)
    assert np.array_equal(padded[1:3], wide)
    assert not padded[0].any() and not padded[3:].any()
    high = np.ascontiguousarray(wide.transpose(1, 0, 2))
    for aspect in ASPECTS[1:]:
        assert np.array_equal(square(high, aspect), square(wide, aspect).transpose(1, 0, 2))
        assert square(wide[:, :2], aspect) is not None
        assert np.array_equal(square(wide[:, :2], aspect), wide[:, :2])


@pytest.mark.parametrize("most_threads", [0, 4])
@pytest.mark.parametrize("aspect", ASPECTS)
def test_images_are_made_square_before_they_are_resized(
    wide_shards: ShardSet, monkeypatch: pytest.MonkeyPatch, aspect, most_threads
) -> None:
    monkeypatch.setattr(decoder_processes, "MOST_THREADS", most_threads)
    shards, rows = wide_shards.shown(aspect), np.arange(len(wide_shards.images))
    batches = image_batches(
        shards, rows, image_size=16, resampling=RESAMPLING, batch_size=3, threads=2
    )
    for part, images in batches:
        for row, image in zip(part.tolist(), images, strict=True):
            whole = square(decode(shards.read(row)), aspect)
            assert np.array_equal(image, resize(whole, size=16, resampling=RESAMPLING))


@pytest.mark.parametrize("device", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_images_are_made_square_before_they_are_varied(
    wide_shards: ShardSet, family, device
) -> None:
    shards = wide_shards.shown("pad")
    loader = TrainLoader(
        shards,
        Plan(shards, shards.train_places, seed=1, global_batch=2),
        augment=AugmentConfig(family=family, device=device),
        image_size=16,
        resampling=RESAMPLING,
        rank=0,
        world_size=1,
        threads=1,
    )
    (batch,) = loader.batches(first_step=0, num_steps=1)
    varied = batch.variations[0]
    for at, row in enumerate(batch.satellite_rows.tolist()):
        whole = square(decode(shards.read(row)), "pad")
        expected = varied_image(varied, at, whole, size=16, resampling=RESAMPLING)
        assert np.array_equal(batch.satellite[at], expected)
    on_device = finish(torch.from_numpy(batch.satellite), varied)
    assert on_device.shape == (2, 16, 16, 3)


def test_shards_of_one_size_say_how_they_became_square(skydistill, wide_raw, tmp_path) -> None:
    out, options = tmp_path / "padded", ("--image-size", 256, "--aspect", "pad")
    assert skydistill("shard", wide_raw, out, *options).code == 0
    shards = ShardSet.open(out)
    assert shards.manifest.profile["aspect"] == "pad"
    (row,) = np.flatnonzero(shards.images.key == "0003/drone/image-01")
    pixels = shards.shown("pad") and decode(shards.read(int(row)))
    assert pixels.shape == (256, 256, 3)
    assert pixels[0].max() < 9 and abs(int(pixels[128, 128, 0]) - 90) < 9
    with pytest.raises(ShardError, match=r"made square by pad, and data.aspect is squeeze; train"):
        shards.shown("squeeze")
    told = skydistill("shard", wide_raw, out, "--image-size", 256).sentence
    assert "holds shards of profile aspect=pad bytes=resized" in told
    told = skydistill("shard", wide_raw, tmp_path / "x", "--aspect", "crop").sentence
    assert "--aspect must go with --image-size" in told
