"""Goal D3: samples fetched per second against `webdataset.WebDataset` on the same tar.

Both yield the bytes of every image in the order of the tar, undecoded; webdataset reads the JSON
beside each too, as it must walk the tar. Ours is the loader's own read, which copies nothing; one
that copies is told beside.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import webdataset as wds
from clock import interleaved, ratios
from line import report
from photos import kib_per_image, write_all

from data_shards.shards import ShardSet

MUST, PASSES, SEED = 10.0, 4, 0


def stock(tar: Path) -> dict[str, bytes]:
    """Return key to image as webdataset yields them."""
    samples = wds.WebDataset(str(tar), shardshuffle=False)
    return {
        sample["__key__"]: next(sample[name] for name in sample if name.endswith("jpg"))
        for sample in samples
    }


def reading(shards: ShardSet, rows: list[int], take: Callable[[memoryview], object]) -> None:
    """Fetch every image, `PASSES` times."""
    for row in rows * PASSES:
        take(shards.read(row))


def main() -> int:
    """Compare the readers on the largest tar, and print one line."""
    with tempfile.TemporaryDirectory() as folder:
        shards = write_all(Path(folder))(0)
        largest = int(np.bincount(shards.images.shard).argmax())
        tar = shards.folder / shards.manifest.shards[largest].name
        rows = np.flatnonzero(shards.images.shard == largest).tolist()
        assert stock(tar) == {
            str(shards.images.key[row]): bytes(shards.read(row)) for row in rows
        }, "both read the same bytes under the same keys"
        seconds = interleaved(
            {
                "webdataset": lambda: [stock(tar) for _ in range(PASSES)],
                "ours": lambda: reading(shards, rows, len),
                "copying": lambda: reading(shards, rows, bytes),
            }
        )
        cpu = sorted(seconds["webdataset"]["cpu"])[len(seconds["webdataset"]["cpu"]) // 2]
        found = {name: ratios(seconds["webdataset"], seconds[name]) for name in seconds}
        value = {
            "samples": len(rows),
            "KiB per image": kib_per_image(shards),
            "webdataset samples/s/core": round(PASSES * len(rows) / cpu),
            "ours": found["ours"],
            "ours, copying": found["copying"],
        }
    passed = found["ours"]["cpu"]["median"] >= MUST
    return report("D3", value=value, must=f">= {MUST}", passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
