"""Maps read in windows, whatever GDAL reads, and cut into tiles; the only file with rasterio."""

# Shapes: N = tiles, S = image size.

import csv
import hashlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import SEEK_END
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from data_shards.config import Resampling as ImageResampling
from data_shards.decode import DecodeError, Pixels, decode, resize
from data_shards.errors import LayoutError
from data_shards.layouts.duplicates import file_stamp
from evaluation.own_map.ground import Ground, Numbers, ground_here

Tiles = npt.NDArray[np.void]
"""Rows of `TILE` [N]."""

TILE = np.dtype(
    [
        ("source", "<i4"),  # number of the map in its index
        ("picture", "<i4"),  # number of the picture in a folder of tiles, else 0
        *((name, "<i4") for name in ("col", "row", "width", "height")),
        *((name, "<f4") for name in ("footprint_m", "top_deg")),
        ("place", "<f8", 2),
    ]
)
"""A tile: its window in pixels of its map, its side on the ground, where its top points (degrees
from north, clockwise), and the latitude and longitude of its centre."""

TILES_CSV = "tiles.csv"
COLUMNS = "file,latitude,longitude,footprint_m"
MAPS = f"a GeoTIFF, MBTiles, a folder of them, or a folder of tiles with a {TILES_CSV} of {COLUMNS}"
SUFFIXES = (".tif", ".tiff", ".vrt", ".mbtiles", ".jp2")

STRETCHED = (2, 98)
"""Percentiles that become black and white where levels are not 8 bits."""

LOOK_PIXELS = 512
"""Side of the small picture by which the bands of a map are told."""

FINER = 2
"""Tiles are read at up to so many times the size that the model wants, and resized from there as
its images of training were."""

ENDS_BYTES = 2**16
"""By which a map is told from another of its name, size, time and place."""

CACHE_BYTES = 2**28
"""Of decoded blocks that GDAL keeps: a row of tiles of most maps."""


@dataclass(frozen=True, kw_only=True)
class Bands:
    """Which bands make a picture, and what makes its levels 0 to 255."""

    colours: tuple[int, ...]
    """One or three, counted from 1."""

    transparency: int | None
    """A band that is transparency without being labelled so."""

    has_mask: bool
    levels: tuple[float, float] | None
    """Values that become black and white; None for 8 bits as they are."""

    palette: Pixels | None
    """Colours [256, 3]."""


