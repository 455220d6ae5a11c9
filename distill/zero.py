"""DeepSpeed's ZeRO under the one loop: what it is told, and how its pieces are brought together."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast
from unittest import mock

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from data_shards.errors import RecipeError
from distill.collectives import broadcast
from distill.config import DistillConfig, Precision
from distill.launched import launched_world_size
from distill.optim import EMA, GroupedOptimizer


def before_zero(precision: Precision) -> None:
    """Look whether a launch by DeepSpeed can work.

    Raises:
        RecipeError: it cannot.
    """
    names = ("deepspeed", "transformers")  # accelerate's plugin imports the latter
    if missing := [name for name in names if find_spec(name) is None]:
        raise RecipeError(
            f"launched for DeepSpeed, and {' and '.join(missing)} is not installed; "
            "DS_BUILD_OPS=0 pip install 'skydistill[deepspeed]', or launch with ddp.yaml"
        )
    if precision == "fp16":
        raise RecipeError(
            "precision fp16 would round weights too under DeepSpeed, not products alone; set "
            "precision to bf16 or fp32, or launch with ddp.yaml"
        )
    import deepspeed

    # Without GPUs it would compile a faster all-reduce at first: a minute, and a compiler.
    deepspeed.ops.__compatible_ops__.pop("deepspeed_shm_comm", None)


def zero_stage(accelerator: Accelerator) -> int:
    """Return the stage of ZeRO, 1 to 3; 0 without DeepSpeed."""
    plugin = accelerator.state.deepspeed_plugin
    return plugin.deepspeed_config["zero_optimization"]["stage"] if plugin else 0


def sharding(accelerator: Accelerator) -> str:
    """Return how the state is divided, which resuming must find alike; empty if it is not."""
    stage = zero_stage(accelerator)
    return f"ZeRO-{stage} on {launched_world_size()} ranks" if stage else ""


@contextmanager
def prepared_for_zero(
    accelerator: Accelerator, config: DistillConfig, step: nn.Module, groups: GroupedOptimizer
) -> Iterator[None]:
    """Prepare step and optimizer in here: DeepSpeed is told what the recipe says."""
    if not zero_stage(accelerator):
        yield
        return
    from deepspeed import DeepSpeedEngine

    step.to(memory_format=torch.contiguous_format)  # it cuts weights into pieces of one row
    settings = accelerator.state.deepspeed_plugin.deepspeed_config
    rows = config.data.global_batch // accelerator.num_processes
    settings["train_micro_batch_size_per_gpu"] = rows
    settings["gradient_clipping"] = config.optimizer.max_grad_norm or 0.0
    groups.leave_clipping()
    broadcast(step.parameters())
    for scalar in (parameter for parameter in step.parameters() if not parameter.ndim):
        if zero_stage(accelerator) == 3:
            scalar.data = scalar.data.reshape(1)  # it cuts, by bytes, what has a dimension alone
    # Its own broadcast (0.19) stops at a parameter without dimensions, such as a scale.
    with mock.patch.object(DeepSpeedEngine, "_broadcast_model"):
        yield


def load_state(accelerator: Accelerator, folder: Path) -> None:
    """Load a checkpoint by DeepSpeed, which would unpickle anything: only tensors and settings."""
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    with (
        mock.patch.dict(os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD="1"),
        torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]),
    ):
        accelerator.load_state(str(folder))


@torch.no_grad()
def copy_whole(
    accelerator: Accelerator, step: nn.Module, groups: GroupedOptimizer, copy: nn.Module
) -> None:
    """Give `copy` the weights of the prepared `step`, averaged if they are; every rank asks.

    ZeRO has them in pieces, which are brought together.
    """
    learning = cast(nn.Module, getattr(step, "module", step))  # accelerate would import DeepSpeed
    pieces: AbstractContextManager[object] = nullcontext()
    if zero_stage(accelerator) == 3:
        from deepspeed.runtime.zero import GatheredParameters

        pieces = GatheredParameters(list(learning.parameters()))
    with pieces:
        state, own = learning.state_dict(), copy.state_dict()
        copy.load_state_dict({key: state[key].reshape(own[key].shape) for key in state})
    copies = dict(zip(learning.parameters(), copy.parameters(), strict=True))
    for parameter, average in _averages(zero_stage(accelerator), step, groups):
        copies[parameter].copy_(average.view_as(copies[parameter]))


def _averages(
    stage: int, step: nn.Module, groups: GroupedOptimizer
) -> Iterator[tuple[nn.Parameter, Tensor]]:
    if not stage:
        yield from groups.averages()
        return
    from deepspeed.utils import lazy_init_hp_params_optimizer_state, safe_get_full_optimizer_state

    zero: Any = step.optimizer
    names = ("bit16_groups", "single_partition_of_fp32_groups")
    if stage == 3:
        names = ("fp16_groups", "fp32_partitioned_groups_flat")
    for members, piece in zip(*(getattr(zero, name) for name in names), strict=True):
        if EMA not in groups.state.get(piece, {}):
            continue
        if stage < 3:  # by itself it links (0.19) only what has moments behind the first group
            lazy_init_hp_params_optimizer_state(members, piece, groups.state)
        for parameter in members:
            yield parameter, safe_get_full_optimizer_state(parameter, EMA)
