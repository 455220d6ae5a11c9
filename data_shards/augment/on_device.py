"""The photometric part of augmentation as batched operations on the device that trains.

All images of a batch that have an operation are taken together, and all numbers travel to the
device as one piece of memory: a GPU waits for whoever starts its operations. What is computed of an
image does not depend on its company, so that a teacher's cache holds the pixels that a student
sees. Formulas and rounding are OpenCV's, which the loader uses: a result differs by a level at most
where a sum of float32 falls on the other side of a half.
"""

# Shapes: N = images, S = image size; channels last, red, green, blue.

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from data_shards.augment.mean import grid_of
from data_shards.augment.operations import (
    CONTRAST,
    GRAY,
    HUE,
    HUES,
    JITTER_ORDERS,
    saturation_matrix,
)
from data_shards.augment.values import AugmentValues
from data_shards.augment.variations import Variations

GPU_PIXELS = 10_000_000
"""Of images at once, which bounds their memory; on CPUs it is one image, which stays in cache."""

FIXED = 1024.0
"""OpenCV multiplies bytes by matrices in whole numbers of 1/1024, and rounds halves up."""

HALF_UP = 0.25 / FIXED
"""Added to a sum of such numbers, so that no half is left for float32 to round to even."""

HUE_BITS = 12
"""OpenCV's divisions by a byte are tables of so many bits behind the point."""

SECTORS = ((0, 3, 1), (2, 0, 1), (1, 0, 3), (1, 2, 0), (3, 1, 0), (0, 1, 2))
"""What saturation takes from red, green and blue in each sixth of the colour circle: nothing, all,
what rises within the sixth, or what falls."""

Numbers = npt.NDArray[np.float64]

Step = tuple[Callable[[Tensor, Tensor], Tensor], npt.NDArray[np.intp], Numbers]
"""What makes others of images [n, S, S, 3] and their numbers [n, ...]; which; the numbers."""


