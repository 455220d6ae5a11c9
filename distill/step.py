"""One training step as a module: a batch in, named loss terms out; it alone gathers outputs."""

# Shapes: B = rows of a rank, G = of all ranks, k = drone views of a row, V = (1 + k) * B images.

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from data_shards.augment.on_device import send
from data_shards.errors import RecipeError
from distill.batches import DeviceBatch
from distill.collectives import average, gather_with_grad
from distill.config import DistillConfig
from distill.methods import Method, Rows, StepTensors
from distill.models import Outputs, RetrievalModel, Shapes, normalize, unit
from distill.models.outputs import at_least_float32
from distill.models.rank_invariant import (
    Draws,
    draw_by_sample,
    normalize_over_all_ranks,
    norms_that_learn,
    sample_seeds,
)

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What the model runs in, by autocast, in each precision of a recipe."""


class DistillStep(nn.Module):
    """The model that learns, with all that exists in training only."""

    def __init__(
        self,
        config: DistillConfig,
        method: Method,
        model: RetrievalModel,
        *,
        teacher: Shapes | None,
    ) -> None:
        """Wrap `model`; `teacher` has the shapes of what it is compared with, if with anything."""
        super().__init__()
        self.views = method.views
        self.dtype = DTYPES[config.precision]
        self.terms = method.terms(config.objectives)
        read = {name for term in self.terms.values() for name in term.reads}
        self.model = model
        model.learn(read)
        start = math.log(1 / config.objectives.info_nce.temperature)
        self.log_scale = nn.Parameter(torch.tensor(start), requires_grad="scale" in read)
        self.parts = method.training_parts(config, model, teacher)
        self.kept = {"descriptor", "logits", *read}
        if config.model.norm == "global":
            normalize_over_all_ranks(self)
        self.seed, self.by_sample = config.seed, config.model.dropout_by_sample
        self.draws = draw_by_sample(self) if self.by_sample else Draws()

    def forward(
        self, batch: DeviceBatch, names: Collection[str]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the terms of these names, of one rank, and what they measured beside."""
        student = self.describe(batch)
        with torch.autocast(batch.place.device.type, enabled=False):  # losses keep their digits
            return self.compare(student, batch, names)

    def autocast(self) -> torch.autocast:
        """Return the block that the model runs in, in the precision of the recipe.

        Nothing else casts: weights, gradients and moments stay float32, also under DeepSpeed, which
        would round them, and which ends blocks that others opened.
        """
        device = self.log_scale.device.type
        return torch.autocast(device, self.dtype, enabled=self.dtype is not None)

    def describe(self, batch: DeviceBatch) -> Outputs:
        """Return what terms may read of V images, in float32 or wider."""
        seeds = torch.empty(len(batch.keys))  # nobody looks at them
        if self.by_sample:
            seeds = sample_seeds(self.seed, batch.step, batch.keys).to(batch.place.device)
        views, said = [torch.cat([batch.satellite, batch.drone])], []
        if self.views == "apart":
            views = [batch.satellite, batch.drone]
        with self.autocast():
            for view, of_view in zip(views, seeds.split([*map(len, views)]), strict=True):
                self.draws.seeds = of_view
                said.append(self.model(normalize(view)))
            student = Outputs(said[0])
            if self.views == "apart":
                student = Outputs({name: torch.cat([of[name] for of in said]) for name in student})
            self.draws.seeds = seeds
            student.update(self.parts(student))
        # Maps that only the parts looked at are let go of.
        student = student.select(name for name in student if name in self.kept)
        return student.map(at_least_float32)

    def compare(
        self, student: Outputs, batch: DeviceBatch, names: Collection[str]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the terms of these names of a batch as it was described; ranks meet in here."""
        student = Outputs(student, unit=unit(student["descriptor"]))
        own = Rows.divide(student, batch.place)
        gathered = {name for term in names for name in self.terms[term].gathers}
        step = StepTensors(
            student=student,
            teacher=batch.teacher,
            place=torch.cat(own.places),
            own=own,
            everyone=gather_rows(own, sorted(gathered)),
            scale=self.log_scale.exp(),
            parts=self.parts,
            measures={},
        )
        return {name: self.terms[name].loss(step) for name in names}, step.measures


def gather_rows(own: Rows, names: Collection[str]) -> Rows:
    """Return the rows of all ranks, of these outputs, with gradients back to each; one collective.

    Without names, which is when no term looks at other ranks, nothing is gathered.
    """
    wanted = [(view, name) for view in (own.satellite, own.drone) for name in names]
    if not wanted:
        return replace(own, satellite=Outputs(), drone=Outputs())
    parts = [view[name] for view, name in wanted]
    place_B1 = own.place.unsqueeze(1).to(parts[0].dtype)  # exact below 2^24 places
    flat = [place_B1, *(part.flatten(1) for part in parts)]
    widths = [part.shape[1] for part in flat]
    columns = gather_with_grad(torch.cat(flat, dim=1)).split(widths, dim=1)
    everyone = [
        column.reshape(-1, *part.shape[1:]).contiguous()
        for column, part in zip(columns[1:], parts, strict=True)
    ]
    return replace(
        own,
        place=columns[0].squeeze(1).long(),
        satellite=Outputs(zip(names, everyone[: len(names)], strict=True)),
        drone=Outputs(zip(names, everyone[len(names) :], strict=True)),
    )


def weigh(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the total loss: the sum of all terms, each times its weight in the recipe."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


class MicroBatches:
    """Contrastive batches beyond memory: stands for a step that is called with whole batches.

    All parts are described without gradients, the terms compare everything and tell the gradient of
    every output, then each part is described again and hands these on to the weights: exactly the
    gradient of the undivided batch (GradCache, Gao et al. 2021), for a second forward pass.
    """

    def __init__(self, step: DistillStep, *, num_rows: int) -> None:
        """Describe `num_rows` rows at once.

        Raises:
            RecipeError: statistics of the batch matter, which the parts do not have.
        """
        if norms := norms_that_learn(step):
            raise RecipeError(
                f"data.micro_batch cannot be together with batch statistics, and {norms[0]} learns "
                "by them; set it to null, or choose a backbone and terms without"
            )
        self.step, self.num_rows = step, num_rows
        self.parts: list[tuple[DeviceBatch, Tensor]] = []
        self.outputs = Outputs()

    def __call__(
        self, batch: DeviceBatch, names: Collection[str]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the terms of these names and what they measured beside, as a step does."""
        self.parts = list(divide(batch, self.num_rows))
        with torch.no_grad():
            described = [self.step.describe(part) for part, _ in self.parts]
        order = torch.cat([images for _, images in self.parts]).argsort()
        self.outputs = Outputs(
            {
                name: torch.cat([of[name] for of in described])[order].requires_grad_()
                for name in described[0]
            }
        )
        return self.step.compare(self.outputs, batch, names)

    def backward(self) -> None:
        """Carry the gradients of the outputs on to the weights, and average these over ranks."""
        grads = {name: of.grad for name, of in self.outputs.items() if of.grad is not None}
        for part, images in self.parts:
            described = self.step.describe(part)
            moved = [name for name in grads if described[name].requires_grad]
            torch.autograd.backward(
                [described[name] for name in moved], [grads[name][images] for name in moved]
            )
        average([p.grad for p in self.step.parameters() if p.grad is not None])


def divide(batch: DeviceBatch, num_rows: int) -> Iterator[tuple[DeviceBatch, Tensor]]:
    """Yield some rows of a batch at a time, and which of its V images they are."""
    device, total = batch.place.device, len(batch.place)
    num_drones = len(batch.drone) // total
    for begin in range(0, total, num_rows):
        end = min(begin + num_rows, total)
        tiles, drones = slice(begin, end), slice(begin * num_drones, end * num_drones)
        images = np.r_[tiles, total + drones.start : total + drones.stop]
        part = replace(
            batch,
            satellite=batch.satellite[tiles],
            drone=batch.drone[drones],
            place=batch.place[tiles],
            keys=batch.keys[images],
            slots=batch.slots[images],
        )
        yield part, send(images, device)
