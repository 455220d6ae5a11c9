"""How sure an answer is: calibrated on pairs of photographs and tiles the model never saw."""

# Shapes: Q = queries, R = rotations, G = gallery images.

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize

from data_shards.decode import Pixels
from data_shards.errors import DescriptorError
from data_shards.manifest import MANIFEST_NAME
from data_shards.progress import show_progress
from data_shards.schema import Role, View
from data_shards.shards import RowNumbers, ShardSet
from distill.collectives import rank
from distill.weights_file import LoadedModel
from evaluation.describe import describe
from evaluation.own_map.config import IndexConfig, Rotations
from evaluation.own_map.ground import Numbers

log = logging.getLogger(__name__)

ROTATIONS: tuple[int, ...] = get_args(Rotations)

LEAST_QUERIES, MOST_QUERIES, MOST_TILES = 20, 400, 4000
"""Of the shards, evenly spaced: enough for a curve of three numbers."""

LEVELS = tuple(number / 20 for number in range(1, 20))
"""Confidences at which it is told what is accepted."""

BINS = 5
RIDGE = 1e-6

Scores = npt.NDArray[np.float32]
PlaceNumbers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """From the score of the first tile and its margin to the chance that it is right.

    Each photograph was asked twice: with its tile in the gallery, and without, as on the map of
    another place. The curve was fitted on every second place, all other numbers are of the others.
    """

    rotations: int
    shards: str
    shards_fingerprint: str
    weights: tuple[float, ...]
    """Of 1, score and margin, whose sum is the log of the odds."""

    num_photos: int
    reliability: tuple[tuple[float, float, int], ...]
    """Mean confidence, share of right answers and count, of photographs alike in confidence."""

    error: float
    """Mean distance between both."""

    accepted_here: tuple[float, ...]
    """Share of photographs on the map called at least as sure as each of `LEVELS`."""

    accepted_elsewhere: tuple[float, ...]
    """The same of photographs of another map."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Calibration":
        """Make one of what JSON holds."""
        reliability = tuple(tuple(one) for one in values["reliability"])
        tuples = {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
        return cls(**{**values, **tuples, "reliability": reliability})

    def confidence(self, score: float, margin: float) -> float:
        """Return the chance that an answer is right, where half of the photos are elsewhere."""
        return float(_chances(np.array(self.weights), np.array([1.0, score, margin])))


def calibrate(
    config: IndexConfig, loaded: LoadedModel, *, known: tuple[Calibration, ...]
) -> tuple[Calibration, ...]:
    """Return a calibration for each number of rotations; every rank calls it.

    Those `known` are kept where the shards are the same, or where there are none.

    Raises:
        SkyDistillError: the shards of `--calibrate` cannot be read or hold too few pairs.
    """
    folder = config.calibrate or Path(str(loaded.recipe["data"].get("shards") or ""))
    if not config.calibrate and not (folder / MANIFEST_NAME).is_file():
        if not known:
            log.info("no confidence: the shards of the training are not there; give --calibrate")
        return known
    shards = ShardSet.open(folder).shown(loaded.aspect)
    if any(one.shards_fingerprint == shards.fingerprint for one in known):
        return known
    images = shards.images
    is_tile = (images.view == View.SATELLITE) & (images.roles & Role.GALLERY != 0)
    is_query = (images.view == View.DRONE) & (images.roles & Role.QUERY != 0)
    is_query &= np.isin(images.place, images.place[is_tile])
    drone, others = np.flatnonzero(is_query), np.flatnonzero(is_tile)
    drone = drone[np.linspace(0, len(drone) - 1, min(MOST_QUERIES, len(drone))).astype(int)]
    is_right = np.isin(images.place[others], images.place[drone])
    satellite = np.concatenate([others[is_right], others[~is_right][:MOST_TILES]])
    if len(drone) < LEAST_QUERIES or len(np.unique(images.place[satellite])) < 3:
        sentence = f"{folder} has {len(drone)} drone queries with a tile, too few to calibrate on"
        if config.calibrate:
            raise DescriptorError(f"{sentence}; give shards of at least {LEAST_QUERIES}")
        log.info("no confidence: %s; give --calibrate", sentence)
        return known
    score_RQG = _scores(config, loaded, shards, drone, satellite)
    places = images.place[drone], images.place[satellite]
    fitted = []
    for rotations in ROTATIONS:
        score_QG = score_RQG[:: ROTATIONS[-1] // rotations].max(axis=0)
        weights, numbers = _fitted(score_QG, *places)
        facts: dict[str, Any] = {
            "shards": shards.manifest.name or str(folder),
            "num_photos": len(drone),
        }
        facts |= {"shards_fingerprint": shards.fingerprint, "rotations": rotations}
        fitted.append(Calibration(weights=tuple(weights.tolist()), **facts, **numbers))
    return tuple(fitted)


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


def _fitted(
    score_QG: Scores, place_Q: PlaceNumbers, place_G: PlaceNumbers
) -> tuple[Numbers, dict[str, Any]]:
    """Fit on every second place, and measure on the others."""
    here, is_right = _inputs(score_QG, place_Q, place_G)
    is_own_QG = place_Q[:, None] == place_G
    elsewhere, _ = _inputs(np.where(is_own_QG, -1, score_QG), place_Q, place_G)
    is_fit = np.unique(place_Q, return_inverse=True)[1] % 2 == 0
    inputs = np.concatenate([here[is_fit], elsewhere[is_fit]])
    labels = np.concatenate([is_right[is_fit], np.zeros(is_fit.sum())])

    def loss(weights: Numbers) -> float:
        logits = inputs @ weights
        return float(np.mean(np.logaddexp(0, logits) - labels * logits) + RIDGE * weights @ weights)

    weights = minimize(loss, np.zeros(3), method="BFGS").x
    here_T, elsewhere_T = (_chances(weights, one[~is_fit]) for one in (here, elsewhere))
    told = np.concatenate([here_T, elsewhere_T])
    was_right = np.concatenate([is_right[~is_fit], np.zeros(len(elsewhere_T))])
    parts = np.array_split(np.argsort(told, kind="stable"), BINS)
    bins = [(told[part].mean(), was_right[part].mean(), len(part)) for part in parts]
    return weights, {
        "reliability": tuple((float(mean), float(right), count) for mean, right, count in bins),
        "error": float(sum(abs(mean - right) * count for mean, right, count in bins) / len(told)),
        "accepted_here": tuple(float((here_T >= level).mean()) for level in LEVELS),
        "accepted_elsewhere": tuple(float((elsewhere_T >= level).mean()) for level in LEVELS),
    }


def _inputs(
    score_QG: Scores, place_Q: PlaceNumbers, place_G: PlaceNumbers
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """Return (1, score, margin to the best of another place) [Q, 3], and whether it is right."""
    first_Q = place_G[score_QG.argmax(axis=1)]
    best_Q = score_QG.max(axis=1)
    margin_Q = best_Q - np.where(first_Q[:, None] == place_G, -1, score_QG).max(axis=1)
    return np.column_stack([np.ones(len(best_Q)), best_Q, margin_Q]), first_Q == place_Q


def _chances(weights: Numbers, inputs: Numbers) -> Numbers:
    return 1 / (1 + np.exp(-(inputs @ weights)))
