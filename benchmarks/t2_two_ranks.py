"""Goal T2: images a second of two gloo ranks against one rank pinned to one core, loaders included.

The demo's student on photographs' noise; each rank has one thread and one decode thread. The same
rows a rank, so twice the global batch. Speed is between two metric lines: what starts and ends a
run is left out.
"""

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from clock import ratio
from launches import Launched, launch
from line import report
from noise import noise_shards
from ranks import recipe

MUST, SEED, ROUNDS, ROWS, STEPS, EVERY = 1.7, 0, 5, 16, 60, 10


def main() -> int:
    """Train in turn on one rank and on two, and print one line."""
    is_toy = "--toy" in sys.argv
    rounds, steps = (1, 2 * EVERY) if is_toy else (ROUNDS, STEPS)
    cores = sorted(os.sched_getaffinity(0))[:2]
    speeds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = noise_shards(folder, places=64, views=4)
        for round_ in range(rounds):
            for ranks, found in speeds.items():
                out = folder / f"{ranks}-{round_}"
                config = recipe(shards, out, rows=ROWS * ranks, num_steps=steps)
                config = replace(config, log_every_steps=EVERY)
                found.append(speed(launch(config, ranks=ranks, cores=cores[:ranks]), ranks))
    of_both = ratio(speeds[2], speeds[1])
    value: dict[str, object] = {"ratio": of_both} | {
        f"images/s of {ranks}": [round(one, 1) for one in several]
        for ranks, several in speeds.items()
    }
    passed = of_both["median"] >= MUST
    code = report("T2", value=value, must=f">= {MUST}", passed=passed, seed=SEED)
    return 0 if is_toy else code


def speed(run: Launched, ranks: int) -> float:
    """Return images a second between the first metric line and the last."""
    (first, since), (last, until) = run.lines[0], run.lines[-1]
    return 2 * ROWS * ranks * (last - first) / (until - since)


if __name__ == "__main__":
    sys.exit(main())
