"""Everything a training loop needs, built once and checked before the first step."""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from datetime import timedelta
from functools import cached_property
from operator import attrgetter

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import InitProcessGroupKwargs, set_seed
from torch import Tensor

from data_shards.errors import RecipeError, WorldSizeError
from data_shards.loader import Batch, TrainLoader
from data_shards.planning.plan import Plan
from data_shards.shards import ShardSet
from data_shards.usable_cpus import usable_cpus
from distill.batches import DeviceBatch, on_device
from distill.checkpoint import load_checkpoint, newest_checkpoint
from distill.checkpoint_writer import CheckpointWriter
from distill.collectives import broadcast, wait_for_slow_ranks
from distill.config import DistillConfig, Precision
from distill.inputs import make_plan
from distill.launched import (
    is_launched_by_deepspeed,
    is_one_of_several_unstarted,
    launched_world_size,
    ranks_on_this_node,
)
from distill.methods import METHODS, Phase, phase_at
from distill.models import to_device
from distill.models.backbones import compile_units
from distill.models.weights import Origin
from distill.optim import GroupedOptimizer
from distill.run_folder import flat_recipe, open_run_folder
from distill.step import DistillStep, MicroBatches
from distill.teacher.source import Teacher, class_places, open_teacher
from distill.tracking import Tracker, tracking_uri
from distill.weights_file import TrainingData, start_from
from distill.zero import before_zero, copy_whole, prepared_for_zero, zero_stage

_LAUNCH_ON_CPU = (
    "on a CPU launch with accelerate launch --config_file configs/accelerate/cpu.yaml "
    "--num_processes N (accelerate's --cpu starts only one)"
)


