"""PFED (spec pfed): one ConvNeXt for both views, taught by a larger model's outputs."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.config import (
    CrossEntropyConfig,
    InfoNceConfig,
    LogitDistillationConfig,
    ObjectivesConfig,
)
from distill.methods.terms import StepTensors, Term
from distill.objectives.cross_entropy import cross_entropy
from distill.objectives.feature_distillation import feature_distillation
from distill.objectives.info_nce import info_nce
from distill.objectives.logit_distillation import logit_distillation


def pfed_terms(objectives: ObjectivesConfig) -> dict[str, Term]:
    """Return the terms of the recipe that have a weight, by name."""
    terms: dict[str, Term] = {
        "cross_entropy": partial(_cross_entropy, config=objectives.cross_entropy),
        "info_nce": partial(_symmetric_info_nce, config=objectives.info_nce),
        "logit_distillation": partial(_logit_distillation, config=objectives.logit_distillation),
        "feature_distillation": _feature_distillation,
    }
    return {name: terms[name] for name in objectives.weights}


def _cross_entropy(step: StepTensors, config: CrossEntropyConfig) -> Tensor:
    target = torch.cat([step.place, step.place.repeat_interleave(step.drones_per_row)])
    return cross_entropy(step.student.logits, target, label_smoothing=config.label_smoothing)


def _symmetric_info_nce(step: StepTensors, config: InfoNceConfig) -> Tensor:
    """Average both directions, and the k drone views: no place stands twice in any contrast."""
    unit = F.normalize(step.student.descriptor, dim=1)
    num_rows = len(step.place)
    satellite_BD = unit[:num_rows]
    drone_BkD = unit[num_rows:].unflatten(0, (num_rows, step.drones_per_row))
    target_B = torch.arange(num_rows, device=unit.device) + step.first_row
    one_way = partial(
        info_nce, target_B=target_B, scale=step.scale, label_smoothing=config.label_smoothing
    )
    satellite_GD = step.gather(satellite_BD)
    losses = [
        one_way(query, gallery)
        for drone_BD in drone_BkD.unbind(1)
        for query, gallery in ((drone_BD, satellite_GD), (satellite_BD, step.gather(drone_BD)))
    ]
    return torch.stack(losses).mean()


def _logit_distillation(step: StepTensors, config: LogitDistillationConfig) -> Tensor:
    assert step.teacher is not None, "the recipe promised a teacher"
    return logit_distillation(
        step.student.logits, step.teacher.logits, temperature=config.temperature
    )


def _feature_distillation(step: StepTensors) -> Tensor:
    assert step.teacher is not None, "the recipe promised a teacher"
    return feature_distillation(step.projected, step.teacher.descriptor)
