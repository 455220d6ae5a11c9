"""Checkpoints written while training goes on: copied to host memory, then by a thread of rank 0.

DeepSpeed saves its pieces by collectives of its own, so under it training waits for every save.
"""

import logging
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from data_shards.errors import CheckpointError
from data_shards.manifest import write_json
from data_shards.planning.neighbours import write_neighbours
from distill.checkpoint import (
    NEIGHBOURS_NAME,
    STATE_NAME,
    TRAINING_NAME,
    VERSION,
    WEIGHTS_NAME,
    RunState,
    finished_checkpoints,
    random_state,
    read_meta,
)
from distill.collectives import broadcast_object, first_problem, gather_arrays
from distill.models.weights import file_sha256
from distill.run_folder import RunPaths
from distill.zero import zero_stage

log = logging.getLogger(__name__)


class CheckpointWriter:
    """Saves the checkpoints of one attempt; each folder appears when it is whole.

    One is written at a time: the next save, and `wait`, return when the one before is sealed. The
    last `keep` stay, and the newest of those that were the best when they were saved.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        whole: nn.Module,
        optimizer: Optimizer,
        paths: RunPaths,
        *,
        keep: int,
    ) -> None:
        """Save `whole`, the step unwrapped, and its optimizer.

        Under DeepSpeed they are those that `accelerator` has prepared.
        """
        self._accelerator, self._whole, self._optimizer = accelerator, whole, optimizer
        self._paths, self._keep = paths, keep
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[str | None] | None = None
        self._snapshot: dict[str, Any] = {}
        self._copying: Future[None] | None = None
        optimizer.register_step_pre_hook(self._wait_for_copy)

    def save(self, state: RunState, *, must_succeed: bool = False) -> None:
        """Save everything needed to go on; every rank calls.

        Training may go on at once, and does so when the disk is full; with `must_succeed`, the
        checkpoint is sealed when this returns.

        Raises:
            CheckpointError: it must succeed and does not, on all ranks; earlier checkpoints are
                untouched.
        """
        self.wait()
        final = self._paths.checkpoints / f"step-{state.step:08d}"
        write = partial(self._write, final, replace(state), is_told=not must_succeed)
        if zero_stage(self._accelerator):
            problem = write(self._accelerator.save_state, first_problem)
        else:
            self._take_snapshot()
            if self._accelerator.is_main_process:
                self._pending = self._thread.submit(write, self._write_snapshot, lambda own: own)
            problem = broadcast_object(self.wait()) if must_succeed else None
        if problem and must_succeed:
            raise CheckpointError(problem)

    def wait(self) -> str | None:
        """Return when the checkpoint under way is sealed, or what kept it from being so."""
        return self._pending.result() if self._pending is not None else None

    def _take_snapshot(self) -> None:
        """Copy to this host's memory what training will change.

        Weights and moments change in the optimizer's next step: until then, a copy between tensors
        of the host goes on beside training, and one from a GPU in the order of its stream. Buffers
        change in the next forward pass.
        """
        device = self._accelerator.device
        random = torch.from_numpy(np.stack(gather_arrays(random_state(device).numpy())))
        if not self._accelerator.is_main_process:
            return
        weights, parameters = self._whole.state_dict(), dict(self._whole.named_parameters())
        weights |= {name: weights[name].clone() for name in weights.keys() - parameters.keys()}
        moments = self._optimizer.state_dict()
        values: dict[str, Any] = {"weights": weights, "random": random, "optimizer": moments}
        if self._accelerator.scaler is not None:
            values["scaler"] = self._accelerator.scaler.state_dict()
        if device.type == "cuda":
            self._copy(values)
        else:
            self._copying = self._thread.submit(self._copy, values)

    def _copy(self, values: dict[str, Any]) -> None:
        self._snapshot = copied_to_host(values, self._snapshot)
        on_gpu = self._accelerator.device.type == "cuda"
        self._is_copied = torch.cuda.current_stream().record_event() if on_gpu else None

    def _wait_for_copy(self, *_: object) -> None:
        """Return when weights and moments may change."""
        if self._copying is not None:
            self._copying.result()

    def _write_snapshot(self, folder: str) -> None:
        if self._is_copied is not None:
            self._is_copied.synchronize()
        rest = dict(self._snapshot)
        weights = {name: value.contiguous() for name, value in rest.pop("weights").items()}
        save_file(weights, Path(folder, WEIGHTS_NAME))
        torch.save(rest, Path(folder, TRAINING_NAME))

    def _write(
        self,
        final: Path,
        state: RunState,
        fill: Callable[[str], object],
        agree: Callable[[str | None], str | None],
        *,
        is_told: bool,
    ) -> str | None:
        """Let `fill` write into a folder, seal and name it; return what kept it from being so.

        Every rank that writes hears by `agree`, after each part, of the problem of any.
        """
        aside, is_main = final.with_name(final.name + ".partial"), self._accelerator.is_main_process
        if is_main:
            shutil.rmtree(aside, ignore_errors=True)
        parts: list[tuple[bool, Callable[[], object]]] = [
            (is_main, partial(aside.mkdir, parents=True)),
            (True, partial(fill, str(aside))),
            (is_main, partial(self._publish, aside, final, state)),
        ]
        for is_mine, part in parts:
            problem = None
            try:
                if is_mine:
                    part()
            except (OSError, RuntimeError, SafetensorError) as error:
                problem = " ".join(str(error).split())[:200]
            if problem := agree(problem):
                told = (
                    f"checkpoint {final} could not be written ({problem}); free space: a start "
                    "resumes from the one before"
                )
                if is_main:
                    shutil.rmtree(aside, ignore_errors=True)
                    if is_told:
                        log.warning("training goes on: %s", told)
                return told
        return None

    def _publish(self, aside: Path, final: Path, state: RunState) -> None:
        """Seal a written checkpoint by the digest of every file, name it, and remove older ones."""
        facts = asdict(replace(state, neighbours=None))
        if state.neighbours is not None:
            write_neighbours(aside / NEIGHBOURS_NAME, state.neighbours)
            facts["neighbours"] = state.neighbours.digest
        digests = {
            path.relative_to(aside).as_posix(): file_sha256(path)
            for path in sorted(aside.rglob("*"))
            if path.is_file()
        }
        write_json(aside / STATE_NAME, {"version": VERSION, "state": facts, "sha256": digests})
        aside.rename(final)
        folders = finished_checkpoints(self._paths)
        best = [
            folder
            for folder in folders
            if (meta := read_meta(folder)) and meta.get("step") == meta.get("best_step")
        ]
        kept = {*folders[-self._keep :], *best[-1:]}
        for folder in [*folders, *self._paths.checkpoints.glob("*.partial")]:
            if folder not in kept:
                shutil.rmtree(folder)


def copied_to_host(value: Any, earlier: Any) -> Any:  # noqa: ANN401 - what `torch.save` takes
    """Copy nested tensors to host memory: into those of an earlier copy, where they fit.

    The host does not wait for a GPU; what its stream is given later comes after the copy.
    """
    if isinstance(value, Tensor):
        fits = isinstance(earlier, Tensor) and earlier.shape == value.shape
        if not fits or earlier.dtype != value.dtype or earlier.stride() != value.stride():
            earlier = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
        return earlier.copy_(value.detach(), non_blocking=True)
    if isinstance(value, Mapping):
        known = earlier if isinstance(earlier, Mapping) else {}
        return {key: copied_to_host(part, known.get(key)) for key, part in value.items()}
    if isinstance(value, list):
        return [copied_to_host(part, None) for part in value]
    return value