class Session:
    """One attempt at a run."""

    def __init__(
        self, config: DistillConfig, accelerator: Accelerator, shards: ShardSet, *, recipe: str
    ) -> None:
        """Open teacher, model, optimizer and run folder; load the newest checkpoint.

        `recipe` is what was typed behind the verb, for sentences that name a command.

        Raises:
            SkyDistillError: something is missing or does not fit; at most the run folder was
                written.
        """
        self.accelerator, self.shards = accelerator, shards
        plan = make_plan(config, shards)
        self.teacher = teacher = open_teacher(config, shards, accelerator.device, recipe=recipe)
        wait_for_slow_ranks("teacher")
        set_seed(config.seed)
        asked, is_kept = config, config.model.descriptor_width == "teacher"
        self.config = config = config.with_width_of(teacher.shapes if teacher else None)
        self.descriptor_space = teacher.space if teacher and is_kept else ""
        """That of the teacher, where the student's projection into it is kept."""
        wrapped = _build_step(config, shards, accelerator.device, teacher=teacher)
        self.model = wrapped.model
        """The model alone; `step` holds the same weights, wrapped for all ranks."""
        rows = config.data.micro_batch
        self.micro_batches = None if rows is None else MicroBatches(wrapped, num_rows=rows)
        """What stands for `step` in training where batches are divided."""
        # Written when nothing of the recipe is left to refuse.
        self.paths = open_run_folder(asked, world_size=accelerator.num_processes)
        found, self.state = newest_checkpoint(
            accelerator, self.paths, shards=shards.fingerprint, plan=shards.plan_digest
        )
        if config.start is not None and found is None:
            self.model.origin = start_from(wrapped, config.start, places=class_places(shards))
        is_copied = zero_stage(accelerator) == 3 or config.optimizer.ema_decay
        self.whole = deepcopy(wrapped) if is_copied else wrapped
        """The step unwrapped; a copy, maybe older, where ZeRO-3 divides weights or they average."""
        self.groups = GroupedOptimizer(
            METHODS[config.method].groups(wrapped, config),
            order=wrapped.parameters(),
            max_grad_norm=config.optimizer.max_grad_norm,
            ema_decay=config.optimizer.ema_decay,
            fused=config.optimizer.fused,
        )
        """The optimizer alone; `optimizer` is the same, as accelerate steps it."""
        with prepared_for_zero(accelerator, config, wrapped, self.groups):
            self.step: torch.nn.Module
            self.step, self.optimizer = accelerator.prepare(wrapped, self.groups)
        set_seed(config.seed, device_specific=True)
        if found is not None:
            load_checkpoint(accelerator, wrapped, self.groups, found, seed=config.seed)
        self.state.origin = self.state.origin or asdict(self.model.origin)
        self.model.origin = self.whole.model.origin = Origin(**self.state.origin)
        self.checkpoints = CheckpointWriter(
            accelerator, wrapped, self.groups, self.paths, keep=config.keep_checkpoints
        )
        self._open(plan)

    def _open(self, plan: Plan) -> None:
        """Open the loader of this rank and, of rank 0, the tracker."""
        config, accelerator = self.config, self.accelerator
        self.method = METHODS[config.method]
        self.phases = self.method.phases(config)
        self.phase: Phase | None = None
        """The one that model and optimizer were brought into."""
        self.data_wait = 0.0
        """Share of its time that the loop waited for batches."""
        size = self.teacher.image_size if self.teacher else None  # rendered where it differs
        self.loader = TrainLoader(
            self.shards,
            plan,
            augment=config.augment,
            image_size=config.data.image_size,
            resampling=config.data.resampling,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            threads=decode_threads(config),
            crops_per_decode=config.data.crops_per_decode,
            teacher_size=size if size != config.data.image_size else None,
        )

        self.tracker, origin = Tracker(self.paths), self.model.origin
        if not accelerator.is_main_process:
            return
        self.tracker.rewind(self.state.step)
        self.tracker.start(
            csv=config.tracking.csv,
            name=config.name,
            experiment=config.tracking.experiment,
            uri=tracking_uri(self.paths, config.tracking.uri, sweep=config.tracking.sweep),
            sweep=config.tracking.sweep,
            params=flat_recipe(config),
            tags={
                "role": config.role,
                "method": config.method,
                "arch": config.model.arch,
                "weights": origin.source,
                "weights_sha256": origin.sha256[:12],
                "weights_licence": origin.licence_in_words,
                "shards": self.shards.fingerprint[:12],
                "world_size": str(accelerator.num_processes),
            },
        )
        shards, name = self.shards, self.trained_on.dataset
        self.tracker.log_dataset(name, shards.fingerprint, shards.source, context="train")
        for path in (self.paths.recipe, self.paths.environment):
            self.tracker.log_artifact(path)

    def on_device(self, planned: Batch) -> DeviceBatch:
        """Return a batch on the training device, with what the teacher says of it."""
        batch = on_device(
            planned, train_places=self.shards.train_places, device=self.accelerator.device
        )
        return replace(batch, teacher=self.teacher(batch)) if self.teacher else batch

    def backward(self, total: Tensor) -> None:
        """Give every weight its gradient, the mean over ranks."""
        self.accelerator.backward(total)
        if self.micro_batches is not None:
            self.micro_batches.backward()

    def enter_phase(self, step: int) -> Phase:
        """Bring model and optimizer into the phase of optimizer step `step` (from 0)."""
        phase = phase_at(self.phases, step)
        if phase != self.phase:
            self.groups.enable(phase.enabled_groups)
            self.step.train()
            for name in phase.eval_modules:
                self.model.get_submodule(name).eval()
            self.phase = phase
        self.method.before_step(self.model, step, self.config.model)
        if zero_stage(self.accelerator):
            broadcast(self.step.buffers())
        return phase

    def gather(self) -> DistillStep:
        """Return the step with whole weights, to look at or to save; every rank asks.

        With `optimizer.ema_decay` they are the average of the weights so far, all of training's
        parts included; batch statistics are the newest.
        """
        if self.whole.model is not self.model:
            copy_whole(self.accelerator, self.step, self.groups, self.whole)
            step = max(0, self.state.step - 1)
            self.method.before_step(self.whole.model, step, self.config.model)
        return self.whole

    @cached_property
    def trained_on(self) -> TrainingData:
        """What the weights say they were trained on; worked out once for all best probes."""
        return TrainingData.of(self.shards)

    @property
    def grad_norm(self) -> Tensor | None:
        """Gradient norm of the newest step; None where fp16's loss scaling skipped it."""
        if zero_stage(self.accelerator):
            is_finite = not self.optimizer.step_was_skipped
            norm = self.step.get_global_grad_norm if is_finite else lambda: math.inf
            return torch.as_tensor(float(norm()))  # type: ignore[operator]
        return None if self.optimizer.step_was_skipped else self.groups.grad_norm


