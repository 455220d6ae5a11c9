"""What BNext's, MCCG's and BiCrossNet's authors save, and what it computes, by their names.

Written from the equations (spec bicrossnet 1.4 and 2.2 to 2.5), without any of our networks.
"""

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
State = dict[str, Tensor]
Size = tuple[int, tuple[int, ...]]
"""Width of a BNext's stem, and of what each of its blocks puts out."""

TINY = (32, (64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024))
SMALL = (48, (96, 192, 192, 384, 384, *(768,) * 6, 1536, 1536))
MIDDLE = (48, (96, *(192,) * 4, *(384,) * 4, *(768,) * 8, *(1536,) * 4))
LARGE = (64, (128, *(256,) * 4, *(512,) * 4, *(1024,) * 16, *(2048,) * 4))

CONVNEXT_DIMS, CONVNEXT_DEPTHS = (96, 192, 384, 768), (3, 3, 9, 3)

BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "temperature")


# Names and shapes.


def norm(width: int) -> Shapes:
    names = ("weight", "bias", "running_mean", "running_var")
    return {name: (width,) for name in names} | {"num_batches_tracked": ()}


def affine(*weight: int) -> Shapes:
    return {"weight": weight, "bias": weight[:1]}


def below(**parts: Shapes) -> Shapes:
    """Put the names of parts behind theirs, in which `__` stands for a dot."""
    return {
        f"{part.replace('__', '.')}.{name}": shape
        for part, shapes in parts.items()
        for name, shape in shapes.items()
    }


