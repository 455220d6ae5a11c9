"""Contrastive batches beyond memory: what a rank describes at once is a part of what it compares.

All parts are described without gradients, the terms compare everything and tell the gradient of
every output, then each part is described again and hands these on to the weights: exactly the
gradient of the undivided batch (GradCache, Gao et al. 2021), for a second forward pass.
"""

# Shapes: B = rows of a rank, k = drone views of a row, V = (1 + k) * B images.

from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from data_shards.augment.on_device import send
from data_shards.errors import RecipeError
from distill.batches import DeviceBatch
from distill.collectives import average
from distill.models import Outputs
from distill.models.batch_norm import norms_that_learn
from distill.step import DistillStep


class MicroBatches:
    """Stands for a step that is called with whole batches; see `backward`."""

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
