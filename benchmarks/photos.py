"""Natural-like photographs in the folders of University-1652, and shards of them.

Noise whose amplitude falls with frequency as that of photographs does (1/f ** 1.6), its channels
alike as theirs are: at 512 px and quality 90 about as many bytes as a drone frame (60 KiB).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg

from data_shards.decode import Pixels
from data_shards.layouts import read_layout
from data_shards.packing.stored_image import Profile
from data_shards.packing.write import write_shards
from data_shards.progress import show_progress
from data_shards.shards import ShardSet

SOURCE_SIZE, SOURCE_QUALITY, FALL = 512, 90, 1.6
PLACES, VIEWS = 16, 7

Shards = Callable[[int], ShardSet]


def photograph(seed: int) -> Pixels:
    """Return noise of a photograph's spectrum [512, 512, RGB]."""
    random = np.random.default_rng(seed)
    frequency = np.fft.fftfreq(SOURCE_SIZE)
    radius = np.hypot(frequency[:, None], frequency)
    radius[0, 0] = 1.0
    noise = random.standard_normal((4, SOURCE_SIZE, SOURCE_SIZE))
    smooth = np.fft.ifft2(np.fft.fft2(noise) / radius**FALL).real
    smooth /= smooth.std(axis=(1, 2), keepdims=True)
    channels = 0.85 * smooth[0] + 0.5 * smooth[1:]
    pixels: Pixels = np.clip(channels.transpose(1, 2, 0) * 45.0 + 120.0, 0, 255).astype(np.uint8)
    return pixels


def write_raw(root: Path, *, places: int = PLACES, views: int = VIEWS) -> Path:
    """Write `places` training places of one satellite and `views` drone images, and a test one."""
    for place in range(1, places + 1):
        names = [f"train/satellite/{place:04d}/{place:04d}.jpg"]
        names += [f"train/drone/{place:04d}/image-{view:02d}.jpeg" for view in range(1, views + 1)]
        for number, name in enumerate(names):
            _write(root / name, seed=1000 * place + number)
    for part in ("gallery", "query"):
        for number, view in enumerate(("satellite", "drone")):
            _write(root / f"test/{part}_{view}/9999/image-01.jpeg", seed=number)
    return root


def _write(path: Path, *, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.ascontiguousarray(photograph(seed))
    path.write_bytes(simplejpeg.encode_jpeg(pixels, quality=SOURCE_QUALITY, colorsubsampling="420"))


def write_all(folder: Path, *, places: int = PLACES, views: int = VIEWS) -> Shards:
    """Write the photographs; return the function that shards them, 0 keeping the bytes."""
    dataset = read_layout(
        write_raw(folder / "raw", places=places, views=views), layout="university1652"
    )

    def shards(image_size: int) -> ShardSet:
        out = folder / f"shards-{image_size}"
        with show_progress("sharding", enabled=False) as progress:
            write_shards(
                dataset, out, profile=Profile(image_size=image_size), workers=1, progress=progress
            )
        opened = ShardSet.open(out)
        for row in range(len(opened.images)):  # the page cache is warm in every measurement
            bytes(opened.read(row))
        return opened

    return shards


def kib_per_image(shards: ShardSet) -> float:
    """Return the mean size of an image file."""
    return round(float(shards.images.size.mean()) / 1024, 1)
