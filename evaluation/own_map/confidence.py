"""How sure an answer is: calibrated on pairs of photographs and tiles the model never saw."""

# Shapes: Q = queries, R = rotations, G = gallery images, K = numbers, W = with or without its tile.

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize

from data_shards.config import LOCAL_CACHE_GIB
from data_shards.decode import Pixels, decode
from data_shards.errors import DescriptorError, ShardError
from data_shards.manifest import read_manifest
from data_shards.progress import show_progress
from data_shards.remote.local_cache import LocalCache
from data_shards.remote.sources import open_shards
from data_shards.schema import Role, View
from data_shards.shards import ImageTable, RowNumbers, ShardSet
from data_shards.usable_cpus import usable_cpus
from distill.collectives import rank
from distill.weights_file import LoadedModel
from evaluation.describe import describe
from evaluation.own_map.config import IndexConfig, Rotations
from evaluation.own_map.ground import Numbers
from evaluation.own_map.refine import (
    MATCHED,
    PHOTO_SIDE,
    WINDOW_SIDE,
    Features,
    agreement_of,
)

log = logging.getLogger(__name__)

ROTATIONS: tuple[int, ...] = get_args(Rotations)

LEAST_QUERIES, MOST_QUERIES, MOST_TILES = 20, 400, 4000
"""Of the shards, evenly spaced: enough for a curve of three numbers."""

LEAST_MATCHES, MOST_MATCHED = 10, 200
"""Photographs that must match a tile in each half of the places, and those that are tried."""

NO_SHARDS = (
    "no confidence: the shards that the model was trained on (%s) are neither here nor in a folder "
    "above %s, or were made again since; give --calibrate SHARDS"
)

LEVELS = tuple(number / 20 for number in range(1, 20))
"""Confidences at which it is told what is accepted."""

BINS = 5
RIDGE = 1e-6

KEPT_FEATURES = 1024
"""Tiles whose features are kept for the next photograph: at most 0.4 MB each."""

Scores = npt.NDArray[np.float32]
PlaceNumbers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """From what an answer was told by to the chance that it is right.

    Each photograph was asked twice: with its tile in the gallery, and without, as on the map of
    another place. The curve was fitted on every second place, all other numbers are of the others.
    """

    by: Literal["tile", "match"]
    """What answered: the first tile, told by score and margin, or the match, by its evidence."""

    rotations: int
    """Directions in which photographs were looked for; a match is calibrated with the most."""

    shards: str
    shards_fingerprint: str
    weights: tuple[float, ...]
    """Of 1 and the numbers an answer was told by; the sum is the log of the odds."""

    num_photos: int
    reliability: tuple[tuple[float, float, int], ...]
    """Mean confidence, share of right answers and count, of answers alike in confidence."""

    error: float
    """Mean distance between both."""

    accepted_here: tuple[float, ...]
    """Share of photographs on the map with an answer at least as sure as each of `LEVELS`."""

    accepted_elsewhere: tuple[float, ...]
    """The same of photographs of another map."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Calibration":
        """Make one of what JSON holds."""
        reliability = tuple(tuple(one) for one in values["reliability"])
        tuples = {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
        return cls(**{**values, **tuples, "reliability": reliability})

    def confidence(self, told_by: tuple[float, ...]) -> float:
        """Return the chance that an answer is right, where half of the photos are elsewhere."""
        return float(_chances(np.array(self.weights), np.array([1.0, *told_by])))


class Answers(NamedTuple):
    """What photographs were answered."""

    told_by_QK: Numbers
    """1 and the numbers that the confidence is told by."""

    is_right_Q: npt.NDArray[np.bool_]
    is_given_Q: npt.NDArray[np.bool_]
    """False where so few features agree that it is no match: there is no answer."""


def calibrate(
    config: IndexConfig, loaded: LoadedModel, *, known: tuple[Calibration, ...]
) -> tuple[Calibration, ...]:
    """Return a calibration for each number of rotations, and of matches; every rank calls it.

    Those `known` are kept where the shards are the same, or where there are none.

    Raises:
        SkyDistillError: the shards of `--calibrate` cannot be read or hold too few pairs.
    """
    if not (source := config.calibrate or shards_of_training(loaded)):
        if not known:
            log.info(NO_SHARDS, loaded.recipe["data"].get("shards"), loaded.path)
        return known
    cache, tested = LocalCache(None, gib=LOCAL_CACHE_GIB), Role.QUERY | Role.GALLERY
    views = (View.DRONE, View.SATELLITE)
    shards = open_shards(source, roles=tested, views=views, cache=cache)
    # As `query` looks at photographs, unless they were made square when they were sharded.
    shards = shards.shown(loaded.aspect if "image_size" in shards.manifest.profile else "crop")
    if any(one.shards_fingerprint == shards.fingerprint for one in known):
        return known
    drone, satellite = held_out_pairs(shards.images)
    if len(drone) < LEAST_QUERIES or len(np.unique(shards.images.place[satellite])) < 3:
        sentence = f"{source} has {len(drone)} drone queries with a tile, too few to calibrate on"
        if config.calibrate:
            raise DescriptorError(f"{sentence}; give shards of at least {LEAST_QUERIES}")
        log.info("no confidence: %s; give --calibrate", sentence)
        return known
    log.info("calibrating on the test images of %s", source)
    score_RQG = _scores(config, loaded, shards, drone, satellite)
    if rank() != 0:  # the first writes the index
        return known
    return fitted(shards, drone, satellite, score_RQG)


def shards_of_training(loaded: LoadedModel) -> str:
    """Return the folder of the very shards that a model was trained on; empty where it is not here.

    The recipe names it as seen from where the training was started: that is here, or a folder above
    the weights.
    """
    for start in (Path(), *loaded.path.absolute().parents):
        folder = start / str(loaded.recipe["data"].get("shards"))
        with suppress(ShardError):  # of a manifest that is missing or damaged
            if read_manifest(folder).fingerprint == loaded.trained_on.fingerprint:
                return str(folder)
    return ""


def held_out_pairs(images: ImageTable) -> tuple[RowNumbers, RowNumbers]:
    """Return drone queries that have a tile, and the tiles, first those of the queries."""
    is_tile = (images.view == View.SATELLITE) & (images.roles & Role.GALLERY != 0)
    is_query = (images.view == View.DRONE) & (images.roles & Role.QUERY != 0)
    is_query &= np.isin(images.place, images.place[is_tile])
    drone, others = _spaced(np.flatnonzero(is_query), MOST_QUERIES), np.flatnonzero(is_tile)
    is_right = np.isin(images.place[others], images.place[drone])
    return drone, np.concatenate([others[is_right], others[~is_right][:MOST_TILES]])


def _spaced(rows: RowNumbers, most: int) -> RowNumbers:
    """Return at most so many, evenly spaced."""
    numbers = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)
    return np.asarray(rows[numbers])


def turned(pixels: Pixels, heading_deg: float) -> Pixels:
    """Return the middle square of a picture whose top points to `heading_deg`, laid with north up.

    Corners that turning leaves open show what lies beside the square, and else its mirror image.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -heading_deg, 1.0)
    turn[:, 2] += (side - width) / 2, (side - height) / 2
    border = cv2.BORDER_REFLECT_101
    return np.asarray(cv2.warpAffine(pixels, turn, (side, side), borderMode=border), np.uint8)


