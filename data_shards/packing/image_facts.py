"""What is worth knowing of the image files that went into shards, added up tar by tar."""

import io
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from data_shards.decode import UPRIGHT, decode
from data_shards.errors import counted
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
MOST_SIZES = 3


class ImageFacts(dict[str, Counter[str]]):
    """Counts over some image files, by what is counted; stands in the notes as it is."""

    def __missing__(self, what: str) -> Counter[str]:
        return self.setdefault(what, Counter())

    def add(self, others: Mapping[str, Mapping[str, Any]]) -> None:
        """Count others too."""
        for what, counts in others.items():
            self[what].update(counts)

    def note(self, record: ImageRecord, image: StoredImage, *, is_empty: bool) -> None:
        """Count one image."""
        header, camera = image.header, image.camera
        self["formats"][header.format] += 1
        self["sizes"]["{}x{}".format(*header.size)] += 1
        self["of all"].update(
            pixels=math.prod(header.size), turned=int(header.orientation != UPRIGHT)
        )
        self["nearly empty"].update([record.key] * is_empty)
        if "lat" in camera:
            sums = {"lat": camera["lat"], "lon": camera["lon"], "located": 1}
            self.add({name: {record.place: value} for name, value in sums.items()})

    @property
    def are_large(self) -> bool:
        """Whether decoding them is most of the work."""
        return self["of all"]["pixels"] > LARGE_PIXELS * self["formats"].total()

    @property
    def coordinates(self) -> Coordinates:
        """Place to the mean position of its located images."""
        lat, lon = self["lat"], self["lon"]
        return {place: (lat[place] / n, lon[place] / n) for place, n in self["located"].items()}

    def lines(self) -> Iterator[str]:
        """Yield what a user should know."""
        formats, located, empty = self["formats"], self["located"], self["nearly empty"]
        converted = formats.total() - sum(formats[name] for name in STORED)
        kept = f", {converted} of them stored as PNG" if converted else ""
        if formats:
            told = ", ".join(f"{name} ({count})" for name, count in formats.most_common())
            yield f"  files: {told}{kept}; pixels: {_few_sizes(self['sizes'])}"
        if turned := self["of all"]["turned"]:
            yield f"  turned as their orientation says: {counted(turned, 'image')}"
        if located:
            yield (
                f"  GPS in {counted(located.total(), 'image')} of "
                f"{counted(len(located), 'place')}; the mean of a place's is its position unless a "
                "table tells"
            )
        if empty:
            yield f"  tiles that are nearly empty: {len(empty)} ({first_of(empty)})"


def total(notes: Iterable[Mapping[str, Mapping[str, Any]]]) -> ImageFacts:
    """Add up what stands in the notes of tars."""
    whole = ImageFacts()
    for facts in notes:
        whole.add(facts)
    return whole


def _few_sizes(sizes: Counter[str]) -> str:
    """Name the most frequent sizes between the smallest and the largest."""
    rising = sorted(sizes, key=lambda size: math.prod(map(int, size.split("x"))))
    usual = [size for size, _ in sizes.most_common(MOST_SIZES)]
    shown = [size for size in rising if size in (rising[0], *usual, rising[-1])]
    others = len(sizes) - len(shown)
    told = ", ".join(f"{size} ({sizes[size]})" for size in shown)
    return told + (f" and {counted(others, 'size')} between" if others else "")


def is_nearly_empty(content: bytes) -> bool:
    """Tell whether a readable image is of one gray nearly everywhere, or nearly all transparent."""
    with Image.open(io.BytesIO(content)) as image:
        image.draft("L", (THUMBNAIL, THUMBNAIL))
        size, is_deep = (THUMBNAIL, THUMBNAIL), image.mode.startswith("I")  # which "L" would clip
        levels = image.point(lambda level: level / 256) if is_deep else image
        gray = np.asarray(levels.convert("L").resize(size, Image.Resampling.BOX)).copy()
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
