"""BiCrossNet (spec bicrossnet): a binary student, unfrozen in phases, taught by a ConvNeXt.

Both networks have MCCG's head: three branches, each with logits and features of its own.
"""

# Shapes: V = images of a rank, B = its rows, k = drone views of a row, P = branches,
# D = width of a branch, C = training places.

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_shards.errors import RecipeError
from distill.config import DistillConfig, ModelConfig
from distill.config import objectives as configs
from distill.methods.method import Method, Phase, Rows, StepTensors, Term, across_views, mean_hinge
from distill.models import RetrievalModel, Shapes
from distill.models.binary import BinaryConv2d, binary_parameters, set_temperature
from distill.models.bnext import mixing_parameters
from distill.models.heads import MccgHead
from distill.models.recu import set_tau, tau_at
from distill.objectives.cross_entropy import cross_entropy
from distill.objectives.cross_view import cross_view
from distill.objectives.triplet import triplet
from distill.optim import GroupSpec

GROUPS = {
    "head": frozenset({"head"}),
    "real": frozenset({"head", "backbone", "mixing"}),
    "all": frozenset({"head", "backbone", "mixing", "binary"}),
}
"""What a phase trains, to the groups of the optimizer that move in it."""

LATENT_LIMITS = (-1.5, 1.5)
"""Of the latent weights of BNext's binary layers (spec 2.2)."""

LAST_TEMPERATURE = 1e-8
"""Where annealing ends: a weight is its sign below 1e-7 (spec 2.2)."""


def divide(module: nn.Module, backbone: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Divide what learns in a module into groups; what is not of its backbone is head."""
    where = {id(parameter): "backbone" for parameter in backbone.parameters()}
    where |= {id(parameter): "mixing" for parameter in mixing_parameters(backbone).values()}
    where |= {id(parameter): "binary" for parameter in binary_parameters(backbone).values()}
    members: dict[str, list[nn.Parameter]] = {name: [] for name in sorted(GROUPS["all"])}
    for parameter in module.parameters():
        if parameter.requires_grad:
            members[where.get(id(parameter), "head")].append(parameter)
    return members


def labelled_branches(step: StepTensors, config: configs.CrossEntropyConfig) -> Tensor:
    """Add up the views' mean cross-entropies over images and branches."""
    losses = [
        cross_entropy(
            logits_BPC.flatten(0, 1),
            place_B.repeat_interleave(logits_BPC.shape[1]),
            label_smoothing=config.label_smoothing,
        )
        for logits_BPC, place_B in zip(step.own.both("logits"), step.own.places, strict=True)
    ]
    return torch.stack(losses).sum()


def triplet_of_branches(step: StepTensors, config: configs.TripletConfig) -> Tensor:
    """Average over branches and the images of both views; anchors look at the other view alone."""
    hinges = [
        triplet(anchor_BD, other_GD, place_B, place_G, margin=config.margin)
        for *both_views, place_B, place_G in across_views(step, "features")
        for anchor_BD, other_GD in zip(
            *(F.normalize(view_BPD, dim=2).unbind(1) for view_BPD in both_views), strict=True
        )
    ]
    return mean_hinge(step, hinges)


def taught_logits(step: StepTensors, config: configs.LogitDistillationConfig) -> Tensor:
    return squared_difference(step, own="logits", taught="logits")


def taught_features(step: StepTensors, config: configs.FeatureDistillationConfig) -> Tensor:
    own = "features" if config.behind_dropout else "descriptor"
    return squared_difference(step, own=own, taught="features")


def squared_difference(step: StepTensors, *, own: str, taught: str) -> Tensor:
    """Average the views' mean squared differences from the teacher, over all numbers."""
    teacher = Rows.divide(step.teacher.select([taught]), step.own.place)
    losses = [
        F.mse_loss(student, target)
        for student, target in zip(step.own.both(own), teacher.both(taught), strict=True)
    ]
    return torch.stack(losses).mean()


def divergence_of_views(step: StepTensors, config: configs.CrossViewConfig) -> Tensor:
    """Compare each drone view with its tile, branch by branch."""
    tile_BPC, drone_BkPC = step.own.both("logits")
    tile_BkPC = tile_BPC.repeat_interleave(step.own.num_drones, dim=0)
    return cross_view(tile_BkPC.flatten(0, 1), drone_BkPC.flatten(0, 1))


TERMS = {
    "cross_entropy": Term(labelled_branches, reads=("logits",)),
    "triplet": Term(triplet_of_branches, reads=("features",), gathers=("features",)),
    "logit_distillation": Term(taught_logits, reads=("logits",)),
    "feature_distillation": Term(taught_features, reads=("descriptor", "features")),
    "cross_view": Term(divergence_of_views, reads=("logits",)),
}
"""Name in a recipe (`objectives`) to the term (spec bicrossnet 4.1)."""


class Bicrossnet(Method):
    """Real-valued weights by one rule, the latent weights of binary layers by another."""

    views = "apart"
    head = MccgHead
    known_terms = TERMS
    taught = ("logits", "features")

    def training_parts(
        self, config: DistillConfig, model: RetrievalModel, teacher: Shapes | None
    ) -> nn.Module:
        """Return nothing that learns; branches are compared as they are.

        Raises:
            RecipeError: the teacher's branches have another width.
        """
        if teacher is not None and teacher["features"] != model.shapes["features"]:
            raise RecipeError(
                f"the teacher's branches are {teacher['features'][1]} wide and the student's "
                f"{config.model.bottleneck}; set model.bottleneck to the teacher's"
            )
        return nn.Identity()

    def groups(self, step: nn.Module, config: DistillConfig) -> list[GroupSpec]:
        """Divide what learns into head, backbone, mixes, and binary weights (spec 5.2)."""
        backbone, o = step.get_submodule("model.backbone"), config.optimizer
        factors = {"head": 1.0, "binary": o.binary_factor}
        clamps = {"mixing": (0.0, 1.0)}
        if any(isinstance(layer, BinaryConv2d) for layer in backbone.modules()):
            clamps["binary"] = LATENT_LIMITS  # ReCU bounds them where it uses them (spec 2.6)
        return [
            GroupSpec(
                name=name,
                params=parameters,
                rule=o.binary_rule if name == "binary" else o.rule,
                lr=o.learning_rate * factors.get(name, o.backbone_factor),
                weight_decay=o.weight_decay,
                clamp=clamps.get(name),
                drop_steps=config.schedule.binary_drop_steps if name == "binary" else (),
            )
            for name, parameters in divide(step, backbone).items()
        ]

    def phases(self, config: DistillConfig) -> tuple[Phase, ...]:
        """Return the phases of the recipe; a backbone that waits is in eval mode (spec 5.1, 8)."""
        terms = tuple(config.objectives.weights)
        if not config.phases:
            return (Phase(terms=terms, enabled_groups=GROUPS["all"]),)
        return tuple(
            Phase(
                terms=terms,
                enabled_groups=GROUPS[phase.trains],
                eval_modules=("backbone",) if phase.trains == "head" else (),
                steps=phase.steps,
            )
            for phase in config.phases
        )

    def before_step(self, model: RetrievalModel, step: int, config: ModelConfig) -> None:
        """Cool the weights towards their signs, or narrow their clamp (spec 2.2 and 2.6)."""
        progress = min(1.0, step / config.anneal_steps) if config.anneal_steps else 1.0
        set_temperature(model, 0.0 if progress == 1 else LAST_TEMPERATURE**progress)
        set_tau(model, tau_at(progress))
