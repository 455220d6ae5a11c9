"""uint8 pixels to network inputs, on the device that computes."""

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet, as every pretrained backbone here expects."""

PREPROCESSING = f"imagenet mean {MEAN} std {STD}"
"""Part of the key of a teacher cache."""


def normalize(images_NHWC: Tensor) -> Tensor:
    """Turn uint8 images [N, H, W, 3] into normalized floats [N, 3, H, W], channels last."""
    mean = torch.tensor(MEAN, device=images_NHWC.device) * 255
    std = torch.tensor(STD, device=images_NHWC.device) * 255
    return ((images_NHWC.float() - mean) / std).permute(0, 3, 1, 2)
