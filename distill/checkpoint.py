"""Training checkpoints that are whole or absent; what is not understood is refused, never removed.

`checkpoint_writer.py` writes them. Nothing here unpickles more than tensors and numbers.
"""

import json
import logging
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from data_shards.errors import CheckpointError, PlanError
from data_shards.planning.neighbours import Neighbours, read_neighbours
from distill.collectives import broadcast_object, rank
from distill.models.weights import file_sha256
from distill.run_folder import RunPaths
from distill.zero import load_state, sharding, zero_stage

log = logging.getLogger(__name__)

VERSION, OLDEST = 3, 2
"""Of what a checkpoint holds, and the oldest that is read; one of another version is refused."""

STATE_NAME = "state.json"
NEIGHBOURS_NAME = "neighbours.npz"
WEIGHTS_NAME = "model.safetensors"
TRAINING_NAME = "training.pt"
"""Moments of the optimizer, loss scale, and the random numbers of every rank."""

SET_ASIDE = "set_aside"
"""Folder, among the checkpoints, of damaged ones; nothing removes them but their owner."""


@dataclass
class RunState:
    """What must survive preemption beside weights, optimizer and random numbers."""

    step: int = 0
    """Optimizer steps done."""

    seconds: float = 0.0
    """Time spent in the loop, over all attempts."""

    shards: str = ""
    """Fingerprint of the shards that it is trained on."""

    plan: str = ""
    """`ShardSet.plan_digest` of them."""

    origin: dict[str, str] = field(default_factory=dict)
    """Where the first weights came from: source, digest and licence."""

    sharding: str = ""
    """How ZeRO divided weights and moments; empty where it did not."""

    best_recall: float = -1.0
    """Highest recall@1 of a probe, mean of both directions, where the best is kept."""

    best_step: int = 0
    """Step of that probe."""

    neighbours: Neighbours | None = None
    """Hard samples that order the epoch under way, where they do."""


def newest_checkpoint(
    accelerator: Accelerator, paths: RunPaths, *, shards: str, plan: str = ""
) -> tuple[Path | None, RunState]:
    """Return the newest checkpoint that is whole and its state; None and that of a fresh run.

    Damaged ones that are newer are moved to `set_aside`, out of the way of those that follow. Where
    images were replaced under the same keys, `plan` is as it was, and the run goes on.

    Raises:
        CheckpointError: the newest is of other shards, another version of this program, or divided
            otherwise among the ranks.
    """
    divided, problem, found = sharding(accelerator), None, None
    try:
        found = _newest_whole(paths) if accelerator.is_main_process else None
    except CheckpointError as error:
        problem = str(error)
    problem, found = broadcast_object((problem, found))
    if problem is not None:
        raise CheckpointError(problem)
    if found is None:
        return None, RunState(shards=shards, plan=plan, sharding=divided)
    folder, state = found
    if state.shards != shards and not (plan and state.plan == plan):
        raise CheckpointError(
            f"checkpoint {folder} was trained on shards {state.shards[:12]} and the recipe names "
            f"shards {shards[:12]} of other images, which is another plan; give data.shards of the "
            "former, or another out for a new run"
        )
    if state.shards != shards:
        log.info("images were replaced under the same keys since %s; the run goes on", folder.name)
    state.shards, state.plan = shards, plan
    if state.sharding != divided:
        raise CheckpointError(
            f"checkpoint {folder} was saved by {state.sharding or 'ranks that divide nothing'} and "
            f"this is {divided or 'not'}; launch as then, or give another out for a new run"
        )
    return folder, state


def load_checkpoint(
    accelerator: Accelerator, whole: nn.Module, optimizer: Optimizer, folder: Path, *, seed: int
) -> None:
    """Load it into the step, unwrapped, and the optimizer, on any number of ranks.

    Under DeepSpeed, which holds both in pieces, they are those that accelerate has prepared. Ranks
    that were not there when it was saved draw random numbers of their own: of seed, step and rank.

    Raises:
        CheckpointError: it is of another version of this program.
    """
    try:
        if zero_stage(accelerator):
            load_state(accelerator, folder)
        else:
            whole.load_state_dict(load_file(folder / WEIGHTS_NAME))
            rest = torch.load(folder / TRAINING_NAME, map_location="cpu", weights_only=True)
            optimizer.load_state_dict(rest["optimizer"])
            if accelerator.scaler is not None:
                accelerator.scaler.load_state_dict(rest["scaler"])
            random, step = rest["random"], int(folder.name.removeprefix("step-"))
            if rank() < len(random):
                host, on_device = random[rank()].tensor_split([len(torch.get_rng_state())])
                torch.set_rng_state(host.clone())
                if accelerator.device.type == "cuda" and len(on_device):
                    torch.cuda.set_rng_state(on_device.clone(), accelerator.device)
            else:
                drawn = np.random.SeedSequence((seed, step, rank())).generate_state(1)
                torch.manual_seed(int(drawn[0]))
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint {folder} does not fit this version of skydistill "
            f"({' '.join(str(error).split())[:200]}); train on with the version that saved it, or "
            "give another out for a new run"
        ) from error
    if accelerator.is_main_process:
        log.info("resumed from %s", folder)


def random_state(device: torch.device) -> Tensor:
    """Return what this rank's random numbers follow from, as bytes: the host's, then the GPU's."""
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return torch.cat([torch.get_rng_state(), *on_device])


def _newest_whole(paths: RunPaths) -> tuple[Path, RunState] | None:
    """Return the newest whole checkpoint; damaged ones move out of the way of those that follow."""
    for folder in reversed(finished_checkpoints(paths)):
        if state := _read_state(folder):
            return folder, state
        names = chain([folder.name], (f"{folder.name}-{number}" for number in count(2)))
        asides = (paths.checkpoints / SET_ASIDE / name for name in names)
        aside = next(path for path in asides if not path.exists())
        aside.parent.mkdir(exist_ok=True)
        folder.rename(aside)
        log.warning(
            "checkpoint %s is damaged and kept as %s; the one before it is used, if any",
            folder,
            aside,
        )
    return None


def finished_checkpoints(paths: RunPaths) -> list[Path]:
    """Return the folders of finished checkpoints, oldest first."""
    return sorted(path for path in paths.checkpoints.glob("step-*") if path.suffix != ".partial")


def read_meta(folder: Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself; nothing where it says nothing that can be read."""
    try:
        meta = json.loads((folder / STATE_NAME).read_text())
        return {"version": meta.get("version", 1), **meta["state"], "sha256": dict(meta["sha256"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _read_state(folder: Path) -> RunState | None:
    """Return the state of a checkpoint whose files all have their recorded digest, else None.

    Raises:
        CheckpointError: it is of another version. It is not damaged: another program can go on.
    """
    if not (facts := read_meta(folder)):
        return None
    if not OLDEST <= (version := facts.pop("version")) <= VERSION:
        raise CheckpointError(
            f"checkpoint {folder} was saved by another version of skydistill (it is of version "
            f"{version}, and this one reads {VERSION}); train on with that one, or give another "
            "out for a new run"
        )
    digests, neighbours = facts.pop("sha256"), facts.pop("neighbours", None)
    try:
        is_whole = all(file_sha256(folder / name) == sha for name, sha in digests.items())
        state = RunState(**facts)
        if is_whole and neighbours is not None:
            state.neighbours = read_neighbours(folder / NEIGHBOURS_NAME)
            is_whole = state.neighbours.digest == neighbours
    except (OSError, PlanError, TypeError):
        return None
    return state if is_whole else None
