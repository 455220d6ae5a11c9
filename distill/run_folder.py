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

METRIC_LINES = "metric_lines"
"""Logger of the metric lines as text, for `RUN/train.log` alone."""

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "accelerate",
    "mlflow",
    "numpy",
    "pillow",
    "simplejpeg",
)

MAY_CHANGE_ON_RESUME = {
    "out",
    "expected_world_size",
    "collective_timeout_s",
    "log_every_steps",
    "save_every_steps",
    "keep_checkpoints",
    "keep_best",
    "profile_steps",
    "probe_every_steps",
    "tracking",
    "data.local_cache",
    "data.local_cache_gib",
    "data.stage",
    "data.threads",
    "data.micro_batch",
    "model.compile",
}
"""Recipe keys that do not change what is trained."""


@dataclass(frozen=True)
class RunPaths:
    """Names of everything a run leaves behind."""

    folder: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.folder / "recipe.yaml"

    @property
    def environment(self) -> Path:
        """Versions and machine of the newest attempt."""
        return self.folder / "environment.json"

    @property
    def metrics(self) -> Path:
        """Every metric line, in order: the spool that MLflow is fed from."""
        return self.folder / "metrics.jsonl"

    @property
    def mlflow(self) -> Path:
        """Which MLflow run this is, and how many metric lines reached it."""
        return self.folder / "mlflow.json"

    @property
    def exit(self) -> Path:
        """How the newest attempt ended."""
        return self.folder / "exit.json"

    @property
    def lock(self) -> Path:
        """Who trains into this folder, which is locked while it does; to remove it unlocks it."""
        return self.folder / ".lock"

    @property
    def stop(self) -> Path:
        """A file by which anybody stops the run, as a signal does; it goes when that is done."""
        return self.folder / "STOP"

    @property
    def log(self) -> Path:
        """What was told while it trained, and every metric line as text."""
        return self.folder / "train.log"

    @property
    def profile(self) -> Path:
        """Traces and tables of where steps went, where the recipe asked for them."""
        return self.folder / "profile"

    @property
    def checkpoints(self) -> Path:
        """Folder of training checkpoints."""
        return self.folder / "checkpoints"

    @property
    def weights(self) -> Path:
        """The trained model, for users."""
        return self.folder / "model.safetensors"

    @property
    def best(self) -> "RunPaths":
        """Weights, parts and card as of the best probe, where it is kept."""
        return RunPaths(self.folder / "best")

    @property
    def training_parts(self) -> Path:
        """What training had beside the model, for a run that starts from this one."""
        return self.folder / "training_parts.safetensors"

    @property
    def card(self) -> Path:
        """What the weights are, in words."""
        return self.folder / "MODEL_CARD.md"


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
    """Create the run folder, or accept the one of this very recipe; save recipe and environment.

    Raises:
        RecipeError: the folder holds a run of another recipe.
    """
    paths = RunPaths(config.run_folder)
    values = to_values(config)
    refuse_other_recipe(paths, values)
    try:
        paths.checkpoints.mkdir(parents=True, exist_ok=True)
        write_text_aside(paths.recipe, yaml.safe_dump(values, sort_keys=False))
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


def refuse_other_recipe(paths: RunPaths, values: dict[str, Any]) -> None:
    """Refuse a folder that holds a run of another recipe, by the keys in which they differ.

    Raises:
        RecipeError: it does, or the recipe in it is damaged.
    """
    if not paths.recipe.is_file():
        return
    try:
        earlier, now = _flat(yaml.safe_load(paths.recipe.read_text())), _flat(values)
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise RecipeError(
            f"{paths.recipe} is damaged; set out to a new folder, or remove this one"
        ) from error
    changed = [
        key
        for key in sorted(now.keys() | earlier.keys())
        if earlier.get(key) != now.get(key)
        and not {key, key.partition(".")[0]} & MAY_CHANGE_ON_RESUME
    ]
    if changed:
        raise RecipeError(
            f"{paths.folder} holds a run of another recipe (differs in {', '.join(changed[:5])}); "
            "set out to a new folder, or remove this one"
        )


def flat_recipe(config: DistillConfig) -> dict[str, str]:
    """Return the resolved recipe as dotted keys and texts, for MLflow parameters."""
    return {key: str(value) for key, value in _flat(to_values(config)).items()}


def _flat(values: dict[str, Any], below: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= (
            _flat(value, f"{below}{key}.") if isinstance(value, dict) else {f"{below}{key}": value}
        )
    return flat


def read_recipe(folder: Path) -> dict[str, str]:
    """Return the resolved recipe of a run folder as `flat_recipe` has it; empty if there is none.

    Raises:
        RecipeError: the file is damaged.
    """
    path = RunPaths(folder).recipe
    if not path.is_file():
        return {}
    try:
        return {key: str(value) for key, value in _flat(yaml.safe_load(path.read_text())).items()}
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path} is damaged; remove it, or leave this run out") from error


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


def forget_exit(paths: RunPaths) -> None:
    """Remove the record of how an attempt ended: another one is under way."""
    if paths.exit.is_file():
        paths.exit.unlink()


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
