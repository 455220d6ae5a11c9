"""A run in phases: which terms are computed, which parameters move, which modules stay in eval."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of one run, for gradual unfreezing; most methods have a single one."""

    terms: tuple[str, ...]
    """Names of the loss terms that are computed."""

    enabled_groups: frozenset[str]
    """Names of the optimizer's groups that move; the others keep weights and moments bit by bit."""

    eval_modules: tuple[str, ...] = ()
    """Modules of the model, by dotted name, in eval mode: their statistics stay as they are."""

    steps: int | None = None
    """Length; None reaches to the end of the run."""


def phase_at(phases: Sequence[Phase], step: int) -> Phase:
    """Return the phase of optimizer step `step` (from 0); the last one has no end."""
    for phase in phases[:-1]:
        assert phase.steps is not None, "only the last phase reaches to the end of the run"
        if step < phase.steps:
            return phase
        step -= phase.steps
    return phases[-1]
