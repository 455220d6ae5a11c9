"""Tiny recipes, a teacher that never learned, one process in this process and two as launched."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data_shards.progress import show_progress
from data_shards.recipe import build_config, to_values
from data_shards.shards import ShardSet
from distill.checkpoint import RunState, load_checkpoint, newest_checkpoint
from distill.config import DistillConfig
from distill.methods import METHODS
from distill.models.weights import Origin
from distill.preemption import StopFlag
from distill.run_folder import RunPaths, open_run_folder
from distill.session import Session, make_accelerator
from distill.teacher.source import class_places
from distill.tracking import Tracker
from distill.train import Probe, finish, train
from distill.weights_file import TrainingData, save_weights

ROOT = Path(__file__).parents[2]
CPU = ROOT / "configs/accelerate/cpu.yaml"
NO_SERVER = "http://127.0.0.1:9"
"""Nobody listens on the discard port."""

ALL_TERMS = {
    "cross_entropy": {"weight": 0.5, "label_smoothing": 0.1},
    "info_nce": {"weight": 1.0},
    "triplet": {"weight": 1.0},
    "proxy_anchor": {"weight": 0.1},
    "deep_supervision": {"weight": 1.0},
    "self_distillation": {"weight": 0.5},
    "uapa": {"weight": 0.2},
    "logit_distillation": {"weight": 0.5},
    "feature_distillation": {"weight": 2.0},
}

MakeConfig = Callable[..., DistillConfig]


def merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Lay nested `changes` over `values`."""
    merged = dict(values)
    for key, value in changes.items():
        is_nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if is_nested else value
    return merged


def tiny_config(shards: ShardSet, folder: Path, **changes: Any) -> DistillConfig:
    """A recipe of 6 steps, 4 rows each, on the tiny shards, with `changes` laid over it."""
    values = {
        "name": "tiny",
        "out": str(folder),
        "role": "alone",
        "data": {
            "shards": str(shards.folder),
            "image_size": 32,
            "global_batch": 4,
            "threads": 1,
            "validation_fraction": 0.0,
        },
        "augment": {"slots": 2},
        "model": {"arch": "convnext_micro", "weights": "none", "bottleneck": 0, "dropout": 0.2},
        "objectives": {"info_nce": {"weight": 1.0}},
        "schedule": {"num_steps": 6, "warmup_steps": 2},
        "tracking": {"uri": NO_SERVER},
        "log_every_steps": 1,
        "save_every_steps": 3,
    }
    return build_config(DistillConfig, merge(values, changes), where="test")


@pytest.fixture
def make_config(tmp_path: Path, tiny_shards: ShardSet) -> MakeConfig:
    """A function from changes to a tiny recipe."""
    return lambda **changes: tiny_config(tiny_shards, tmp_path / "run", **changes)


@pytest.fixture(scope="session")
def teacher_run(tmp_path_factory: pytest.TempPathFactory, tiny_shards: ShardSet) -> Path:
    """The run folder of a wider teacher with the weights it was born with."""
    return save_newborn(tmp_path_factory.mktemp("teacher") / "run", tiny_shards, seed=5)


BRANCHES: dict[str, Any] = {
    "method": "bicrossnet",
    "model": {"arch": "bnext_micro", "bottleneck": 8},
    "objectives": {
        "info_nce": {"weight": 0},
        "cross_entropy": {"weight": 1.0},
        "triplet": {"weight": 1.0},
    },
}
"""What makes a tiny recipe one of a binary student alone."""


def save_newborn(
    out: Path,
    shards: ShardSet,
    *,
    seed: int,
    image_size: int = 32,
    origin: Origin = Origin(),  # noqa: B008 - frozen
    **changes: Any,
) -> Path:
    """Write a run folder whose model was never trained, of a recipe with `changes` laid over it."""
    values = {
        "name": "newborn",
        "out": str(out),
        "role": "teacher",
        "data": {"shards": str(shards.folder), "image_size": image_size},
        "model": {"arch": "convnext_milli", "weights": "none"},
        "objectives": {"cross_entropy": {"weight": 1.0}},
    }
    config = build_config(DistillConfig, merge(values, changes), where="test")
    torch.manual_seed(seed)
    places = list(class_places(shards))
    model = METHODS[config.method].build(config.model, num_places=len(places))
    model.origin = origin
    paths, trained_on = open_run_folder(config, world_size=1), TrainingData.of(shards)
    save_weights(
        paths.weights, paths.card, model, config, places=places, step=0, trained_on=trained_on
    )
    return out


