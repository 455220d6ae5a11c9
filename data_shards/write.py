"""Image records to tar shards with indexes and a manifest: the same input gives the same bytes.

Layout D of spec performance 2.3: a drone tar holds a block of places, view round by view round, so
any contiguous run of it shows each place at most once; satellites lie in tars of their own.
"""

import hashlib
import json
import logging
import os
import shutil
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_shards.decode import check_image
from data_shards.errors import ShardError
from data_shards.index import ENCODINGS, ROW, write_index
from data_shards.lock import only_writer
from data_shards.manifest import (
    MANIFEST_NAME,
    Manifest,
    ShardEntry,
    write_json,
    write_manifest,
)
from data_shards.processors import processors
from data_shards.progress import Progress
from data_shards.schema import SCHEMA_VERSION, ImageRecord, Role, View
from data_shards.shards import ShardSet

log = logging.getLogger(__name__)

PLACES_PER_SHARD = 128
SATELLITES_PER_SHARD = 8192
SOURCE_NAME = ".source.json"
"""Sizes and times of the raw files, so that an unchanged re-run need not read them.

It is a note of this program to itself and no part of the format.
"""

TAR_BLOCK = 512


@dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """What one `skydistill shard` did."""

    manifest: Manifest
    images: int
    was_complete: bool
    """True when the folder already held the shards of these very files and nothing was written."""


def write_shards(
    records: Sequence[ImageRecord], out: Path, *, layout: str, workers: int, progress: Progress
) -> ShardSummary:
    """Write tars, indexes and manifest into `out`, which appears only when it is whole.

    Raises:
        ShardError: an image is unreadable, the disk is full, or `out` holds something else.
    """
    source = _source_signature(records)
    if out.exists():
        return _accept_existing(records, out, source)
    try:
        with _folder_aside(out) as partial:
            manifest = _write_all(
                records, partial, layout=layout, workers=workers, progress=progress
            )
            write_json(partial / SOURCE_NAME, {"signature": source})
            partial.rename(out)
    except OSError as error:
        raise ShardError(
            f"{out} could not be written ({error.strerror}); free space or choose another folder"
        ) from error
    return ShardSummary(manifest=manifest, images=len(records), was_complete=False)


