"""How a teacher's outputs become fixed-width rows of bytes on disk, and tensors again."""

# Shapes: N = images in their slots; an output is [N, ...] and a row holds all outputs of one.

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from data_shards.augment.on_device import send
from distill.config import CodecName
from distill.models import Outputs, Shapes

Rows = npt.NDArray[np.void]
"""Rows [N] of a structured dtype, which the files name, so that numpy alone can read them."""

MOST_INT8 = 127


@dataclass(frozen=True)
class FloatCodec:
    """Numbers as they are, in one float format."""

    format: str
    error: float
    """Largest change of a number, as a part of its output's largest number for that image."""

    def dtype(self, shapes: Shapes) -> np.dtype[np.void]:
        return np.dtype([(name, self.format, shape) for name, shape in shapes.items()])

    def encode(self, outputs: Outputs) -> Rows:
        """Return outputs [N, ...] as rows [N]; each number is rounded to the nearest."""
        rows = _empty_rows(self, outputs)
        for name, values in outputs.items():
            rows[name] = values.cpu().numpy()
        return rows

    def decode(self, rows: Rows, device: torch.device) -> Outputs:
        """Return rows [N] as float32 outputs [N, ...] on `device`, where they are decoded."""
        names = rows.dtype.names or ()
        return Outputs({name: send(rows[name], device).float() for name in names})


class Int8Codec:
    """Whole numbers -127 to 127, and one float32 scale per output and row: max |x| / 127."""

    error = 0.5 / MOST_INT8

    def dtype(self, shapes: Shapes) -> np.dtype[np.void]:
        fields: list[Any] = []
        for name, shape in shapes.items():
            fields += [(name, "i1", shape), (f"{name}/scale", "<f4")]
        return np.dtype(fields)

    def encode(self, outputs: Outputs) -> Rows:
        """Round each number to the nearest multiple of its row's scale; zeros stay zeros."""
        rows = _empty_rows(self, outputs)
        for name, values in outputs.items():
            flat = values.float().flatten(1)
            scale = flat.abs().amax(dim=1, keepdim=True) / MOST_INT8
            whole = (flat / scale.clamp(min=torch.finfo(torch.float32).tiny)).round()
            rows[name] = whole.to(torch.int8).reshape(values.shape).cpu().numpy()
            rows[f"{name}/scale"] = scale[:, 0].cpu().numpy()
        return rows

    def decode(self, rows: Rows, device: torch.device) -> Outputs:
        """Multiply each output's whole numbers by the scale of its row."""
        outputs = Outputs()
        for name in (rows.dtype.names or ())[::2]:
            values = send(rows[name], device).float()
            # A copy: the bytes of a row may be no multiple of 4, and torch wants it so.
            scale = send(np.ascontiguousarray(rows[f"{name}/scale"]), device)
            outputs[name] = values * scale.reshape(-1, *[1] * (values.ndim - 1))
        return outputs


def _empty_rows(codec: FloatCodec | Int8Codec, outputs: Outputs) -> Rows:
    shapes = {name: tuple(values.shape[1:]) for name, values in outputs.items()}
    return np.empty(len(next(iter(outputs.values()))), dtype=codec.dtype(shapes))


CODECS: dict[CodecName, FloatCodec | Int8Codec] = {
    "float32": FloatCodec("<f4", error=0.0),
    "float16": FloatCodec("<f2", error=2.0**-11),
    "int8": Int8Codec(),
}
"""Name in a recipe (`teacher.codec`) to codec."""
