"""One optimizer whose groups have rules, rates and decays of their own; clipping and schedule.

One object, because DeepSpeed keeps the last of several (spec engineering 0.4). The rules are those
of torch and timm, to the bit.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.optim.lion import lion
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.adam import adam
from torch.optim.sgd import sgd
from torch.optim.swa_utils import get_ema_multi_avg_fn

from distill.config import Rule, ScheduleConfig

EPS = 1e-8
"""Added to the square root of Adam's second moment."""

EMA = "ema"
"""State of a parameter: the moving average of its values, beside its moments."""

DROP = 0.1
"""What remains of a learning rate at each of its drops."""


@dataclass(frozen=True, kw_only=True)
class GroupSpec:
    """Parameters that learn alike."""

    name: str
    """What phases call it."""

    params: Sequence[Parameter]
    rule: Rule
    lr: float
    """Its peak; the schedule is a factor of it."""

    weight_decay: float = 0.0
    """Decoupled in `adamw` and `lion`; added to the gradient in `adam` and `sgd`."""

    betas: tuple[float, float] | None = None
    """Of the moments, where they are not its rule's own; `sgd` takes the first as its momentum."""

    clamp: tuple[float, float] | None = None
    """Least and largest value of its parameters, restored after each of its steps."""

    drop_steps: tuple[int, ...] = ()
    """Where it does not follow the `drop_steps` of the schedule, its own."""


class GroupedOptimizer(Optimizer):
    """Moves the enabled groups, each by its own rule, after clipping over all of them at once."""

    def __init__(
        self,
        groups: Iterable[GroupSpec],
        *,
        order: Iterable[Parameter],
        max_grad_norm: float | None,
        ema_decay: float = 0.0,
        fused: bool = False,
    ) -> None:
        """Start with every group enabled.

        `order` is all parameters as the model lists them: the gradient norm of those that learn is
        summed in it, so that dividing them into groups changes no bit. Gradients of the enabled
        groups are scaled down to `max_grad_norm`; None leaves them. With `ema_decay` each parameter
        has a moving average from its first step on; before, the average is its value.
        """
        super().__init__(
            [
                vars(group)
                | {
                    "initial_lr": group.lr,
                    "betas": group.betas or (0.9, 0.99 if group.rule == "lion" else 0.999),
                    "enabled": True,
                    "fused": fused and group.rule != "lion",
                }
                for group in groups
            ],
            defaults={},
        )
        self._order = [parameter for parameter in order if parameter.requires_grad]
        grouped = [id(parameter) for group in self.param_groups for parameter in group["params"]]
        self._names = names = frozenset(group["name"] for group in self.param_groups)
        assert sorted(grouped) == sorted(map(id, self._order)), "what learns is in one group each"
        assert len(names) == len(self.param_groups), "two groups have one name"
        self._max_grad_norm = max_grad_norm
        self._average = get_ema_multi_avg_fn(ema_decay) if ema_decay else None
        self._is_clipped_before = False
        self.grad_norm: Tensor | None = None
        """Of the enabled groups in the newest step, before clipping."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the moments; how a group learns is what the recipe and this version say.

        Raises:
            ValueError: they are the moments of other groups.
        """
        own, theirs = self.state_dict()["param_groups"], state_dict["param_groups"]
        if (names := [of.get("name") for of in theirs]) != [of["name"] for of in own]:
            raise ValueError(f"moments of the groups {names}, not of these")
        super().load_state_dict(state_dict)
        for group, options in zip(self.param_groups, own, strict=True):
            group |= options | {"params": group["params"]}

    def enable(self, names: frozenset[str]) -> None:
        """Let the groups of these names move, and no other; their moments wait."""
        unknown = names - self._names
        assert not unknown, f"a phase enables groups that there are not: {sorted(unknown)}"
        for group in self.param_groups:
            group["enabled"] = group["name"] in names

    def leave_clipping(self) -> None:
        """Let DeepSpeed clip: parameters and gradients of a step are then pieces that it brings.

        It clips by the norm of all gradients, so those of a group that is not enabled become zero.
        """
        self._is_clipped_before = True
        self.param_groups[:] = [group for group in self.param_groups if group["params"]]
        for number, group in enumerate(self.param_groups):
            for parameter in group["params"]:
                parameter.register_hook(partial(self._grad_if_enabled, number))

    def _grad_if_enabled(self, number: int, grad: Tensor) -> Tensor:
        return grad if self.param_groups[number]["enabled"] else torch.zeros_like(grad)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Clip the gradients of the enabled groups, and move these groups."""
        assert closure is None, "the loop computes the loss once, before the step"
        enabled = [group for group in self.param_groups if group["enabled"]]
        if not self._is_clipped_before:
            self._clip(enabled)
        for group in enabled:
            self._move(group)
        if self._average is not None and (averages := dict(self.averages())):
            self._average(tuple(averages.values()), tuple(averages), 0)

    def _move(self, group: Mapping[str, Any]) -> None:
        """Move what has a gradient, and keep it within its clamp; averages begin where it was."""
        parameters = [p for p in group["params"] if p.grad is not None]
        for parameter in parameters if self._average is not None else ():
            if EMA not in self.state[parameter]:
                self.state[parameter][EMA] = parameter.clone()
        follow_gradients(parameters, self.state, group)
        for parameter in parameters if group["clamp"] is not None else ():
            parameter.clamp_(*group["clamp"])

    def averages(self) -> Iterator[tuple[Parameter, Tensor]]:
        """Yield each parameter that has moved with its average, those that wait again included."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if EMA in self.state.get(parameter, {}):
                    yield parameter, self.state[parameter][EMA]

    def _clip(self, enabled: Sequence[Mapping[str, Any]]) -> None:
        """Scale the gradients of these groups down to the norm of the recipe."""
        moving = {id(parameter) for group in enabled for parameter in group["params"]}
        learning = [p for p in self._order if id(p) in moving and p.grad is not None]
        num_grads = sum(p.grad is not None for group in enabled for p in group["params"])
        assert len(learning) == num_grads, "parameters were replaced behind the optimizer's back"
        self.grad_norm = get_total_norm([p.grad for p in learning if p.grad is not None])
        if self._max_grad_norm is not None:
            clip_grads_with_norm_(learning, self._max_grad_norm, self.grad_norm)


