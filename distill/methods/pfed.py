"""PFED (spec pfed): one ConvNeXt for both views, taught by a larger model's outputs."""

from functools import partial
from typing import Literal

from torch import Tensor, nn

from distill.config import (
    DistillConfig,
    ModelConfig,
    ObjectivesConfig,
    OptimizerConfig,
)
from distill.methods.method import StepTensors, Term
from distill.models import Outputs, RetrievalModel, Shapes, build_model
from distill.objectives.cross_entropy import cross_entropy
from distill.objectives.feature_distillation import feature_distillation
from distill.objectives.info_nce import info_nce
from distill.objectives.logit_distillation import logit_distillation
from distill.optim import GroupSpec
from distill.phases import Phase


class Pfed:
    """One phase, two groups of AdamW: matrices and kernels decay, vectors and scalars do not."""

    views: Literal["joint", "apart"] = "joint"

    def build(self, config: ModelConfig, *, num_places: int) -> RetrievalModel:
        return build_model(config, num_places=num_places)

    def training_parts(
        self, config: DistillConfig, model: RetrievalModel, teacher: Shapes | None
    ) -> nn.Module:
        """Return the projection, where a term compares descriptors with the teacher's."""
        width = 0 if teacher is None else teacher["descriptor"][-1]
        meets_teacher = "feature_distillation" in config.objectives.weights
        return TrainingParts(model.width, teacher_width=width if meets_teacher else 0)

    def terms(self, objectives: ObjectivesConfig) -> dict[str, Term]:
        """Return the terms of the recipe that have a weight, by name (spec pfed 4)."""
        logits, smoothing = frozenset({"logits"}), objectives.cross_entropy.label_smoothing
        terms = {
            "cross_entropy": Term(
                reads=logits,
                loss=lambda step: cross_entropy(
                    step.student["logits"], step.place, label_smoothing=smoothing
                ),
            ),
            "info_nce": Term(
                reads=frozenset({"unit", "scale"}),
                gathers=frozenset({"unit"}),
                loss=partial(symmetric_info_nce, smoothing=objectives.info_nce.label_smoothing),
            ),
            "logit_distillation": Term(
                reads=logits,
                loss=lambda step: logit_distillation(
                    step.student["logits"],
                    step.teacher["logits"],
                    temperature=objectives.logit_distillation.temperature,
                ),
            ),
            "feature_distillation": Term(
                reads=frozenset({"projected"}),
                loss=lambda step: feature_distillation(
                    step.student["projected"], step.teacher["descriptor"].flatten(1)
                ),
            ),
        }
        return {name: terms[name] for name in objectives.weights}

    def teacher_outputs(self, teacher: RetrievalModel) -> Shapes:
        return {name: teacher.shapes[name] for name in ("descriptor", "logits")}

    def groups(self, step: nn.Module, config: OptimizerConfig) -> list[GroupSpec]:
        """Divide what learns into what decays, matrices and kernels, and what does not."""
        learning = [parameter for parameter in step.parameters() if parameter.requires_grad]
        alike = partial(GroupSpec, rule="adamw", learning_rate=config.learning_rate)
        return [
            alike(
                name="decayed",
                parameters=[parameter for parameter in learning if parameter.ndim > 1],
                weight_decay=config.weight_decay,
            ),
            alike(
                name="not_decayed",
                parameters=[parameter for parameter in learning if parameter.ndim <= 1],
            ),
        ]

    def phases(self, config: DistillConfig) -> tuple[Phase, ...]:
        groups = frozenset({"decayed", "not_decayed"})
        return (Phase(terms=tuple(config.objectives.weights), enabled_groups=groups),)

    def before_step(self, model: RetrievalModel, step: int) -> None:
        """Leave the model alone: nothing in it follows the number of steps."""


class TrainingParts(nn.Module):
    """The projection in which a student's descriptor meets that of a teacher of another width."""

    def __init__(self, width: int, *, teacher_width: int) -> None:
        """Build it; `teacher_width` is 0 where no term compares descriptors."""
        super().__init__()
        self.projection = (
            nn.Linear(width, teacher_width, bias=False)
            if teacher_width not in (0, width)
            else nn.Identity()
        )

    def forward(self, student: Outputs) -> Outputs:
        """Return `projected`, student descriptors in the teacher's width [V, D of the teacher]."""
        return Outputs(projected=self.projection(student["descriptor"].flatten(1)))


def symmetric_info_nce(step: StepTensors, *, smoothing: float) -> Tensor:
    """Average both directions: each tile asks all drone views of everyone, each view all tiles."""
    own, everyone = step.own, step.everyone
    same_BG = own.place[:, None] == everyone.place
    num_drones = own.drone["unit"].shape[1]
    one_way = partial(info_nce, scale=step.scale, label_smoothing=smoothing)
    to_drones = one_way(
        own.satellite["unit"],
        everyone.drone["unit"].flatten(0, 1),
        same_BG.repeat_interleave(num_drones, dim=1),
    )
    to_satellites = one_way(
        own.drone["unit"].flatten(0, 1),
        everyone.satellite["unit"],
        same_BG.repeat_interleave(num_drones, dim=0),
    )
    return (to_drones + to_satellites) / 2
