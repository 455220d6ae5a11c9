"""The folder of one run: every path in one class, and how the run ended in `exit.json`."""

import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from data_shards.errors import RecipeError
from data_shards.lock import hold_if_free
from data_shards.manifest import write_json, write_text_aside
from data_shards.recipe import to_values
from distill.config import DistillConfig
from distill.launched import launched_rank

log = logging.getLogger(__name__)

DONE, FAILED, MISTAKE, PREEMPTED = 0, 1, 2, 75
"""Exit codes of a worker: done, a bug, the user's mistake, preempted after a checkpoint."""

STOP_NAME = "STOP"

METRIC_LINES = "metric_lines"
"""Logger of the metric lines as text, for `RUN/train.log` alone."""

LIBRARIES = "torch torchvision timm accelerate mlflow numpy pillow simplejpeg".split()

MAY_CHANGE_ON_RESUME = {
    *("out", "expected_world_size", "collective_timeout_s", "profile_steps", "tracking"),
    *("log_every_steps", "probe_every_steps", "save_every_steps", "keep_checkpoints", "keep_best"),
    *("data.local_cache", "data.local_cache_gib", "data.stage", "data.threads"),
    *("data.micro_batch", "model.compile"),
}
"""Recipe keys that do not change what is trained."""


@dataclass(init=False)
class RunPaths:
    """Names of everything a run leaves behind."""

    folder: Path

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe = folder / "recipe.yaml"  # resolved
        self.environment = folder / "environment.json"  # versions and machine, newest attempt
        self.metrics = folder / "metrics.jsonl"  # the spool that MLflow is fed from
        self.csv = folder / "metrics.csv"  # the same for spreadsheets and pandas, if asked for
        self.mlflow = folder / "mlflow.json"  # which MLflow run this is, and what reached it
        self.records = folder / "mlflow.jsonl"  # the spool of what is no metric
        self.exit = folder / "exit.json"  # how the newest attempt ended
        self.lock = folder / ".lock"  # who trains into this folder; to remove it unlocks it
        self.stop = folder / STOP_NAME  # stops the run, as a signal does; then it is removed
        self.log = folder / "train.log"  # what was told, and every metric line as text
        self.profile = folder / "profile"  # traces and tables of where steps went, if asked for
        self.checkpoints = folder / "checkpoints"
        self.weights = folder / "model.safetensors"  # the trained model, for users
        self.training_parts = folder / "training_parts.safetensors"  # for a run that starts from it
        self.card = folder / "MODEL_CARD.md"  # what the weights are, in words

    @property
    def best(self) -> "RunPaths":
        """Weights, parts and card as of the best probe, where it is kept."""
        return RunPaths(self.folder / "best")


def claim_run_folder(paths: RunPaths) -> AbstractContextManager[object]:
    """Take the folder for this job until the block ends, or the process does; rank 0 alone does.

    Raises:
        RecipeError: another job trains into it; nothing is touched.
    """
    if launched_rank() != 0:
        return nullcontext()
    try:
        paths.folder.mkdir(parents=True, exist_ok=True)
        lock = hold_if_free(paths.lock)
        if lock is None:
            raise RecipeError(
                f"{paths.folder} is being trained by {paths.lock.read_text() or 'another job'}; "
                "stop it or wait until it has ended, or set out to another folder"
            )
    except OSError as error:  # a folder that cannot be written is told when it must be
        log.info("%s cannot be locked (%s)", paths.folder, error.strerror)
        return nullcontext()
    with suppress(OSError):
        paths.lock.write_text(f"process {os.getpid()} on {platform.node()}")
    return lock


def open_run_folder(config: DistillConfig, *, world_size: int) -> RunPaths:
    """Create the run folder, or accept the one of this very recipe; rank 0 saves what is in it.

    Raises:
        RecipeError: the folder holds a run of another recipe.
    """
    paths = RunPaths(config.run_folder)
    if launched_rank() != 0:
        return paths
    refuse_other_recipe(config)
    try:
        paths.checkpoints.mkdir(parents=True, exist_ok=True)
        write_text_aside(paths.recipe, yaml.safe_dump(to_values(config), sort_keys=False))
        libraries = {}
        for name in LIBRARIES:
            with suppress(PackageNotFoundError):  # a run does without mlflow
                libraries[name] = version(name)
        write_json(
            paths.environment,
            {"python": platform.python_version(), "libraries": libraries, "world_size": world_size},
        )
    except OSError as error:
        raise RecipeError(
            f"run folder {paths.folder} cannot be written ({error.strerror}); set out to another"
        ) from error
    return paths


def refuse_other_recipe(config: DistillConfig) -> None:
    """Refuse a run folder that holds a run of another recipe, by the keys in which they differ.

    Raises:
        RecipeError: it does, or the recipe in it is damaged.
    """
    if not (earlier := read_recipe(config.run_folder)):
        return
    now, earlier = flat_recipe(config), {"data.aspect": "squeeze", **earlier}  # before it had a key
    changed = [
        key
        for key in sorted(now.keys() | earlier.keys())
        if earlier.get(key, "None") != now.get(key, "None")
        and not {key, key.partition(".")[0]} & MAY_CHANGE_ON_RESUME
    ]
    if changed:
        raise RecipeError(
            f"{config.run_folder} holds a run of another recipe (differs in "
            f"{', '.join(changed[:5])}); set out to a new folder, or remove this one"
        )


def flat_recipe(config: DistillConfig) -> dict[str, str]:
    """Return the resolved recipe as dotted keys and texts, for MLflow parameters."""
    return {key: str(value) for key, value in flat(to_values(config))}


def flat(values: dict[str, Any], below: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of nested dicts."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{below}{key}.")
        else:
            yield f"{below}{key}", value


def read_recipe(folder: Path) -> dict[str, str]:
    """Return the resolved recipe of a run folder as `flat_recipe` has it; empty if there is none.

    Raises:
        RecipeError: the file is damaged.
    """
    path = RunPaths(folder).recipe
    try:
        values = yaml.safe_load(path.read_text()) if path.is_file() else {}
        return {key: str(value) for key, value in flat(values)}
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise RecipeError(
            f"{path} is damaged; remove it, or use a run in another folder"
        ) from error


@contextmanager
def log_into(path: Path) -> Iterator[None]:
    """Append what our training tells to a file, until the block ends; a full disk loses lines."""
    handler = _LogFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    loggers = [logging.getLogger(name) for name in ("distill", "evaluation", METRIC_LINES)]
    loggers[-1].propagate = False  # a terminal has the progress line
    loggers[-1].setLevel(logging.INFO)
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging says so
        """Lose the line: metrics and checkpoints tell of a full disk, and training goes on."""


def record_exit(paths: RunPaths, *, code: int, reason: str, **facts: float) -> None:
    """Record how this attempt ended, on one rank: Slurm scripts, demo and sweeps decide by it."""
    try:
        paths.folder.mkdir(parents=True, exist_ok=True)
        write_json(paths.exit, {"code": code, "reason": reason, "time": time.time(), **facts})
    except OSError as error:
        log.warning("%s cannot be written (%s)", paths.exit, error.strerror)


def read_exit(folder: Path) -> dict[str, Any] | None:
    """Return how the newest attempt in `folder` ended, or None when it did not say."""
    path = RunPaths(folder).exit
    return dict(json.loads(path.read_text())) if path.is_file() else None