@pytest.fixture
def distilled(make_config: MakeConfig, teacher_run: Path, tmp_path: Path) -> MakeConfig:
    """Like `make_config`, with all four terms and a cache folder."""

    def make(**changes: Any) -> DistillConfig:
        values = {
            "role": "distilled",
            "objectives": ALL_TERMS,
            "teacher": {"run": str(teacher_run), "cache": str(tmp_path / "cache")},
        }
        return make_config(**merge(values, changes))

    return make


def open_alone(config: DistillConfig) -> Session:
    """Open a session of one rank in this process, without MLflow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tracker, "start", lambda self, **facts: None)
        shards = ShardSet.open(config.data.shards)
        return Session(config, make_accelerator(config), shards, recipe="tiny.yaml")


def run_alone(
    config: DistillConfig, *, probes: Sequence[Probe] = (), stop_after: int | None = None
) -> Session:
    """Train in this process; with `stop_after`, raise the flag at that step as a signal would."""
    return train_alone(open_alone(config), probes=probes, stop_after=stop_after)


def resume(session: Session, *, shards: str) -> RunState:
    """Load the newest checkpoint, if there is one."""
    found, state = newest_checkpoint(session.accelerator, session.paths, shards=shards)
    if found is not None:
        load_checkpoint(session.accelerator, session.whole, session.groups, found, seed=0)
    return state


def train_alone(
    session: Session, *, probes: Sequence[Probe] = (), stop_after: int | None = None
) -> Session:
    """Train a session that is open."""
    flag = StopFlag()

    def watch(model: torch.nn.Module, step: int) -> dict[str, float]:
        flag.raised = step == stop_after
        return {}

    if stop_after is not None:
        session.config = replace(session.config, probe_every_steps=1)
        probes = [*probes, watch]
    with show_progress("training", enabled=False) as progress:
        if train(session, probes=probes, progress=progress, flag=flag):
            finish(session)
    return session


OF_THE_MACHINE = {
    "train/images_per_second",
    "train/steps_per_second",
    "train/data_wait",
    "train/memory_gib",
}
"""Metrics that are others each time the same steps are trained."""


def metric_lines(paths: RunPaths) -> list[dict[str, Any]]:
    return [json.loads(line) for line in paths.metrics.read_text().splitlines()]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a launched job ended."""

    code: int
    output: str

    @property
    def sentences(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.startswith("skydistill: ")]

    @property
    def our_tracebacks(self) -> int:
        """Tracebacks that the workers printed; the launcher's own ends in ChildFailedError."""
        return self.output.count("Traceback (most recent call last)") - self.output.count(
            "torch.distributed.elastic.multiprocessing.errors.ChildFailedError"
        )


def environment() -> dict[str, str]:
    """This checkout, one thread per rank, no tracking server, no model hub."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": NO_SERVER,
        "HF_HUB_OFFLINE": "1",
    }


@contextmanager
def launched(
    *words: object, num_processes: int = 2, config_file: Path = CPU
) -> Iterator["subprocess.Popen[str]"]:
    """Start a script by `accelerate launch`; it has ended when the block has."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config_file]
    command += ["--num_processes", num_processes, *words]
    job = subprocess.Popen(
        [str(word) for word in command],
        env=environment(),
        text=True,
        cwd=ROOT,  # where the YAML of DeepSpeed finds its JSON
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield job
    finally:
        if job.poll() is None:
            job.kill()
            job.wait()


def launch(*words: object, num_processes: int = 2, config_file: Path = CPU) -> Ended:
    """Run a script by `accelerate launch` to its end."""
    with launched(*words, num_processes=num_processes, config_file=config_file) as job:
        output, _ = job.communicate(timeout=300)
    return Ended(code=job.returncode, output=output)


def launch_and_stop(*words: object, when: Callable[[], bool]) -> Ended:
    """Run a script by `accelerate launch`, and send SIGTERM to the job when `when` says so."""
    with launched(*words) as job:
        deadline = time.monotonic() + 90
        while not when() and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        job.send_signal(signal.SIGTERM)
        output, _ = job.communicate(timeout=90)
    return Ended(code=job.returncode, output=output)


def write_recipe(path: Path, config: DistillConfig) -> Path:
    """Write a config as the YAML a launched job reads."""
    path.write_text(json.dumps(to_values(config)))
    return path
