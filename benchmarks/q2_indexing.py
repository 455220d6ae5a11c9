"""Goal Q2: indexing a GeoTIFF against describing the same pixels, which lie in memory already."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from clock import interleaved, ratios, threads
from line import report
from own_maps import METRES, STUDENT, made_map, newborn

from distill.models import inference, normalize
from distill.weights_file import load_student
from evaluation.own_map.config import IndexConfig
from evaluation.own_map.index import index_maps, open_index, read_manifest
from evaluation.own_map.maps import open_map

MUST, SEED, SIDE, ROUNDS = 0.9, 0, 2688, 5
FOOTPRINT_M = 336 * METRES
CPU = torch.device("cpu")


def main() -> int:
    """Compare descriptors, measure, and print one line."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tif = made_map(folder / "map.tif", side=SIDE, seed=SEED)
        weights = newborn(folder / "student.safetensors", STUDENT, seed=SEED)
        loaded = load_student(weights)
        one = open_map(tif)
        tiles = one.tiles(FOOTPRINT_M, overlap=0.5)
        size, resampling = loaded.image_size, loaded.resampling
        rows = np.split(tiles, np.flatnonzero(np.diff(tiles["row"])) + 1)
        pictures = np.concatenate(
            [one.images(row, image_size=size, resampling=resampling)[0] for row in rows]
        )
        described: list[torch.Tensor] = []
        number = iter(range(100))

        def bare() -> None:
            described.clear()
            with inference(loaded.model):
                for start in range(0, len(pictures), 64):
                    images = normalize(torch.from_numpy(pictures[start : start + 64]))
                    described.append(loaded.model.describe(images))

        def indexing() -> None:
            out = folder / f"index{next(number)}"
            sides = (FOOTPRINT_M,)
            index_maps(
                IndexConfig(maps=(tif,), out=out, checkpoint=weights, footprint_m=sides), CPU
            )

        with threads(2):
            seconds = interleaved({"bare": bare, "indexing": indexing}, rounds=ROUNDS)
        index = open_index(folder / "index0", read_manifest(folder / "index0"), CPU)
        cosine = (index.descriptor_ND * torch.cat(described)).sum(dim=1).min()
        assert cosine > 0.9999, f"indexed descriptors are those of the pixels, cosine {cosine}"
    value = {
        "bare / indexing": (of := ratios(seconds["bare"], seconds["indexing"])),
        "tiles": len(pictures),
        "tiles per second": round(len(pictures) / float(np.median(seconds["indexing"]["wall"])), 1),
        "smallest cosine to the bare ones": round(float(cosine), 6),
    }
    passed = of["wall"]["median"] >= MUST
    return report("Q2", value=value, must=f">= {MUST} by wall", passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
