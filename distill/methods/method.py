"""What a method is: all that the loop, the cache, the checkpoint and the evaluation see of it."""

# Shapes: B = rows of a rank, G = of all ranks, k = drone views of a row, V = (1 + k) * B images.

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from distill.config import DistillConfig, ModelConfig, ObjectivesConfig
from distill.models import Outputs, RetrievalModel, Shapes, build_model
from distill.models.retrieval import Head
from distill.optim import GroupSpec


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of places: one satellite tile and k drone views each."""

    place: Tensor
    """Class of each row's place [B], or [G] over all ranks."""

    num_drones: int
    """k, the drone views of a row."""

    satellite: Outputs
    """Of the tiles, [B, ...] or [G, ...]."""

    drone: Outputs
    """Of the drone views, [B, k, ...] or [G, k, ...]."""

    def both(self, name: str) -> tuple[Tensor, Tensor]:
        """Return an output of the tiles [B, ...] and of all drone views [B * k, ...]."""
        return self.satellite[name], self.drone[name].flatten(0, 1)

    @property
    def places(self) -> tuple[Tensor, Tensor]:
        """Classes of the tiles [B] and of all drone views [B * k]."""
        return self.place, self.place.repeat_interleave(self.num_drones)

    @classmethod
    def divide(cls, outputs: Outputs, place_B: Tensor) -> "Rows":
        """Divide the outputs of V images, satellites first, into rows."""
        num_rows = len(place_B)
        num_images = len(next(iter(outputs.values())))
        return cls(
            place=place_B,
            num_drones=num_images // num_rows - 1,
            satellite=outputs.map(lambda values: values[:num_rows]),
            drone=outputs.map(lambda values: values[num_rows:].unflatten(0, (num_rows, -1))),
        )


@dataclass(frozen=True, kw_only=True)
class StepTensors:
    """What a term is given: one step of one rank, its images satellites first, then drone views.

    All floats are float32 or wider, whatever precision the network ran in.
    """

    student: Outputs
    """Of all V images: what the model says, what the training parts add, and `unit` [V, P * D]."""

    teacher: Outputs
    """Of the same images in the same order; empty when no term compares with a teacher."""

    place: Tensor
    """Class of every image [V]."""

    own: Rows
    """This rank's rows of `student`."""

    everyone: Rows
    """All ranks' rows of what the terms gather, in the order of ranks, with gradients to each."""

    scale: Tensor
    """Learned inverse temperature of contrasts."""

    parts: nn.Module
    """The method's training parts, for parameters that are no output of an image."""

    measures: dict[str, Tensor]
    """What terms note down beside their loss, to be logged under these names."""


@dataclass(frozen=True)
class Term:
    """One named loss of a step."""

    loss: Callable[..., Tensor]
    """From a step, and the `config` of the term in a recipe, to a scalar: this rank's mean."""

    reads: tuple[str, ...]
    """Outputs of the student that it moves, and `scale`; what makes others does not learn."""

    gathers: tuple[str, ...] = ()
    """Outputs of the student that it wants of all ranks."""


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


class Method(ABC):
    """One way to train: which network, which terms, which parameters move when."""

    views: Literal["joint", "apart"]
    """One forward of both views, or one each, so that batch statistics are of one view."""

    head: Head
    """What stands behind the backbone."""

    known_terms: Mapping[str, Term]
    """Name in a recipe (`objectives`) to the term."""

    taught: tuple[str, ...]
    """Outputs of a teacher that the terms compare with: what a cache holds."""

    def build(self, config: ModelConfig, *, num_places: int) -> RetrievalModel:
        """Return the network with the weights that the recipe names."""
        return build_model(config, num_places=num_places, head=self.head)

    def terms(self, objectives: ObjectivesConfig) -> dict[str, Term]:
        """Return the terms of the recipe that have a weight, by name; losses take a step alone."""
        terms = {name: self.known_terms[name] for name in objectives.weights}
        return {
            name: replace(term, loss=partial(term.loss, config=getattr(objectives, name)))
            for name, term in terms.items()
        }

    def teacher_outputs(self, teacher: RetrievalModel) -> Shapes:
        return {name: teacher.shapes[name] for name in self.taught}

    @abstractmethod
    def training_parts(
        self, config: DistillConfig, model: RetrievalModel, teacher: Shapes | None
    ) -> nn.Module:
        """Return what exists in training only, as a module from outputs of the model to more."""

    @abstractmethod
    def groups(self, step: nn.Module, config: DistillConfig) -> list[GroupSpec]:
        """Divide the parameters of a step that learn into groups of the optimizer."""

    @abstractmethod
    def phases(self, config: DistillConfig) -> tuple[Phase, ...]:
        """Return the phases of a run, in order."""

    def before_step(  # noqa: B027 - most methods have nothing that follows
        self, model: RetrievalModel, step: int, config: ModelConfig
    ) -> None:
        """Bring what follows the number of steps (from 0), such as a temperature, up to date."""


def across_views(step: StepTensors, name: str) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield an output of own images of a view, everyone's of the other, and the places of both.

    Tiles and all drone views, then drone views and all tiles.
    """
    own, everyone = step.own.both(name), step.everyone.both(name)
    for view in (0, 1):
        yield own[view], everyone[1 - view], step.own.places[view], step.everyone.places[1 - view]


def mean_hinge(step: StepTensors, hinges: Iterable[Tensor]) -> Tensor:
    """Average the losses of triplets; `triplet_active` is the share with one left."""
    hinge = torch.cat(list(hinges))
    step.measures["triplet_active"] = (hinge > 0).float().mean()
    return hinge.mean()
