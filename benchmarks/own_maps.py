"""A student as PFED's, and maps of made ground, for the goals of `skydistill index` and `query`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import torch
from photos import photograph
from rasterio.transform import from_origin
from rasterio.windows import Window

from data_shards.recipe import load_recipe
from distill.config import DistillConfig
from distill.models import build_model
from distill.weights_file import TrainingData, save_weights

BLOCK = 2048
METRES = 0.25
STUDENT = Path("configs/pfed/university1652_step2.yaml")
DEMO = Path("configs/pfed/demo.yaml")


def newborn(path: Path, recipe: Path, *, seed: int) -> Path:
    """Write the weights of a recipe's student as it is born; speed does not depend on them."""
    config = load_recipe(DistillConfig, recipe)
    torch.manual_seed(seed)
    width = config.model.descriptor_width if recipe == DEMO else 512
    config = replace(config, model=replace(config.model, weights="none", descriptor_width=width))
    model = build_model(config.model, num_places=2)
    card = path.with_suffix(".md")
    save_weights(path, card, model, config, places=["a", "b"], step=1, trained_on=TrainingData())
    return path


def made_map(path: Path, *, side: int, seed: int) -> Path:
    """Write a tiled GeoTIFF of JPEG blocks, `side` pixels wide and high, no two parts alike."""
    random = np.random.default_rng(seed)
    texture = np.tile(photograph(seed), (BLOCK // 512, BLOCK // 512, 1))
    tiled = {"tiled": True, "blockxsize": 512, "blockysize": 512, "BIGTIFF": "IF_SAFER"}
    colours = {"compress": "JPEG", "photometric": "YCbCr", "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32614", "transform": from_origin(587_000, 3_338_000, METRES, METRES)}
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, **tiled, **colours, **place
    ) as file:
        for top in range(0, side, BLOCK):
            for left in range(0, side, BLOCK):
                light = random.uniform(0.6, 1.0, 3)
                shifted = np.roll(texture, random.integers(0, BLOCK, 2), axis=(0, 1))
                part = (shifted * light).astype(np.uint8)[: side - top, : side - left]
                window = Window(left, top, part.shape[1], part.shape[0])
                file.write(np.ascontiguousarray(part.transpose(2, 0, 1)), window=window)
    return path