def join_ranks(
    *, precision: Precision = "fp32", phases: Sequence[Phase] = (), timeout_s: float = 1800
) -> Accelerator:
    """Join the processes that were launched; one waits for another `timeout_s` seconds.

    Where `phases` differ in their terms, some parameters have no gradient in some of them.

    Raises:
        WorldSizeError: the processes that run are not those launched.
        RecipeError: fp16 without a GPU.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise RecipeError(
            "precision fp16 needs a GPU, and there is none here; set precision to bf16 or fp32"
        )
    is_zero, has_gpu = is_launched_by_deepspeed(), torch.cuda.is_available()
    if has_gpu:
        torch.set_num_threads(1)  # others spin between two copies, and the decoders want their core
    if is_zero:
        before_zero(precision)
    accelerator = Accelerator(
        cpu=not has_gpu and not is_zero,
        mixed_precision="fp16" if precision == "fp16" else "no",  # bf16 needs no scaled loss
        kwargs_handlers=[
            InitProcessGroupKwargs(
                backend="gloo" if is_zero and not has_gpu else "nccl",
                timeout=timedelta(seconds=timeout_s),
            ),
            DistributedDataParallelKwargs(
                gradient_as_bucket_view=True,
                find_unused_parameters=len({phase.terms for phase in phases}) > 1,
            ),
        ],
    )
    running, launched = accelerator.num_processes, launched_world_size()
    if running != launched:
        raise WorldSizeError(
            f"{launched} processes were launched but they run as {running}: they would work "
            "apart; launch with --config_file configs/accelerate/cpu.yaml (CPU) or ddp.yaml (GPUs)"
        )
    return accelerator


def make_accelerator(config: DistillConfig) -> Accelerator:
    """Join the processes that were launched to train.

    Raises:
        WorldSizeError: the processes that run are not those launched, or not those asked for.
        RecipeError: an option of the recipe cannot be had as they were launched.
    """
    phases = METHODS[config.method].phases(config)
    accelerator = join_ranks(
        precision=config.precision,
        phases=phases,
        # NCCL ends a process without a word: before that, the question of the stop flag gives up.
        # Nor does accelerate 1.15 pass on the 600 s that it takes for everybody's default.
        timeout_s=1.1 * config.collective_timeout_s,
    )
    running = accelerator.num_processes
    if config.expected_world_size not in (None, running):
        raise WorldSizeError(
            f"the recipe expects {config.expected_world_size} processes and {running} run; "
            f"{_LAUNCH_ON_CPU}, or set expected_world_size"
        )
    if config.expected_world_size is None and is_one_of_several_unstarted():
        raise WorldSizeError(
            f"accelerate was asked for several processes and started one; {_LAUNCH_ON_CPU}, or set "
            "expected_world_size 1"
        )
    sharing = running if config.model.norm == "rank" else 1
    if METHODS[config.method].views == "apart" and config.data.global_batch < 2 * sharing:
        raise WorldSizeError(
            f"data.global_batch {config.data.global_batch} leaves each rank one tile, and "
            "batch statistics need two; raise it, or set model.norm to global"
        )
    for key in ("data.micro_batch", "model.compile"):
        if attrgetter(key)(config) and zero_stage(accelerator):
            raise RecipeError(
                f"{key} is nothing for DeepSpeed, which hooks into every backward pass; leave it "
                "out, or launch with ddp.yaml"
            )
    accelerator.wait_for_everyone()  # rank 0 has begun the attempt before any rank can fail in it
    return accelerator


def decode_threads(config: DistillConfig) -> int:
    """Return the decode threads of this rank: its share of the processors we may use."""
    return config.data.threads or max(1, usable_cpus() // ranks_on_this_node())


def _build_step(
    config: DistillConfig, shards: ShardSet, device: torch.device, *, teacher: Teacher | None
) -> DistillStep:
    """Build what learns, with first weights, as the recipe says."""
    method = METHODS[config.method]
    # What `start` gives is not fetched first.
    first = config.model if config.start is None else replace(config.model, weights="none")
    model = to_device(method.build(first, num_places=len(class_places(shards))), device)
    model.refuse_size(config.data.image_size, key="data.image_size")
    if config.model.compile:
        compile_units(model.backbone, arch=config.model.arch)
    shapes = teacher.shapes if teacher else None
    return DistillStep(config, method, model, teacher=shapes).to(device)
