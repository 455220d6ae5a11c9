"""A photograph matched pixel by pixel with the map around the tiles it is most like."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import log1p
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from data_shards.decode import Pixels
from data_shards.usable_cpus import usable_cpus
from evaluation.own_map.ground import Ground, Numbers, Place, in_metres
from evaluation.own_map.maps import Map

MATCHED = 20
"""Best places that are matched with the map."""

PHOTO_SIDE, WINDOW_SIDE, LAST_SIDE = 1000, 1000, 1600
"""Most pixels of a photograph, of the map around a tile, and around the place that was found."""

MARGIN, LAST_MARGIN = 0.5, 0.2
"""Part of the footprint that is added on each side."""

FEATURES = 3000
MOST_ALIKE = 0.8
"""Lowe's ratio: how much nearer the best feature must be than the next one."""

OFF_PIXELS = 5.0
"""A pair of features further from where the others put it is no inlier."""

FEW, FLAT = 24, 0.8
"""Fewer pairs say little of perspective, and what they say carries corners far away: where so many
of them agree with a turn and a scale alone, as straight down, it is these."""

LEAST_PAIRS = 4
"""A homography has eight numbers."""

LEAST_INLIERS = 12
"""With fewer, features that happen to be alike agree as well: that is no match."""

MOST_TIMES = 64.0
"""The area of a photograph may be so many times that of the window, or as much smaller."""

DRAWN_AGAIN = 50

Points = npt.NDArray[np.float32]


class Agreement(NamedTuple):
    """How most of the features of a photograph that a window has as well lie in it."""

    matrix: Any
    """The homography from photograph to window."""

    source: Points
    """Features of the photograph that agree with it [N, 2], and those of the window."""

    target: Points

    @property
    def is_match(self) -> bool:
        return len(self.source) >= LEAST_INLIERS

    @property
    def evidence(self) -> float:
        """Logarithm of how many agree."""
        return log1p(len(self.source))


@dataclass(frozen=True, kw_only=True)
class Match:
    """How a photograph lies on the ground."""

    centre: Place
    corners: Numbers
    """(Latitude, longitude), the left upper one first, clockwise [4, 2]."""

    heading_deg: float
    """Where its top points, from north, clockwise."""

    inliers: int
    """Pairs of features that agree."""

    evidence: float
    """What its confidence is told from: of the place where it was first found."""

    error_m: float
    """The true centre is within so many metres with 95 %, as pairs drawn again put it, each time as
    far off as one of them is; the error of the map itself is not in it."""


def shrunk(pixels: Pixels, *, times: float) -> Pixels:
    """Return a picture so many times as large, if that is smaller."""
    height, width = (max(1, round(side * min(1.0, times))) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


class Features:
    """SIFT features of a picture, which is made smaller where it is longer than `side` pixels.

    Levels are equalized, as SIFT sees nothing at dusk. Numbers are whole and of 8 bits.
    """

    def __init__(self, pixels: Pixels, *, side: int) -> None:
        shown = shrunk(pixels, times=side / max(pixels.shape[:2]))
        gray = cv2.equalizeHist(cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY))
        sift = cv2.SIFT.create(FEATURES, enable_precise_upscale=True)
        found, descriptors = sift.detectAndCompute(gray, None)
        self.descriptors: Any = None if descriptors is None else descriptors.astype(np.uint8)
        self.points = np.array([one.pt for one in found], dtype=np.float32).reshape(-1, 2)
        self.size = height, width = shown.shape[:2]
        corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=np.float32)
        self.outline: Points = corners - 0.5
        """Counted as features are: from the middle of the first pixel."""


def match_best(photo: Pixels, windows: Sequence[tuple[Map, Any]]) -> Match | None:
    """Match a photograph with the map around each tile, and again around where it agrees best.

    Returns None where it agrees nowhere.
    """
    seen = Features(photo, side=PHOTO_SIDE)

    def matched(where: tuple[Map, Any]) -> tuple[Agreement | None, Ground, Map]:
        one, tile = where
        window = [int(tile[name]) for name in ("col", "row", "width", "height")]
        pixels, ground = one.around(window, margin=MARGIN, side=WINDOW_SIDE)
        return agreement_of(seen, Features(pixels, side=WINDOW_SIDE)), ground, one

    with ThreadPoolExecutor(usable_cpus()) as pool:
        tried = pool.map(matched, windows)
        found = [(one, ground, of) for one, ground, of in tried if one and one.is_match]
    if not found:
        return None
    first, ground, one = max(found, key=lambda each: len(each[0].source))
    # Once more where it lies, as fine as the map is.
    corners = one.ground.pixel(ground.xy(_moved(first.matrix, seen.outline) + 0.5))
    window = [*corners.min(axis=0), *np.ptp(corners, axis=0)]
    pixels, finer = one.around(window, margin=LAST_MARGIN, side=LAST_SIDE)
    again = agreement_of(seen, Features(pixels, side=LAST_SIDE))
    if again and len(again.source) >= len(first.source):
        return _placed(seen, again, finer, evidence=first.evidence)
    return _placed(seen, first, ground, evidence=first.evidence)


