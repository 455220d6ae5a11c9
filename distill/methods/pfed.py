"""PFED (spec pfed): one student for both views, taught by itself and by a larger model."""

# Shapes: V = images of a rank, B = its rows, G = rows of all ranks, k = drone views of a row,
# C = training places, D = width of a descriptor.

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from data_shards.errors import RecipeError
from distill.config import DistillConfig, ObjectivesConfig
from distill.config import objectives as configs
from distill.methods.method import Method, Phase, StepTensors, Term, across_views, mean_hinge
from distill.models import Outputs, RetrievalModel, Shapes
from distill.models.heads import PooledHead, stage_head
from distill.models.outputs import at_least_float32
from distill.objectives.cross_entropy import cross_entropy
from distill.objectives.deep_supervision import deep_supervision
from distill.objectives.feature_distillation import feature_distillation
from distill.objectives.info_nce import info_nce
from distill.objectives.logit_distillation import logit_distillation
from distill.objectives.proxy_anchor import proxy_anchor
from distill.objectives.self_distillation import self_distillation
from distill.objectives.triplet import triplet
from distill.objectives.uapa import alignment_temperature, entropy, uapa
from distill.optim import GroupSpec

GROUPS = ("backbone_decayed", "backbone_not_decayed", "head_decayed", "head_not_decayed", "scale")
"""Matrices and kernels decay, vectors and scalars do not; heads are all that is no backbone."""

MAX_SCALE = 100.0
"""The learned inverse temperature is kept below this, as in CLIP."""


class TrainingParts(nn.Module):
    """Stage heads, projection and proxies: what training has and the exported model has not."""

    def __init__(
        self,
        config: DistillConfig,
        model: RetrievalModel,
        *,
        read: set[str],
        teacher: Shapes | None,
    ) -> None:
        """Build what is in `read`; `teacher` has the shapes of what students are compared with."""
        super().__init__()
        num_places = model.shapes["logits"][-1]
        width = model.width if teacher is None else math.prod(teacher["descriptor"])
        self.projection: nn.Module = nn.Identity()
        if "projected" in read and width != model.width:
            self.projection = nn.Linear(model.width, width, bias=False)
        self.stage_heads = nn.ModuleList()
        if "stage_logits" in read:
            model.num_stages = len(model.stage_widths)
            earlier = model.stage_widths[:-1]
            for name in ("deep_supervision", "self_distillation"):
                term = getattr(config.objectives, name)
                if term.weight and len(term.stage_weights) != len(earlier):
                    raise RecipeError(
                        f"objectives.{name}.stage_weights has {len(term.stage_weights)} numbers "
                        f"and the model {len(earlier)} stages before its last; give one for each"
                    )
            self.stage_heads.extend(
                stage_head(stage_width, num_places, config.model) for stage_width in earlier
            )
        self.proxies: nn.Parameter | None = None
        if "proxies" in read:
            self.proxies = nn.Parameter(torch.empty(num_places, model.width))
            nn.init.kaiming_normal_(self.proxies, mode="fan_out")
        self.has_entropy = "entropy" in read

    def forward(self, student: Outputs) -> Outputs:
        """Return what the terms read, of V images.

        `projected` [V, D of the teacher], `stage_logits` [V, stages before the last, C],
        `entropy` [V, 1].
        """
        found = Outputs(projected=self.projection(student["descriptor"].flatten(1)))
        if self.stage_heads:
            stages = [
                head(student[f"stage_{n}"]) for n, head in enumerate(self.stage_heads, start=1)
            ]
            found["stage_logits"] = torch.stack(stages, dim=1)
        if self.has_entropy:
            found["entropy"] = entropy(at_least_float32(student["logits"])).unsqueeze(1)
        return found


def labelled(step: StepTensors, config: configs.CrossEntropyConfig) -> Tensor:
    logits_VC = step.student["logits"]
    return cross_entropy(logits_VC, step.place, label_smoothing=config.label_smoothing)


def labelled_stages(step: StepTensors, config: configs.DeepSupervisionConfig) -> Tensor:
    stage_logits = step.student["stage_logits"].unbind(1)
    return deep_supervision(stage_logits, step.place, weights=config.stage_weights)


def taught_logits(step: StepTensors, config: configs.LogitDistillationConfig) -> Tensor:
    student_VC, teacher_VC = step.student["logits"], step.teacher["logits"]
    return logit_distillation(student_VC, teacher_VC, temperature=config.temperature)


def taught_descriptor(step: StepTensors, config: configs.FeatureDistillationConfig) -> Tensor:
    return feature_distillation(step.student["projected"], step.teacher["descriptor"].flatten(1))


def anchored(step: StepTensors, config: configs.ProxyAnchorConfig) -> Tensor:
    """Compare the images of all ranks with the proxies of their places."""
    return proxy_anchor(
        torch.cat(step.everyone.both("unit")),
        step.parts.get_parameter("proxies"),
        torch.cat(step.everyone.places),
        scale=config.scale,
        margin=config.margin,
    )