RULES: dict[Rule, tuple[str, ...]] = {
    "adamw": ("step", "exp_avg", "exp_avg_sq"),
    "adam": ("step", "exp_avg", "exp_avg_sq"),
    "lion": ("exp_avg",),
    "sgd": ("momentum_buffer",),
}
"""Name to what a rule remembers of each parameter."""


def follow_gradients(
    parameters: list[Tensor], state: defaultdict[Tensor, dict[str, Any]], group: Mapping[str, Any]
) -> None:
    """Move parameters by the rule of their group; `state` has what it remembers of each.

    Adam is Kingma and Ba 2015, decoupled as in Loshchilov and Hutter 2019; Lion is Chen et al.
    2023; SGD has Nesterov's momentum (Sutskever et al. 2013).
    """
    rule, (beta1, beta2), fused = group["rule"], group["betas"], group["fused"] or None
    of: dict[str, Any] = {"lr": group["lr"], "weight_decay": group["weight_decay"]}
    of["maximize"] = False
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for parameter in parameters:
        if RULES[rule][0] not in state[parameter]:
            state[parameter] |= {name: torch.zeros_like(parameter) for name in RULES[rule]}
            if "step" in RULES[rule]:
                device = parameter.device if fused else None
                state[parameter]["step"] = torch.tensor(0.0, device=device)
    kept: list[list[Any]] = [[state[one][name] for one in parameters] for name in RULES[rule]]
    if rule == "lion":
        lion(parameters, grads, kept[0], beta1=beta1, beta2=beta2, caution=False, **of)
    elif rule == "sgd":
        of |= {"dampening": 0.0, "nesterov": True, "fused": fused}
        sgd(parameters, grads, kept[0], momentum=beta1, **of)
    else:
        steps, mean, square = kept
        of |= {"amsgrad": False, "eps": EPS, "decoupled_weight_decay": rule == "adamw"}
        of |= {"beta1": beta1, "beta2": beta2, "fused": fused}
        adam(parameters, grads, mean, square, [], steps, **of)


def learning_rate_factor(
    schedule: ScheduleConfig, step: int, drop_steps: Sequence[int] = ()
) -> float:
    """Return the learning rate of optimizer step `step` (from 0) as a fraction of the peak.

    `drop_steps` of a group stand for those of the schedule.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    if drops := drop_steps or schedule.drop_steps:
        return float(DROP ** sum(step >= drop for drop in drops))
    done = (step - schedule.warmup_steps) / max(1, schedule.num_steps - schedule.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return schedule.final_fraction + (1 - schedule.final_fraction) * cosine


def set_learning_rates(optimizer: Optimizer, schedule: ScheduleConfig, step: int) -> None:
    """Give every group its learning rate of optimizer step `step`."""
    for group in optimizer.param_groups:
        factor = learning_rate_factor(schedule, step, group["drop_steps"])
        group["lr"] = group["initial_lr"] * factor
