"""Training checkpoints that are whole or absent, and the weights that users take away.

Nothing here unpickles more than tensors and numbers: accelerate's `load_state` calls `torch.load`
with `weights_only=True` for optimizer and random states, and weights are safetensors.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from data_shards.config import Resampling
from data_shards.errors import CheckpointError, PlanError, SkyDistillError
from data_shards.manifest import write_json, write_text_aside
from data_shards.planning.neighbours import Neighbours, read_neighbours, write_neighbours
from data_shards.recipe import build_config, to_values
from distill.collectives import first_problem, say_of_rank_zero
from distill.config import DistillConfig, ModelConfig
from distill.models import RetrievalModel
from distill.run_folder import RunPaths

log = logging.getLogger(__name__)

STATE_NAME = "state.json"
NEIGHBOURS_NAME = "neighbours.npz"
WEIGHTS_FORMAT = "skydistill-weights-1"


@dataclass
class RunState:
    """What must survive preemption beside weights, optimizer and random numbers."""

    step: int = 0
    """Optimizer steps done."""

    seconds: float = 0.0
    """Time spent in the loop, over all attempts."""

    shards: str = ""
    """Fingerprint of the shards that it is trained on."""

    neighbours: Neighbours | None = None
    """Hard samples that order the epoch under way, where they do."""


def save_checkpoint(
    accelerator: Accelerator, state: RunState, paths: RunPaths, *, keep: int
) -> Path:
    """Save everything needed to go on, on every rank; the folder appears when it is whole.

    Raises:
        CheckpointError: a rank could not write, on all ranks; earlier checkpoints are untouched.
    """
    final = paths.checkpoints / f"step-{state.step:08d}"
    aside = final.with_name(final.name + ".partial")
    is_main = accelerator.is_main_process
    try:
        _succeed_on_all_ranks(final, lambda: _make_empty(aside) if is_main else None)
        _succeed_on_all_ranks(final, lambda: accelerator.save_state(str(aside)))
        _succeed_on_all_ranks(final, lambda: _publish(aside, final, state) if is_main else None)
    except CheckpointError:
        if is_main:
            shutil.rmtree(aside, ignore_errors=True)
        raise
    if is_main:
        _prune(paths, newest=final, keep=keep)
    return final


def _succeed_on_all_ranks(final: Path, work: Callable[[], object]) -> None:
    """Do one part of a save, and fail on every rank when it failed on one."""
    problem = None
    try:
        work()
    except (OSError, RuntimeError, SafetensorError) as error:
        problem = " ".join(str(error).split())[:200]
    if found := first_problem(problem):
        raise CheckpointError(
            f"checkpoint {final} could not be written ({found}); free space and start again: "
            "the run resumes"
        )


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _publish(aside: Path, final: Path, state: RunState) -> None:
    """Seal a written checkpoint with its digests, and give it its name."""
    facts: dict[str, object] = {"step": state.step, "seconds": state.seconds}
    facts["shards"] = state.shards
    if state.neighbours is not None:
        write_neighbours(aside / NEIGHBOURS_NAME, state.neighbours)
        facts["neighbours"] = state.neighbours.digest
    digests = {path.name: file_sha256(path) for path in sorted(aside.iterdir())}
    write_json(aside / STATE_NAME, {"state": facts, "sha256": digests})
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)


def _prune(paths: RunPaths, *, newest: Path, keep: int) -> None:
    """Remove old checkpoints, what kills left half-written, and damaged ones ahead of this run."""
    finished = _checkpoints(paths)
    ahead = [folder for folder in finished if folder.name > newest.name]
    old = [folder for folder in finished if folder.name <= newest.name][:-keep]
    for folder in [*ahead, *old, *paths.checkpoints.glob("*.partial")]:
        shutil.rmtree(folder)


def resume(accelerator: Accelerator, paths: RunPaths, *, shards: str) -> RunState:
    """Load the newest checkpoint that is whole, or return the state of a fresh run.

    Args:
        accelerator: the ranks, with model and optimizer prepared.
        paths: of the run.
        shards: fingerprint of those to train on.

    Raises:
        CheckpointError: it is whole, but of other shards or another version of this program.
    """
    found = say_of_rank_zero(_newest_whole(paths) if accelerator.is_main_process else None)
    if found is None:
        return RunState(shards=shards)
    folder, state = found
    if state.shards != shards:
        raise CheckpointError(
            f"checkpoint {folder} was trained on shards {state.shards[:12]} and the recipe names "
            f"shards {shards[:12]}; give data.shards of the former, or another out for a new run"
        )
    try:
        accelerator.load_state(str(folder))
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"checkpoint {folder} does not fit this version of skydistill "
            f"({' '.join(str(error).split())[:200]}); remove {paths.checkpoints} to start over"
        ) from error
    if accelerator.is_main_process:
        log.info("resumed from %s", folder)
    return cast(RunState, state)


def _newest_whole(paths: RunPaths) -> tuple[Path, RunState] | None:
    for folder in reversed(_checkpoints(paths)):
        state = _read_state(folder)
        if state is not None:
            return folder, state
        log.warning("checkpoint %s is damaged; the one before it is used, if any", folder)
    return None


def _checkpoints(paths: RunPaths) -> list[Path]:
    """Return the folders of finished checkpoints, oldest first."""
    return sorted(path for path in paths.checkpoints.glob("step-*") if path.suffix != ".partial")


def _read_state(folder: Path) -> RunState | None:
    """Return the state of a checkpoint whose files all have their recorded digest, else None."""
    try:
        meta = json.loads((folder / STATE_NAME).read_text())
        whole = all(file_sha256(folder / name) == digest for name, digest in meta["sha256"].items())
        digest = meta["state"].pop("neighbours", None)
        state = RunState(**meta["state"])
        if whole and digest is not None:
            state.neighbours = read_neighbours(folder / NEIGHBOURS_NAME)
            whole = state.neighbours.digest == digest
    except (OSError, ValueError, KeyError, TypeError, PlanError):
        return None
    return state if whole else None


def file_sha256(path: Path) -> str:
    """Return the digest of a file, as checkpoints and caches record it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A trained model, ready to describe images."""

    model: RetrievalModel
    name: str
    role: str
    image_size: int
    resampling: Resampling
    step: int
    places: tuple[str, ...]
    """Places its class logits stand for."""

    layout: str
    """Of the data set it was trained on; empty where the file does not tell."""

    recipe: dict[str, Any]
    sha256: str
    """Of the weight file."""

    path: Path
    run: RunPaths | None
    """The run it lies in, if it does."""


def save_weights(
    paths: RunPaths,
    model: RetrievalModel,
    config: DistillConfig,
    *,
    places: Sequence[str],
    layout: str,
    step: int,
) -> None:
    """Write `model.safetensors` and its card; the file alone suffices to load the model."""
    meta = {"recipe": to_values(config), "places": places, "layout": layout, "step": step}
    aside = paths.weights.with_name(paths.weights.name + ".partial")
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    try:
        # One entry: safetensors writes several in any order, and the digest names the teacher.
        save_file(state, aside, metadata={WEIGHTS_FORMAT: json.dumps(meta, sort_keys=True)})
        aside.replace(paths.weights)
        write_text_aside(paths.card, _card(config, model, step=step))
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
        _refuse_step(path if path.is_dir() else path.parent)
        raise CheckpointError(f"no trained model at {file}; give {_runs_in_words(path)}")
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
        state = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{file} is damaged, or no safetensors file ({error}); train again or restore it"
        ) from error
    if WEIGHTS_FORMAT not in metadata:
        _refuse_step(file.parent)
        raise CheckpointError(
            f"{file} was not written by this version of skydistill; give the weights of a run"
        )
    try:
        meta = json.loads(metadata[WEIGHTS_FORMAT])
        recipe, places = meta["recipe"], tuple(meta["places"])
        model = RetrievalModel(
            build_config(ModelConfig, recipe["model"], where=str(file)), num_places=len(places)
        )
        model.load_state_dict(state)
        image_size, resampling = recipe["data"]["image_size"], recipe["data"]["resampling"]
    except (SkyDistillError, RuntimeError, ValueError, LookupError, TypeError) as error:
        told = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{file} does not fit this version of skydistill, or is of another model ({told}); "
            "give the weights of a run"
        ) from error
    return LoadedModel(
        model=model.eval().requires_grad_(requires_grad=False),
        name=recipe["name"],
        role=recipe["role"],
        image_size=image_size,
        resampling=resampling,
        step=meta["step"],
        places=places,
        layout=meta.get("layout", ""),
        recipe=recipe,
        sha256=file_sha256(file),
        path=file,
        run=RunPaths(file.parent) if RunPaths(file.parent).recipe.is_file() else None,
    )


def _refuse_step(folder: Path) -> None:
    """Refuse what a training left to be resumed from: its weights tell no model and no places."""
    folder = folder if folder.name else folder.resolve()
    is_step = folder.name.startswith("step-") and (folder / STATE_NAME).is_file()
    holder = folder.parent if is_step else folder
    run = RunPaths(holder.parent)
    is_of_run = holder.name == run.checkpoints.name and run.recipe.is_file()
    if not is_step and not is_of_run:
        return
    give = f"give the run folder {run.folder}" if is_of_run else "give the folder of its run"
    if is_of_run and not run.weights.is_file():
        give = f"train {run.folder} to its end, then {give}"
    what = "is a checkpoint" if is_step else "holds checkpoints"
    raise CheckpointError(f"{folder} {what} for resuming; {give}")


def _runs_in_words(folder: Path) -> str:
    """Name the run folders directly below one that have weights, else say what is wanted."""
    found = sorted(weights.parent for weights in folder.glob(f"*/{RunPaths(folder).weights.name}"))
    if not found:
        return "a run folder whose training has ended, or a weight file"
    more = f" or {len(found) - 3} more" if len(found) > 3 else ""
    return f"a run folder: {', '.join(map(str, found[:3]))}{more}"


def _card(config: DistillConfig, model: RetrievalModel, *, step: int) -> str:
    count = sum(parameter.numel() for parameter in model.parameters())
    terms = ", ".join(f"{name} x {weight:g}" for name, weight in config.objectives.weights.items())
    return (
        f"# {config.name}\n\n"
        f"- role: {config.role}, method: {config.method}\n"
        f"- backbone: {config.model.arch}, started from: {config.model.weights}, {count:,} "
        "parameters with class head\n"
        f"- input: {config.data.image_size} x {config.data.image_size} px RGB, by "
        f"{config.data.resampling}, ImageNet mean and deviation\n"
        f"- descriptor: {model.width} numbers, unit length, compared by cosine\n"
        f"- trained: {step} steps of {config.data.global_batch} places; loss: {terms}\n"
        f"- teacher: {config.teacher.run or 'none'}\n\n"
        "Load it with `distill.checkpoint.load_student`, evaluate it with `skydistill evaluate`.\n"
    )


def to_device(model: RetrievalModel, device: torch.device) -> RetrievalModel:
    """Move a model, with channels last in memory as its inputs are."""
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