def symmetric_info_nce(step: StepTensors, config: configs.InfoNceConfig) -> Tensor:
    """Average both directions: every image looks for its place among all ranks' other view."""
    losses = [
        info_nce(*pairs, scale=step.scale, label_smoothing=config.label_smoothing)
        for pairs in across_views(step, "unit")
    ]
    return torch.stack(losses).mean()


def both_ways_triplet(step: StepTensors, config: configs.TripletConfig) -> Tensor:
    """Average over the images of both views."""
    hinges = (triplet(*pairs, margin=config.margin) for pairs in across_views(step, "unit"))
    return mean_hinge(step, hinges)


def between_stages(step: StepTensors, config: configs.SelfDistillationConfig) -> Tensor:
    """Compare the probabilities of the stages, the class head's last."""
    return self_distillation(
        [*step.student["stage_logits"].unbind(1), step.student["logits"]],
        weights=config.stage_weights,
        temperature=config.temperature,
        direction=config.direction,
        chain=config.chain,
        detach=config.detach,
    )


def aligned_views(step: StepTensors, config: configs.UapaConfig) -> Tensor:
    """Draw each drone view's probabilities to its tile's, softer the less sure drone views are."""
    satellite_BC, drone_BkC = step.own.satellite["logits"], step.own.drone["logits"]
    satellite_GE, drone_GE = step.everyone.both("entropy")
    temperature = alignment_temperature(drone_GE, satellite_GE, base=config.temperature)
    step.measures["uapa_temperature"] = temperature
    tiles_VC = satellite_BC.repeat_interleave(drone_BkC.shape[1], dim=0)
    return uapa(tiles_VC, drone_BkC.flatten(0, 1), temperature=temperature)


TERMS = {
    "cross_entropy": Term(labelled, reads=("logits",)),
    "info_nce": Term(symmetric_info_nce, reads=("unit", "scale"), gathers=("unit",)),
    "triplet": Term(both_ways_triplet, reads=("unit",), gathers=("unit",)),
    "proxy_anchor": Term(anchored, reads=("unit", "proxies"), gathers=("unit",)),
    "deep_supervision": Term(labelled_stages, reads=("stage_logits",)),
    "self_distillation": Term(between_stages, reads=("stage_logits", "logits")),
    "uapa": Term(aligned_views, reads=("logits", "entropy"), gathers=("entropy",)),
    "logit_distillation": Term(taught_logits, reads=("logits",)),
    "feature_distillation": Term(taught_descriptor, reads=("projected",)),
}
"""Name in a recipe (`objectives`) to the term (spec pfed 4)."""


class Pfed(Method):
    """One phase, four groups of AdamW."""

    views = "joint"
    head = PooledHead
    known_terms = TERMS
    taught = ("descriptor", "logits")

    def training_parts(
        self, config: DistillConfig, model: RetrievalModel, teacher: Shapes | None
    ) -> nn.Module:
        """Return what the recipe's terms read beside the outputs of the model."""
        read = {name for term in self.terms(config.objectives).values() for name in term.reads}
        return TrainingParts(config, model, read=read, teacher=teacher)

    def terms(self, objectives: ObjectivesConfig) -> dict[str, Term]:
        """Return the terms of the recipe that have a weight, by name (spec pfed 4)."""
        terms, o = super().terms(objectives), objectives.self_distillation
        if "self_distillation" in terms and o.direction == "ordinary" and o.detach and not o.chain:
            # Where the last stage only teaches, its logits are not moved.
            terms["self_distillation"] = replace(
                terms["self_distillation"], reads=("stage_logits",)
            )
        return terms

    def groups(self, step: nn.Module, config: DistillConfig) -> list[GroupSpec]:
        """Divide what learns into backbone and heads, and each into what decays or does not."""
        o = config.optimizer
        where = {id(p): "backbone" for p in step.get_submodule("model.backbone").parameters()}
        members: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
        for name, parameter in step.named_parameters():
            if parameter.requires_grad:
                decay = "decayed" if parameter.ndim > 1 else "not_decayed"
                group = f"{where.get(id(parameter), 'head')}_{decay}"
                members["scale" if name == "log_scale" else group].append(parameter)
        return [
            GroupSpec(
                name=name,
                params=parameters,
                rule=o.rule,
                lr=o.learning_rate * (o.backbone_factor if name.startswith("backbone") else 1.0),
                weight_decay=0.0 if name.endswith(("not_decayed", "scale")) else o.weight_decay,
                clamp=(-math.inf, math.log(MAX_SCALE)) if name == "scale" else None,
            )
            for name, parameters in members.items()
        ]

    def phases(self, config: DistillConfig) -> tuple[Phase, ...]:
        terms = tuple(config.objectives.weights)
        return (Phase(terms=terms, enabled_groups=frozenset(GROUPS)),)
