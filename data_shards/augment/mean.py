"""The family of MEAN, which is that of Sample4Geo (prior A of `specs` PFED 5, published values).

In this order: JPEG artefacts, resize, mirror (all views of a place together), colour jitter, blur
or sharpen, dropout of a grid or of boxes, quarter turns of the satellite tile. What the source
leaves open (widths of the blur, strength of the sharpening, cells of the grid) is the default of
the augmentation library that both use; its blur also bends the Gaussian and adds noise to the
kernel, which is left out here.
"""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from data_shards.augment.config import AugmentConfig
from data_shards.augment.operations import (
    JITTER_ORDERS,
    fill,
    jitter,
    mirror_and_turn,
    mirrored_and_turned,
)
from data_shards.augment.subjects import FLIP, Subjects
from data_shards.augment.values import AugmentValues, neutral
from data_shards.config import Resampling
from data_shards.decode import Pixels, resize
from data_shards.schema import View

JPEG_PROBABILITY, JPEG_QUALITY = 0.5, (90, 100)
JITTER_PROBABILITY = 0.5
SATELLITE_JITTER = {"brightness": 0.15, "contrast": 0.3, "saturation": 0.3, "hue": 0.3}
OTHER_JITTER = {"brightness": 0.15, "contrast": 0.7, "saturation": 0.3, "hue": 0.3}
"""Largest change of each colour factor; of hue, as a part of the colour circle."""

FILTER_PROBABILITY = 0.3
BLUR_SIZES = (3, 5, 7)
BLUR_SIGMA = (0.2, 1.0)
"""Widths of the Gaussian along its two axes, in pixels."""

SHARPEN_ALPHA, SHARPEN_LIGHTNESS = (0.2, 0.5), (0.5, 1.0)
"""Share of the sharpened image, and lightness added to its centre."""

DROPOUT_PROBABILITY = 0.3
GRID_CELLS, GRID_RATIO = 10, 0.4
"""Cells of the grid in a row, and the part of a cell's side that is dropped."""

NUM_HOLES, HOLE_SIDE = (10, 25), (0.1, 0.2)
BLACK = (0, 0, 0)

HALF_LEVEL = 0.5
"""What a rounded pixel can lose unseen."""

NO_FILTER, BLUR, SHARPEN = range(3)
NO_DROPOUT, GRID, HOLES = range(3)

Kernel = npt.NDArray[np.float32]


class Change(NamedTuple):
    """The values of one image."""

    flip: bool
    quarter_turns: int
    jpeg_quality: int
    jitter_order: int
    brightness: float
    contrast: float
    saturation: float
    hue: float
    filter: int
    blur_size: int
    blur_sigma: Kernel
    blur_angle: float
    sharpen_alpha: float
    sharpen_lightness: float
    dropout: int
    num_holes: int
    holes: Kernel


KINDS = "? u1 u1 u1 <f4 <f4 <f4 <f4 u1 u1 (2,)<f4 <f4 <f4 <f4 u1 u1 (25,4)<f4"
VALUES = np.dtype(list(zip(Change._fields, KINDS.split(), strict=True)))
"""Quality 0 is no JPEG; factors 1 and hue 0 no jitter; holes are boxes of fractions, of which the
first `num_holes` count, and which are drawn only where they are the dropout."""

TURN, JPEG, QUALITY = 100, 101, 102
JITTER, ORDER, BRIGHTNESS, CONTRAST, SATURATION, HUE = range(103, 109)
FILTER, SIZE, SIGMA_X, SIGMA_Y, ANGLE, ALPHA, LIGHTNESS = range(109, 116)
DROPOUT, COUNT = 116, 117
HOLE = 200
"""Names of the draws, beside `FLIP`; those of the holes go on from `HOLE`."""


def draw(config: AugmentConfig, subjects: Subjects) -> AugmentValues:
    """Draw the values of N images."""
    values = np.zeros(len(subjects), dtype=VALUES)
    values["flip"] = subjects.draw_of_place(FLIP) < config.flip_probability
    if subjects.view is View.SATELLITE and config.satellite_quarter_turns:
        values["quarter_turns"] = subjects.integers(TURN, 0, 3)
    is_jpeg = subjects.draw(JPEG) < JPEG_PROBABILITY
    values["jpeg_quality"] = is_jpeg * subjects.integers(QUALITY, *JPEG_QUALITY)
    _draw_jitter(values, subjects)
    _draw_filter(values, subjects)
    _draw_dropout(values, subjects)
    return values


def _draw_jitter(values: AugmentValues, subjects: Subjects) -> None:
    limits = SATELLITE_JITTER if subjects.view is View.SATELLITE else OTHER_JITTER
    is_jittered = subjects.draw(JITTER) < JITTER_PROBABILITY
    values["jitter_order"] = subjects.integers(ORDER, 0, len(JITTER_ORDERS) - 1)
    names = {"brightness": BRIGHTNESS, "contrast": CONTRAST, "saturation": SATURATION, "hue": HUE}
    for field, name in names.items():
        change = np.where(is_jittered, subjects.between(name, -limits[field], limits[field]), 0.0)
        values[field] = change if field == "hue" else 1.0 + change


