"""Started by `accelerate launch` in test_zero.py: whole attempts at runs, by DDP or by ZeRO."""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import torch

from data_shards.recipe import load_recipe
from data_shards.shards import ShardSet
from distill import attempt, session
from distill.collectives import destroy_process_group, rank
from distill.config import DistillConfig
from distill.models import RetrievalModel, inference
from distill.tracking import Tracker
from distill.train import Probe

STOPS = {"stopped": (1, 4), "lion_stopped": (2,)}
"""Name of a recipe to the steps behind which rank 1 has a signal; both ranks save a step later."""


def attempt_at(config: DistillConfig, *, stop: int | None) -> None:
    """Train to the end, or until the signal; keep what `exit.json` says of it."""

    def look(model: RetrievalModel, step: int) -> dict[str, float]:
        with inference(model):
            described = model.describe(torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32))
        if step == stop and rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"described": float(described.flatten()[0])}

    def make_probes(config: DistillConfig, shards: ShardSet) -> Sequence[Probe]:
        return [look]

    with (
        # As ZeRO has weights; rounded otherwise, signs of binary layers differ soon.
        mock.patch.object(session, "to_device", lambda model, device: model.to(device)),
        mock.patch.object(attempt, "destroy_process_group"),
        mock.patch.object(Tracker, "start", lambda self, **facts: None),
    ):
        attempt.train_once(config, recipe="zero", make_probes=make_probes)
    if rank() == 0:
        shutil.copy(config.run_folder / "exit.json", config.run_folder / f"exit-{stop}.json")


def main(*recipes: Path) -> None:
    for recipe in recipes:
        config = load_recipe(DistillConfig, recipe)
        for stop in (*STOPS.get(recipe.stem, ()), None):
            attempt_at(config, stop=stop)
    destroy_process_group()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
