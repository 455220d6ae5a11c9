"""Goal D2: images per second and core, against the chain that the field's code runs.

The peers' chain, from its description: Pillow decodes, resizes (bicubic), pads by 10 repeated
pixels, crops at random, mirrors; then a float tensor, normalized. Ours leaves uint8 batches, since
normalization is the device's; the same with normalization on the CPU is told beside. Both shift
and mirror, nothing else is varied. Sources are 512 px, and for ours also pre-resized shards.
"""

import io
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from clock import interleaved, ratios
from line import report
from photos import kib_per_image, write_all
from PIL import Image
from torchvision.transforms import functional

from data_shards.augment.config import AugmentConfig
from data_shards.augment.variations import Variations
from data_shards.config import Resampling
from data_shards.loader import image_batches, slot_variations
from data_shards.schema import Role, View
from data_shards.shards import RowNumbers, ShardSet
from distill.models import normalize

SIZES, BATCH, SEED = (256, 384), 32, 0
BORDER = 10
MUST, MUST_RESIZED = 5.0, 12.0
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def shifts_and_flips(shards: ShardSet, rows: RowNumbers) -> Variations:
    """Draw shift and mirror as MCCG does, and nothing else."""
    augment = AugmentConfig(family="mccg", auto_augment=False)
    slots = np.arange(len(rows)) % augment.slots
    drawn = slot_variations(shards, augment, rows, slots)
    drawn.values["erased"] = 0
    return drawn


def peer(content: bytes, size: int, *, right: int, down: int, flip: bool) -> torch.Tensor:
    """Return one image [3, size, size] as the peers' chain makes it, with the numbers given."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    image = functional.resize(image, [size, size], functional.InterpolationMode.BICUBIC)
    image = functional.pad(image, [BORDER], padding_mode="edge")
    image = functional.crop(image, BORDER - down, BORDER - right, size, size)
    if flip:
        image = functional.hflip(image)
    normal: torch.Tensor = functional.normalize(functional.to_tensor(image), MEAN, DEVIATION)
    return normal


def peers(
    shards: ShardSet, rows: RowNumbers, drawn: Variations, size: int
) -> Iterator[torch.Tensor]:
    """Yield every image as the peers' chain makes it, before anything is collated."""
    for row, values in zip(rows, drawn.values, strict=True):
        yield peer(
            bytes(shards.read(int(row))),
            size,
            right=int(values["shift"][0]),
            down=int(values["shift"][1]),
            flip=bool(values["flip"]),
        )


def all_of_peers(*given: Any) -> None:
    """Make every image of `peers` once, and keep none."""
    deque(peers(*given), maxlen=0)


def ours(
    shards: ShardSet,
    rows: RowNumbers,
    drawn: Variations,
    size: int,
    *,
    resampling: Resampling = "opencv-linear",
    finish: Callable[[torch.Tensor], object] = id,
) -> None:
    """Load every image once, one thread, and hand each batch to `finish`."""
    for _, images in image_batches(
        shards,
        rows,
        image_size=size,
        resampling=resampling,
        batch_size=BATCH,
        threads=1,
        variations=drawn.__getitem__,
    ):
        finish(torch.from_numpy(images))


def bare(shards: ShardSet, rows: RowNumbers) -> None:
    """Decode the same files and do nothing else: what no loader can pass."""
    buffer = np.empty((512, 512, 3), dtype=np.uint8)
    for row in rows:
        simplejpeg.decode_jpeg(shards.read(int(row)), colorspace="RGB", buffer=buffer)


def assert_equal(shards: ShardSet, rows: RowNumbers, drawn: Variations, size: int) -> None:
    """With the peers' resampling, our images are theirs to the last bit of the decoder."""
    loaded: list[torch.Tensor] = []
    ours(shards, rows, drawn, size, resampling="pillow-bicubic", finish=loaded.append)
    given = torch.cat([normalize(images) for images in loaded])
    expected = torch.stack(list(peers(shards, rows, drawn, size)))
    step = 1 / 255 / min(DEVIATION)
    assert (given - expected).abs().max() <= 2.5 * step


def main() -> int:
    """Compare the chains at both sizes, and print one line."""
    torch.set_num_threads(1)
    value: dict[str, object] = {}
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        shards = write_all(Path(folder), places=8)
        source = shards(0)
        rows = source.images.where(role=Role.TRAIN, view=View.DRONE)
        drawn = shifts_and_flips(source, rows)
        value["KiB per image"] = {"512": kib_per_image(source)}
        for size in SIZES:
            resized = shards(size)
            assert_equal(source, rows, drawn, size)
            seconds = interleaved(
                {
                    "peers": partial(all_of_peers, source, rows, drawn, size),
                    "ours": partial(ours, source, rows, drawn, size),
                    "resized": partial(ours, resized, rows, drawn, size),
                    "bare": partial(bare, source, rows),
                    "bare resized": partial(bare, resized, rows),
                    "normalized": partial(ours, source, rows, drawn, size, finish=normalize),
                }
            )
            found = {name: ratios(seconds["peers"], seconds[name]) for name in seconds}
            cpu = sorted(seconds["peers"]["cpu"])[len(seconds["peers"]["cpu"]) // 2]
            value[f"{size} px"] = {
                "peers' img/s/core": round(len(rows) / cpu, 1),
                "from 512 px": found["ours"],
                "bare decoder of 512 px": found["bare"],
                "from pre-resized": found["resized"],
                "bare decoder of pre-resized": found["bare resized"],
                "from 512 px, normalized on the CPU": found["normalized"],
            }
            passed &= found["ours"]["cpu"]["median"] >= MUST
            passed &= found["resized"]["cpu"]["median"] >= MUST_RESIZED
    must = f">= {MUST} from 512 px and >= {MUST_RESIZED} from pre-resized shards, CPU seconds"
    return report("D2", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
