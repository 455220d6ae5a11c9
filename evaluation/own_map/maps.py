"""Maps read in windows, whatever GDAL reads, and cut into tiles; the only file with rasterio."""

# Shapes: N = tiles, S = image size.

import hashlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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
from data_shards.layouts.coordinates import read_rows
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
"""At most so many times the model's size tiles are read, then resized as in its training."""

BLOCKS, LEAST_BLOCKS, BLOCK_BYTES = 256, 3, 4096
"""Of all files and of each: by which a map is told from another of its size and place."""

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

    is_upside_down: bool = False
    """Its file is mirrored, as those are that begin in the south: its rows count from the last."""

    parts: tuple[Path, ...] = ()
    """Maps of which it is a mosaic, and those of which these are."""

    handles: threading.local = field(default_factory=threading.local, repr=False, compare=False)

    def tiles(self, footprint_m: float, *, overlap: float) -> Tiles:
        """Return the tiles of one footprint, row by row; none where the map is smaller.

        Metres are metres on the ground wherever a tile lies, and the last tiles of a row and of a
        column end where the map ends. Tiles whose middle is off the Earth are left out.

        Raises:
            LayoutError: a tile would be less than a pixel.
        """
        windows: list[tuple[int, int, int, int]] = []
        top, height, is_last = 0, 0, False
        while not is_last:
            for _ in range(2):  # the second where the tile will lie
                middle = min(top, self.height - height) + height / 2
                sides_m = self.ground.scale(self.width / 2, middle)[:2]
                # Off the Earth, where sides are nan, nothing fits.
                width, height = (round(footprint_m / max(1e-9, side_m)) for side_m in sides_m)
            if not width * height:
                raise LayoutError(
                    f"{self.path} has up to {max(sides_m):.1f} m per pixel, so a tile of "
                    f"{footprint_m:g} m is less than one; give a larger --footprint-m"
                )
            if width > self.width or height > self.height:
                break
            is_last = top + height >= self.height
            top = min(top, self.height - height)
            step = max(1, round(width * (1 - overlap)))
            lefts = [*range(0, self.width - width, step), self.width - width]
            windows += [(left, top, width, height) for left in lefts]
            top += max(1, round(height * (1 - overlap)))
        tiles = self.tiles_at(windows, footprint_m)
        return np.asarray(tiles[np.isfinite(tiles["place"]).all(axis=1)])

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

        Its pixels are square on the ground. `margin` is the part of the window (column, row, width,
        height) that is added on each side, as far as the map goes.
        """
        col, row, width, height = window
        left, top = max(0, round(col - margin * width)), max(0, round(row - margin * height))
        right = max(left + 1, min(self.width, round(col + (1 + margin) * width)))
        bottom = max(top + 1, min(self.height, round(row + (1 + margin) * height)))
        across_m, along_m, _ = self.ground.scale((left + right) / 2, (top + bottom) / 2)
        wide_m, high_m = (right - left) * across_m, (bottom - top) * along_m
        pixel_m = max(across_m, along_m, wide_m / side, high_m / side)
        size = (round(wide_m / pixel_m) or 1, round(high_m / pixel_m) or 1)
        pixels, _ = self.read((left, top, right - left, bottom - top), size)
        a, b, c, d, e, f = self.ground.matrix
        x, y = (right - left) / size[0], (bottom - top) / size[1]
        placed = (a * x, b * y, a * left + b * top + c, d * x, e * y, d * left + e * top + f)
        return pixels, Ground(crs=self.ground.crs, matrix=placed)

    def read(
        self, window: tuple[int, int, int, int], size: tuple[int, int]
    ) -> tuple[Pixels, npt.NDArray[np.bool_]]:
        """Return a window as RGB of a size (width, height), and where it shows ground.

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
            left, top, width, height = window
            top = self.height - top - height if self.is_upside_down else top
            part = {"window": Window(left, top, width, height)}
            way = Resampling.average if bands.palette is None else Resampling.nearest
            values = dataset.read(wanted, out_shape=(len(wanted), *shape), resampling=way, **part)
            shows = not bands.has_mask or dataset.dataset_mask(out_shape=shape, **part) > 0
        if bands.transparency:
            shows &= values[-1] > 0
        colours = values[: len(bands.colours)]
        if bands.palette is not None:
            colours = bands.palette[colours[0]].transpose(2, 0, 1)
        shows &= _is_ground(colours)
        if bands.levels:
            low, high = bands.levels
            colours = (colours.astype(np.float32) - low) * (255 / max(high - low, 1e-9))
            colours = np.nan_to_num(colours).clip(0, 255).astype(np.uint8)
        pixels = np.broadcast_to(colours, (3, *shape)).transpose(1, 2, 0)
        down = slice(None, None, -1 if self.is_upside_down else 1)
        return np.ascontiguousarray(pixels[down]), shows[down]


