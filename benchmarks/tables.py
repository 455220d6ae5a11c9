"""Image tables of full size without images, and the loader that benchmarks of the order share."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_shards.augment.config import AugmentConfig, AugmentFamily
from data_shards.loader import TrainLoader
from data_shards.manifest import Manifest
from data_shards.planning.plan import Plan
from data_shards.schema import Role, View
from data_shards.shards import ImageTable, ShardSet

UNIVERSITY_1652 = [54] * 701
"""Drone views of the training places of University-1652."""

SUES_200_UNEVEN = [200 - 50 * (place % 3) - place % 7 for place in range(120)]
"""As many places as SUES-200 trains on, of four heights, three, or two, with some views lost."""


def training_table(drones: Sequence[int], altitudes: Sequence[float] = (0.0,)) -> ShardSet:
    """Return shards of one satellite and `drones[i]` drone views for each place i.

    The views of a place stand at `altitudes` in turn.
    """
    counts = np.concatenate([np.ones(len(drones), dtype=np.int64), np.asarray(drones)])
    place = np.repeat(np.tile(np.arange(len(drones)), 2), counts)
    view = np.repeat([View.SATELLITE, View.DRONE], [len(drones), sum(drones)]).astype(np.uint8)
    position = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    words = np.where(view == View.SATELLITE, "satellite", "drone")
    names = zip(place.tolist(), words.tolist(), position.tolist(), strict=True)
    nothing = np.zeros(len(place), dtype=np.int64)
    images = ImageTable(
        key=np.array([f"{number:05d}/{word}/{at:03d}" for number, word, at in names]),
        place=place,
        view=view,
        roles=np.full(len(place), Role.TRAIN, dtype=np.uint8),
        position=position,
        altitude_m=np.asarray(altitudes, dtype=np.float32)[(position - 1) % len(altitudes)],
        orientation=np.ones(len(place), dtype=np.uint8),
        shard=nothing,
        offset=nothing,
        size=nothing,
        digest=nothing.astype(np.uint64),
    )
    places = tuple(f"{number:05d}" for number in range(len(drones)))
    manifest = Manifest(layout="table", places=places, counts={}, shards=(), content_sha256="")
    return ShardSet(Path("table"), manifest, images)


def train_loader(
    shards: ShardSet,
    plan: Plan,
    *,
    image_size: int,
    threads: int,
    rank: int = 0,
    world_size: int = 1,
    family: AugmentFamily = "light",
) -> TrainLoader:
    """Return the loader of one rank with a family's own augmentation."""
    return TrainLoader(
        shards,
        plan,
        augment=AugmentConfig(family=family),
        image_size=image_size,
        resampling="opencv-linear",
        rank=rank,
        world_size=world_size,
        threads=threads,
    )


def large_table(drones: np.ndarray) -> ShardSet:
    """Return the same for millions of images: columns in as few bytes as hold them, no keys.

    Rows lie in rounds of views, as the shards hold them: the first of every place, then the next.
    """
    number = np.arange(int(drones.max()), dtype=np.uint16)
    rounds = [np.flatnonzero(drones > at).astype(np.int32) for at in number]
    place = np.concatenate([np.arange(len(drones), dtype=np.int32), *rounds])
    sizes = [len(drones), *map(len, rounds)]
    nothing = np.broadcast_to(np.zeros(1, dtype=np.int64), len(place))
    images = ImageTable(
        key=np.broadcast_to(np.array([""]), len(place)),
        place=place,
        view=np.repeat(
            np.array([View.SATELLITE, *[View.DRONE] * len(rounds)], dtype=np.uint8), sizes
        ),
        roles=np.broadcast_to(np.array([Role.TRAIN], dtype=np.uint8), len(place)),
        position=np.repeat(np.array([1, *(number + 1)], dtype=np.uint16), sizes),
        altitude_m=np.broadcast_to(np.zeros(1, dtype=np.float32), len(place)),
        orientation=np.broadcast_to(np.ones(1, dtype=np.uint8), len(place)),
        shard=nothing,
        offset=nothing,
        size=nothing,
        digest=nothing.astype(np.uint64),
    )
    places = tuple(map(str, range(len(drones))))
    manifest = Manifest(layout="table", places=places, counts={}, shards=(), content_sha256="")
    return ShardSet(Path("table"), manifest, images)
