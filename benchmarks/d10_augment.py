"""Goal D10: images per second of the whole family `mean` over those of the bare decoder.

Twice: all in the loader, and with its photometric part on the device (`augment.device`): a GPU
where there is one, else torch on the same CPU threads, which shows that it is right and no more.
Same bytes (384 px shards), same threads; what the device makes is compared with what the loader
makes before anything is timed. The goal is judged by the better of both. `--toy` takes few images.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from clock import interleaved, ratios
from d1_loader import BATCH, PAIRS, SIZE, decoding, rows_of, variations
from line import report
from photos import write_all

from data_shards.augment.variations import Variations
from data_shards.loader import image_batches
from data_shards.shards import RowNumbers, ShardSet
from data_shards.usable_cpus import usable_cpus
from distill.teacher.source import varied_batches

MUST, SEED = 0.6, 0
MOST_BEYOND_A_LEVEL = 1e-5
"""Part of the pixels that chains of steps may carry further than one level from the loader's."""


def batches(
    shards: ShardSet, rows: RowNumbers, drawn: Variations, device: torch.device, *, threads: int
) -> "list[torch.Tensor]":
    """Return the last batch of images on the device, after all others."""
    newest: list[torch.Tensor] = []
    loaded = partial(
        image_batches,
        shards,
        rows,
        image_size=SIZE,
        resampling="opencv-linear",
        batch_size=BATCH,
        threads=threads,
    )
    for pixels in varied_batches(loaded, drawn.__getitem__, device):
        newest = [pixels]
    if device.type == "cuda":
        torch.cuda.synchronize()
    return newest


def loading(
    shards: ShardSet, device: torch.device, *, threads: int, passes: int, is_split: bool
) -> Callable[[], None]:
    """Return what loads the images of all pairs, each varied as `mean` varies it."""
    parts = [
        (rows, replace(variations(shards, rows, "mean", is_whole=True), is_split=is_split))
        for rows in rows_of(shards, passes=passes).values()
    ]

    def load() -> None:
        for rows, drawn in parts:
            batches(shards, rows, drawn, device, threads=threads)

    return load


def assert_alike(shards: ShardSet, device: torch.device) -> dict[str, float]:
    """Compare what the device makes with what the loader makes; return how they differ."""
    differences = []
    for rows in rows_of(shards, passes=1).values():
        drawn = variations(shards, rows, "mean", is_whole=True)
        for start in range(0, len(rows), BATCH):
            part = slice(start, start + BATCH)
            found = [
                batches(shards, rows[part], one, device, threads=2)[0].cpu().numpy().astype(int)
                for one in (drawn[part], replace(drawn, is_split=True)[part])
            ]
            differences.append(np.abs(found[0] - found[1]))
    levels = np.concatenate(differences)
    beyond = float((levels > 1).mean())
    assert beyond <= MOST_BEYOND_A_LEVEL, f"{beyond} of the pixels differ by more than a level"
    return {"differ": float((levels > 0).mean()), "by more than a level": beyond}


def main() -> int:
    """Compare both ways with the decoder, and print one line."""
    is_toy, has_gpu = "--toy" in sys.argv[1:], torch.cuda.is_available()
    device = torch.device("cuda" if has_gpu else "cpu")
    threads, passes = usable_cpus(), 1 if is_toy else 2 * usable_cpus() if has_gpu else 3
    torch.set_num_threads(1 if has_gpu else threads)
    with tempfile.TemporaryDirectory() as folder:
        shards = write_all(Path(folder), places=2 if is_toy else 8, views=2 if is_toy else 7)(SIZE)
        alike = assert_alike(shards, device)
        runs = {
            "bare": decoding(shards, threads=threads, views=PAIRS, passes=passes),
            "loader alone": loading(shards, device, threads=threads, passes=passes, is_split=False),
            "with the device": loading(
                shards, device, threads=threads, passes=passes, is_split=True
            ),
        }
        seconds = interleaved(runs, rounds=1 if is_toy else 5)
        images = sum(map(len, rows_of(shards, passes=passes).values()))
    found = {name: ratios(seconds["bare"], seconds[name]) for name in list(runs)[1:]}
    rates = {name: round(images / min(taken["wall"])) for name, taken in seconds.items()}
    value = {
        "device": torch.cuda.get_device_name() if has_gpu else "cpu",
        "toy": is_toy,
        "threads": threads,
        "images/s": rates,
        "pixels": alike,
        **found,
    }
    best = max(ratio["wall"]["median"] for ratio in found.values())
    must = f">= {MUST} by wall, the better of both"
    code = report("D10", value=value, must=must, passed=best >= MUST, seed=SEED)
    return 0 if is_toy else code


if __name__ == "__main__":
    sys.exit(main())
