"""One pass of a teacher over every training image and augmentation slot, on any number of ranks.

Shard by shard: each rank fills its own rows of a mapped file, which is renamed when all ranks are
done; a build that was killed goes on behind the last finished shard. Ranks take whole batches, so
every image is computed in the same batch on any number of ranks, and the bytes are the same.
Rank 0 holds a lock on the folder, so that two builds never share it.
"""

import json
import logging
import os
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from data_shards.augment.variations import Variations
from data_shards.errors import CacheError
from data_shards.loader import image_batches, slot_variations
from data_shards.lock import only_writer
from data_shards.manifest import write_json
from data_shards.progress import Progress
from data_shards.schema import View
from data_shards.shards import RowNumbers, ShardSet
from distill.collectives import broadcast_object, rank, wait_for_all, world_size
from distill.config import DistillConfig
from distill.models import to_device
from distill.teacher.cache import META_NAME, CacheKey, cached_shards, finish_cache, rows_name
from distill.teacher.source import cache_key, teacher_outputs
from distill.weights_file import LoadedModel

log = logging.getLogger(__name__)

KEY_NAME = "building.json"
"""Key of an unfinished cache, so that only the same build continues it."""

ZEROS_AT_ONCE = 2**20

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
        CacheError: `folder` holds something else or is being written, or the disk is full.
    """
    key = cache_key(config, shards, teacher)
    if broadcast_object(_is_finished(folder, key) if rank() == 0 else None):
        return False
    taken = CacheError(
        f"teacher cache {folder} is being written by another process; wait until it is done, "
        "or set teacher.cache to another folder"
    )
    try:
        with only_writer(folder, taken=taken) if rank() == 0 else nullcontext():
            finished = broadcast_object(_begin(folder, key) if rank() == 0 else None)
            if finished is None:
                return False
            _write_shards(
                config,
                shards,
                to_device(teacher.model, device),
                key,
                folder=folder,
                finished=finished,
                device=device,
                threads=threads,
                progress=progress,
            )
            if rank() == 0:
                finish_cache(folder, key)
                (folder / KEY_NAME).unlink()
            wait_for_all()
    except OSError as error:
        raise CacheError(
            f"teacher cache {folder} could not be written ({error.strerror or error}); free space "
            "and start again: finished shards are kept"
        ) from error
    return True


def _write_shards(
    config: DistillConfig,
    shards: ShardSet,
    model: torch.nn.Module,
    key: CacheKey,
    *,
    folder: Path,
    finished: Collection[str],
    device: torch.device,
    threads: int,
    progress: Progress,
) -> None:
    """Write the rows of every shard that an earlier build did not finish."""
    spans = cached_shards(shards)
    total, done = sum(count for _, count in spans.values()) * config.augment.slots, 0
    for name, (first, count) in spans.items():
        if rows_name(name) not in finished:
            final = folder / rows_name(name)
            aside = final.with_suffix(".partial")
            rows = _map_rows(aside, (count, config.augment.slots, key.width), key.dtype)
            for at in _fill(
                rows,
                config,
                shards,
                model,
                names=list(key.outputs),
                image_size=key.image_size,
                first=first,
                device=device,
                threads=threads,
            ):
                progress(done + at, total)
            rows.flush()
            wait_for_all()
            if rank() == 0:
                aside.replace(final)
        done += count * config.augment.slots
        progress(done, total)
    wait_for_all()


def _is_finished(folder: Path, key: CacheKey) -> bool:
    """Return whether `folder` is the finished cache of `key`; refuse one of another key."""
    path = folder / META_NAME
    if not path.is_file():
        return False
    try:
        found = json.loads(path.read_text())["key"]
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(f"{path} is damaged; remove {folder} and start again") from error
    if differs := key.differences(found):
        raise CacheError(
            f"{folder} holds a teacher cache made from another {', '.join(differs)}; "
            "set teacher.cache to a new folder, or remove this one"
        )
    return True


def _begin(folder: Path, key: CacheKey) -> set[str] | None:
    """Return the rows that an earlier build of this key finished; clear those of another key.

    None when another process finished this very cache before we had the lock. Whoever holds the
    lock may clear: an unfinished build of another key is nobody's any more.
    """
    if _is_finished(folder, key):
        return None
    path = folder / KEY_NAME
    if not path.is_file() and any(folder.iterdir()):
        raise CacheError(
            f"{folder} exists and holds no teacher cache; set teacher.cache to a new folder"
        )
    try:
        is_same = not key.differences(json.loads(path.read_text()))
    except (OSError, ValueError, AttributeError):
        is_same = False
    if not is_same:
        for left_over in [*folder.glob("*.npy"), *folder.glob("*.partial")]:
            left_over.unlink()
    write_json(path, asdict(key))
    return {rows.name for rows in folder.glob("*.npy")}


def _map_rows(
    path: Path, shape: tuple[int, int, int], dtype: str
) -> "np.memmap[tuple[int, int, int], np.dtype[np.floating]]":
    """Create the file on rank 0, in full length, and map it on every rank."""
    if rank() == 0:
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        rows.flush()
        _allocate(path, header_bytes=rows.offset)
    wait_for_all()
    return np.lib.format.open_memmap(path, mode="r+")


def _allocate(path: Path, *, header_bytes: int) -> None:
    """Give a new file its place on disk: a mapping that finds it full dies without a word."""
    size = path.stat().st_size
    with path.open("rb+") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
        file.seek(header_bytes)  # macOS has no such call, but zeros take their place too
        while left := size - file.tell():
            file.write(bytes(min(left, ZEROS_AT_ONCE)))


def _fill(
    into: Rows,
    config: DistillConfig,
    shards: ShardSet,
    model: torch.nn.Module,
    *,
    names: Collection[str],
    image_size: int,
    first: int,
    device: torch.device,
    threads: int,
) -> Iterator[int]:
    """Compute this rank's rows of one shard, yielding how many rows of all ranks are about done."""
    slots, batch = config.augment.slots, config.data.global_batch
    total = len(into) * slots
    starts = range(rank() * batch, total, world_size() * batch)
    own = np.concatenate(
        [np.arange(start, min(start + batch, total)) for start in starts]
        or [np.empty(0, dtype=np.int64)]
    )
    image, slot = own // slots, own % slots
    rows: RowNumbers = first + image
    view = View(int(shards.images.view[first]))

    def variations(part: slice) -> Variations:
        return slot_variations(shards, config.augment, rows[part], slot[part], view=view)

    at = 0
    for part, images in image_batches(
        shards,
        rows,
        image_size=image_size,
        resampling=config.data.resampling,
        batch_size=batch,
        threads=threads,
        variations=variations,
    ):
        outputs = teacher_outputs(model, torch.from_numpy(images).to(device), names)
        row = torch.cat([output.float().flatten(1) for output in outputs.values()], dim=1)
        chosen = slice(at, at + len(part))
        into[image[chosen], slot[chosen]] = row.cpu().numpy()
        at += len(part)
        yield min(at * world_size(), total)
