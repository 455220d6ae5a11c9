"""A map of a synthetic world and photographs straight down on it: GeoTIFF, EXIF, truth.

The test places of a world lie side by side on one satellite picture. A drone hung over each on
another day, and its photograph says where, as cameras do. The ground is drawn without the lean of
walls, so that the truth is exact.
"""

import csv
import io
import math
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from PIL import ExifTags, Image
from rasterio.transform import Affine
from rasterio.warp import transform

from data_shards.config import SynthConfig
from data_shards.decode import Pixels, decode
from data_shards.errors import LayoutError
from data_shards.progress import Progress
from data_shards.synth.campus import PLACES_PER_CAMPUS, draw_campus
from data_shards.synth.conditions import (
    FOOTPRINT_M,
    Conditions,
    develop,
    drone_conditions,
    satellite_conditions,
)
from data_shards.synth.dress import dress
from data_shards.synth.noise import stream
from data_shards.synth.place import grid_for
from data_shards.synth.render import Tile, satellite_tile
from data_shards.synth.scene import build_scene
from data_shards.usable_cpus import usable_cpus

MAP_NAME, PHOTOS, TRUTH_NAME = "map.tif", "photos", "truth.csv"

CELL_M = 240.0
"""Side of the land of one place on the map."""

CRS = "EPSG:32632"
WEST_M, NORTH_M = 500_000.0, 5_400_000.0
"""North-western corner of the map, where the north of this projection is true north."""

FIELD_OF_VIEW_DEG = 37.0
LOWEST_M, HIGHEST_M = 160.0, 235.0
MOST_OFFSET_M = 40.0
"""So far from the middle of its place that a photograph stays within it."""

FILM_SIDE_MM = 43.27 / math.sqrt(2)
"""Of a square picture as large as film by its diagonal, as `FocalLengthIn35mmFilm` counts."""


def write_map(config: SynthConfig, *, progress: Progress) -> int:
    """Write `map.tif`, `photos/` and `truth.csv` into `config.out`; return the number of places.

    Raises:
        LayoutError: the folder is there.
    """
    out, count = config.out.absolute(), config.test_places
    if out.exists():
        raise LayoutError(f"{config.out} exists; delete it or choose another folder")
    columns = math.ceil(math.sqrt(count))
    side = round(CELL_M / FOOTPRINT_M * config.image_size)
    sheet = np.zeros((-(-count // columns) * side, columns * side, 3), dtype=np.uint8)
    aside = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    (aside / PHOTOS).mkdir(parents=True)
    truth = [("photo", "latitude", "longitude")]
    render = partial(_render, seed=config.seed, image_size=config.image_size, side=side)
    workers = min(config.workers or usable_cpus(), count)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for number, (ground, photo, (east_m, north_m, height_m, heading)) in enumerate(
            pool.map(render, range(count))
        ):
            row, column = divmod(number, columns)
            sheet[row * side : (row + 1) * side, column * side : (column + 1) * side] = ground
            x = WEST_M + (column + 0.5) * CELL_M + east_m
            y = NORTH_M - (row + 0.5) * CELL_M + north_m
            (lon,), (lat,) = transform(CRS, "EPSG:4326", [x], [y])
            name = f"photo-{number + 1:03d}.jpg"
            _save(aside / PHOTOS / name, photo, (lat, lon), height_m=height_m, heading=heading)
            truth.append((name, f"{lat:.8f}", f"{lon:.8f}"))
            progress(number + 1, count)
    pixel_m = CELL_M / side
    with rasterio.open(
        aside / MAP_NAME,
        "w",
        driver="GTiff",
        width=sheet.shape[1],
        height=sheet.shape[0],
        count=3,
        dtype="uint8",
        crs=CRS,
        transform=Affine(pixel_m, 0, WEST_M, 0, -pixel_m, NORTH_M),
        tiled=True,
        compress="deflate",
    ) as file:
        file.write(sheet.transpose(2, 0, 1))
    with (aside / TRUTH_NAME).open("w", newline="") as table:
        csv.writer(table).writerows(truth)
    aside.rename(out)
    return count


def _render(
    index: int, *, seed: int, image_size: int, side: int
) -> tuple[Pixels, bytes, tuple[float, float, float, float]]:
    """Return the ground of a place, a photograph, and its offset, height and heading."""
    words = ("test", "place", index)
    campus = draw_campus(seed, "test", index // PLACES_PER_CAMPUS)
    scene = build_scene(stream(seed, *words, "layout"), campus=campus, grid=grid_for(image_size))

    def photograph(rng: np.random.Generator, seen: Conditions, tile: Tile, pixels: int) -> bytes:
        dressed = dress(scene, rng, day=seen.day)
        light = satellite_tile(dressed, tile=tile, haze=seen.haze, image_size=pixels)
        return develop(light, rng, sensor=seen.sensor)

    rng = stream(seed, *words, "map")
    whole = Tile(side_m=CELL_M, x_m=0.0, y_m=0.0, turn_deg=0.0)
    ground = photograph(rng, satellite_conditions(rng, campus=campus), whole, side)
    rng = stream(seed, *words, "straight down")
    east_m, north_m = rng.uniform(-MOST_OFFSET_M, MOST_OFFSET_M, 2).tolist()
    height_m, heading = float(rng.uniform(LOWEST_M, HIGHEST_M)), float(rng.uniform(0, 360))
    side_m = 2 * height_m * math.tan(math.radians(FIELD_OF_VIEW_DEG / 2))
    below = Tile(side_m=side_m, x_m=east_m, y_m=north_m, turn_deg=-heading)
    photo = photograph(rng, drone_conditions(rng, campus=campus), below, image_size)
    return decode(ground), photo, (east_m, north_m, height_m, heading)


def _save(
    path: Path, photo: bytes, at: tuple[float, float], *, height_m: float, heading: float
) -> None:
    """Write a photograph with what the camera of a drone says of itself."""
    exif, gps = Image.Exif(), ExifTags.GPS
    names = (
        (gps.GPSLatitudeRef, "N", gps.GPSLatitude),
        (gps.GPSLongitudeRef, "E", gps.GPSLongitude),
    )
    exif[ExifTags.IFD.GPSInfo] = {
        tag: value
        for (side, letter, angle), degrees in zip(names, at, strict=True)
        for tag, value in ((side, letter), (angle, (degrees, 0.0, 0.0)))
    }
    focal_mm = FILM_SIDE_MM / (2 * math.tan(math.radians(FIELD_OF_VIEW_DEG / 2)))
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.FocalLengthIn35mmFilm: round(focal_mm)}
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        'syntax-ns#"><rdf:Description xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" '
        f'drone-dji:RelativeAltitude="{height_m:+.2f}" drone-dji:GimbalPitchDegree="-90.00" '
        f'drone-dji:GimbalYawDegree="{heading:+.2f}"/></rdf:RDF></x:xmpmeta>'
    )
    with Image.open(io.BytesIO(photo)) as image:
        image.save(path, "JPEG", quality="keep", exif=exif.tobytes(), xmp=xmp.encode())