def _draw_filter(values: AugmentValues, subjects: Subjects) -> None:
    chosen = subjects.draw(FILTER)
    values["filter"] = np.select(
        [chosen < FILTER_PROBABILITY / 2, chosen < FILTER_PROBABILITY], [BLUR, SHARPEN], NO_FILTER
    )
    values["blur_size"] = np.take(BLUR_SIZES, subjects.integers(SIZE, 0, len(BLUR_SIZES) - 1))
    values["blur_sigma"][:, 0] = subjects.between(SIGMA_X, *BLUR_SIGMA)
    values["blur_sigma"][:, 1] = subjects.between(SIGMA_Y, *BLUR_SIGMA)
    values["blur_angle"] = subjects.between(ANGLE, -90.0, 90.0)
    values["sharpen_alpha"] = subjects.between(ALPHA, *SHARPEN_ALPHA)
    values["sharpen_lightness"] = subjects.between(LIGHTNESS, *SHARPEN_LIGHTNESS)


def _draw_dropout(values: AugmentValues, subjects: Subjects) -> None:
    chosen = subjects.draw(DROPOUT)
    values["dropout"] = np.select(
        [chosen < DROPOUT_PROBABILITY / 2, chosen < DROPOUT_PROBABILITY], [GRID, HOLES], NO_DROPOUT
    )
    has_holes = np.flatnonzero(values["dropout"] == HOLES)  # few, and each has a hundred numbers
    holed = subjects.of(has_holes)
    values["num_holes"][has_holes] = holed.integers(COUNT, *NUM_HOLES)
    draws = holed.draws(HOLE, 4 * NUM_HOLES[1]).reshape(-1, NUM_HOLES[1], 4)
    sides = HOLE_SIDE[0] + (HOLE_SIDE[1] - HOLE_SIDE[0]) * draws[..., 2:]
    corner = (1.0 - sides) * draws[..., :2]
    values["holes"][has_holes] = np.concatenate([corner, corner + sides], axis=2)


def split(values: AugmentValues) -> tuple[AugmentValues, AugmentValues]:
    """Leave all behind JPEG, resize and mirror to the training device: its rows come second.

    A turn stays here where nothing comes before it that minds where a pixel lies.
    """
    ours, rest = values.copy(), neutral(len(values))
    for name in ("jitter_order", "brightness", "contrast", "saturation", "hue"):
        rest[name], ours[name] = values[name], neutral(1)[name]
    is_filtered, has_holes = values["filter"] != NO_FILTER, values["dropout"] == HOLES
    chosen = np.flatnonzero(is_filtered)
    rest["kernel_size"][chosen], rest["kernel"][chosen] = _kernels(values[chosen])
    rest["is_grid"] = values["dropout"] == GRID
    is_hole = has_holes[:, None] & (np.arange(NUM_HOLES[1]) < values["num_holes"][:, None])
    rest["boxes"] = np.where(is_hole[..., None], values["holes"], 0.0)
    is_turned_last = is_filtered | (values["dropout"] != NO_DROPOUT)
    rest["quarter_turns"] = np.where(is_turned_last, values["quarter_turns"], 0)
    ours["quarter_turns"] -= rest["quarter_turns"]
    ours["filter"], ours["dropout"] = NO_FILTER, NO_DROPOUT
    return ours, rest


def is_in_place(change: Change) -> bool:
    """Whether an image is best decoded where it will stay: not where rows become columns."""
    return not (change.quarter_turns % 2 and _is_turned_first(change))


def _is_turned_first(change: Change) -> bool:
    """Whether a turn may come with the mirror: colours do not mind where a pixel lies."""
    return change.filter == NO_FILTER and change.dropout == NO_DROPOUT


def apply(pixels: Pixels, change: Change, into: Pixels, *, resampling: Resampling) -> None:
    """Vary one image, in the order of the text above."""
    if change.jpeg_quality:
        pixels = _through_jpeg(pixels, change.jpeg_quality, into)
    is_turned_last = not _is_turned_first(change)
    turns = 0 if is_turned_last else change.quarter_turns
    if turns % 2 and pixels.shape == into.shape and pixels is not into:
        mirrored_and_turned(pixels, into, is_mirrored=change.flip, quarter_turns=turns)
    else:
        resize(pixels, size=into.shape[0], resampling=resampling, into=into)
        mirror_and_turn(into, is_mirrored=change.flip, quarter_turns=turns)
    factors = (change.brightness, change.contrast, change.saturation)
    jitter(into, *factors, hue=change.hue, order=change.jitter_order)
    if is_turned_last:
        if change.filter != NO_FILTER:
            cv2.filter2D(into, -1, _kernel(change), dst=into)
        _drop(into, change)
        mirror_and_turn(into, is_mirrored=False, quarter_turns=change.quarter_turns)


