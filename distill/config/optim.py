"""How weights follow gradients: optimizer, schedule, and what learns when."""

from dataclasses import dataclass
from typing import Literal

from data_shards.config import bounded

Rule = Literal["adamw", "adam", "lion", "sgd"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """One rule, and another for binary weights; pfed decays no biases, norms and scales."""

    rule: Rule = "adamw"
    """How real-valued weights follow; sgd has Nesterov's momentum of 0.9."""

    binary_rule: Rule = bounded("lion", methods=("bicrossnet",))
    """How the latent weights of binary layers follow."""

    learning_rate: float = bounded(1e-3, above=0)
    """Peak learning rate."""

    backbone_factor: float = bounded(1.0, above=0)
    """Learning rate of the backbone as a fraction of `learning_rate`, which heads, pooling and
    projections have."""

    binary_factor: float = bounded(1 / 6, above=0, methods=("bicrossnet",))
    """Learning rate of the latent weights of binary layers as a fraction of `learning_rate`."""

    weight_decay: float = bounded(0.01, at_least=0)
    """Decoupled weight decay; with adam and sgd, added to the gradient."""

    max_grad_norm: float | None = bounded(1.0, above=0)
    """Gradients are scaled down to this norm; null leaves them."""

    fused: bool = False
    """Move all weights of a group by torch's one fused kernel, which lion has not."""

    ema_decay: float = bounded(0.0, at_least=0, below=1)
    """Share that a moving average of the weights keeps of itself at each step: probes, hard samples
    and the final weights are the average. 0 has none; 0.999 is a start."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Linear warm-up, then cosine to a fraction of the peak, or drops."""

    num_steps: int = bounded(1000, at_least=1)
    """Optimizer steps of the whole run."""

    warmup_steps: int = bounded(100, at_least=0)
    """Steps until the peak learning rate."""

    final_fraction: float = 0.0
    """What the cosine falls to right behind the last step, as a fraction of the peak."""

    drop_steps: tuple[int, ...] = ()
    """Steps from which on the rate is a tenth of what it was before, instead of the cosine."""

    binary_drop_steps: tuple[int, ...] = bounded((), methods=("bicrossnet",))
    """Those of the latent weights of binary layers; `drop_steps` if empty."""


@dataclass(frozen=True, kw_only=True)
class PhaseConfig:
    """A part of a run in which some of the network learns (spec bicrossnet 5.1)."""

    trains: Literal["head", "real", "all"] = "all"
    """`head`: the backbone waits, statistics of its norms included; `real`: all but the latent
    weights of binary layers; `all`."""

    steps: int | None = bounded(None, at_least=1)
    """Length; the last phase says none and reaches to the end of the run."""
