"""Goal D4: two loader threads against one, on two cores; wall seconds, so the machine must be idle.

The bare decoder with as many threads, which knows no loader, is told beside: it is what the cores
have to give at that moment.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from clock import interleaved, ratios
from d1_loader import SIZE, decoding, loading
from line import report
from photos import write_all

from data_shards.loader import image_batches

MUST, SEED = 1.85, 0


def main() -> int:
    """Compare one thread with two, and print one line."""
    with tempfile.TemporaryDirectory() as folder:
        shards = write_all(Path(folder), places=8)(SIZE)
        alone, together = (
            np.concatenate(
                [
                    images
                    for _, images in image_batches(
                        shards,
                        np.arange(len(shards.images)),
                        image_size=SIZE,
                        resampling="opencv-linear",
                        batch_size=16,
                        threads=threads,
                    )
                ]
            )
            for threads in (1, 2)
        )
        assert np.array_equal(alone, together)
        runs = {f"loader {n}": loading(shards, "mean", threads=n) for n in (1, 2)}
        bare = {f"decoder {n}": decoding(shards, threads=n) for n in (1, 2)}
        seconds = interleaved(runs | bare)
        value = {
            name: ratios(seconds[f"{name} 1"], seconds[f"{name} 2"])
            for name in ("loader", "decoder")
        }
    passed = value["loader"]["wall"]["median"] >= MUST
    return report("D4", value=value, must=f">= {MUST} by wall", passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
