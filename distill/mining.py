"""Hard samples: which training places the model mistakes for each other, and batches of them.

After an epoch every planned place is described by the model as it stands, from images that are only
resized; a place's nearest wrong places stand in the same batches of the next epoch (spec pfed 2,
option 2). Held-out places and the test set are never looked at.
"""

# Shapes: P = planned places, D = descriptor width, k = neighbours of each place.

import logging
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize as to_unit_length

from data_shards.errors import DivergedError
from data_shards.loader import Batch, image_batches
from data_shards.planning.neighbours import Neighbours
from data_shards.planning.place_views import PlaceViews
from distill.collectives import gather_arrays, rank, world_size
from distill.config import MiningConfig
from distill.models import inference, normalize
from distill.session import Session

log = logging.getLogger(__name__)

SCORES_AT_ONCE = 2**24
"""Similarities of one tile: 64 MiB."""


def planned_batches(session: Session) -> Iterator[Batch]:
    """Yield the batches of this rank from the newest checkpoint on, mining when it is time.

    Every rank takes every batch of it: between two epochs the ranks meet.
    """
    loader, state, mining = session.loader, session.state, session.config.data.mining
    num_steps, steps_per_epoch = session.config.schedule.num_steps, loader.steps_per_epoch
    step, num_epochs = state.step, math.ceil(num_steps / steps_per_epoch)
    due = looks(mining, num_epochs)
    while step < num_steps:
        epoch, index = divmod(step, steps_per_epoch)
        if index == 0 and epoch in due:
            state.neighbours = mine(session)
        loader.plan = loader.plan.with_neighbours(state.neighbours)
        end = steps_per_epoch * min((look for look in due if look > epoch), default=num_epochs)
        yield from loader.batches(first_step=step, num_steps=min(end, num_steps))
        step = end


def looks(mining: MiningConfig, num_epochs: int) -> range:
    """Return the epochs before which the places are looked at."""
    return range(mining.from_epoch, num_epochs if mining.neighbours else 0, mining.every_epochs)


def mine(session: Session) -> Neighbours:
    """Describe every planned place and return the nearest wrong ones; all ranks share the work.

    Every row is computed by one rank and handed to all, so the table is the same on each.

    Raises:
        DivergedError: the model describes places by numbers that are not finite.
        ShardError: an image cannot be decoded.
    """
    started, plan, state = time.monotonic(), session.loader.plan, session.state
    own = np.arange(rank(), len(plan.places), world_size())
    device = session.accelerator.device
    most = session.config.data.mining.drones
    whole = session.gather()
    with inference(whole.model), whole.autocast():
        halves = [
            _mean_direction(session, views.of(own), most=most)
            for views, most in ((plan.drones, most), (plan.satellites, 0))
        ]
    # The mean direction of a place's drone views beside that of its satellites, unit vectors both.
    place_PD = torch.from_numpy(_in_order(np.concatenate(halves, axis=1))).to(device)
    if not bool(place_PD.isfinite().all()):
        raise DivergedError(
            f"step {state.step}: descriptors of the training places not finite, so none is near; "
            f"lower optimizer.learning_rate (the newest checkpoint is in "
            f"{session.paths.checkpoints})"
        )
    wanted = min(session.config.data.mining.neighbours, len(plan.places) - 1)
    found = nearest_wrong(place_PD, own, num_neighbours=wanted)
    neighbours = Neighbours(table=_in_order(found), places=plan.place_names)
    seconds = time.monotonic() - started
    if session.accelerator.is_main_process:
        session.tracker.log(state.step + 1, {"train/mining_seconds": seconds})
        log.info(
            "step %d: hard samples of %d places mined in %.1f s (table %s)",
            state.step,
            len(plan.places),
            seconds,
            neighbours.digest[:12],
        )
    return neighbours


def _mean_direction(session: Session, views: PlaceViews, *, most: int) -> npt.NDArray[np.float32]:
    """Return the unit mean of each place's unit descriptors [P / W, D], over `most` images."""
    model, data = session.whole.model, session.config.data
    rows, owner = views.spread(most)
    total_PD = torch.zeros(len(views.count), model.width)
    done = 0
    for part, images in image_batches(
        session.shards,
        rows,
        image_size=data.image_size,
        resampling=data.resampling,
        batch_size=data.global_batch,
        threads=session.loader.threads,
    ):
        pixels = torch.from_numpy(images).to(session.accelerator.device)
        described = model.describe(normalize(pixels)).float().cpu()
        total_PD.index_add_(0, torch.from_numpy(owner[done : done + len(part)]), described)
        done += len(part)
    mean: npt.NDArray[np.float32] = to_unit_length(total_PD).numpy()
    return mean


def nearest_wrong(
    place_PD: Tensor, own: npt.NDArray[np.int64], *, num_neighbours: int
) -> npt.NDArray[np.int32]:
    """Return the places that each of `own` is most easily mistaken for, the nearest first [., k].

    Near is what retrieval confuses: the drone views of one with the satellites of the other, plus
    the other way round. Equal ones come in the order of their numbers, on every device.

    `place_PD` is drone half, then satellite half, of every place; `num_neighbours` is below P.
    """
    mirrored_PD = place_PD.roll(place_PD.shape[1] // 2, dims=1)
    tile = max(1, SCORES_AT_ONCE // len(place_PD))
    found = [np.empty((0, num_neighbours), dtype=np.int32)]
    for start in range(0, len(own), tile):
        at = torch.from_numpy(own[start : start + tile]).to(place_PD.device)
        score_TP = place_PD[at] @ mirrored_PD.T
        score_TP[torch.arange(len(at), device=at.device), at] = -torch.inf
        ranking_TP = score_TP.argsort(dim=1, descending=True, stable=True)
        found.append(ranking_TP[:, :num_neighbours].cpu().numpy().astype(np.int32))
    return np.concatenate(found)


def _in_order(own: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bring every rank's rows together: rank r has those of places r, r + W, r + 2 W, ..."""
    parts = gather_arrays(own)
    whole = np.empty((sum(map(len, parts)), *own.shape[1:]), dtype=own.dtype)
    for first, part in enumerate(parts):
        whole[first :: len(parts)] = part
    return whole
