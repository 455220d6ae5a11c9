"""One rank's part of a step, on the device that computes."""

# Shapes: B = rows of this rank, k = drone views per row, V = (1 + k) * B images, S = image size.

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_shards.augment.on_device import finish, send
from data_shards.augment.variations import Variations
from data_shards.decoders import ImageBatch
from data_shards.loader import Batch
from data_shards.shards import RowNumbers
from distill.models import Outputs


@dataclass(frozen=True, kw_only=True)
class DeviceBatch:
    """Images and classes on the device, and on the host what tells each image from all others."""

    step: int
    """Optimizer step (from 0) that it is planned for."""

    satellite: Tensor
    """uint8 tiles [B, S, S, 3]."""

    drone: Tensor
    """uint8 views [B * k, S, S, 3], the views of one row beside each other."""

    place: Tensor
    """Class of each row's place [B]."""

    keys: RowNumbers
    """Number of every image in the index of the shards [V], satellites first: the same sample has
    the same key on any rank, in any run."""

    slots: npt.NDArray[np.int64]
    """Augmentation slot of every image [V]."""

    teacher_satellite: Tensor
    """The tiles at the size that a live teacher looks at [B, T, T, 3]; else `satellite` itself."""

    teacher_drone: Tensor
    """The drone views at that size [B * k, T, T, 3]; else `drone` itself."""

    teacher: Outputs = field(default_factory=Outputs)
    """What the teacher says of the V images; empty when no term compares with one."""


def on_device(
    batch: Batch, *, train_places: npt.NDArray[np.int64], device: torch.device
) -> DeviceBatch:
    """Bring a planned batch to the device; `train_places` [C] are the places of the C classes."""

    def varied(images: ImageBatch, variations: Variations) -> Tensor:
        return finish(send(images, device), variations)

    of_satellite, of_drone = batch.variations[:2]
    with _beside_the_step_before(device) as moved:
        satellite, drone = varied(batch.satellite, of_satellite), varied(batch.drone, of_drone)
        place = send(np.searchsorted(train_places, batch.place), device)
        teacher_satellite, teacher_drone = (
            images if larger is None else varied(larger, variations)
            for images, larger, variations in (
                (satellite, batch.teacher_satellite, of_satellite),
                (drone, batch.teacher_drone, of_drone),
            )
        )
        moved += [satellite, drone, place, teacher_satellite, teacher_drone]
    return DeviceBatch(
        step=batch.step,
        satellite=satellite,
        drone=drone,
        place=place,
        teacher_satellite=teacher_satellite,
        teacher_drone=teacher_drone,
        keys=np.concatenate([batch.satellite_rows, batch.drone_rows.reshape(-1)]),
        slots=np.concatenate([batch.slot, np.repeat(batch.slot, batch.drone_rows.shape[1])]),
    )


@contextmanager
def _beside_the_step_before(device: torch.device) -> Iterator[list[Tensor]]:
    """Have a GPU do this while it still computes what it was given before; a CPU does it at once.

    What is put into the list is read by what the GPU is given afterwards.
    """
    moved: list[Tensor] = []
    if device.type != "cuda":
        yield moved
        return
    before, beside = torch.cuda.current_stream(device), _stream(device)
    with torch.cuda.stream(beside):
        yield moved
    before.wait_stream(beside)
    for tensor in moved:
        tensor.record_stream(before)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
