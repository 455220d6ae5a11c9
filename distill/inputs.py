"""What a recipe's shards are read from, and in which order. No torch: a dry run asks it too."""

from collections.abc import Collection

from data_shards.planning.place_views import trained_places
from data_shards.planning.plan import Plan
from data_shards.remote.local_cache import LocalCache
from data_shards.remote.sources import NO_IMAGES, open_shards
from data_shards.schema import Role, View
from data_shards.shards import ShardSet
from distill.config import DataConfig, DistillConfig

PAIRED_VIEWS = (View.SATELLITE, View.DRONE)


def local_cache(data: DataConfig) -> LocalCache:
    """Return the cache of this node that a recipe names."""
    return LocalCache(data.local_cache, gib=data.local_cache_gib)


def open_inputs(data: DataConfig, *, views: Collection[View] = PAIRED_VIEWS) -> ShardSet:
    """Open the shards of a recipe, with the tars of its training images on this node if need be.

    Raises:
        ShardError: they are missing, broke off, are damaged, or do not fit into the local cache.
    """
    cache, is_staged = local_cache(data), data.stage
    shards = open_shards(
        data.shards, roles=Role.TRAIN, views=views, cache=cache, is_staged=is_staged
    )
    return shards.shown(data.aspect)


def open_without_images(data: DataConfig) -> ShardSet:
    """Open the shards of a recipe for who asks only what they hold."""
    return open_shards(data.shards, roles=NO_IMAGES, cache=local_cache(data)).shown(data.aspect)


def make_plan(config: DistillConfig, shards: ShardSet) -> Plan:
    """Return the plan over the training places that are not held out, before anything is mined.

    Raises:
        PlanError: there is no such plan.
    """
    data = config.data
    return Plan(
        shards,
        trained_places(shards, fraction=data.validation_fraction, seed=data.validation_seed),
        seed=config.seed,
        global_batch=data.global_batch,
        drones_per_row=data.drones_per_row,
        altitudes=data.altitudes,
    )
