"""What a loss term is given, and what it is."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from distill.config import ObjectivesConfig
from distill.models import Outputs


@dataclass(frozen=True, kw_only=True)
class StepTensors:
    """One step of one rank: V = (1 + k) * B images of B rows, satellites first, k drones a row.

    All floats are float32 or wider, whatever precision the network ran in.
    """

    student: Outputs
    """Of all V images."""

    teacher: Outputs | None
    """Of the same images in the same order, or None when no term needs it."""

    projected: Tensor
    """Student descriptors in the teacher's width [V, D of the teacher]."""

    place: Tensor
    """Class of each row's place [B]."""

    drones_per_row: int

    scale: Tensor
    """Learned inverse temperature."""

    gather: Callable[[Tensor], Tensor]
    """Joins the rows of all ranks, with gradient."""

    first_row: int
    """Where this rank's rows begin in a gathered tensor."""


Term = Callable[[StepTensors], Tensor]
"""One named loss of a step: a scalar, this rank's mean."""

Terms = Callable[[ObjectivesConfig], dict[str, Term]]
"""A method: the objectives of a recipe to the terms that have a weight."""
