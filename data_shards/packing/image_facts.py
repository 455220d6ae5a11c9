"""What is worth knowing of the image files that went into shards, added up tar by tar."""

import io
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from data_shards.decode import UPRIGHT, decode
from data_shards.formats import STORED
from data_shards.layouts.coordinates import Coordinates
from data_shards.layouts.folders import first_of
from data_shards.packing.stored_image import Profile, StoredImage, resized_jpeg
from data_shards.schema import ImageRecord, View
from data_shards.shards import ShardSet

MOSTLY = 0.9
"""Share of a tile that is of one gray, give or take `NEAR`, where it is nearly empty."""

NEAR = 2
THUMBNAIL = 64

LARGE_PIXELS = 4 * 512 * 512
"""From here on most of a decoded image is thrown away by the resize that follows."""

ADVISED = 384
NUM_MEASURED = 8


@dataclass(kw_only=True)
class ImageFacts:
    """Counts over some image files; its `vars` stand in the notes."""

    formats: Counter[str] = field(default_factory=Counter)
    """As Pillow calls them."""

    sizes: Counter[str] = field(default_factory=Counter)
    """Such as `512x512`, before an image is turned."""

    num_pixels: int = 0
    num_turned: int = 0
    num_located: int = 0
    empty_tiles: list[str] = field(default_factory=list)
    """Keys of satellite images with next to nothing on them."""

    sums: dict[str, list[float]] = field(default_factory=dict)
    """Place to the latitudes and longitudes of its located images, added up, and how many."""

    def note(self, record: ImageRecord, image: StoredImage, *, is_empty: bool) -> None:
        """Count one image."""
        self.formats[image.header.format] += 1
        self.sizes["{}x{}".format(*image.header.size)] += 1
        self.num_pixels += math.prod(image.header.size)
        self.num_turned += image.header.orientation != UPRIGHT
        self.empty_tiles += [record.key] * is_empty
        if "lat" in image.camera:
            self.num_located += 1
            at = [image.camera["lat"], image.camera["lon"], 1.0]
            self.sums[record.place] = _added(self.sums.get(record.place), at)

    def add(self, other: "ImageFacts") -> None:
        """Count others too."""
        self.formats += other.formats
        self.sizes += other.sizes
        self.num_pixels += other.num_pixels
        self.num_turned += other.num_turned
        self.num_located += other.num_located
        self.empty_tiles += other.empty_tiles
        for place, sums in other.sums.items():
            self.sums[place] = _added(self.sums.get(place), sums)

    @property
    def are_large(self) -> bool:
        """Whether decoding them is most of the work."""
        return self.num_pixels > LARGE_PIXELS * self.formats.total()

    @property
    def coordinates(self) -> Coordinates:
        """Place to the mean position of its located images."""
        return {place: (lat / n, lon / n) for place, (lat, lon, n) in sorted(self.sums.items())}

    def lines(self) -> Iterator[str]:
        """Yield what a user should know."""
        converted = self.formats.total() - sum(self.formats[name] for name in STORED)
        kept = f", {converted} of them stored as PNG" if converted else ""
        if self.formats:
            yield f"  files: {_most(self.formats)}{kept}; pixels: {_most(self.sizes)}"
        if self.num_turned:
            yield f"  {self.num_turned} images are turned as their orientation says"
        if self.num_located:
            yield (
                f"  {self.num_located} images tell where they were taken; the mean of a place's is "
                f"its position unless a table tells ({len(self.sums)} places)"
            )
        if self.empty_tiles:
            named = first_of(self.empty_tiles)
            yield f"  tiles that are nearly empty: {len(self.empty_tiles)} ({named})"


def total(notes: Iterable[dict[str, Any]]) -> ImageFacts:
    """Add up what stands in the notes of tars."""
    whole = ImageFacts()
    for values in notes:
        counters = {name: Counter(values[name]) for name in ("formats", "sizes")}
        whole.add(ImageFacts(**values | counters))
    return whole


def _added(sums: list[float] | None, more: list[float]) -> list[float]:
    return more if sums is None else [a + b for a, b in zip(sums, more, strict=True)]


def _most(counter: Counter[str]) -> str:
    named = ", ".join(f"{name} ({count})" for name, count in counter.most_common(3))
    return named + (", ..." if len(counter) > 3 else "")


def is_nearly_empty(content: bytes) -> bool:
    """Tell whether a readable image is of one gray nearly everywhere, or nearly all transparent."""
    with Image.open(io.BytesIO(content)) as image:
        image.draft("L", (THUMBNAIL, THUMBNAIL))
        size = (THUMBNAIL, THUMBNAIL)
        gray = np.asarray(image.convert("L").resize(size, Image.Resampling.BOX)).copy()
        if "A" in image.getbands():
            gray[np.asarray(image.getchannel("A").resize(size)) == 0] = 0
    counts = np.bincount(gray.ravel(), minlength=256)
    near = np.convolve(counts, np.ones(2 * NEAR + 1, dtype=int), mode="same")
    return bool(near.max() >= MOSTLY * gray.size)


def image_size_advice(shards: ShardSet) -> str:
    """Say how much faster smaller drone images would be read, as measured on some of them."""
    rows = np.flatnonzero(shards.images.view == View.DRONE)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), NUM_MEASURED), dtype=int)]
    large = small = 0.0
    for row in rows.tolist():
        start = time.perf_counter()
        image = decode(shards.read(row))
        large += time.perf_counter() - start
        jpeg = resized_jpeg(image, Profile(image_size=ADVISED))
        start = time.perf_counter()
        decode(jpeg)
        small += time.perf_counter() - start
    return (
        f"  decoding one of these drone images takes {1000 * large / len(rows):.1f} ms here, and "
        f"{1000 * small / len(rows):.1f} ms where it has {ADVISED} px: with "
        f"--image-size {ADVISED} a training that waits for its images is up to "
        f"{large / small:.0f} times as fast"
    )
