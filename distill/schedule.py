"""The learning rate as a function of the step: a factor of each group's own peak."""

import math

from torch.optim import Optimizer

from distill.config import ScheduleConfig


def learning_rate_factor(schedule: ScheduleConfig, step: int) -> float:
    """Return the learning rate of optimizer step `step` (from 0) as a fraction of the peak."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, schedule.num_steps - schedule.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return schedule.final_fraction + (1 - schedule.final_fraction) * cosine


def set_learning_rates(optimizer: Optimizer, factor: float) -> None:
    """Give every group its learning rate of this step."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