@contextmanager
def _folder_aside(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out` that only this process writes; a failure removes it."""
    partial = out.with_name(out.name + ".partial")
    taken = ShardError(f"{partial} is being written by another process; wait until it is done")
    with only_writer(partial, taken=taken):
        for left_over in partial.iterdir():
            left_over.unlink()
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial)
            raise


def _source_signature(records: Sequence[ImageRecord]) -> str:
    """Digest over keys, sizes and modification times: equal means nobody touched the raw files."""
    digest = hashlib.sha256()
    for record in records:
        try:
            stat = record.source.stat()
        except OSError as error:
            raise _unreadable(record, error) from error
        digest.update(
            f"{record.key} {int(record.roles)} {stat.st_size} {stat.st_mtime_ns}\n".encode()
        )
    return digest.hexdigest()


def _accept_existing(records: Sequence[ImageRecord], out: Path, source: str) -> ShardSummary:
    """Return the shards already there if they were made from `records`; refuse anything else."""
    if not (out / MANIFEST_NAME).is_file():
        raise ShardError(f"{out} exists and holds no shards; choose a new folder or remove it")
    manifest = ShardSet.open(out).manifest
    if not _is_untouched(out, source):
        content = _content_digest(
            (record.key, record.roles, hashlib.sha256(_read_file(record)).digest())
            for record in records
        )
        if content != manifest.content_sha256:
            raise ShardError(
                f"{out} holds shards of other images; choose a new folder or remove it"
            )
        _remember(out, source)
    return ShardSummary(manifest=manifest, images=len(records), was_complete=True)


def _is_untouched(out: Path, source: str) -> bool:
    """Tell whether the raw files have the sizes and times they had when they were last read."""
    try:
        return bool(json.loads((out / SOURCE_NAME).read_text()) == {"signature": source})
    except (OSError, ValueError):
        return False


def _remember(out: Path, source: str) -> None:
    try:
        write_json(out / SOURCE_NAME, {"signature": source})
    except OSError as error:
        log.info("%s is right but cannot be written to (%s)", out, error.strerror)


def _content_digest(images: Iterator[tuple[str, Role, bytes]]) -> str:
    digest = hashlib.sha256()
    for key, roles, image_sha256 in sorted(images):
        digest.update(f"{key} {int(roles)} {image_sha256.hex()}\n".encode())
    return digest.hexdigest()


def _write_all(
    records: Sequence[ImageRecord], folder: Path, *, layout: str, workers: int, progress: Progress
) -> Manifest:
    places = tuple(sorted({record.place for record in records}))
    number = {place: index for index, place in enumerate(places)}
    written = _write_shards(records, folder, number, workers=workers, progress=progress)
    digests = {record.key: sha for _, of_shard in written for record, sha in of_shard}
    manifest = Manifest(
        layout=layout,
        places=places,
        counts=_counts(records),
        shards=tuple(entry for entry, _ in written),
        content_sha256=_content_digest(
            (record.key, record.roles, digests[record.key]) for record in records
        ),
    )
    write_manifest(folder, manifest)
    return manifest


def _write_shards(
    records: Sequence[ImageRecord],
    folder: Path,
    number: dict[str, int],
    *,
    workers: int,
    progress: Progress,
) -> list[tuple[ShardEntry, list[tuple[ImageRecord, bytes]]]]:
    """Write all shards, several at once; the first failure stops the others in mid-shard."""
    lock, done, is_failed = threading.Lock(), 0, threading.Event()

    def count() -> None:
        nonlocal done
        if is_failed.is_set():
            raise CancelledError
        with lock:
            done += 1
            progress(done, len(records))

    with ThreadPoolExecutor(max_workers=workers or processors()) as pool:
        futures = [
            pool.submit(_write_shard, folder, name, of_shard, number=number, count=count)
            for name, of_shard in _split(records)
        ]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            is_failed.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _split(records: Sequence[ImageRecord]) -> Iterator[tuple[str, list[ImageRecord]]]:
    """Yield the name and the ordered records of every tar."""
    for group, is_train in (("train", True), ("test", False)):
        for view in View:
            chosen = [
                r for r in records if r.view is view and bool(r.roles & Role.TRAIN) is is_train
            ]
            places = sorted({record.place for record in chosen})
            size = SATELLITES_PER_SHARD if view is View.SATELLITE else PLACES_PER_SHARD
            for block in range(0, len(places), size):
                members = set(places[block : block + size])
                yield (
                    f"{group}-{view.word}-{block // size:06d}.tar",
                    sorted(
                        (r for r in chosen if r.place in members),
                        key=lambda r: (r.position, r.place, r.name),
                    ),
                )


def _write_shard(
    folder: Path,
    name: str,
    records: list[ImageRecord],
    *,
    number: dict[str, int],
    count: Callable[[], None],
) -> tuple[ShardEntry, list[tuple[ImageRecord, bytes]]]:
    """Write one tar and its index; return its entry and the digest of every image."""
    rows = np.zeros(len(records), dtype=ROW)
    digests = []
    sha, offset = hashlib.sha256(), 0
    with (folder / name).open("wb") as tar:
        for row, record in zip(rows, records, strict=True):
            image = _read_image(record)
            image_sha = hashlib.sha256(image).digest()
            members = _member(f"{record.key}.{record.view.word}.{record.suffix}", image)
            row["offset"], row["size"] = offset + TAR_BLOCK, len(image)
            row["digest"], row["place"] = image_sha[:16], number[record.place]
            _describe(row, record)
            members += _member(f"{record.key}.json", _sample_json(record, image_sha))
            tar.write(members)
            sha.update(members)
            offset += len(members)
            digests.append((record, image_sha))
            count()
        end = bytes(2 * TAR_BLOCK)
        tar.write(end)
        sha.update(end)
        tar.flush()
        os.fsync(tar.fileno())
    index = write_index(
        (folder / name).with_suffix(".index"),
        rows,
        [record.key for record in records],
        tar_bytes=offset + len(end),
        tar_sha256=sha.digest(),
    )
    entry = ShardEntry(
        name=name,
        images=len(records),
        bytes=offset + len(end),
        sha256=sha.hexdigest(),
        index_sha256=index.hex(),
    )
    return entry, digests


def _describe(row: np.void, record: ImageRecord) -> None:
    """Fill in what is known of an image without looking at its bytes."""
    row["view"], row["roles"] = record.view, record.roles
    row["position"], row["encoding"] = record.position, ENCODINGS.index(record.suffix)
    row["altitude_m"] = np.nan if record.altitude_m is None else record.altitude_m


def _unreadable(record: ImageRecord, error: OSError) -> ShardError:
    return ShardError(
        f"{record.source} cannot be read ({error.strerror}); restore it or remove the place"
    )


def _read_file(record: ImageRecord) -> bytes:
    try:
        return record.source.read_bytes()
    except OSError as error:
        raise _unreadable(record, error) from error


def _read_image(record: ImageRecord) -> bytes:
    content = _read_file(record)
    if problem := check_image(content):
        raise ShardError(
            f"{record.source} is not a readable image ({problem}); replace it or remove it"
        )
    return content


def _member(name: str, content: bytes) -> bytes:
    """Return one tar member: header without owner or time, content, padding."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    try:
        header = info.tobuf(format=tarfile.USTAR_FORMAT)
    except ValueError as error:
        raise ShardError(f"{name} does not fit into a tar ({error}); rename the file") from error
    return header + content + bytes(-len(content) % TAR_BLOCK)


def _sample_json(record: ImageRecord, image_sha256: bytes) -> bytes:
    values = {
        "schema_version": SCHEMA_VERSION,
        "key": record.key,
        "place": record.place,
        "view": record.view.word,
        "roles": record.roles.words,
        "position": record.position,
        "altitude_m": record.altitude_m,
        "sha256": image_sha256.hex(),
    }
    return json.dumps(values, sort_keys=True).encode()


def _counts(records: Sequence[ImageRecord]) -> dict[str, dict[str, int]]:
    """Count images per role and view, and places per role."""
    counts: dict[str, dict[str, int]] = {}
    for role in Role:
        chosen = [record for record in records if record.roles & role]
        word = role.words[0]
        counts[word] = dict(sorted(Counter(record.view.word for record in chosen).items()))
        counts[word]["places"] = len({record.place for record in chosen})
    return counts
