"""Parameter groups, the optimizer, and the learning rate as a function of the step."""

import math

from torch import nn
from torch.optim import AdamW, Optimizer

from distill.config import OptimizerConfig, ScheduleConfig


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> Optimizer:
    """Return AdamW over two groups: matrices and kernels decay; vectors and scalars do not."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=config.learning_rate)


def learning_rate_factor(schedule: ScheduleConfig, step: int) -> float:
    """Return the learning rate of optimizer step `step` (from 0) as a fraction of the peak."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, schedule.num_steps - schedule.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return schedule.final_fraction + (1 - schedule.final_fraction) * cosine


def set_learning_rate(optimizer: Optimizer, *, peak: float, factor: float) -> None:
    """Give every group its learning rate of this step."""
    for group in optimizer.param_groups:
        group["lr"] = peak * factor
