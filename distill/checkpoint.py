"""Training checkpoints that are whole or absent; what is not understood is refused, never removed.

Nothing here unpickles more than tensors and numbers: accelerate's `load_state` calls `torch.load`
with `weights_only=True` for optimizer and random states, and weights are safetensors.
"""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from itertools import chain, count
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError

from data_shards.errors import CheckpointError, PlanError
from data_shards.manifest import write_json
from data_shards.planning.neighbours import Neighbours, read_neighbours, write_neighbours
from distill.collectives import broadcast_object, first_problem
from distill.models.weights import file_sha256
from distill.run_folder import RunPaths
from distill.zero import load_state, sharding

log = logging.getLogger(__name__)

STATE_NAME = "state.json"
NEIGHBOURS_NAME = "neighbours.npz"

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

    origin: dict[str, str] = field(default_factory=dict)
    """Where the first weights came from: source, digest and licence."""

    sharding: str = ""
    """How ZeRO divided weights and moments; empty where it did not."""

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
    if is_main:
        shutil.rmtree(aside, ignore_errors=True)
    try:
        _succeed_on_all_ranks(final, lambda: aside.mkdir(parents=True) if is_main else None)
        _succeed_on_all_ranks(final, lambda: accelerator.save_state(str(aside)))
        _succeed_on_all_ranks(final, lambda: _publish(aside, final, state) if is_main else None)
    except CheckpointError:
        if is_main:
            shutil.rmtree(aside, ignore_errors=True)
        raise
    if is_main:
        older = _checkpoints(paths)[:-keep]
        for folder in [*older, *paths.checkpoints.glob("*.partial")]:
            shutil.rmtree(folder)
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
            f"checkpoint {final} could not be written ({found}); free space: a start resumes from "
            "the one before"
        )


def _publish(aside: Path, final: Path, state: RunState) -> None:
    """Seal a written checkpoint with the digest of every file in it, and give it its name."""
    facts: dict[str, object] = {"step": state.step, "seconds": state.seconds}
    facts |= {"shards": state.shards, "origin": state.origin}
    if state.sharding:
        facts["sharding"] = state.sharding
    if state.neighbours is not None:
        write_neighbours(aside / NEIGHBOURS_NAME, state.neighbours)
        facts["neighbours"] = state.neighbours.digest
    digests = {
        path.relative_to(aside).as_posix(): file_sha256(path)
        for path in sorted(aside.rglob("*"))
        if path.is_file()
    }
    write_json(aside / STATE_NAME, {"state": facts, "sha256": digests})
    aside.rename(final)


def _set_aside(checkpoint: Path) -> None:
    """Move a damaged checkpoint out of the way of those that follow."""
    folder = checkpoint.parent / SET_ASIDE
    names = chain([checkpoint.name], (f"{checkpoint.name}-{number}" for number in count(2)))
    to = next(path for name in names if not (path := folder / name).exists())
    folder.mkdir(exist_ok=True)
    checkpoint.rename(to)
    log.warning(
        "checkpoint %s is damaged and kept as %s; the one before it is used, if any",
        checkpoint,
        to,
    )


def newest_checkpoint(
    accelerator: Accelerator, paths: RunPaths, *, shards: str
) -> tuple[Path | None, RunState]:
    """Return the newest checkpoint that is whole and its state; None and that of a fresh run.

    Damaged ones that are newer are moved to `set_aside`, out of the way of those that follow.

    Raises:
        CheckpointError: the newest is of other shards, another version of this program, or divided
            otherwise among the ranks.
    """
    divided = sharding(accelerator)
    problem, found = broadcast_object(_look(paths) if accelerator.is_main_process else None)
    if problem is not None:
        raise CheckpointError(problem)
    if found is None:
        return None, RunState(shards=shards, sharding=divided)
    folder, state = found
    if state.shards != shards:
        raise CheckpointError(
            f"checkpoint {folder} was trained on shards {state.shards[:12]} and the recipe names "
            f"shards {shards[:12]}; give data.shards of the former, or another out for a new run"
        )
    if state.sharding != divided:
        raise CheckpointError(
            f"checkpoint {folder} was saved by {state.sharding or 'ranks that divide nothing'} and "
            f"this is {divided or 'not'}; launch as then, or give another out for a new run"
        )
    return folder, state


def load_checkpoint(accelerator: Accelerator, folder: Path) -> None:
    """Load it into the model and optimizer that are prepared.

    Raises:
        CheckpointError: it is of another version of this program.
    """
    try:
        load_state(accelerator, folder)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"checkpoint {folder} does not fit this version of skydistill "
            f"({' '.join(str(error).split())[:200]}); train on with the version that saved it, or "
            "give another out for a new run"
        ) from error
    if accelerator.is_main_process:
        log.info("resumed from %s", folder)


def _look(paths: RunPaths) -> tuple[str | None, tuple[Path, RunState] | None]:
    """Return what forbids to resume, and the newest whole checkpoint; newer ones move aside."""
    for folder in reversed(_checkpoints(paths)):
        try:
            state = _read_state(folder)
        except CheckpointError as error:
            return str(error), None
        if state is not None:
            return None, (folder, state)
        _set_aside(folder)
    return None, None


def _checkpoints(paths: RunPaths) -> list[Path]:
    """Return the folders of finished checkpoints, oldest first."""
    return sorted(path for path in paths.checkpoints.glob("step-*") if path.suffix != ".partial")


def _read_state(folder: Path) -> RunState | None:
    """Return the state of a checkpoint whose files all have their recorded digest, else None.

    Raises:
        CheckpointError: the state has fields that this version does not know. It is not damaged: to
            go on without what they hold would be another run.
    """
    try:
        meta = json.loads((folder / STATE_NAME).read_text())
        facts, digests = dict(meta["state"]), dict(meta["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if unknown := sorted(facts.keys() - {one.name for one in fields(RunState)}):
        raise CheckpointError(
            f"checkpoint {folder} was saved by another version of skydistill (its state has "
            f"{', '.join(unknown)}, unknown here); train on with that version, or give another out "
            "for a new run"
        )
    digest = facts.pop("neighbours", None)
    try:
        is_whole = all(file_sha256(folder / name) == sha for name, sha in digests.items())
        state = RunState(**facts)
        if is_whole and digest is not None:
            state.neighbours = read_neighbours(folder / NEIGHBOURS_NAME)
            is_whole = state.neighbours.digest == digest
    except (OSError, PlanError):
        return None
    return state if is_whole else None
