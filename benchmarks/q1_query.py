"""Goal Q1: a query among 100,000 tiles of 512 numbers, decode to answer, against the describing.

The photograph has 12 megapixels; found is compared with a plain sort first.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from clock import interleaved, ratios, threads
from line import report
from own_maps import STUDENT, newborn
from photos import photograph

from distill.weights_file import load_student
from evaluation.own_map.config import QueryConfig
from evaluation.own_map.index import Index, IndexManifest
from evaluation.own_map.maps import TILE
from evaluation.own_map.query import answer_one, describe_rotations, read_photo, search

MUST, SEED, TILES, WIDTH = 1.5, 0, 100_000, 512
HEADINGS = [360 * number / 8 for number in range(8)]


def made_index() -> Index:
    """Return an index of random descriptors over a grid of tiles, 80 m wide, 40 m apart."""
    tiles = np.zeros(TILES, dtype=TILE)
    row, column = np.divmod(np.arange(TILES), 400)
    places = 30 + row * 40 / 111_000, -98 + column * 40 / 96_000
    tiles["place"] = np.column_stack(places)
    tiles["footprint_m"] = 80
    random = torch.Generator().manual_seed(SEED)
    manifest = IndexManifest(
        checkpoint="",
        checkpoint_sha256="",
        model="",
        image_size=224,
        resampling="opencv-linear",
        codec="float16",
        footprint_m=(80.0,),
        overlap=0.5,
    )
    descriptor_ND = F.normalize(torch.randn(TILES, WIDTH, generator=random), dim=1)
    return Index(folder=Path(), manifest=manifest, tiles=tiles, descriptor_ND=descriptor_ND)


def main() -> int:
    """Compare with a plain sort, measure, and print one line."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pixels = np.ascontiguousarray(np.tile(photograph(SEED), (6, 8, 1))[:3000, :4000])
        path = folder / "photo.jpg"
        path.write_bytes(simplejpeg.encode_jpeg(pixels, quality=90, colorsubsampling="420"))
        loaded = load_student(newborn(folder / "student.safetensors", STUDENT, seed=SEED))
        index = made_index()
        config = QueryConfig(index=folder, photos=(path,))
        descriptor_RD = describe_rotations(
            pixels, HEADINGS, loaded.model, image_size=224, resampling="opencv-linear"
        )
        assert descriptor_RD.shape == (8, WIDTH)
        found = search(index, descriptor_RD, HEADINGS, np.ones(TILES, dtype=np.bool_), count=1)
        score_RN = descriptor_RD.numpy() @ index.descriptor_ND.numpy().T
        assert np.isclose(found.scores[0], np.sort(score_RN.max(axis=0))[-1], atol=1e-6)
        images = torch.zeros(8, 3, 224, 224)

        def whole() -> None:
            answer_one(read_photo(path, config), index, loaded.model, config)

        with threads(2), torch.no_grad():
            seconds = interleaved(
                {"query": whole, "describing": partial(loaded.model.describe, images)}
            )
    value = {
        "query / describing of 8 rotations": (of := ratios(*seconds.values())),
        "ms": {
            name: round(1000 * float(np.median(one["wall"])), 1) for name, one in seconds.items()
        },
        "tiles": TILES,
        "photo": "4000 x 3000 px",
    }
    passed = of["wall"]["median"] <= MUST
    return report("Q1", value=value, must=f"<= {MUST}", passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
