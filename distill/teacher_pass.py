"""One pass of a teacher over every training image and augmentation slot, on any number of ranks.

Shard by shard: each rank fills its own rows of a mapped file, which is renamed when all ranks are
done; a build that was killed goes on behind the last finished shard.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from data_shards.errors import CacheError
from data_shards.loader import image_batches, slot_values
from data_shards.manifest import write_json
from data_shards.progress import Progress
from data_shards.schema import View
from data_shards.shards import RowNumbers, ShardSet
from distill.checkpoint import LoadedModel, to_device
from distill.collectives import rank, wait_for_all, world_size
from distill.config import DistillConfig
from distill.teacher import cache_key, teacher_outputs
from distill.teacher_cache import META_NAME, CacheKey, cached_shards, finish_cache, rows_name

KEY_NAME = "building.json"
"""Key of an unfinished cache, so that only the same build continues it."""

Rows = npt.NDArray[np.floating]


def build_cache(
    config: DistillConfig,
    shards: ShardSet,
    teacher: LoadedModel,
    *,
    folder: Path,
    device: torch.device,
    threads: int,
    progress: Progress,
) -> bool:
    """Fill the cache of a recipe; return False when it was there already.

    Raises:
        CacheError: `folder` holds something else, or the disk is full.
    """
    key = cache_key(config, shards, teacher)
    if _is_finished(folder, key):
        return False
    model = to_device(teacher.model, device)
    spans = cached_shards(shards)
    total, done = sum(count for _, count in spans.values()) * config.augment.slots, 0
    try:
        _begin(folder, key)
        for name, (first, count) in spans.items():
            final = folder / rows_name(name)
            if not final.is_file():
                aside = final.with_suffix(".partial")
                rows = _map_rows(aside, (count, config.augment.slots, key.width), key.dtype)
                for at in _fill(
                    rows, config, shards, model, first=first, device=device, threads=threads
                ):
                    progress(done + at, total)
                rows.flush()
                wait_for_all()
                if rank() == 0:
                    aside.replace(final)
                wait_for_all()
            done += count * config.augment.slots
            progress(done, total)
        if rank() == 0:
            finish_cache(folder, key)
            (folder / KEY_NAME).unlink()
        wait_for_all()
    except OSError as error:
        raise CacheError(
            f"teacher cache {folder} could not be written ({error.strerror}); free space and "
            "start again"
        ) from error
    return True


def _is_finished(folder: Path, key: CacheKey) -> bool:
    """Return whether `folder` is the finished cache of `key`; refuse one of another key."""
    path = folder / META_NAME
    if not path.is_file():
        return False
    if differs := key.differences(json.loads(path.read_text())["key"]):
        raise CacheError(
            f"{folder} holds a teacher cache made from another {', '.join(differs)}; "
            "set teacher.cache to a new folder, or remove this one"
        )
    return True


def _begin(folder: Path, key: CacheKey) -> None:
    """Create the folder, or clear what an unfinished build of another key left in it."""
    if rank() == 0:
        path = folder / KEY_NAME
        if path.is_file() and key.differences(json.loads(path.read_text())):
            shutil.rmtree(folder)
        elif folder.exists() and not path.is_file() and any(folder.iterdir()):
            raise CacheError(
                f"{folder} exists and holds no teacher cache; set teacher.cache to a new folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(key))
    wait_for_all()


def _map_rows(
    path: Path, shape: tuple[int, int, int], dtype: str
) -> "np.memmap[tuple[int, int, int], np.dtype[np.floating]]":
    """Create the file on rank 0, in full length, and map it on every rank."""
    if rank() == 0:
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        rows.flush()
    wait_for_all()
    return np.lib.format.open_memmap(path, mode="r+")


def _fill(
    into: Rows,
    config: DistillConfig,
    shards: ShardSet,
    model: torch.nn.Module,
    *,
    first: int,
    device: torch.device,
    threads: int,
) -> Iterator[int]:
    """Compute this rank's rows of one shard, yielding how many rows of all ranks are about done."""
    slots = config.augment.slots
    own = np.arange(rank(), len(into) * slots, world_size())
    image, slot = own // slots, own % slots
    rows: RowNumbers = first + image
    view = View(int(shards.images.view[first]))
    values = slot_values(shards, config.augment, rows, slot, view=view)
    at = 0
    for part, images in image_batches(
        shards,
        rows,
        image_size=config.data.image_size,
        batch_size=config.data.global_batch,
        threads=threads,
        values=values,
    ):
        outputs = teacher_outputs(model, torch.from_numpy(images).to(device))
        row = torch.cat([output.float().flatten(1) for output in outputs], dim=1)
        chosen = slice(at, at + len(part))
        into[image[chosen], slot[chosen]] = row.cpu().numpy()
        at += len(part)
        yield at * world_size()