def _through_jpeg(pixels: Pixels, quality: int, into: Pixels) -> Pixels:
    """Return what a JPEG of `quality` leaves of an image, in `into` if it has its size."""
    content = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    if pixels.shape == into.shape:
        simplejpeg.decode_jpeg(content, colorspace="RGB", buffer=into)
        return into
    decoded: Pixels = simplejpeg.decode_jpeg(content, colorspace="RGB")
    return decoded


def _kernel(change: Change) -> Kernel:
    if change.filter == SHARPEN:
        return sharpen_kernel(change.sharpen_alpha, change.sharpen_lightness)
    return _without_rim(blur_kernel(change.blur_size, change.blur_sigma, change.blur_angle))


def _without_rim(kernel: Kernel) -> Kernel:
    """Return a kernel without the rim that moves no pixel by half a level; its size is its cost."""
    while len(kernel) > BLUR_SIZES[0]:
        inner = kernel[1:-1, 1:-1]
        if 255 * (1.0 - float(inner.sum())) >= HALF_LEVEL:
            break
        kernel = inner / inner.sum()
    return kernel


def _kernels(values: AugmentValues) -> tuple[npt.NDArray[np.uint8], Kernel]:
    """Return the sizes [N] and kernels that `_kernel` makes, in the middle of zeros [N, 7, 7]."""
    is_blur, sizes, most = values["filter"] == BLUR, values["blur_size"].copy(), BLUR_SIZES[-1]
    sizes[~is_blur] = BLUR_SIZES[0]
    kernels = np.zeros((len(values), most, most), dtype=np.float32)
    for size in BLUR_SIZES[::-1]:  # the largest may become smaller ones
        inner = slice((most - size) // 2, (most + size) // 2)
        at = np.flatnonzero(is_blur & (values["blur_size"] == size))
        sigma, angle = values["blur_sigma"][at], values["blur_angle"][at].astype(np.float64)
        kernels[at, inner, inner] = blur_kernel(size, sigma, angle)
        is_larger = sizes > size
        without = kernels[is_larger, inner, inner]
        total = without.sum(axis=(1, 2))
        loses = 255 * (1.0 - total.astype(np.float64)) < HALF_LEVEL
        at = np.flatnonzero(is_larger)[loses]
        kernels[at], sizes[at] = 0.0, size
        kernels[at, inner, inner] = without[loses] / total[loses, None, None]
    alpha, lightness = (
        values[name].astype(np.float64) for name in ("sharpen_alpha", "sharpen_lightness")
    )
    kernels[~is_blur, inner, inner] = sharpen_kernel(alpha, lightness)[~is_blur]  # inner is 3
    return sizes, kernels


def blur_kernel(size: int, sigma: Kernel, angle: float | npt.NDArray[np.float64]) -> Kernel:
    """Return Gaussians [..., size, size] of two widths in pixels [..., 2], turned by degrees."""
    reach = size // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    turned = np.deg2rad(angle)[..., None, None]
    cosine, sine = np.cos(turned), np.sin(turned)
    along, across = cosine * x + sine * y, cosine * y - sine * x
    widths = np.asarray(sigma, dtype=np.float64)[..., None, None]
    kernel = np.exp(
        -0.5 * ((along / widths[..., 0, :, :]) ** 2 + (across / widths[..., 1, :, :]) ** 2)
    )
    normalized: Kernel = (kernel / kernel.sum(axis=(-2, -1), keepdims=True)).astype(np.float32)
    return normalized


def sharpen_kernel(
    alpha: float | npt.NDArray[np.float64], lightness: float | npt.NDArray[np.float64]
) -> Kernel:
    """Return the kernels [..., 3, 3] that mix an image with its sharpened self."""
    kernel = np.full(
        (*np.shape(alpha), 3, 3), -np.asarray(alpha)[..., None, None], dtype=np.float32
    )
    kernel[..., 1, 1] = (1.0 - alpha) + alpha * (8.0 + lightness)
    return kernel


def _drop(pixels: Pixels, change: Change) -> None:
    if change.dropout == GRID:
        cell, hole = grid_of(len(pixels))
        whole = len(pixels) // cell * cell
        for top in range(0, len(pixels), cell):
            rows = pixels[top : top + hole]
            rows[:, :whole].reshape(len(rows), -1, cell, 3)[:, :, :hole] = 0
            rows[:, whole : whole + hole] = 0
    elif change.dropout == HOLES:
        for box in change.holes[: change.num_holes].tolist():
            fill(pixels, box, BLACK)


def grid_of(size: int) -> tuple[int, int]:
    """Return the side of a grid's cells, and of the hole in each, in pixels."""
    cell = max(2, size // GRID_CELLS)
    return cell, max(1, int(cell * GRID_RATIO))
