"""One training step as a module: a batch in, named loss terms out; it alone gathers."""

import math

import torch
from torch import Tensor, nn

from distill.collectives import gather_with_grad, rank
from distill.config import DistillConfig
from distill.methods import METHODS, StepTensors
from distill.models import Outputs, RetrievalModel, normalize

MAX_SCALE = 100.0
"""The learned inverse temperature is kept below this, as in CLIP."""

LOGIT_TERMS = {"cross_entropy", "logit_distillation"}
"""Without one of them the class head learns nothing, and is kept out of the optimizer."""


class DistillStep(nn.Module):
    """The model that learns, with all that exists in training only: temperature and projection."""

    def __init__(
        self, config: DistillConfig, model: RetrievalModel, *, teacher_width: int | None
    ) -> None:
        """Wrap `model`; a teacher of another width meets it through `projection`."""
        super().__init__()
        self.model = model
        self.terms = METHODS[config.method](config.objectives)
        start = math.log(1 / config.objectives.info_nce.temperature)
        learns_scale = "info_nce" in self.terms
        self.log_scale = nn.Parameter(torch.tensor(start), requires_grad=learns_scale)
        model.head.requires_grad_(bool(LOGIT_TERMS & self.terms.keys()))
        meets_teacher = "feature_distillation" in self.terms and teacher_width not in (
            None,
            model.width,
        )
        self.projection = (
            nn.Linear(model.width, teacher_width or 0, bias=False)
            if meets_teacher
            else nn.Identity()
        )

    def forward(
        self, satellite: Tensor, drone: Tensor, place: Tensor, teacher: Outputs | None
    ) -> dict[str, Tensor]:
        """Return the named terms of one rank.

        Args:
            satellite: uint8 tiles [B, S, S, 3].
            drone: uint8 views [B * k, S, S, 3], the views of one row beside each other.
            place: class of each row [B].
            teacher: the teacher's outputs for the satellites, then the drone views.
        """
        with torch.no_grad():  # the parameter itself, so that it can come back from the limit
            self.log_scale.clamp_(max=math.log(MAX_SCALE))
        student = self.model(normalize(torch.cat([satellite, drone])))
        projected = self.projection(student.descriptor)
        with torch.autocast(place.device.type, enabled=False):  # losses keep their digits
            step = StepTensors(
                student=Outputs(*map(_at_least_float32, student)),
                teacher=teacher,
                projected=_at_least_float32(projected),
                place=place,
                drones_per_row=len(drone) // len(satellite),
                scale=self.log_scale.exp(),
                gather=gather_with_grad,
                first_row=rank() * len(place),
            )
            return {name: term(step) for name, term in self.terms.items()}


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def weigh(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Return the total loss: the sum of all terms, each times its weight in the recipe."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()