def sub_block(width: int, kernel: int) -> Shapes:
    return {"scale": (1, width, 1, 1)} | below(
        move={"bias": (1, width, 1, 1)},
        binary_activation={"temperature": (1,)},
        binary_conv={"weight": (width, width, kernel, kernel), "temperature": (1,)},
        norm1=norm(width),
        norm2=norm(width),
        activation1={"weight": (width,)},
        activation2={"weight": (width,)},
        se__se__1=affine(width // 8, width, 1, 1),
        se__se__3=affine(width, width // 8, 1, 1),
    )


def blocks(size: Size) -> Iterator[tuple[str, int, int]]:
    """Yield number, input width and output width of each block."""
    stem, widths = size
    numbers = map(str, range(1, len(widths) + 1))
    yield from zip(numbers, (stem, *widths[:-1]), widths, strict=True)


def pointwise_names(before: int, width: int) -> tuple[str, ...]:
    return ("FFN",) if width == before else ("FFN_1", "FFN_2")


def bnext(size: Size) -> Shapes:
    stem, widths = size
    parts = {
        "feature.0.conv1": {"weight": (stem, 3, 3, 3)},
        "feature.0.bn1": norm(stem),
        "feature.0.prelu": {"weight": (stem,)},
        "prelu": {"weight": (widths[-1],)},
        "fc": affine(1000, widths[-1]),
    }
    for number, before, width in blocks(size):
        parts[f"feature.{number}.Attention"] = sub_block(before, 3)
        for name in pointwise_names(before, width):
            parts[f"feature.{number}.{name}"] = sub_block(before, 1)
    return below(**parts)


def convnext() -> Shapes:
    first, *_, last = CONVNEXT_DIMS
    parts = {
        "downsample_layers.0.0": affine(first, 3, 4, 4),
        "downsample_layers.0.1": affine(first),
        "norm": affine(last),
        "head": affine(1000, last),
    }
    for stage, (width, depth) in enumerate(zip(CONVNEXT_DIMS, CONVNEXT_DEPTHS, strict=True)):
        if stage:
            before = CONVNEXT_DIMS[stage - 1]
            parts[f"downsample_layers.{stage}.0"] = affine(before)
            parts[f"downsample_layers.{stage}.1"] = affine(width, before, 2, 2)
        for number in range(depth):
            parts[f"stages.{stage}.{number}"] = {"gamma": (width,)} | below(
                dwconv=affine(width, 1, 7, 7),
                norm=affine(width),
                pwconv1=affine(4 * width, width),
                pwconv2=affine(width, 4 * width),
            )
    return below(**parts)


def with_head(backbone: Shapes, width: int, num_classes: int) -> Shapes:
    block = below(
        add_block__0=affine(512, width),
        add_block__1=norm(512),
        classifier__0=affine(num_classes, 512),
    )
    gate = below(conv={"weight": (1, 2, 7, 7)}, bn=norm(1))
    names = ("classifier1", "classifier_mcb1", "classifier_mcb2")
    parts = {"convnext": backbone, "tri_layer.cw.conv": gate, "tri_layer.hc.conv": gate}
    return below(model_1=below(**parts, **dict.fromkeys(names, block)))


def student(size: Size, num_classes: int) -> Shapes:
    return with_head(bnext(size), size[1][-1], num_classes)


def teacher(num_classes: int) -> Shapes:
    return with_head(convnext(), CONVNEXT_DIMS[-1], num_classes)


def drawn(shapes: Shapes) -> State:
    """Draw weights in the ranges of trained ones."""
    generator = torch.Generator().manual_seed(0)
    return {name: draw(name, shape, generator) for name, shape in shapes.items()}


def draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    normal = torch.randn(shape, generator=generator)
    uniform = torch.rand(shape, generator=generator)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if name.endswith("temperature"):
        return torch.full(shape, 3.7e-24 if "binary_conv" in name else 0.5)
    if name.endswith("binary_conv.weight"):
        return torch.where(uniform < 0.01, 0.0, normal)  # some are exactly 0
    if name.endswith(".scale"):
        return 1.4 * uniform - 0.2  # not clamped since the last step
    if name.endswith(("running_var", "gamma")) or (name.endswith("weight") and len(shape) == 1):
        return 0.5 + uniform
    return normal / (normal[0].numel() if len(shape) > 1 else 10) ** 0.5


# What the weights compute, in eval mode.


def normed(w: State, name: str, x: Tensor) -> Tensor:
    parts = [w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *parts, training=False, eps=1e-5)


def prelu(w: State, name: str, x: Tensor) -> Tensor:
    return torch.where(x > 0, x, w[f"{name}.weight"].view(-1, 1, 1) * x)


def excitation(w: State, name: str, x: Tensor) -> Tensor:
    hidden = F.linear(
        x.mean(dim=(2, 3)), w[f"{name}.1.weight"].flatten(1), w[f"{name}.1.bias"]
    ).relu()
    out = F.linear(hidden, w[f"{name}.3.weight"].flatten(1), w[f"{name}.3.bias"])
    return out.sigmoid()[:, :, None, None]


def sub_block_of(w: State, name: str, u: Tensor, *, stride: int, is_attention: bool) -> Tensor:
    pool = partial(F.avg_pool2d, kernel_size=stride)
    kernel = w[f"{name}.binary_conv.weight"].sign()
    b = (u + w[f"{name}.move.bias"]).sign()
    z = F.conv2d(b, kernel, stride=stride, padding=kernel.shape[-1] // 2)
    z = prelu(w, f"{name}.activation2", normed(w, f"{name}.norm1", z))
    alpha = w[f"{name}.scale"]
    alpha = alpha.clamp(0, 1) if "FFN" in name else alpha
    z = excitation(w, f"{name}.se.se", alpha * pool(u) + (1 - alpha) * z) * z
    r = pool(prelu(w, f"{name}.activation1", u)) if is_attention else pool(u)
    return normed(w, f"{name}.norm2", z * r if is_attention else z) + r


def bnext_map(w: State, images: Tensor, size: Size) -> Tensor:
    x = F.conv2d(images, w["feature.0.conv1.weight"], stride=2, padding=1)
    x = normed(w, "feature.0.bn1", x)
    for number, before, width in blocks(size):
        stride = 2 if width > before and number != "1" else 1
        x = sub_block_of(
            w,
            f"feature.{number}.Attention",
            x,
            stride=stride,
            is_attention=int(number) % 2 == 0,
        )
        parts = [
            sub_block_of(w, f"feature.{number}.{name}", x, stride=1, is_attention=False)
            for name in pointwise_names(before, width)
        ]
        x = torch.cat(parts, dim=1)
    return prelu(w, "prelu", x)


def layer_normed(w: State, name: str, x: Tensor) -> Tensor:
    """Normalise the channels, which are the last axis."""
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-6)


def convnext_map(w: State, images: Tensor) -> Tensor:
    def channels_normed(name: str, x: Tensor) -> Tensor:
        return layer_normed(w, name, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def layer(name: str) -> tuple[Tensor, Tensor]:
        return w[f"{name}.weight"], w[f"{name}.bias"]

    x = images
    for stage, depth in enumerate(CONVNEXT_DEPTHS):
        name = f"downsample_layers.{stage}"
        if stage:
            x = F.conv2d(channels_normed(f"{name}.0", x), *layer(f"{name}.1"), stride=2)
        else:
            x = channels_normed(f"{name}.1", F.conv2d(x, *layer(f"{name}.0"), stride=4))
        for number in range(depth):
            name = f"stages.{stage}.{number}"
            y = F.conv2d(x, *layer(f"{name}.dwconv"), padding=3, groups=x.shape[1])
            y = layer_normed(w, f"{name}.norm", y.permute(0, 2, 3, 1))
            y = F.linear(F.gelu(F.linear(y, *layer(f"{name}.pwconv1"))), *layer(f"{name}.pwconv2"))
            x = x + (w[f"{name}.gamma"] * y).permute(0, 3, 1, 2)
    return x


def gated(w: State, name: str, x: Tensor) -> Tensor:
    planes = torch.stack([x.amax(dim=1), x.mean(dim=1)], dim=1)
    gate = normed(w, f"{name}.bn", F.conv2d(planes, w[f"{name}.conv.weight"], padding=3))
    return x * gate.sigmoid()


def head_parts(w: State, pooled: Tensor, last_map: Tensor) -> Tensor:
    """Return the three vectors [B, 512, 3] behind the BatchNorm of each block."""
    first = gated(w, "tri_layer.cw.conv", last_map.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)
    second = gated(w, "tri_layer.hc.conv", last_map.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)
    vectors = {
        "classifier_mcb1": first.mean(dim=(2, 3)),
        "classifier_mcb2": second.mean(dim=(2, 3)),
        "classifier1": pooled,
    }
    parts = []
    for name, vector in vectors.items():
        linear = w[f"{name}.add_block.0.weight"], w[f"{name}.add_block.0.bias"]
        parts.append(normed(w, f"{name}.add_block.1", F.linear(vector, *linear)))
    return torch.stack(parts, dim=2)


def without(prefix: str, w: State) -> State:
    return {k.removeprefix(prefix): v for k, v in w.items() if k.startswith(prefix)}


def student_parts(w: State, images: Tensor, size: Size, *, attention_map: str) -> Tensor:
    last_map = bnext_map(without("model_1.convnext.", w), images, size)
    pooled = last_map.mean(dim=(2, 3))
    seen = pooled[:, :, None, None] if attention_map == "pooled" else last_map
    return head_parts(without("model_1.", w), pooled, seen)


def teacher_parts(w: State, images: Tensor) -> Tensor:
    backbone = without("model_1.convnext.", w)
    last_map = convnext_map(backbone, images)
    pooled = layer_normed(backbone, "norm", last_map.mean(dim=(2, 3)))
    return head_parts(without("model_1.", w), pooled, last_map)


def descriptor(parts: Tensor) -> Tensor:
    """Scale each part to 1 / sqrt(3), and put them one behind another."""
    scaled = parts / (parts.norm(dim=1, keepdim=True) * 3**0.5)
    return torch.cat(scaled.unbind(2), dim=1)