@dataclass(frozen=True, kw_only=True)
class Map:
    """One picture with a place on the ground; threads may read it at once."""

    path: Path
    width: int
    height: int
    ground: Ground
    bands: Bands | None
    """None for a picture whose place stands in a table."""

    handles: threading.local = field(default_factory=threading.local, repr=False, compare=False)

    def tiles(self, footprint_m: float, *, overlap: float) -> Tiles:
        """Return the tiles of one footprint, row by row; none where the map is smaller.

        Metres are metres on the ground wherever a tile lies, and the last tiles of a row and of a
        column end where the map ends.
        """
        windows: list[tuple[int, int, int, int]] = []
        top, height, is_last = 0, 0, False
        while not is_last:
            for middle in (top, top + height / 2):  # the second where the tile will lie
                across_m, along_m, _ = self.ground.scale(self.width / 2, middle)
                width, height = round(footprint_m / across_m), round(footprint_m / along_m)
            if not (1 <= width <= self.width and 1 <= height <= self.height):
                break
            is_last = top + height >= self.height
            top = min(top, self.height - height)
            step = max(1, round(width * (1 - overlap)))
            lefts = [*range(0, self.width - width, step), self.width - width]
            windows += [(left, top, width, height) for left in lefts]
            top += max(1, round(height * (1 - overlap)))
        return self.tiles_at(windows, footprint_m)

    def tiles_at(self, windows: Sequence[tuple[int, ...]], footprint_m: float) -> Tiles:
        """Return tiles of windows (column, row, width, height)."""
        tiles = np.zeros(len(windows), dtype=TILE)
        if windows:
            names = ("col", "row", "width", "height")
            for name, column in zip(names, np.array(windows).T, strict=True):
                tiles[name] = column
            middles = [(col + width / 2, row + height / 2) for col, row, width, height in windows]
            tiles["place"] = self.ground.lat_lon(middles)
            tiles["footprint_m"] = footprint_m
            tiles["top_deg"] = self.ground.scale(self.width / 2, self.height / 2)[2]
        return tiles

    def images(
        self, tiles: Tiles, *, image_size: int, resampling: ImageResampling
    ) -> tuple[Pixels, Numbers]:
        """Return pictures [N, S, S, 3] of tiles of one row, and how much of each shows ground [N].

        They are read at once, so that no row of pixels is decoded for each of them.
        """
        first, last = tiles[0], tiles[-1]
        width, height = (min(int(first[side]), FINER * image_size) for side in ("width", "height"))
        left, span = int(first["col"]), int(last["col"] + last["width"] - first["col"])
        finer = width / int(first["width"])
        pixels, shows = self.read(
            (left, int(first["row"]), span, int(first["height"])), (round(span * finer), height)
        )
        images = np.empty((len(tiles), image_size, image_size, 3), dtype=np.uint8)
        content = np.empty(len(tiles))
        for number, start in enumerate(np.round((tiles["col"] - left) * finer).astype(int)):
            part = np.ascontiguousarray(pixels[:, start : start + width])
            resize(part, size=image_size, resampling=resampling, into=images[number])
            content[number] = shows[:, start : start + width].mean()
        return images, content

    def around(self, window: Sequence[float], *, margin: float, side: int) -> tuple[Pixels, Ground]:
        """Return a part of the map, at most `side` pixels wide and high, and where it lies.

        `margin` is the part of the window (column, row, width, height) that is added on each side,
        as far as the map goes.
        """
        col, row, width, height = window
        left, top = max(0, round(col - margin * width)), max(0, round(row - margin * height))
        right = max(left + 1, min(self.width, round(col + (1 + margin) * width)))
        bottom = max(top + 1, min(self.height, round(row + (1 + margin) * height)))
        coarser = max(1.0, max(right - left, bottom - top) / side)
        size = (round((right - left) / coarser) or 1, round((bottom - top) / coarser) or 1)
        pixels, _ = self.read((left, top, right - left, bottom - top), size)
        a, b, c, d, e, f = self.ground.matrix
        x, y = (right - left) / size[0], (bottom - top) / size[1]
        placed = (a * x, b * y, a * left + b * top + c, d * x, e * y, d * left + e * top + f)
        return pixels, Ground(crs=self.ground.crs, matrix=placed)

    def read(
        self, window: tuple[int, int, int, int], size: tuple[int, int]
    ) -> tuple[Pixels, npt.NDArray[np.bool_]]:
        """Return a window as RGB of a size (width, height), and where it shows ground.

        Pure black and pure white count as nothing: so maps are filled that say it nowhere else.

        Raises:
            LayoutError: the file is damaged.
        """
        bands, shape = self.bands, size[::-1]
        with told_as_damage(self.path), rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            if bands is None:
                rows, columns = Window(*window).toslices()
                whole = np.ascontiguousarray(decode(self.path.read_bytes())[rows, columns])
                pixels: Any = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
                return pixels, np.ones(shape, dtype=np.bool_)
            if not hasattr(self.handles, "dataset"):
                self.handles.dataset = rasterio.open(self.path)
            dataset = self.handles.dataset
            wanted = [*bands.colours, *([bands.transparency] if bands.transparency else [])]
            values = dataset.read(
                wanted,
                window=Window(*window),
                out_shape=(len(wanted), *shape),
                resampling=Resampling.average if bands.palette is None else Resampling.nearest,
            )
            mask: Any = 1
            if bands.has_mask:
                mask = dataset.dataset_mask(window=Window(*window), out_shape=shape)
        colours = values[: len(bands.colours)]
        if bands.levels:
            low, high = bands.levels
            colours = (colours.astype(np.float32) - low) * (255 / max(high - low, 1e-9))
            colours = np.nan_to_num(colours).clip(0, 255).astype(np.uint8)
        pixels = np.ascontiguousarray(np.broadcast_to(colours, (3, *shape)).transpose(1, 2, 0))
        if bands.palette is not None:
            pixels = bands.palette[pixels[..., 0]]
        fill = cv2.inRange(pixels, (0, 0, 0), (0, 0, 0)) | cv2.inRange(
            pixels, (255,) * 3, (255,) * 3
        )
        return pixels, (fill == 0) & (mask > 0) & (values[-1] > 0 if bands.transparency else True)


@contextmanager
def told_as_damage(path: Path) -> Iterator[None]:
    """Say in one sentence that a map cannot be read.

    Raises:
        LayoutError: for what GDAL or a decoder raises within.
    """
    try:
        yield
    except (RasterioError, OSError, DecodeError) as error:
        raise LayoutError(
            f"{path} cannot be read as a map ({' '.join(str(error).split())}); give {MAPS}"
        ) from error


def open_map(path: Path) -> Map:
    """Look at a map.

    Raises:
        LayoutError: it cannot be read, or says nothing of where it lies.
    """
    dataset: Any = None
    with told_as_damage(path), warnings.catch_warnings():
        warnings.simplefilter("error", NotGeoreferencedWarning)
        try:
            dataset = rasterio.open(path)
        except NotGeoreferencedWarning:
            pass
    if dataset is None or dataset.crs is None:
        raise LayoutError(
            f"{path} has no coordinate system, so nothing on it has a place; give {MAPS}"
        )
    with told_as_damage(path), dataset:
        ground = Ground(crs=dataset.crs.to_wkt(), matrix=tuple(dataset.transform)[:6])
        size = {"width": dataset.width, "height": dataset.height}
        return Map(path=path, ground=ground, bands=_bands_of(dataset), **size)