def _scores(
    config: IndexConfig,
    loaded: LoadedModel,
    shards: ShardSet,
    drone: RowNumbers,
    satellite: RowNumbers,
) -> Scores:
    """Return cosines [R, Q, G] of drone images, turned in every direction, and tiles."""
    angles = [360 * number / ROTATIONS[-1] for number in range(ROTATIONS[-1])]
    turns = [lambda pixels, _, degrees=degrees: turned(pixels, degrees) for degrees in angles]
    parts = []
    with show_progress("calibrating", unit="images", enabled=rank() == 0) as progress:
        for rows, change in [(satellite, None), *((drone, turn) for turn in turns)]:
            described = describe(
                loaded.model,
                shards,
                [rows],
                image_size=config.image_size or loaded.image_size,
                resampling=loaded.resampling,
                batch_size=config.batch_size,
                threads=config.threads,
                change=change,
                progress=progress,
            )
            parts.append(described.of(rows))
    gallery_GD, *queries = parts
    return torch.stack([query_QD @ gallery_GD.T for query_QD in queries]).numpy()


def by_tile(
    score_QG: Scores, place_Q: PlaceNumbers, place_G: PlaceNumbers
) -> tuple[Answers, Answers]:
    """Answer with the tile of the best score, told by it and its margin to another place's best.

    Returns the answers where the own tile is in the gallery, and where it is not.
    """
    answers, is_own_QG = [], place_Q[:, None] == place_G
    for seen_QG in (score_QG, np.where(is_own_QG, -1, score_QG)):
        first_Q, best_Q = place_G[seen_QG.argmax(axis=1)], seen_QG.max(axis=1)
        second_Q = np.where(first_Q[:, None] == place_G, -1, seen_QG).max(axis=1)
        answers.append(
            Answers(
                told_by_QK=np.column_stack([np.ones(len(best_Q)), best_Q, best_Q - second_Q]),
                is_right_Q=first_Q == place_Q,
                is_given_Q=np.ones(len(best_Q), dtype=np.bool_),
            )
        )
    return answers[0], answers[1]


