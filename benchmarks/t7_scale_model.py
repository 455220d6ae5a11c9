"""Goal T7: a model of the efficiency of 8, 128 and 1,024 GPUs; a model, so without a pass flag.

A step of W ranks takes the slowest of W draws from the measured step times of one rank, and what of
its sending does not hide behind the backward pass: the bytes of `ranks.bytes_per_step` over the
bandwidth of the narrowest link, in a ring, and a latency for each of its 2 (W - 1) hops. Efficiency
is the median step of one rank over that. Bandwidths and latencies are assumptions that the line
states; the step is this machine's, or by `--step-ms X --jitter Y` a GPU's (median and relative
deviation of its step times), with `--megabytes Z` of gradients.

What can be checked here is checked: the time of two gloo ranks against the model with the loopback
measured, and `l3_traffic.py` has the bytes of 2, 4 and 8 ranks.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from line import machine
from noise import noise_shards
from ranks import bytes_per_step, on_ranks, open_untracked, recipe

from data_shards.progress import show_progress
from data_shards.shards import ShardSet
from distill.preemption import StopFlag
from distill.train import train

SEED, ROWS, STEPS, WARM_UP, DRAWS = 0, 16, 40, 5, 4000
BACKWARD = 2 / 3
"""Share of a step that its backward pass takes, behind which buckets are sent."""

LINKS = {8: (300e9, 3e-6), 128: (50e9, 8e-6), 1024: (50e9, 8e-6)}
"""GPUs to bytes a second and seconds a hop: NVLink in a node, 400 Gb/s a GPU between nodes."""


def step_times(shards: Path, out: Path, rows: int) -> dict[str, object]:
    """Return the times of this rank's steps, its bytes by formula, and the loopback's bandwidth."""
    config = recipe(ShardSet.open(shards), out, rows=rows, num_steps=STEPS)
    session = open_untracked(config)
    ended: list[float] = []
    session.groups.register_step_post_hook(lambda *_: ended.append(time.perf_counter()))
    with show_progress("training", enabled=False) as progress:
        train(session, probes=[], progress=progress, flag=StopFlag())
    found: dict[str, object] = {
        "seconds": np.diff(ended)[WARM_UP:].tolist(),
        "bytes": bytes_per_step(session),
        "bandwidth": float("inf"),
    }
    if session.accelerator.num_processes > 1:
        block = torch.zeros(2**20)
        begun = time.perf_counter()
        for _ in range(10):
            dist.all_reduce(block)
        found["bandwidth"] = 10 * block.nbytes / (time.perf_counter() - begun)
    session.accelerator.wait_for_everyone()
    return found


def step_of(
    world: int, seconds: npt.NDArray[np.float64], sent: float, bandwidth: float, hop: float
) -> float:
    """Return the median step of so many ranks, by the model."""
    draws = np.random.default_rng(SEED).choice(seconds, (DRAWS, world)).max(axis=1)
    sending = sent / bandwidth + 2 * (world - 1) * hop
    return float(np.median(draws + np.maximum(0.0, sending - BACKWARD * draws)))


def option(name: str, default: float) -> float:
    """Return the number behind an option of the command line."""
    return float(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default


def main() -> int:
    """Measure, check at two ranks, and print one line."""
    worlds = (2,) if "--toy" in sys.argv else (2, 4, 8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = noise_shards(folder, places=ROWS * max(worlds), views=4).folder
        (alone,) = on_ranks(1, step_times, shards, folder / "1", ROWS)
        several = {
            world: on_ranks(world, step_times, shards, folder / str(world), ROWS * world)
            for world in worlds
        }
    seconds, pair = np.array(alone["seconds"]), several[2]
    step = float(np.median(seconds))
    measured = float(np.median([one["seconds"] for one in pair]))
    by_model = step_of(2, seconds, pair[0]["bytes"], pair[0]["bandwidth"], 0.0)
    gradients = several[2][0]["bytes"]  # of two ranks a ring sends each number once
    if "--step-ms" in sys.argv:
        step = option("--step-ms", 0.0) / 1e3
        spread = np.random.default_rng(SEED).standard_normal(DRAWS)
        seconds = step * (1 + option("--jitter", 0.01) * np.abs(spread))
        gradients = 1e6 * option("--megabytes", 114.0)
    value = {
        "a model": True,
        "step ms": round(1e3 * step, 2),
        "jitter": round(float(np.std(seconds) / step), 4),
        "two ranks, ms": {"measured": round(1e3 * measured, 2), "model": round(1e3 * by_model, 2)},
        "bytes a rank sends, by formula": {
            world: round(found[0]["bytes"]) for world, found in several.items()
        },
        "efficiency": {
            world: round(
                step / step_of(world, seconds, 2 * (world - 1) / world * gradients, *link), 4
            )
            for world, link in LINKS.items()
        },
        "links, bytes/s and s/hop": {world: list(link) for world, link in LINKS.items()},
    }
    print(json.dumps({"id": "T7", "value": value, "machine": machine(), "seed": SEED}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
