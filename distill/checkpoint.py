"""Training checkpoints that are whole or absent, and the weights that users take away."""

import hashlib
import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from data_shards.errors import CheckpointError, SkyDistillError
from data_shards.manifest import write_json
from data_shards.recipe import build_config, to_values
from distill.collectives import wait_for_all
from distill.config import DistillConfig, ModelConfig
from distill.models import RetrievalModel
from distill.run_folder import RunPaths

log = logging.getLogger(__name__)

STATE_NAME = "state.json"
WEIGHTS_FORMAT = "skydistill-weights-1"


@dataclass
class RunState:
    """What must survive preemption beside weights, optimizer and random numbers."""

    step: int = 0
    """Optimizer steps done."""

    seconds: float = 0.0
    """Time spent in the loop, over all attempts."""


def save_checkpoint(
    accelerator: Accelerator, state: RunState, paths: RunPaths, *, keep: int
) -> Path:
    """Save everything needed to go on, on every rank; the folder appears when it is whole.

    Raises:
        CheckpointError: the disk is full or not writable; earlier checkpoints are untouched.
    """
    final = paths.checkpoints / f"step-{state.step:08d}"
    aside = final.with_name(final.name + ".partial")
    if accelerator.is_main_process:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    wait_for_all()
    try:
        accelerator.save_state(str(aside))
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise CheckpointError(
            f"checkpoint {final} could not be written ({error}); free space and start again: "
            "the run resumes"
        ) from error
    wait_for_all()
    if accelerator.is_main_process:
        digests = {path.name: _sha256(path) for path in sorted(aside.iterdir())}
        write_json(aside / STATE_NAME, {"state": asdict(state), "sha256": digests})
        shutil.rmtree(final, ignore_errors=True)
        aside.rename(final)
        for old in _checkpoints(paths)[:-keep]:
            shutil.rmtree(old)
    wait_for_all()
    return final


def resume(accelerator: Accelerator, paths: RunPaths) -> RunState:
    """Load the newest checkpoint that is whole, or return the state of a fresh run."""
    for folder in reversed(_checkpoints(paths)):
        state = _read_state(folder)
        if state is not None:
            accelerator.load_state(str(folder))
            if accelerator.is_main_process:
                log.info("resumed from %s", folder)
            return state
        if accelerator.is_main_process:
            log.warning("checkpoint %s is damaged; the one before it is used", folder)
    return RunState()


def _checkpoints(paths: RunPaths) -> list[Path]:
    """Return the folders of finished checkpoints, oldest first."""
    if not paths.checkpoints.is_dir():
        return []
    return sorted(path for path in paths.checkpoints.glob("step-*") if path.suffix != ".partial")


def _read_state(folder: Path) -> RunState | None:
    """Return the state of a checkpoint whose files all have their recorded digest, else None."""
    try:
        meta = json.loads((folder / STATE_NAME).read_text())
        whole = all(_sha256(folder / name) == digest for name, digest in meta["sha256"].items())
        return RunState(**meta["state"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A trained model, ready to describe images."""

    model: RetrievalModel
    name: str
    role: str
    image_size: int
    step: int
    places: tuple[str, ...]
    """Places its class logits stand for."""

    recipe: dict[str, Any]
    sha256: str
    """Of the weight file."""

    path: Path
    run: RunPaths | None
    """The run it lies in, if it does."""


def save_weights(
    paths: RunPaths, model: RetrievalModel, config: DistillConfig, *, places: list[str], step: int
) -> None:
    """Write `model.safetensors` and its card; the file alone suffices to load the model."""
    meta = {
        "format": WEIGHTS_FORMAT,
        "recipe": json.dumps(to_values(config)),
        "places": json.dumps(places),
        "step": str(step),
    }
    aside = paths.weights.with_name(paths.weights.name + ".partial")
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    try:
        save_file(state, aside, metadata=meta)
        aside.replace(paths.weights)
        paths.card.write_text(_card(config, model, step=step))
    except (OSError, SafetensorError) as error:
        aside.unlink(missing_ok=True)
        raise CheckpointError(
            f"{paths.weights} could not be written ({error}); free space and start again: the "
            "run resumes"
        ) from error


def load_student(path: Path) -> LoadedModel:
    """Load a trained model (of any role) from a run folder or a `.safetensors` file, in eval mode.

    Raises:
        CheckpointError: there is none, it is damaged, or it was not written by SkyDistill.
    """
    file = RunPaths(path).weights if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(
            f"no trained model at {file}; give a run folder whose training has ended, or a "
            "weight file"
        )
    try:
        with safe_open(file, framework="pt") as opened:
            meta = opened.metadata() or {}
        state = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} is damaged ({error}); train again or restore it") from error
    if meta.get("format") != WEIGHTS_FORMAT:
        raise CheckpointError(
            f"{file} was not written by this version of skydistill; give the weights of a run"
        )
    recipe, places = json.loads(meta["recipe"]), tuple(json.loads(meta["places"]))
    try:
        model = RetrievalModel(
            build_config(ModelConfig, recipe["model"], where=str(file)), num_places=len(places)
        )
        model.load_state_dict(state)
    except (SkyDistillError, RuntimeError) as error:
        raise CheckpointError(
            f"{file} does not fit this version of skydistill ({error})"
        ) from error
    return LoadedModel(
        model=model.eval().requires_grad_(requires_grad=False),
        name=recipe["name"],
        role=recipe["role"],
        image_size=recipe["data"]["image_size"],
        step=int(meta["step"]),
        places=places,
        recipe=recipe,
        sha256=_sha256(file),
        path=file,
        run=RunPaths(file.parent) if RunPaths(file.parent).recipe.is_file() else None,
    )


def _card(config: DistillConfig, model: RetrievalModel, *, step: int) -> str:
    count = sum(parameter.numel() for parameter in model.parameters())
    terms = ", ".join(f"{name} x {weight:g}" for name, weight in config.objectives.weights.items())
    return (
        f"# {config.name}\n\n"
        f"- role: {config.role}, method: {config.method}\n"
        f"- backbone: {config.model.arch}, started from: {config.model.weights}, {count:,} "
        "parameters with class head\n"
        f"- input: {config.data.image_size} x {config.data.image_size} px RGB, ImageNet mean "
        "and deviation\n"
        f"- descriptor: {model.width} numbers, unit length, compared by cosine\n"
        f"- trained: {step} steps of {config.data.global_batch} places; loss: {terms}\n"
        f"- teacher: {config.teacher.run or 'none'}\n\n"
        "Load it with `distill.checkpoint.load_student`, evaluate it with `skydistill evaluate`.\n"
    )


def to_device(model: RetrievalModel, device: torch.device) -> RetrievalModel:
    """Move a model, with channels last in memory as its inputs are."""
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
