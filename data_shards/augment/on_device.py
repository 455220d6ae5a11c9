"""The photometric part of augmentation as batched operations on the device that trains.

Of each operation, all images of a batch that have it are taken together. What is computed of an
image does not depend on its company, so that a teacher's cache holds the pixels that a student
sees. Formulas and rounding are OpenCV's, which the loader uses: a result differs by a level at most
where a sum of float32 falls on the other side of a half.
"""

# Shapes: N = images, S = image size; channels last, red, green, blue.

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from data_shards.augment.mean import BLUR_SIZES, grid_of
from data_shards.augment.operations import GRAY, HUES, JITTER_ORDERS, saturation_matrix
from data_shards.augment.values import AugmentValues, neutral
from data_shards.augment.variations import Variations

GPU_IMAGES = 64
"""Images of one operation at once, which bounds its memory; on CPUs one, which stays in cache."""

FIXED_BITS = 10
"""OpenCV multiplies bytes by matrices in whole numbers of 1/1024."""

HUE_BITS = 12
"""Its divisions by a byte are tables of so many bits behind the point."""

SECTORS = ((0, 3, 1), (2, 0, 1), (1, 0, 3), (1, 2, 0), (3, 1, 0), (0, 1, 2))
"""Which of four values are red, green and blue in each sixth of the colour circle."""


def finish(images_NSS3: Tensor, variations: Variations) -> Tensor:
    """Return uint8 images [N, S, S, 3] with what the loader left of their `variations` done."""
    rows = variations.photometric
    if not len(rows):
        return images_NSS3
    images = images_NSS3.clone()
    _vary(images, rows, rows["is_joint"], _colour)
    order = JITTER_ORDERS[rows["jitter_order"]]
    for step in range(order.shape[1]):
        for number, (name, operation) in enumerate(JITTER.items()):
            chosen = np.isin(order[:, step], number) & (rows[name] != NEUTRAL[name])
            _vary(images, rows, ~rows["is_joint"] & chosen, operation)
    for size in BLUR_SIZES:
        _vary(images, rows, np.isin(rows["kernel_size"], size), _filter)
    _vary(images, rows, rows["is_grid"], _drop_grid)
    _vary(images, rows, rows["boxes"].max(axis=(1, 2)) > 0, _fill)
    for turns in (1, 2, 3):
        _vary(images, rows, np.isin(rows["quarter_turns"], turns), _turn)
    return images


def _vary(
    images: Tensor,
    rows: AugmentValues,
    chosen: npt.NDArray[np.bool_],
    operation: Callable[[Tensor, AugmentValues], Tensor],
) -> None:
    """Replace the chosen images [N] by what an operation makes of them."""
    numbers, at_once = np.flatnonzero(chosen), GPU_IMAGES if images.is_cuda else 1
    for start in range(0, len(numbers), at_once):
        part = numbers[start : start + at_once]
        at = _sent(part, images)
        images[at] = operation(images[at], rows[part])