@contextmanager
def told_as_damage(path: Path) -> Iterator[None]:
    """Say in one sentence that a map cannot be read.

    Raises:
        LayoutError: for what GDAL or a decoder raises within.
    """
    try:
        yield
    except (RasterioError, OSError, DecodeError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise LayoutError(f"{path} cannot be read as a map ({reason}); give {MAPS}") from error


def open_map(path: Path) -> Map:
    """Look at a map.

    Raises:
        LayoutError: it cannot be read, or says nothing of where it lies.
    """
    dataset: Any = None
    with told_as_damage(path), warnings.catch_warnings():
        warnings.simplefilter("error", NotGeoreferencedWarning)
        file_stamp(path)  # a pipe would never end
        with suppress(NotGeoreferencedWarning):
            dataset = rasterio.open(path)
    ground = None
    if dataset is not None and dataset.crs is not None:
        a, b, c, d, e, f = tuple(dataset.transform)[:6]
        if is_upside_down := a * e > b * d:
            b, c, e, f = -b, c + b * dataset.height, -e, f + e * dataset.height
        ground = Ground(crs=dataset.crs.to_wkt(), matrix=(a, b, c, d, e, f))
    if ground is None or not ground.leads_to_degrees:
        raise LayoutError(
            f"{path} has no coordinate system of the Earth, so nothing has a place; if a world "
            f"file (.tfw) is beside it, try rio edit-info --crs EPSG:NUMBER {path}; or give {MAPS}"
        )
    with told_as_damage(path), dataset:
        files = [one for one in map(Path, dataset.files) if one.suffix.lower() in SUFFIXES]
        parts = [one.resolve() for one in files if one.is_file() and not one.samefile(path)]
        within = [open_map(one).parts for one in parts if one.suffix.lower() == ".vrt"]
        return Map(
            path=path,
            width=dataset.width,
            height=dataset.height,
            ground=ground,
            bands=_bands_of(dataset),
            is_upside_down=is_upside_down,
            parts=sum(within, tuple(parts)),
        )


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
        small = dataset.read(colours, out_shape=(len(colours), *side), masked=True)
        small = small[:, _is_ground(small.data)].compressed()
        low, high = np.percentile(small, STRETCHED) if len(small) else (0, 1)
        levels = (float(low), float(high))
    return Bands(
        colours=tuple(colours),
        transparency=transparency,
        has_mask=any(MaskFlags.all_valid not in flags for flags in dataset.mask_flag_enums),
        levels=levels,
        palette=palette,
    )


def _is_ground(colours: Any) -> Any:
    """Return where colours [C, H, W] are not filled: with 0, an end of their kind, or no number."""
    ends = np.iinfo(colours.dtype) if colours.dtype.kind in "iu" else np.finfo(colours.dtype)
    darkest, palest = colours.min(axis=0), colours.max(axis=0)
    is_filled = (darkest == palest) & np.isin(darkest, (0, ends.min, ends.max))
    return np.isfinite(darkest) & np.isfinite(palest) & ~is_filled


@dataclass(frozen=True, kw_only=True)
class Source:
    """One map that was given: a file, or a folder of tiles with their places."""

    path: Path
    key: str
    """Digest over its files and where they lie: another map has another, a moved one the same."""

    maps: tuple[Map, ...]
    pictures: Tiles | None = None
    """Those of a folder of tiles, which are not cut."""

    def tiles(self, footprints_m: Sequence[float], *, overlap: float) -> Tiles:
        """Return all tiles, those of one footprint after the other."""
        if self.pictures is not None:
            return self.pictures
        return np.concatenate([self.maps[0].tiles(m, overlap=overlap) for m in footprints_m])


def open_sources(path: Path, *, footprint_m: float) -> list[Source]:
    """Open what was given as a map: a file, a folder of maps, or a folder of tiles.

    Tiles whose table does not say their footprint have `footprint_m`.

    Raises:
        LayoutError: there is no map, it cannot be read, or has no place.
    """
    if (path / TILES_CSV).is_file():
        return [_open_tiles(path, footprint_m=footprint_m)]
    inside = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [one for one in inside if one == path or one.suffix.lower() in SUFFIXES]
    if not files:
        raise LayoutError(f"{path} holds no map ({', '.join(SUFFIXES)}); give {MAPS}")
    opened: list[Map] = []
    for one in sorted(files, key=lambda file: file.suffix.lower() != ".vrt"):
        if all(one.resolve() not in mosaic.parts for mosaic in opened):
            opened.append(open_map(one))
    inner = {part for one in opened for part in one.parts}
    wholes = (one for one in opened if one.path.resolve() not in inner)
    return [Source(path=one.path, maps=(one,), key=_key(one)) for one in wholes]


def _open_tiles(path: Path, *, footprint_m: float) -> Source:
    maps: list[Map] = []
    rows, table = [], path / TILES_CSV
    for _, _, name, at, told_m in read_rows(table):
        with told_as_damage(picture := path / name):
            file_stamp(picture)  # a pipe would never end
            with Image.open(picture) as image:
                width, height = image.size
        place, side_m = (at.lat or 0.0, at.lon or 0.0), told_m or footprint_m
        rows.append((0, len(maps), 0, 0, width, height, side_m, 0.0, place))
        ground = ground_here(place, footprint_m=side_m, width=width, height=height)
        maps.append(Map(path=picture, ground=ground, bands=None, width=width, height=height))
    if not maps:
        raise LayoutError(f"{table} names no tile; give lines of {COLUMNS}")
    return Source(path=path, maps=tuple(maps), key=_key(*maps), pictures=np.array(rows, TILE))


def _key(*maps: Map) -> str:
    """Digest places, sizes, and blocks from the beginning to the end of files."""
    told = hashlib.sha256(repr([one.ground for one in maps]).encode())
    files = [file for one in maps for file in (one.path, *one.parts)]
    count = max(LEAST_BLOCKS, BLOCKS // len(files))
    for path in files:
        with told_as_damage(path), path.open("rb") as file:
            size = file.seek(0, SEEK_END)
            told.update(f"{size} ".encode())
            for start in np.linspace(0, max(0, size - BLOCK_BYTES), count, dtype=np.int64):
                file.seek(start)
                told.update(file.read(BLOCK_BYTES))
    return told.hexdigest()
