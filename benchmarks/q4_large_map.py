"""Goal Q4: memory of indexing a GeoTIFF of 4 gigapixels; an argument is another side in pixels."""

import sys
import tempfile
import time
from pathlib import Path

import torch
from line import report
from own_maps import DEMO, METRES, made_map, newborn
from resident import forget_peak, peak_gib

from evaluation.own_map.config import IndexConfig
from evaluation.own_map.index import index_maps, read_manifest

MUST_GIB, SEED, SIDE, TILE_PIXELS = 2.0, 0, 65_536, 256


def main() -> int:
    """Write the map, index it with an eye on the memory, and print one line."""
    side = int(sys.argv[1]) if sys.argv[1:] else SIDE
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tif = made_map(folder / "map.tif", side=side, seed=SEED)
        weights = newborn(folder / "student.safetensors", DEMO, seed=SEED)
        forget_peak()
        started, processor = time.perf_counter(), time.process_time()
        sides = (TILE_PIXELS * METRES,)
        config = IndexConfig(
            maps=(tif,), out=folder / "index", checkpoint=weights, footprint_m=sides, overlap=0.0
        )
        index_maps(config, torch.device("cpu"))
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        (one,) = read_manifest(folder / "index").maps
        peak, size_gib = peak_gib(), tif.stat().st_size / 2**30
    assert one["tiles"] == (side // TILE_PIXELS) ** 2, "every tile is there once"
    value = {
        "peak GiB": round(peak, 3),
        "gigapixels": round(side * side / 2**30, 3),
        "GiB of the file": round(size_gib, 2),
        "tiles": one["tiles"],
        "wall_s": round(seconds, 1),
        "cpu_s": round(processor, 1),
    }
    passed = peak <= MUST_GIB and side >= SIDE
    must = f"<= {MUST_GIB} GiB at 4 gigapixels"
    return report("Q4", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
