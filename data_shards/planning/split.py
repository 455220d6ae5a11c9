"""Training places held out for the probe, so that no choice is ever made on the test set."""

from typing import cast

import numpy as np
import numpy.typing as npt

from data_shards.draws import mix
from data_shards.shards import ShardSet

Places = npt.NDArray[np.int64]


def held_out_places(shards: ShardSet, *, fraction: float, seed: int) -> Places:
    """Return the numbers of the training places kept from training: a `fraction`, drawn by `seed`.

    The draw looks at a place's identifier only, so adding places moves few others.
    """
    places = shards.train_places
    count = round(fraction * len(places))
    order = np.argsort(mix(seed, shards.place_hashes[places]), kind="stable")
    return cast(Places, np.sort(places[order[:count]]))


def trained_places(shards: ShardSet, *, fraction: float, seed: int) -> Places:
    """Return the numbers of the training places that are not held out."""
    return np.setdiff1d(shards.train_places, held_out_places(shards, fraction=fraction, seed=seed))
