"""uint8 pixels to network inputs, on the device that computes."""

from functools import cache

import torch
from torch import Tensor, nn

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet, as every pretrained backbone here expects."""

MEAN_LEVEL, STD_LEVELS = torch.tensor(MEAN) * 255, torch.tensor(STD) * 255

PREPROCESSING = f"imagenet mean {MEAN} std {STD}"
"""Part of the key of a teacher cache."""


def normalize(images_NHWC: Tensor) -> Tensor:
    """Turn uint8 images [N, H, W, 3] into normalized floats [N, 3, H, W], channels last."""
    mean, std = _mean_and_std(images_NHWC.device)
    return ((images_NHWC.float() - mean) / std).permute(0, 3, 1, 2)


@cache
def _mean_and_std(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return both of levels 0 to 255, brought to a device once: each copy waits for a GPU."""
    with torch.inference_mode(mode=False):  # training may read them as well
        return MEAN_LEVEL.to(device), STD_LEVELS.to(device)


def renormalize(mean: tuple[float, ...], std: tuple[float, ...]) -> nn.Module:
    """Return what brings `normalize`d images to other statistics of pixels, from 0 to 1."""
    return nn.Identity() if (mean, std) == (MEAN, STD) else _Renormalize(mean, std)


class _Renormalize(nn.Module):
    scale: Tensor
    shift: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        scale, shift = torch.tensor(STD), torch.tensor(MEAN) - torch.tensor(mean)
        self.register_buffer("scale", (scale / torch.tensor(std)).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", (shift / torch.tensor(std)).view(3, 1, 1), persistent=False)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return images_BCHW * self.scale + self.shift
