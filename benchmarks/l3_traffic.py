"""Goal L3: bytes that the ranks of a training send in a step, measured and by formula.

Two runs that differ in their number of steps, so that starting and saving fall out; measured is
what the kernel counts on the loopback, in a network of the benchmark's own, with the headers of
TCP, the stop flag and whatever else is sent. The formula (`ranks.py`) has gradients, gathered
descriptors and their gradients; the scale model (`t7_scale_model.py`) takes it.
"""

import sys
import tempfile
from pathlib import Path

from line import report
from noise import noise_shards
from ranks import (
    bytes_per_step,
    leave_the_network,
    loopback_bytes,
    on_ranks,
    open_untracked,
    recipe,
)

from data_shards.progress import show_progress
from data_shards.shards import ShardSet
from distill.preemption import StopFlag
from distill.train import train

MUST, SEED, ROWS, STEPS = (0.98, 1.02), 0, 32, (4, 24)


def trained(shards: Path, out: Path, num_steps: int) -> float:
    """Train so many steps on this rank; return what the formula says of one of them."""
    config = recipe(ShardSet.open(shards), out, rows=ROWS, num_steps=num_steps)
    session = open_untracked(config)
    with show_progress("training", enabled=False) as progress:
        train(session, probes=[], progress=progress, flag=StopFlag())
    session.accelerator.wait_for_everyone()
    return bytes_per_step(session)


def traffic(shards: Path, folder: Path, world: int) -> dict[str, float]:
    """Return bytes that all ranks send in a step: measured, by formula, and their ratio."""
    sent = []
    for num_steps in STEPS:
        before = loopback_bytes()
        said = on_ranks(world, trained, shards, folder / f"{world}-{num_steps}", num_steps)
        sent.append(loopback_bytes() - before)
    measured, formula = (sent[1] - sent[0]) / (STEPS[1] - STEPS[0]), sum(said)
    return {
        "measured": round(measured),
        "formula": round(formula),
        "ratio": round(measured / formula, 4),
    }


def main() -> int:
    """Count at every number of ranks, and print one line."""
    worlds = (2,) if "--toy" in sys.argv else (2, 4, 8)
    if not leave_the_network():
        print("L3 counts whatever this machine sends over its loopback", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        shards = noise_shards(Path(folder), places=64, views=4)
        value = {f"{world} ranks": traffic(shards.folder, Path(folder), world) for world in worlds}
    passed = all(MUST[0] <= counted["ratio"] <= MUST[1] for counted in value.values())
    return report("L3", value=value, must="0.98 to 1.02", passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