def _sent(values: npt.NDArray[np.generic], images: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(images.device, non_blocking=True)


def _each(values_N: npt.NDArray[np.generic], images: Tensor) -> Tensor:
    """Return a number of each image, to be multiplied with it [N, 1, 1, 1]."""
    return _sent(values_N, images).view(-1, 1, 1, 1)


def _to_bytes(images: Tensor) -> Tensor:
    return images.round_().clamp_(0, 255).byte()


def _brighten(images: Tensor, rows: AugmentValues) -> Tensor:
    return _to_bytes(images * _each(rows["brightness"], images))


def _mean_lightness(images: Tensor) -> Tensor:
    """Return the mean gray of each image [N] in float64."""
    sums = images.flatten(1, 2).sum(dim=1, dtype=torch.int64)
    return sums.double() @ _sent(GRAY, images) / (images.shape[1] * images.shape[2])


def _change_contrast(images: Tensor, rows: AugmentValues) -> Tensor:
    left = 1.0 - _sent(rows["contrast"].astype(np.float64), images)
    offset = (_mean_lightness(images) * left).float().view(-1, 1, 1, 1)
    return _to_bytes(images * _each(rows["contrast"], images) + offset)


def _saturate(images: Tensor, rows: AugmentValues) -> Tensor:
    alone = neutral(len(rows))
    alone["saturation"] = rows["saturation"]
    return _colour(images, alone)


def _colour(images: Tensor, rows: AugmentValues) -> Tensor:
    """Change brightness, contrast and saturation in one, as the family `light` does."""
    brightness, contrast = (rows[name].astype(np.float64) for name in ("brightness", "contrast"))
    matrices = np.stack([saturation_matrix(factor) for factor in rows["saturation"].tolist()])
    scaled = ((brightness * contrast)[:, None, None] * matrices).astype(np.float32)
    unit = 2**FIXED_BITS
    matrix = _sent(np.rint(scaled * unit).astype(np.int32), images)
    offset = _mean_lightness(images) * _sent(brightness * (1.0 - contrast), images)
    result: Tensor = ((offset.float() + 0.5) * unit).round().int().view(-1, 1, 1, 1)
    for channel in range(3):
        result = result + images[..., channel, None] * matrix[:, None, None, :, channel]
    return (result >> FIXED_BITS).clamp_(0, 255).byte()


def _shift_hue(images: Tensor, rows: AugmentValues) -> Tensor:
    parts = np.rint(rows["hue"].astype(np.float64) * HUES).astype(np.int32)
    hue, saturation, value = _hsv(images.int())
    hue = (hue + _each(parts, images)[..., 0]) % HUES
    # The way back takes a circle of 255 parts, as OpenCV does.
    at = hue.float() * (6 / 255)
    sector = at.floor()
    at, full, value = at - sector, saturation.float() * (1 / 255), value.float() * (1 / 255)
    fall, rise = value * (1 - full * at), value * (1 - full * (1 - at))
    values = torch.stack([value, value * (1 - full), fall, rise], dim=-1)
    chosen = _table("sectors", images.device)[sector.long() % 6]
    return _to_bytes(values.gather(-1, chosen) * 255)


def _hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue in 256 parts of the circle, saturation and value, int32 [N, S, S] each."""
    red, green, blue = images.unbind(dim=-1)
    value = images.amax(dim=-1)
    spread, half = value - images.amin(dim=-1), 1 << (HUE_BITS - 1)
    saturation = (spread * _table("saturation", images.device)[value] + half) >> HUE_BITS
    otherwise = torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    sixths = torch.where(value == red, green - blue, otherwise)
    hue = (sixths * _table("hue", images.device)[spread] + half) >> HUE_BITS
    return hue % HUES, saturation, value


@cache
def _table(name: str, device: torch.device) -> Tensor:
    """Return the parts of the colour circle's sixths, or a division by each byte."""
    if name == "sectors":
        return torch.tensor(SECTORS, device=device)
    whole = {"saturation": 255, "hue": HUES / 6}[name]
    divided = np.rint((whole * 2**HUE_BITS) / np.arange(1, 256)).astype(np.int32)
    return torch.from_numpy(np.concatenate([np.zeros(1, dtype=np.int32), divided])).to(device)


JITTER = {
    "brightness": _brighten,
    "contrast": _change_contrast,
    "saturation": _saturate,
    "hue": _shift_hue,
}
"""In the order of their numbers in `JITTER_ORDERS`."""

NEUTRAL = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}


def _filter(images: Tensor, rows: AugmentValues) -> Tensor:
    """Correlate with kernels of one size; the border is mirrored, its own pixels not repeated."""
    size, side = int(rows["kernel_size"][0]), images.shape[1]
    reach, kernels = size // 2, _sent(rows["kernel"], images)
    # As NCHW for the padding, which knows no other; then rows and columns are moved.
    padded = F.pad(images.permute(0, 3, 1, 2).float(), (reach,) * 4, mode="reflect")
    result = torch.zeros_like(padded[:, :, :side, :side])
    for row in range(size):
        for column in range(size):
            moved = padded[:, :, row : row + side, column : column + side]
            result.addcmul_(moved, kernels[:, row, column].view(-1, 1, 1, 1))
    return _to_bytes(result).permute(0, 2, 3, 1)


def _turn(images: Tensor, rows: AugmentValues) -> Tensor:
    return images.rot90(int(rows["quarter_turns"][0]), dims=(1, 2))


def _drop_grid(images: Tensor, rows: AugmentValues) -> Tensor:
    cell, hole = grid_of(images.shape[1])
    is_hole = torch.arange(images.shape[1], device=images.device) % cell < hole
    return images * ~(is_hole[:, None] & is_hole)[..., None]


def _fill(images: Tensor, rows: AugmentValues) -> Tensor:
    edges = np.rint(rows["boxes"].astype(np.float64) * images.shape[1]).astype(np.int32)
    left, top, right, bottom = _sent(edges, images)[..., None].unbind(dim=2)
    at = torch.arange(images.shape[1], device=images.device)
    is_row, is_column = (at >= top) & (at < bottom), (at >= left) & (at < right)
    is_filled = is_row.float().transpose(1, 2) @ is_column.float() > 0
    return torch.where(is_filled[..., None], _sent(rows["fill"], images)[:, None, None], images)
