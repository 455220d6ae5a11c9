"""Trainings as a user starts them: `accelerate launch` of `distill/run.py`, and what they wrote."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from data_shards.recipe import to_values
from distill.config import DistillConfig
from distill.run_folder import RunPaths

ROOT = Path(__file__).parents[1]
RUN, CPU = ROOT / "distill/run.py", ROOT / "configs/accelerate/cpu.yaml"


@dataclass(frozen=True, kw_only=True)
class Launched:
    """When a training was started and ended, and when it wrote its metric lines (epoch seconds)."""

    began: float
    ended: float
    lines: list[tuple[int, float]]
    """Step and time of each."""


def launch(config: DistillConfig, *, ranks: int, cores: Collection[int]) -> Launched:
    """Train on so many ranks of one thread each, on these cores alone; its output goes to stderr.

    One rank is started without a launcher.
    """
    paths = RunPaths(config.run_folder)
    paths.folder.parent.mkdir(parents=True, exist_ok=True)
    written = paths.folder.with_suffix(".recipe.yaml")
    written.write_text(json.dumps(to_values(config)))
    words = [sys.executable]
    if ranks > 1:
        words += ["-m", "accelerate.commands.launch", "--config_file", str(CPU)]
        words += ["--num_processes", str(ranks)]
    began = time.time()
    subprocess.run(
        [*words, str(RUN), str(written)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=sys.stderr,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    lines = [json.loads(line) for line in paths.metrics.read_text().splitlines()]
    times = [(line["step"], line["time"]) for line in lines if "train/total" in line["metrics"]]
    return Launched(began=began, ended=time.time(), lines=times)
