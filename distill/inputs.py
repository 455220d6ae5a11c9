"""Where a recipe's shards and teacher cache are read from: where they are, or this node's disk."""

from collections.abc import Collection

from data_shards.remote.local_cache import LocalCache
from data_shards.remote.sources import NO_IMAGES, open_shards
from data_shards.schema import Role, View
from data_shards.shards import ShardSet
from distill.config import DataConfig

PAIRED_VIEWS = (View.SATELLITE, View.DRONE)


def local_cache(data: DataConfig) -> LocalCache:
    """Return the cache of this node that a recipe names."""
    return LocalCache(data.local_cache, gib=data.local_cache_gib)


def open_inputs(data: DataConfig, *, views: Collection[View] = PAIRED_VIEWS) -> ShardSet:
    """Open the shards of a recipe, with the tars of its training images on this node if need be.

    Raises:
        ShardError: they are missing, broke off, are damaged, or do not fit into the local cache.
    """
    return open_shards(
        data.shards, roles=Role.TRAIN, views=views, cache=local_cache(data), is_staged=data.stage
    )


def open_without_images(data: DataConfig) -> ShardSet:
    """Open the shards of a recipe for who asks only what they hold."""
    return open_shards(data.shards, roles=NO_IMAGES, cache=local_cache(data))