def send(values: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """Bring values to the device, of which a CPU is given the memory itself."""
    here = torch.from_numpy(values)
    if device.type == "cuda":  # else a copy waits for all that the GPU was given before
        here = here.pin_memory()
    return here.to(device, non_blocking=True)


def finish(images_NSS3: Tensor, variations: Variations) -> Tensor:
    """Return uint8 images [N, S, S, 3] with what the loader left of their `variations` done."""
    rows = variations.photometric
    if not len(rows):
        return images_NSS3
    images, side = images_NSS3.clone(), images_NSS3.shape[1]
    at_once = max(1, GPU_PIXELS // side**2) if images.is_cuda else 1
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        _vary(images[part], _steps(rows[part], side))
    return images


def _vary(images: Tensor, steps: list[Step]) -> None:
    """Take the steps, in place."""
    if not steps:
        return
    values = [at for _, at, _ in steps] + [numbers for _, _, numbers in steps]
    sizes = [one.size for one in values]
    flat = np.concatenate([one.reshape(-1) for one in values], dtype=np.float64)
    there, num_chosen = send(flat, images.device), sum(sizes[: len(steps)])
    chosen = there[:num_chosen].long().split(sizes[: len(steps)])
    parts = there[num_chosen:].split(sizes[len(steps) :])
    for (operation, _, numbers), at, part in zip(steps, chosen, parts, strict=True):
        varied = operation(images.index_select(0, at), part.view(numbers.shape))
        images.index_copy_(0, at, varied)


def _steps(rows: AugmentValues, side: int) -> list[Step]:
    """Return what is to be done to images of one family."""
    factors = np.stack([rows[name] for name in ("brightness", "contrast", "saturation")])
    coloured = np.flatnonzero((factors != 1.0).any(axis=0) | (rows["hue"] != 0.0))
    filtered = np.flatnonzero(rows["kernel_size"])
    rim = (rows["kernel"].shape[1] - rows["kernel_size"].max(initial=0)) // 2
    inner = slice(rim, rows["kernel"].shape[1] - rim)
    filled = np.flatnonzero(rows["is_grid"] | rows["boxes"].any(axis=(1, 2)))
    edges = np.rint(rows["boxes"].astype(np.float64) * side).reshape(len(rows), -1)[filled]
    colours = _joint_colours if rows["is_joint"].any() else _jitter
    steps: list[Step] = [
        *([colours(rows[coloured], coloured, side)] if len(coloured) else []),
        (_filter, filtered, rows["kernel"][filtered, inner, inner]),
        (_fill, filled, np.column_stack([edges, rows["fill"][filled], rows["is_grid"][filled]])),
    ]
    for turns in (1, 2, 3):
        turned = np.flatnonzero(rows["quarter_turns"] == turns)
        steps.append((partial(_turn, turns=turns), turned, np.empty(0)))
    return [step for step in steps if len(step[1])]


def _joint_colours(rows: AugmentValues, at: npt.NDArray[np.intp], side: int) -> Step:
    """Change brightness, contrast and saturation in one, as the family `light` does."""
    brightness, contrast, saturation = _factors(rows)
    matrices = brightness * contrast * saturation_matrix(saturation)
    numbers = _linear(_fixed(matrices), brightness * (1.0 - contrast), HALF_UP, side)

    def colour(images: Tensor, numbers: Tensor) -> Tensor:
        return _mapped(images.float(), numbers, has_mean=True, unit=FIXED).byte()

    return colour, at, numbers


def _jitter(rows: AugmentValues, at: npt.NDArray[np.intp], side: int) -> Step:
    """Change one after the other: what comes before hue, hue of all images at once, the others.

    Images with most before hue come first, so that those with another step are a slice of them.
    """
    order = JITTER_ORDERS[rows["jitter_order"]]
    num_before = np.where(rows["hue"] != 0.0, (order == HUE).argmax(axis=1), 4)
    ranks = np.argsort(-num_before, kind="stable")
    rows, order, num_before = rows[ranks], order[ranks], num_before[ranks]
    linear = order[order != HUE].reshape(-1, 3)
    brightness, contrast, saturation = _factors(rows)
    each = np.stack(
        [
            _linear(brightness * np.eye(3), 0.0, 0.0, side),
            _linear(contrast * np.eye(3), 1.0 - contrast, 0.0, side),
            _linear(_fixed(saturation_matrix(saturation)), 0.0, HALF_UP, side),
        ],
        axis=1,
    )
    in_order = np.take_along_axis(each, linear[..., None].astype(np.intp), axis=1)
    hues = np.rint(rows["hue"].astype(np.float64) * HUES)
    ends = [int((num_before > step).sum()) for step in range(4)]
    has_mean = (linear == CONTRAST) & (rows["contrast"] != 1.0)[:, None]

    def change(images: Tensor, numbers: Tensor) -> Tensor:
        images, hues = images.float(), numbers[:, -1].int()
        maps = numbers[:, :-1].view(-1, *in_order.shape[1:])

        def change_part(part: slice, step: int) -> None:
            if has_mean[part, step].size:
                asks = bool(has_mean[part, step].any())
                images[part] = _mapped(images[part], maps[part, step], has_mean=asks)

        for step in range(3):
            change_part(slice(0, ends[step]), step)
        if ends[3] < len(images):
            images[ends[3] :] = _with_hue_shifted(images[ends[3] :], hues[ends[3] :])
        for step in range(3):
            change_part(slice(ends[step], None), step)
        return images.byte()

    return change, at[ranks], np.column_stack([in_order.reshape(len(rows), -1), hues])


def _factors(rows: AugmentValues) -> tuple[Numbers, ...]:
    """Return brightness, contrast and saturation [n, 1, 1] each."""
    names = ("brightness", "contrast", "saturation")
    return tuple(rows[name].astype(np.float64)[:, None, None] for name in names)


def _fixed(matrices_n33: Numbers) -> Numbers:
    fixed: Numbers = np.rint(matrices_n33.astype(np.float32) * FIXED) / FIXED
    return fixed


def _linear(matrices_n33: Numbers, of_mean: Numbers | float, offset: float, side: int) -> Numbers:
    """Return matrices by columns, what of each channel's sum is added, and an offset [n, 13]."""
    count = len(matrices_n33)
    weights = np.broadcast_to(of_mean * GRAY / side**2, (count, 1, 3)).reshape(count, 3)
    columns = matrices_n33.transpose(0, 2, 1).reshape(count, 9)
    return np.column_stack([columns, weights, np.full(count, offset)])


def _mapped(images: Tensor, numbers: Tensor, *, has_mean: bool, unit: float = 0.0) -> Tensor:
    """Return levels as float32: each image's matrix (`_linear`) times its pixels, rounded.

    What the mean lightness adds is rounded to a `unit`-th first, if there is a unit.
    """
    offset = numbers[:, 12]
    if has_mean:
        sums = images.flatten(1, 2).sum(dim=1, dtype=torch.float64)
        mean = torch.linalg.vecdot(sums, numbers[:, 9:12])
        offset = offset + ((mean * unit).round() / unit if unit else mean)
    columns = numbers[:, :9].float().view(-1, 3, 1, 1, 3)
    red, green, blue = images.split(1, dim=-1)
    result = torch.addcmul(offset.float().view(-1, 1, 1, 1), red, columns[:, 0])
    result.addcmul_(green, columns[:, 1]).addcmul_(blue, columns[:, 2])
    return result.round_().clamp_(0, 255)


def _with_hue_shifted(images: Tensor, hues_n: Tensor) -> Tensor:
    """Return levels as float32, the hue moved by parts of the circle."""
    hue, saturation, value = _hsv(images.int())
    taken = _looked_up("taken", (hue + hues_n.view(-1, 1, 1)) & (HUES - 1))
    full, brightest = saturation.float() * (1 / 255), value.float() * (1 / 255)
    return (brightest[..., None] * (1 - full[..., None] * taken)).mul_(255).round_()


def _hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue in 256 parts of the circle, saturation and value, int32 [N, S, S] each."""
    red, green, blue = images.unbind(dim=-1)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    half = 1 << (HUE_BITS - 1)
    saturation = (spread * _looked_up("saturation", value) + half) >> HUE_BITS
    of_green = torch.add(blue - red, spread, alpha=2)
    of_blue = torch.add(red - green, spread, alpha=4)
    sixths = torch.where(value == green, of_green, of_blue)
    sixths = torch.where(value == red, green - blue, sixths)
    return (sixths * _looked_up("hue", spread) + half) >> HUE_BITS, saturation, value


def _looked_up(name: str, at: Tensor) -> Tensor:
    """Return the entries of a table of 256 rows [...] at bytes."""
    table = _table(name, at.device)
    return table.index_select(0, at.flatten()).view(*at.shape, *table.shape[1:])


@cache
def _table(name: str, device: torch.device) -> Tensor:
    """Return what saturation takes from each channel at each hue, or a division by each byte."""
    if name == "taken":  # the way back takes a circle of 255 parts, as OpenCV does
        at = np.arange(HUES, dtype=np.float32) * np.float32(6 / 255)
        rise = at - np.floor(at)
        parts = np.stack([np.zeros_like(at), np.ones_like(at), rise, 1 - rise], axis=1)
        chosen = np.array(SECTORS)[np.floor(at).astype(int) % 6]
        return torch.from_numpy(np.take_along_axis(parts, chosen, axis=1)).to(device)
    whole = {"saturation": 255, "hue": HUES / 6}[name]
    divided = np.rint((whole * 2**HUE_BITS) / np.arange(1, 256)).astype(np.int32)
    return torch.from_numpy(np.concatenate([np.zeros(1, dtype=np.int32), divided])).to(device)


def _filter(images: Tensor, kernels: Tensor) -> Tensor:
    """Correlate with a kernel each [n, k, k]; the border is mirrored, its own pixels not repeated.

    As one image of 3 n channels, contiguous: so a GPU computes it in float32, without TF32.
    """
    count, side = images.shape[:2]
    planes = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    padded = F.pad(planes.view(1, -1, side, side), (kernels.shape[1] // 2,) * 4, mode="reflect")
    weights = kernels.float().repeat_interleave(3, dim=0)[:, None]
    result = F.conv2d(padded, weights, groups=3 * count).round_().clamp_(0, 255).byte()
    return result.view(count, 3, side, side).permute(0, 2, 3, 1)


def _turn(images: Tensor, _: Tensor, *, turns: int) -> Tensor:
    return images.rot90(turns, dims=(1, 2))


def _fill(images: Tensor, numbers: Tensor) -> Tensor:
    """Fill boxes (left, top, right, bottom in pixels), or the holes of a grid, which has none."""
    side, boxes, fill = images.shape[1], numbers[:, :-4], numbers[:, -4:-1].byte()
    low, high = boxes.view(len(images), -1, 2, 2, 1).unbind(dim=2)
    at, (cell, hole) = torch.arange(side, device=images.device), grid_of(side)
    is_hole = (at % cell < hole) & (numbers[:, -1].view(-1, 1, 1, 1) > 0)
    columns, rows = (((at >= low) & (at < high)) | is_hole).float().unbind(dim=2)
    is_filled = rows.transpose(1, 2) @ columns > 0
    return torch.where(is_filled[..., None], fill[:, None, None], images)
