"""A map whose photographs say where they were taken, and lie where they say."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

from data_shards.config import SynthConfig
from data_shards.errors import LayoutError
from data_shards.packing.stored_image import read_header
from data_shards.synth.ground_map import FIELD_OF_VIEW_DEG, write_map

PLACES = 2


def cut(world: Path, lat: float, lon: float, *, side_m: float, heading: float) -> np.ndarray:
    """Return the square of the map that a camera straight above sees, in gray."""
    with rasterio.open(world / "map.tif") as file:
        sheet = cv2.cvtColor(file.read().transpose(1, 2, 0), cv2.COLOR_RGB2GRAY)
        (x,), (y,) = transform("EPSG:4326", file.crs, [lon], [lat])
        column, row = ~file.transform * (x, y)
        pixels = side_m / file.transform.a
    turn = cv2.getRotationMatrix2D((column, row), heading, 96 / pixels)
    turn[:, 2] += (48 - column, 48 - row)
    return cv2.warpAffine(sheet, turn, (96, 96))


def test_photographs_lie_where_their_exif_and_the_truth_say(tmp_path: Path) -> None:
    config = SynthConfig(out=tmp_path / "world", map=True, test_places=PLACES, image_size=96)
    assert write_map(config, progress=lambda *_, **__: None) == PLACES
    with (config.out / "truth.csv").open() as file:
        truth = list(csv.DictReader(file))
    assert len(truth) == PLACES
    for row in truth:
        path = config.out / "photos" / row["photo"]
        seen = read_header(path.read_bytes()).position
        lat, lon = float(row["latitude"]), float(row["longitude"])
        assert (abs(seen.lat - lat), abs(seen.lon - lon)) < (1e-6, 1e-6)
        assert seen.gimbal_pitch_deg == -90
        photo = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        side_m = 2 * seen.altitude_m * np.tan(np.deg2rad(FIELD_OF_VIEW_DEG / 2))

        def likeness(north_m: float, photo=photo, seen=seen, side_m=side_m) -> float:
            lat = seen.lat + north_m / 111_200
            ground = cut(config.out, lat, seen.lon, side_m=side_m, heading=seen.heading_deg)
            edges = [
                cv2.Laplacian(cv2.GaussianBlur(one, (0, 0), 2), cv2.CV_32F)
                for one in (photo, ground)
            ]
            return float(np.corrcoef(edges[0].ravel(), edges[1].ravel())[0, 1])

        assert likeness(0.0) > 0.3  # another day, season and sky
        assert likeness(0.0) > 2 * max(likeness(-15.0), likeness(15.0))


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    config = SynthConfig(out=tmp_path, map=True, test_places=PLACES)
    with pytest.raises(LayoutError, match="exists; delete it or choose another folder"):
        write_map(config, progress=lambda *_, **__: None)