def by_match(
    shards: ShardSet, drone: RowNumbers, satellite: RowNumbers, score_QG: Scores
) -> tuple[Answers, Answers]:
    """Answer with the tile that agrees best among those of the best scores, as queries do.

    Returns the answers where the own tile is in the gallery, and where it is not.
    """
    place = shards.images.place

    @lru_cache(KEPT_FEATURES)
    def features(row: int, side: int) -> Features:
        orientation = int(shards.images.orientation[row])
        return Features(decode(shards.read(row), orientation=orientation), side=side)

    evidence_WQ, is_right_WQ, is_given_WQ = np.zeros((3, 2, len(drone)))

    def answer(number: int) -> None:
        row, order_G = int(drone[number]), satellite[np.argsort(-score_QG[number], kind="stable")]
        is_own_G = place[order_G] == place[row]
        ways = order_G[:MATCHED].tolist(), order_G[~is_own_G][:MATCHED].tolist()
        photo, found = features(row, PHOTO_SIDE), {}
        for tile in {*ways[0], *ways[1]}:
            if agreement := agreement_of(photo, features(tile, WINDOW_SIDE)):
                found[tile] = agreement
        for way, tiles in enumerate(ways):
            agreeing = [tile for tile in tiles if tile in found]
            if agreeing:
                best = max(agreeing, key=lambda tile: len(found[tile].source))
                evidence_WQ[way, number] = found[best].evidence
                is_right_WQ[way, number] = place[best] == place[row]
                is_given_WQ[way, number] = found[best].is_match

    with (
        show_progress("calibrating matches", unit="images") as progress,
        ThreadPoolExecutor(usable_cpus()) as pool,
    ):
        for done, _ in enumerate(pool.map(answer, range(len(drone))), start=1):
            progress(done, len(drone))
    told_by_WQK = np.stack([np.ones_like(evidence_WQ), evidence_WQ], axis=2)
    here, elsewhere = map(Answers, told_by_WQK, is_right_WQ > 0, is_given_WQ > 0)
    return here, elsewhere


def fitted(
    shards: ShardSet, drone: RowNumbers, satellite: RowNumbers, score_RQG: Scores
) -> tuple[Calibration, ...]:
    """Return a calibration of first tiles for each number of rotations, and one of matches."""
    place_Q, place_G = (shards.images.place[rows] for rows in (drone, satellite))
    facts: dict[str, Any] = {"shards": shards.manifest.name or shards.source}
    facts["shards_fingerprint"] = shards.fingerprint
    found = []
    for rotations in ROTATIONS:
        score_QG = score_RQG[:: ROTATIONS[-1] // rotations].max(axis=0)
        curve = fitted_curve(*by_tile(score_QG, place_Q, place_G), place_Q)
        found.append(Calibration(by="tile", rotations=rotations, **facts, **curve))
    tried = _spaced(np.arange(len(drone)), MOST_MATCHED)
    asked = by_match(shards, drone[tried], satellite, score_RQG[:, tried].max(axis=0))
    matches = [int(asked[0].is_given_Q[half_Q].sum()) for half_Q in halves(place_Q[tried])]
    if min(matches) >= LEAST_MATCHES:
        curve = fitted_curve(*asked, place_Q[tried])
        found.append(Calibration(by="match", rotations=ROTATIONS[-1], **facts, **curve))
    else:
        words = "no confidence of matches: %d of %d photographs match a tile"
        log.info(words, sum(matches), len(tried))
    return tuple(found)


def halves(place_Q: PlaceNumbers) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which photographs are of every second place, and which are not."""
    is_first_Q = np.unique(place_Q, return_inverse=True)[1] % 2 == 0
    return is_first_Q, ~is_first_Q


def fitted_curve(here: Answers, elsewhere: Answers, place_Q: PlaceNumbers) -> dict[str, Any]:
    """Fit on every second place, and measure on the others."""
    is_fit, is_other = halves(place_Q)
    inputs = np.concatenate([one.told_by_QK[is_fit] for one in (here, elsewhere)])
    is_right = np.concatenate([one.is_right_Q[is_fit] for one in (here, elsewhere)])
    # Platt's targets (1999): a few answers that are all right do not make certainty.
    num_right, num_wrong = is_right.sum(), (~is_right).sum()
    labels = np.where(is_right, (num_right + 1) / (num_right + 2), 1 / (num_wrong + 2))

    def loss(weights: Numbers) -> float:
        logits = inputs @ weights
        return float(np.mean(np.logaddexp(0, logits) - labels * logits) + RIDGE * weights @ weights)

    weights = minimize(loss, np.zeros(inputs.shape[1]), method="BFGS").x
    sure, right, accepted = [], [], []
    for one in (here, elsewhere):
        is_told = one.is_given_Q & is_other
        sure.append(_chances(weights, one.told_by_QK[is_told]))
        right.append(one.is_right_Q[is_told])
        shares = [(sure[-1] >= level).sum() / is_other.sum() for level in LEVELS]
        accepted.append(tuple(float(share) for share in shares))
    told, was_right = np.concatenate(sure), np.concatenate(right)
    parts = np.array_split(np.argsort(told, kind="stable"), min(BINS, len(told)))
    bins = [(told[part].mean(), was_right[part].mean(), len(part)) for part in parts]
    return {
        "weights": tuple(weights.tolist()),
        "num_photos": len(place_Q),
        "reliability": tuple((float(mean), float(right), count) for mean, right, count in bins),
        "error": float(sum(abs(mean - right) * count for mean, right, count in bins) / len(told)),
        "accepted_here": accepted[0],
        "accepted_elsewhere": accepted[1],
    }


def _chances(weights: Numbers, inputs: Numbers) -> Numbers:
    return 1 / (1 + np.exp(-(inputs @ weights)))
