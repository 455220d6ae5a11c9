"""One pass of a teacher over every training image and augmentation slot, on any number of ranks.

Shard by shard: each rank fills its own rows of a mapped file, which is renamed when all ranks are
done. A build that was killed goes on behind the last finished shard, one that was told to stop
behind its last batch. Ranks take whole batches, so every image is computed in the same batch on any
number of ranks, and the bytes are the same.
Rank 0 holds a lock on the folder, so that two builds never share it.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_shards.errors import CacheError
from data_shards.lock import only_writer
from data_shards.manifest import write_json
from data_shards.progress import Progress
from data_shards.shards import RowNumbers, ShardSet
from distill.collectives import broadcast_object, rank, wait_for_all, world_size
from distill.models.weights import file_sha256
from distill.preemption import StopFlag
from distill.run_folder import STOP_NAME
from distill.teacher.cache import (
    KEY_NAME,
    META_NAME,
    CacheKey,
    cached_shards,
    is_finished,
    rows_name,
    tar_digests,
)
from distill.teacher.codec import CODECS
from distill.teacher.source import LiveTeacher, teacher_batch

log = logging.getLogger(__name__)

WHOLE = sys.maxsize
"""Rows made of a shard that is finished."""

REMEDY = "set teacher.cache to a new folder, or remove this one"


def build_cache(
    live: LiveTeacher, folder: Path, *, threads: int, progress: Progress, flag: StopFlag
) -> bool | None:
    """Fill the cache of a recipe; return False when it was there already, None if `flag` stops it.

    Raises:
        CacheError: `folder` holds something else or is being written, or the disk is full.
    """
    key, plan = live.key, live.shards.plan_digest
    is_there = rank() == 0 and is_finished(folder, key, remedy=REMEDY, plan=plan)
    if broadcast_object(is_there):
        return False
    taken = CacheError(
        f"teacher cache {folder} is being written by another process; wait until it is done, "
        "or set teacher.cache to another folder"
    )
    try:
        with only_writer(folder, taken=taken) if rank() == 0 else nullcontext():
            finished = broadcast_object(_begin(folder, key, live.shards) if rank() == 0 else None)
            if finished is None:
                return False
            seconds = _write_shards(folder, live, finished, threads, progress, flag)
            if seconds is None:
                return None
            if rank() == 0:
                digests = {path.name: file_sha256(path) for path in sorted(folder.glob("*.npy"))}
                facts = {"key": asdict(key), "digest": key.digest, "sha256": digests}
                facts |= {"teacher": live.name, "origin": asdict(live.origin)}
                facts |= {"plan": plan, "tars": tar_digests(live.shards)}
                write_json(folder / META_NAME, facts | {"seconds": round(seconds, 3)})
                (folder / KEY_NAME).unlink()
            wait_for_all()
    except OSError as error:
        raise CacheError(
            f"teacher cache {folder} could not be written ({error.strerror or error}); free space "
            "and start again: finished shards are kept"
        ) from error
    return True


def _write_shards(
    folder: Path,
    live: LiveTeacher,
    finished: Mapping[str, int],
    threads: int,
    progress: Progress,
    flag: StopFlag,
) -> float | None:
    """Write the rows that an earlier build did not finish.

    Return the wall seconds that all shards took, those of earlier builds too; None when stopped.
    """
    key, slots, done = live.key, live.key.augment["slots"], 0
    described = cached_shards(live.shards, key.altitudes)
    total = sum(map(len, described.values())) * slots
    before = json.loads((folder / KEY_NAME).read_text())["seconds"] if rank() == 0 else 0.0
    started = time.perf_counter()
    for name, images in described.items():
        num_rows, begin = len(images) * slots, finished.get(rows_name(name), 0)
        if begin != WHOLE:
            final = folder / rows_name(name)
            aside = final.with_suffix(".partial")
            rows = _map_rows(aside, (len(images), slots), key.row, is_begun=begin > 0)
            end, is_stopped = begin, False
            for end in _fill(rows.reshape(-1), live, images, begin, threads=threads):
                progress(done + end, total)
                is_stopped = flag.seen_by_any_rank()
                if is_stopped:
                    break
            rows.flush()
            wait_for_all()
            if rank() == 0:
                so_far = before + time.perf_counter() - started
                facts = {"key": asdict(key), "seconds": so_far, "begun": {final.name: end}}
                write_json(folder / KEY_NAME, facts)
                if end >= num_rows:
                    aside.replace(final)
            if is_stopped:
                return None
        done += len(images) * slots
        progress(done, total)
    wait_for_all()
    return float(before + time.perf_counter() - started)


def _fill(
    rows: npt.NDArray[np.void], live: LiveTeacher, images: RowNumbers, begin: int, *, threads: int
) -> Iterator[int]:
    """Fill the rows of a shard from `begin` on, a batch on each rank; yield up to where it is done.

    Every rank yields as often, though the last batch of some has no rows.
    """
    slots, codec = live.key.augment["slots"], CODECS[live.key.codec]
    batch = teacher_batch(live.device)
    rounds = range(begin, len(rows), world_size() * batch)
    every = np.arange(len(rows))
    own = [every[start + rank() * batch :][:batch] for start in rounds]
    at = np.concatenate([every[:0], *own])
    batches = live.of_slots(images[at // slots], at % slots, threads=threads)
    for start, part, outputs in zip_longest(rounds, own, batches):
        if outputs is not None:
            rows[part] = codec.encode(outputs)
        yield min(start + rounds.step, len(rows))


def _begin(folder: Path, key: CacheKey, shards: ShardSet) -> dict[str, int] | None:
    """Return how many rows an earlier build of this key made, by file; clear those of another key.

    Of a finished cache whose images were replaced under the same keys, the rows of other tars stay.

    None when another process finished this very cache before we had the lock. Whoever holds the
    lock may clear: an unfinished build of another key is nobody's any more.
    """
    if is_finished(folder, key, remedy=REMEDY, plan=shards.plan_digest):
        return None
    path, meta_path = folder / KEY_NAME, folder / META_NAME
    if meta_path.is_file():
        meta, tars = json.loads(meta_path.read_text()), tar_digests(shards)
        for rows in folder.glob("*.npy"):
            if meta["tars"].get(rows.name) != tars.get(rows.name):
                log.info("%s is made anew: images were replaced under the same keys", rows)
                rows.unlink()
        write_json(path, {"key": asdict(key), "seconds": meta["seconds"]})
        meta_path.unlink()
    if not path.is_file() and any(file.name != STOP_NAME for file in folder.iterdir()):
        raise CacheError(
            f"{folder} exists and holds no teacher cache; set teacher.cache to a new folder"
        )
    earlier = json.loads(path.read_text()) if path.is_file() else {"key": {}}
    if key.differences(earlier["key"]):
        for left_over in [*folder.glob("*.npy"), *folder.glob("*.partial")]:
            left_over.unlink()
        earlier = {"key": asdict(key), "seconds": 0.0}
        write_json(path, earlier)
    whole = {rows.name: WHOLE for rows in folder.glob("*.npy")}
    return {**earlier.get("begun", {}), **whole}


def _map_rows(
    path: Path, shape: tuple[int, int], dtype: np.dtype[np.void], *, is_begun: bool
) -> "np.memmap[tuple[int, int], np.dtype[np.void]]":
    """Create the file on rank 0, in full length, and map it on every rank."""
    if rank() == 0 and not is_begun:
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        with path.open("rb+") as file:  # a mapping that finds the disk full dies without a word
            file.seek(rows.offset)
            file.write(bytes(rows.nbytes))
    wait_for_all()
    return np.lib.format.open_memmap(path, mode="r+")
