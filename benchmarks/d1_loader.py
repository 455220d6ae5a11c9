"""Goal D1: images per second of the loader over those of the bare decoder.

Same bytes (384 px shards), same threads. The loader reads the index, decodes, applies the geometry
of a family and leaves uint8 batches. The goal is asked of `mean`, PFED's family, with its colours,
noise and holes off, since it measures loading. What all of it costs is told beside ("whole"), and
the other families: `mccg` rotates every tile, `light` resamples every crop, and a 512 px source is
resized.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import simplejpeg
from clock import interleaved, ratios
from line import report
from photos import kib_per_image, write_all

from data_shards.augment.config import AugmentConfig, AugmentFamily
from data_shards.augment.mean import NO_DROPOUT, NO_FILTER
from data_shards.augment.variations import Variations
from data_shards.loader import image_batches, slot_variations
from data_shards.schema import Role, View
from data_shards.shards import RowNumbers, ShardSet

SIZE, BATCH, THREADS, SEED = 384, 64, 2, 0
PASSES = 12
"""Times that a run loads every image: with two, a run was a tenth of a second, and the threads and
fresh memory that a training makes once an hour were an eighth of it."""

MUST, JUDGED = 0.85, "mean"
SATELLITE, DRONE = (View.SATELLITE,), (View.DRONE,)
PAIRS = (View.SATELLITE, View.DRONE)

GEOMETRY: dict[AugmentFamily, dict[str, Any]] = {
    "light": {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0},
    "mean": {},
    "mccg": {"auto_augment": False},
}


def variations(
    shards: ShardSet, rows: RowNumbers, family: AugmentFamily, *, is_whole: bool
) -> Variations:
    """Draw the variations of rows: all, or crop, mirror, turns, rotation and erasing only."""
    augment = AugmentConfig(family=family, **({} if is_whole else GEOMETRY[family]))
    slots = np.arange(len(rows)) % augment.slots
    drawn = slot_variations(shards, augment, rows, slots)
    if family == "mean" and not is_whole:
        plain = {"jpeg_quality": 0, "brightness": 1, "contrast": 1, "saturation": 1, "hue": 0}
        plain |= {"filter": NO_FILTER, "dropout": NO_DROPOUT}
        for name, value in plain.items():
            drawn.values[name] = value
    return drawn


def rows_of(shards: ShardSet, *, passes: int = PASSES) -> dict[View, RowNumbers]:
    """Return as many satellite rows as drone rows, as training has them, `passes` times."""
    drones = np.tile(shards.images.where(role=Role.TRAIN, view=View.DRONE), passes)
    satellites = shards.images.where(role=Role.TRAIN, view=View.SATELLITE)
    return {View.SATELLITE: np.resize(satellites, len(drones)), View.DRONE: drones}


def loading(
    shards: ShardSet,
    family: AugmentFamily,
    *,
    threads: int,
    views: Sequence[View] = PAIRS,
    is_whole: bool = False,
) -> Callable[[], None]:
    """Return what loads the images of all pairs, a view after the other."""
    parts = [
        (rows, variations(shards, rows, family, is_whole=is_whole))
        for view, rows in rows_of(shards).items()
        if view in views
    ]

    def load() -> None:
        for rows, drawn in parts:
            for _ in image_batches(
                shards,
                rows,
                image_size=SIZE,
                resampling="opencv-linear",
                batch_size=BATCH,
                threads=threads,
                variations=drawn.__getitem__,
            ):
                pass

    return load


def decoding(
    shards: ShardSet, *, threads: int, views: Sequence[View] = PAIRS, passes: int = PASSES
) -> Callable[[], None]:
    """Return what decodes the same files, each thread into one buffer of its own."""
    rows = np.concatenate([rows_of(shards, passes=passes)[view] for view in views])
    contents = [shards.read(int(row)) for row in rows]

    def work(numbers: "count[int]") -> None:
        buffer = np.empty((512, 512, 3), dtype=np.uint8)
        for number in numbers:
            if number >= len(contents):
                return
            simplejpeg.decode_jpeg(contents[number], colorspace="RGB", buffer=buffer)

    def decode() -> None:
        numbers = count()
        workers = [Thread(target=work, args=(numbers,)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return decode


def assert_equal(shards: ShardSet) -> None:
    """Without variations, the loader's pixels are the bare decoder's."""
    rows = np.arange(len(shards.images))
    for part, images in image_batches(
        shards, rows, image_size=SIZE, resampling="opencv-linear", batch_size=BATCH, threads=2
    ):
        for row, image in zip(part, images, strict=True):
            bare = simplejpeg.decode_jpeg(shards.read(int(row)), colorspace="RGB")
            assert np.array_equal(image, bare), shards.describe(int(row))


def main() -> int:
    """Compare loader and decoder, and print one line."""
    value: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        shards = write_all(Path(folder), places=8)
        fitting, larger = shards(SIZE), shards(0)
        assert_equal(fitting)
        value["KiB per image"] = {"384": kib_per_image(fitting), "512": kib_per_image(larger)}
        found: dict[tuple[str, str], Any] = {}
        for words, views in (("pairs", PAIRS), ("satellite", SATELLITE), ("drone", DRONE)):
            runs: dict[str, Callable[[], None]] = {
                family: loading(fitting, family, threads=THREADS, views=views)
                for family in GEOMETRY
            }
            runs["mccg, 512 to 384"] = loading(larger, "mccg", threads=THREADS, views=views)
            if views == PAIRS:
                whole = partial(loading, fitting, threads=THREADS, is_whole=True)
                runs |= {"mean, whole": whole("mean"), "mccg, whole": whole("mccg")}
            bare = decoding(fitting, threads=THREADS, views=views)
            bare_larger = decoding(larger, threads=THREADS, views=views)
            seconds = interleaved({"bare": bare, "bare 512": bare_larger, **runs})
            for name in runs:
                below = seconds["bare 512" if "512" in name else "bare"]
                found[name, words] = ratios(below, seconds[name])
        value |= {f"{name}, {words}": ratio for (name, words), ratio in found.items()}
        passed = found[JUDGED, "pairs"]["wall"]["median"] >= MUST
    must = f"{JUDGED}, pairs >= {MUST} by wall"
    return report("D1", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