def _bands_of(dataset: Any) -> Bands:
    """Tell the colours of a map from its labels, and what they leave open from its values.

    Red, green and blue are those labelled so, else the first three bands, else the first. A last
    band of 8 bits that holds nothing but 0 and 255 is transparency: so it comes unlabelled.
    """
    labels = dict(enumerate(dataset.colorinterp, start=1))
    own = [number for number, label in labels.items() if label != ColorInterp.alpha]
    side = (min(LOOK_PIXELS, dataset.height), min(LOOK_PIXELS, dataset.width))
    is_bytes = set(dataset.dtypes) == {"uint8"}
    transparency = palette = levels = None
    if len(own) == len(labels) and len(own) in (2, 4) and is_bytes:
        last = dataset.read(own[-1], out_shape=side, resampling=Resampling.nearest)
        transparency = own.pop() if np.isin(last, (0, 255)).all() else None
    rgb = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    named = [number for colour in rgb for number in own if labels[number] == colour]
    colours = named if len(named) == 3 else own[:3] if len(own) >= 3 else own[:1]
    if labels[colours[0]] == ColorInterp.palette:
        table = dataset.colormap(colours[0])
        palette = np.array([table.get(value, (0, 0, 0))[:3] for value in range(256)], np.uint8)
    elif not is_bytes:
        small = dataset.read(colours, out_shape=(len(colours), *side), masked=True).compressed()
        low, high = np.percentile(small[np.isfinite(small)], STRETCHED)
        levels = (float(low), float(high))
    return Bands(
        colours=tuple(colours),
        transparency=transparency,
        has_mask=any(MaskFlags.all_valid not in flags for flags in dataset.mask_flag_enums),
        levels=levels,
        palette=palette,
    )


@dataclass(frozen=True, kw_only=True)
class Source:
    """One map that was given: a file, or a folder of tiles with their places."""

    path: Path
    key: str
    """Digest over its files and where they lie: another map has another, a moved one the same."""

    maps: tuple[Map, ...]
    footprints_m: tuple[float, ...] = ()
    """Of the pictures of a folder of tiles, which are not cut."""

    def tiles(self, footprints_m: Sequence[float], *, overlap: float) -> Tiles:
        """Return all tiles, those of one footprint after the other."""
        if not self.footprints_m:
            parts = [self.maps[0].tiles(side, overlap=overlap) for side in footprints_m]
            return np.concatenate(parts)
        wholes = [(one, (0, 0, one.width, one.height)) for one in self.maps]
        sides = zip(wholes, self.footprints_m, strict=True)
        tiles = np.concatenate([one.tiles_at([window], side) for (one, window), side in sides])
        tiles["picture"] = np.arange(len(tiles))
        return tiles


def open_sources(path: Path, *, footprint_m: float) -> list[Source]:
    """Open what was given as a map: a file, a folder of maps, or a folder of tiles.

    Tiles whose table does not say their footprint have `footprint_m`.

    Raises:
        LayoutError: there is no map, it cannot be read, or has no place.
    """
    table = path / TILES_CSV
    if not table.is_file():
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        files = [one for one in inside if one == path or one.suffix.lower() in SUFFIXES]
        if not files:
            raise LayoutError(f"{path} holds no map ({', '.join(SUFFIXES)}); give {MAPS}")
        opened = [open_map(one) for one in files]
        return [Source(path=one.path, maps=(one,), key=_key(one)) for one in opened]
    maps, footprints = [], []
    with told_as_damage(table), table.open(newline="", encoding="utf-8-sig") as file:
        for line, cells in enumerate(csv.DictReader(file), start=2):
            try:
                place = float(cells["latitude"]), float(cells["longitude"])
                footprints.append(float(cells.get("footprint_m") or footprint_m))
                picture = path / cells["file"]
            except (KeyError, TypeError, ValueError) as error:
                raise LayoutError(f"{table}, line {line} is not {COLUMNS}; correct it") from error
            with told_as_damage(picture), Image.open(picture) as image:
                width, height = image.size
            ground = ground_here(place, footprint_m=footprints[-1], width=width, height=height)
            maps.append(Map(path=picture, ground=ground, bands=None, width=width, height=height))
    return [Source(path=path, maps=tuple(maps), key=_key(*maps), footprints_m=tuple(footprints))]


def _key(*maps: Map) -> str:
    """Digest names, sizes, times, places, and how the first file begins and ends."""
    told = hashlib.sha256()
    for one in maps:
        size, changed_ns, _ = file_stamp(one.path)
        told.update(repr((one.path.name, size, changed_ns, one.ground)).encode())
    with maps[0].path.open("rb") as file:
        told.update(file.read(ENDS_BYTES))
        file.seek(-min(ENDS_BYTES, file.seek(0, SEEK_END)), SEEK_END)
        told.update(file.read())
    return told.hexdigest()
