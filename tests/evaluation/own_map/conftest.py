"""Maps of made ground, photographs cut out of them, and a model that never learned."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import torch
from PIL import ExifTags, Image
from rasterio.transform import from_origin

from distill.config import DataConfig, DistillConfig, ModelConfig, ObjectivesConfig, ScheduleConfig
from distill.config.objectives import InfoNceConfig
from distill.models import build_model
from distill.weights_file import TrainingData, save_weights
from evaluation.cli import index, query
from evaluation.own_map.ground import Place
from evaluation.own_map.maps import Map, open_map

METRES = 0.5
"""Per pixel of the usual map."""


def ground_picture(width: int, height: int, *, seed: int = 0) -> np.ndarray:
    """Draw ground [height, width, RGB] with detail of every size; no two parts are alike."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), dtype=np.float32)
    for cells in (4, 12, 40, 120):
        noise = random.uniform(-1, 1, (max(2, cells * height // width), cells, 3))
        picture += cv2.resize(
            noise.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
    picture = (128 + 45 * picture).clip(1, 254).astype(np.uint8)
    for x, y in random.integers(0, (width - 9, height - 9), (width * height // 1500, 2)):
        colour = random.integers(1, 255, 3).tolist()
        cv2.rectangle(picture, (int(x), int(y)), (int(x) + 7, int(y) + 4), colour, -1)
    return picture


def write_map(
    path: Path,
    bands: np.ndarray,
    *,
    crs: str | None = "EPSG:32614",
    transform: Any = None,
    **profile: Any,
) -> Path:
    """Write bands [C, height, width] as a GeoTIFF in the west of Texas, half a metre per pixel."""
    transform = transform or from_origin(587_500, 3_338_300, METRES, METRES)
    usual = {"driver": "GTiff", "tiled": True, "blockxsize": 128, "blockysize": 128}
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    colours = profile.pop("colorinterp", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    where = {"crs": crs, "transform": transform} if crs else {}
    with rasterio.open(
        path, "w", dtype=bands.dtype, **{**usual, **shape, **where, **profile}
    ) as file:
        file.write(bands)
        if colours:
            file.colorinterp = colours
    return path


def as_bands(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture.transpose(2, 0, 1))


@pytest.fixture(scope="session")
def tif(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of 300 m x 240 m; for reading only."""
    return write_map(tmp_path_factory.mktemp("map") / "map.tif", as_bands(ground_picture(600, 480)))


@pytest.fixture(scope="session")
def the_map(tif: Path) -> Map:
    return open_map(tif)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of a network as it was born, for pictures of 32 pixels."""
    return born(tmp_path_factory.mktemp("model") / "born.safetensors", seed=0)


def born(
    path: Path, *, seed: int, shards: str = "nowhere", trained_on: TrainingData | None = None
) -> Path:
    config = DistillConfig(
        name="newborn",
        out=path.parent,
        role="alone",
        data=DataConfig(shards=shards, image_size=32, global_batch=8, threads=1),
        model=ModelConfig(arch="convnext_micro", weights="none"),
        objectives=ObjectivesConfig(info_nce=InfoNceConfig(weight=1)),
        schedule=ScheduleConfig(num_steps=10, warmup_steps=1),
    )
    torch.manual_seed(seed)
    model = build_model(config.model, num_places=3)
    places = ["a", "b", "c"]
    card = path.with_suffix(".md")
    trained_on = trained_on or TrainingData()
    save_weights(path, card, model, config, places=places, step=10, trained_on=trained_on)
    return path


@pytest.fixture(scope="session")
def indexed(tif: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of that map, tiles of 60 and 120 m; for reading only."""
    out = tmp_path_factory.mktemp("index") / "index"
    assert index_of(tif, out, weights) == 0
    return out


def index_of(*maps_and_out: Path, **options: Any) -> int:
    *given, weights = maps_and_out
    words = [*given, "--checkpoint", weights, "--threads", "1"]
    for name, value in ({"footprint-m": (60, 120)} | options).items():
        several = isinstance(value, Sequence) and not isinstance(value, str)
        words += [f"--{name}", *(value if several else [value])]
    return index([str(word) for word in words])


def asked(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """Return what `query --json` prints."""
    import json

    capsys.readouterr()
    assert query([*map(str, words), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


MakePhoto = Callable[..., Place]


@pytest.fixture(scope="session")
def make_photo(tif: Path, the_map: Map) -> MakePhoto:
    """A function that saves what a camera above a pixel of the map sees; returns where that is."""
    with rasterio.open(tif) as file:
        picture = np.ascontiguousarray(file.read().transpose(1, 2, 0))

    def make(
        path: Path, *, col: float, row: float, heading_deg: float = 0, side: int = 120, **save: Any
    ) -> Place:
        turn = cv2.getRotationMatrix2D((col - 0.5, row - 0.5), heading_deg, 1.0)
        turn[:, 2] += side / 2 - col, side / 2 - row
        shown = cv2.warpAffine(picture, turn, (side, side), flags=cv2.INTER_CUBIC)
        Image.fromarray(shown).save(path, **({"quality": 95} | save))
        lat, lon = the_map.ground.lat_lon([(col, row)])[0].tolist()
        return lat, lon

    return make


Capture = pytest.CaptureFixture[str]


def gps(lat: float, lon: float) -> Image.Exif:
    exif = Image.Exif()
    one = exif.get_ifd(ExifTags.IFD.GPSInfo)
    one[ExifTags.GPS.GPSLatitudeRef], one[ExifTags.GPS.GPSLatitude] = "N", (lat, 0.0, 0.0)
    one[ExifTags.GPS.GPSLongitudeRef], one[ExifTags.GPS.GPSLongitude] = "W", (-lon, 0.0, 0.0)
    return exif


def write_truth(path: Path, places: dict[str, Any]) -> Path:
    lines = [f"{name},{lat!r},{lon!r}" for name, (lat, lon) in places.items()]
    path.write_text("\n".join(["photo,latitude,longitude", *lines]) + "\n")
    return path
