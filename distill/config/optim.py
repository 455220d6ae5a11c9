"""How weights follow gradients: optimizer and schedule."""

from dataclasses import dataclass

from distill.config.fields import bounded


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW; biases, norms and scales are not decayed."""

    learning_rate: float = bounded(1e-3, above=0)
    """Peak learning rate."""

    backbone_factor: float = bounded(1.0, above=0)
    """Learning rate of the backbone as a fraction of `learning_rate`, which heads, pooling and
    projections have."""

    weight_decay: float = bounded(0.01, at_least=0)
    """Decoupled weight decay."""

    max_grad_norm: float = bounded(1.0, above=0)
    """Gradients are scaled down to this norm."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Linear warm-up, then cosine to a fraction of the peak."""

    num_steps: int = bounded(1000, at_least=1)
    """Optimizer steps of the whole run."""

    warmup_steps: int = bounded(100, at_least=0)
    """Steps until the peak learning rate."""

    final_fraction: float = 0.0
    """What the cosine falls to right behind the last step, as a fraction of the peak."""