def agreement_of(photo: Features, window: Features) -> Agreement | None:
    """Return how the photograph lies in the window, if it does or not; None if it cannot."""
    if len(photo.points) < LEAST_PAIRS or len(window.points) < LEAST_PAIRS:
        return None
    seen, there = (torch.from_numpy(one.descriptors).float() for one in (photo, window))
    away, nearest = (part.numpy() for part in torch.cdist(seen, there).topk(2, largest=False))
    clear = [at for at in away[:, 0].argsort() if away[at, 0] < MOST_ALIKE * away[at, 1]]
    # One pair a point, the best: any photograph fits where it shrinks to a few points of a window.
    _, first = np.unique(window.points[nearest[clear, 0]], axis=0, return_index=True)
    if len(first) < LEAST_PAIRS:
        return None
    alike = np.array(clear)[first]
    source, target = photo.points[alike], window.points[nearest[alike, 0]]
    cv2.setRNGSeed(0)
    matrix: Any
    matrix, agrees = cv2.findHomography(source, target, cv2.USAC_MAGSAC, OFF_PIXELS)
    if matrix is not None and agrees.sum() < FEW:
        flat, agrees_flat = cv2.estimateAffinePartial2D(
            source, target, ransacReprojThreshold=OFF_PIXELS
        )
        if flat is not None and agrees_flat.sum() >= FLAT * agrees.sum():
            matrix, agrees = np.vstack([flat, (0, 0, 1)]), agrees_flat
    is_inlier = agrees.ravel() > 0
    if matrix is None or is_inlier.sum() < LEAST_PAIRS:
        return None
    outline = _moved(matrix, photo.outline).astype(np.float32)
    # Of the same sign where the ground is seen from above, not mirrored.
    times = cv2.contourArea(outline, oriented=True) / (window.size[0] * window.size[1])
    if not cv2.isContourConvex(outline) or not 1 / MOST_TIMES <= times <= MOST_TIMES:
        return None
    return Agreement(matrix, source[is_inlier], target[is_inlier])


def _placed(photo: Features, agreement: Agreement, ground: Ground, *, evidence: float) -> Match:
    """Bring what was found in pixels to the ground."""
    matrix, source, target = agreement
    middle, top = photo.outline.mean(axis=0), photo.outline[:2].mean(axis=0)
    # Pixels of features are counted from the middle of the first, those of maps from its corner.
    degrees = ground.lat_lon(_moved(matrix, np.vstack([middle, top, photo.outline])) + 0.5)
    centre = (float(degrees[0, 0]), float(degrees[0, 1]))
    east, north = in_metres(degrees[1], around=centre)[0]
    off, random, drawn = target - _moved(matrix, source), np.random.default_rng(0), []
    for _ in range(DRAWN_AGAIN):
        chosen = random.integers(0, len(source), len(source))
        other: Any
        if matrix[2, :2].any():
            other, _ = cv2.findHomography(source[chosen], target[chosen], 0)
        else:
            flat, _ = cv2.estimateAffinePartial2D(source[chosen], target[chosen])
            other = None if flat is None else np.vstack([flat, (0, 0, 1)])
        drawn += [_moved(other, middle)[0] + off[chosen[0]] + 0.5] if other is not None else []
    metres = np.linalg.norm(in_metres(ground.lat_lon(drawn), around=centre), axis=1)
    return Match(
        centre=centre,
        corners=degrees[2:],
        heading_deg=float(np.degrees(np.arctan2(east, north)) % 360),
        inliers=len(source),
        evidence=evidence,
        error_m=float(np.percentile(metres, 95)),
    )


def _moved(matrix: Any, points: Points) -> Numbers:
    moved = cv2.perspectiveTransform(points.reshape(1, -1, 2).astype(np.float64), matrix)
    return np.asarray(moved[0], dtype=np.float64)
