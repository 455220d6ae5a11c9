"""Goal T1: a step of our loop against a bare PyTorch loop, with the same model and batch.

In turn, step by step: behind each of our steps (method, terms by name, learning rates, gradient
norm, stop flag, metrics) the bare loop makes one with a model, optimizer and loss of its own. Both
are given the batch at hand; the loader has goals of its own.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from line import report
from noise import noise_shards
from ranks import open_untracked, recipe

from data_shards.progress import show_progress
from distill.batches import DeviceBatch
from distill.mining import planned_batches
from distill.models import RetrievalModel, normalize, unit
from distill.preemption import StopFlag
from distill.session import Session
from distill.train import train

MUST, SEED, ROWS, PAIRS, WARM_UP = 1.03, 0, 32, 40, 3


class Bare:
    """What somebody writes in an afternoon: a model, AdamW, two losses."""

    def __init__(self, session: Session, model: RetrievalModel, batch: DeviceBatch) -> None:
        self.model, self.batch = model, batch
        self.scale = torch.nn.Parameter(session.whole.log_scale.detach().clone())
        self.parameters = [*model.parameters(), self.scale]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3)
        self.weight = session.config.objectives.cross_entropy.weight

    def step(self) -> None:
        """Take one step."""
        rows, place = len(self.batch.place), self.batch.place
        outputs = self.model(normalize(torch.cat([self.batch.satellite, self.batch.drone])))
        similarity = (
            self.scale.exp()
            * unit(outputs["descriptor"])[:rows]
            @ (unit(outputs["descriptor"])[rows:].T)
        )
        target = (place[:, None] == place).float()
        target = target / target.sum(1, keepdim=True)
        loss = (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
        loss = loss + self.weight * F.cross_entropy(outputs["logits"], place.repeat(2))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def pairs_of_seconds(folder: Path, *, rows: int, pairs: int) -> list[tuple[float, float]]:
    """Return the seconds of our step and of the bare one, in turn."""
    torch.set_num_threads(1)
    shards = noise_shards(folder, places=64, views=4)
    config = recipe(shards, folder / "run", rows=rows, num_steps=pairs + WARM_UP)
    session, twin = (open_untracked(config) for _ in range(2))
    planned = next(planned_batches(session))
    bare = Bare(session, twin.model.train(), session.on_device(planned))
    seconds: list[tuple[float, float]] = []
    last = time.perf_counter()

    def look() -> bool:
        nonlocal last
        ours = time.perf_counter() - last
        begun = time.perf_counter()
        bare.step()
        last = time.perf_counter()
        seconds.append((ours, last - begun))
        return False

    same = iter([planned] * (pairs + WARM_UP))
    with (
        mock.patch("distill.profiling.planned_batches", lambda _: same),
        mock.patch("distill.train._probe", lambda *_: look()),
        mock.patch.object(session.checkpoints, "save"),
        show_progress("training", enabled=False) as progress,
    ):
        train(session, probes=[], progress=progress, flag=StopFlag())
    return seconds[WARM_UP:]


def main() -> int:
    """Time both loops, and print one line."""
    is_toy = "--toy" in sys.argv
    with tempfile.TemporaryDirectory() as folder:
        found = pairs_of_seconds(
            Path(folder), rows=4 if is_toy else ROWS, pairs=3 if is_toy else PAIRS
        )
    ratios = np.array([ours / bare for ours, bare in found])
    drawn = np.random.default_rng(SEED).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    ratio = float(np.median(ratios))
    value = {
        "ratio": round(ratio, 4),
        "95 % interval of the median": [round(float(low), 4), round(float(high), 4)],
        "pairs": len(ratios),
        "our step ms": round(1e3 * median(ours for ours, _ in found), 2),
        "bare step ms": round(1e3 * median(bare for _, bare in found), 2),
    }
    code = report("T1", value=value, must=f"<= {MUST}", passed=ratio <= MUST, seed=SEED)
    return 0 if is_toy else code


if __name__ == "__main__":
    sys.exit(main())
