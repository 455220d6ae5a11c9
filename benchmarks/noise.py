"""Shards of tiny images in the full number of a data set, where their content does not matter."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import simplejpeg

from data_shards.layouts import read_layout
from data_shards.packing.stored_image import Profile
from data_shards.packing.write import write_shards
from data_shards.progress import show_progress
from data_shards.shards import ShardSet

SIZE = 64
DIFFERENT = 16
"""Images that are encoded; the files repeat them."""


def noise_shards(folder: Path, *, places: int, views: int) -> ShardSet:
    """Write `places` training places of one satellite and `views` drone images of noise."""
    random = np.random.default_rng(0)
    noise = random.integers(1, 256, (DIFFERENT, SIZE, SIZE, 3), dtype=np.uint8)
    encoded = [simplejpeg.encode_jpeg(pixels, quality=90) for pixels in noise]
    return shards_of(encoded, folder, places=places, views=views)


def shards_of(encoded: Sequence[bytes], folder: Path, *, places: int, views: int) -> ShardSet:
    """Write so many places as files that repeat some `encoded` JPEGs."""
    raw = folder / "raw"
    names = [f"train/satellite/{place:04d}/{place:04d}.jpg" for place in range(1, places + 1)]
    names += [
        f"train/drone/{place:04d}/image-{view:02d}.jpeg"
        for place in range(1, places + 1)
        for view in range(1, views + 1)
    ]
    for part in ("gallery", "query"):
        names += [f"test/{part}_{view}/9999/image-01.jpeg" for view in ("satellite", "drone")]
    for number, name in enumerate(names):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_bytes(encoded[number % len(encoded)])
    dataset = read_layout(raw, layout="university1652")
    with show_progress("sharding", enabled=False) as progress:
        write_shards(dataset, folder / "shards", profile=Profile(), workers=1, progress=progress)
    return ShardSet.open(folder / "shards")
