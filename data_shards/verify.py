"""`skydistill verify`: whether a shard folder is what it says it is, down to the key.

Every tar is hashed once, by several threads at the speed of the disk. Only where a digest differs
are its parts looked at, so that the answer names the image and not just the file.
"""

import hashlib
import json
import mmap
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_shards.decode import check_image
from data_shards.errors import ShardError, counted
from data_shards.index import ENCODINGS, Index, read_index
from data_shards.layouts.published import PUBLISHED, compare, images_in
from data_shards.manifest import (
    TARS_OF_OTHERS,
    Manifest,
    ShardEntry,
    content_digest,
    count_groups,
    groups_in,
    read_manifest,
)
from data_shards.packing.tar_chunk import TAR_BLOCK, TAR_END, tar_member
from data_shards.progress import Progress, Tally
from data_shards.schema import Role, View
from data_shards.shards import ShardSet
from data_shards.usable_cpus import usable_cpus


def damaged_parts(
    path: Path, index: Index, places: Sequence[str], *, is_ours: bool
) -> list[tuple[str, str]]:
    """Return the key and the damage of everything in a tar that is not what its index says.

    Of a tar that somebody else wrote (`is_ours` is false) only the images are described. The tar
    has the right length and a wrong digest, so there is at least one pair; the key is
    empty where the damage is in bytes that nothing else describes.
    """
    found = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as tar:
        ends = [*(index.rows["offset"][1:].astype(int) - TAR_BLOCK), len(tar) - len(TAR_END)]
        for row, key, end in zip(index.rows, index.keys, ends, strict=True):
            image = tar[int(row["offset"]) : int(row["offset"]) + int(row["size"])]
            if hashlib.sha256(image).digest()[:16] != row["digest"].tobytes():
                found.append(
                    (key, "the image is not the one that was written (its digest differs)")
                )
            around = _damaged_around(tar, image, row, key, end, places) if is_ours else ()
            found += ((key, f"{part} is damaged") for part in around)
        if is_ours and index.keys and tar[-len(TAR_END) :] != TAR_END:
            found.append((index.keys[-1], "what stands behind the image is damaged"))
    return found or [
        ("", "its digest is wrong, and headers, JSON or padding of no single image stand out")
    ]


def _damaged_around(
    tar: mmap.mmap, image: bytes, row: np.void, key: str, end: int, places: Sequence[str]
) -> Iterator[str]:
    """Yield which parts of a sample are not as they are written, but for the image itself."""
    start, view = int(row["offset"]), View(row["view"]).word
    header, _, padding = tar_member(f"{key}.{view}.{ENCODINGS[row['encoding']]}", image)
    if tar[start - TAR_BLOCK : start] != header:
        yield "the header before the image"
    behind, described = start + len(image), start + len(image) + len(padding)
    if tar[behind:described] != padding:
        yield "the padding behind the image"
    text = tar[described + TAR_BLOCK : end].rstrip(b"\0")
    try:
        json_says: dict[str, Any] = json.loads(text)
        said = [json_says[name] for name in ("key", "place", "view", "roles", "position")]
        altitude_m = np.nan if json_says["altitude_m"] is None else json_says["altitude_m"]
        said += [json_says["sha256"][:32], repr(np.float32(altitude_m))]
    except (ValueError, KeyError, TypeError):
        said = []
    told = [key, places[row["place"]], view, Role(row["roles"]).words, int(row["position"])]
    told += [row["digest"].tobytes().hex(), repr(row["altitude_m"])]
    if said != told or tar[described:end] != b"".join(tar_member(f"{key}.json", text)):
        yield "the JSON"


BLOCK_BYTES = 4 * 2**20
MEGABYTE = 10**6

DAMAGED = (
    "restore the files from where they came, or make them again with skydistill shard into a new "
    "folder"
)
UNOFFICIAL = (
    "the shards are whole: complete the raw folders and bring the shards up to date with "
    "skydistill shard, or leave out --expect official"
)
"""What to do about problems."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is not as it should be."""

    shard: str = ""
    """File name of the tar, or nothing."""

    key: str = ""
    """Key of the image, or nothing."""

    problem: str

    def __str__(self) -> str:
        where = ": ".join(word for word in (self.shard, self.key) if word)
        return f"{where}: {self.problem}" if where else self.problem


@dataclass(kw_only=True)
class VerifyResult:
    """What a check of a whole folder found."""

    images: int = 0
    bytes: int = 0
    """Bytes of tars that were read."""

    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)
    is_whole: bool = True
    """Whether all is as it was written, though perhaps not as published."""

    @property
    def is_ok(self) -> bool:
        return not self.problems

    @property
    def values(self) -> dict[str, Any]:
        """The result for a machine."""
        return {
            "ok": self.is_ok,
            "images": self.images,
            "bytes": self.bytes,
            "problems": [asdict(problem) for problem in self.problems],
        }

    def sentence(self, folder: Path, *, told: int) -> ShardError:
        """Return the one sentence on a folder of which `told` problems were listed before."""
        count = len(self.problems)
        listed = "listed above" if count <= told else f"the first {told} of them listed above"
        if count == 1:
            listed = str(self.problems[0])
        advice = DAMAGED if not self.is_whole else UNOFFICIAL
        return ShardError(f"{folder} has {counted(count, 'problem')} ({listed}); {advice}")


def verify_shards(
    folder: Path,
    *,
    expect: Literal["official", "none"],
    workers: int,
    progress: Progress,
    is_decoded: bool = False,
) -> VerifyResult:
    """Check manifest, indexes, every byte of every tar, pairs and counts.

    Args:
        folder: shard folder.
        expect: `official` also compares the counts with those published for the data set.
        workers: threads that read and hash; 0 means one per processor.
        progress: told of megabytes.
        is_decoded: also decode every image.

    Raises:
        ShardError: the manifest itself cannot be trusted, so that nothing else can be checked.
    """
    started = time.monotonic()
    manifest = read_manifest(folder)
    count = Tally(progress, sum(entry.bytes for entry in manifest.shards), per=MEGABYTE).add
    with ThreadPoolExecutor(workers or usable_cpus()) as pool:
        checked = list(
            pool.map(lambda entry: _check_shard(folder, manifest, entry, count), manifest.shards)
        )
    result = VerifyResult(bytes=sum(shard.bytes_read for shard in checked))
    result.problems = [problem for shard in checked for problem in shard.problems]
    indexes = [shard.index for shard in checked if shard.index is not None]
    result.images = sum(len(index.rows) for index in indexes)
    if is_decoded and not result.problems:
        result.problems += _undecodable(ShardSet.open(folder), workers or usable_cpus())
    if len(indexes) == len(checked):
        result.problems += _problems_of_the_whole(manifest, indexes)
    result.is_whole = result.is_ok
    if expect == "official" and result.is_whole:
        if manifest.layout in PUBLISHED:
            found = compare(manifest.layout, images_in(ShardSet.open(folder))).differences
        else:
            found = (f"the layout is {manifest.layout}, which has no published counts to compare",)
        result.problems += (Problem(problem=sentence) for sentence in found)
    result.seconds = time.monotonic() - started
    return result


@dataclass(kw_only=True)
class _Checked:
    """What became of one tar and its index."""

    name: str
    index: Index | None = None
    bytes_read: int = 0
    problems: list[Problem] = field(default_factory=list)

    def complain(self, problem: str, key: str = "") -> None:
        self.problems.append(Problem(shard=self.name, key=key, problem=problem))


def _check_shard(
    folder: Path, manifest: Manifest, entry: ShardEntry, count: Callable[[int], None]
) -> _Checked:
    checked = _Checked(name=entry.name)
    try:
        checked.index = read_index(folder / entry.index_name, tar=None, sha256=entry.index_sha256)
    except ShardError as error:
        checked.complain(str(error))
    try:
        digest, checked.bytes_read = _hash_file(folder / entry.name, count)
    except OSError as error:
        checked.complain(
            f"cannot be read ({error.strerror}); restore it from where the shards came"
        )
        return checked
    if checked.index is not None:
        _compare(checked, checked.index, entry)
        if checked.bytes_read == entry.bytes and digest != entry.sha256:
            is_ours = TARS_OF_OTHERS not in manifest.profile
            for key, problem in damaged_parts(
                folder / entry.name, checked.index, manifest.places, is_ours=is_ours
            ):
                checked.complain(problem, key)
    elif digest != entry.sha256:
        checked.complain("its digest is not the one in the manifest")
    return checked


def _compare(checked: _Checked, index: Index, entry: ShardEntry) -> None:
    """Compare the index with the manifest, and the length of the tar with both."""
    told_by_index = len(index.rows), index.tar_bytes, index.tar_sha256
    if told_by_index != (entry.images, entry.bytes, entry.sha256):
        checked.complain("its index and the manifest do not speak of the same tar")
    length = checked.bytes_read
    if length == entry.bytes:
        return
    told = f"{length} bytes instead of {index.tar_bytes}"
    ends = index.rows["offset"].astype(np.int64) + index.rows["size"]
    missing = np.flatnonzero(ends > length)
    if length > index.tar_bytes:
        checked.complain(f"longer than it was written: {told}")
    elif len(missing):
        checked.complain(
            f"cut short ({told}): {counted(len(missing), 'image')} lost, from this one on",
            index.keys[int(missing[0])],
        )
    else:
        checked.complain(f"cut short behind the last image ({told})")


def _undecodable(shards: ShardSet, workers: int) -> Iterator[Problem]:
    """Yield the images that were damaged before they came into their tars."""
    with ThreadPoolExecutor(workers) as pool:
        told = pool.map(lambda row: check_image(shards.read(row)), range(len(shards.images)))
        for row, problem in enumerate(told):
            if problem:
                tar = shards.manifest.shards[int(shards.images.shard[row])].name
                sentence = f"the image does not decode ({problem})"
                yield Problem(shard=tar, key=str(shards.images.key[row]), problem=sentence)


def _hash_file(path: Path, count: Callable[[int], None]) -> tuple[str, int]:
    digest, length = hashlib.sha256(), 0
    block = memoryview(bytearray(BLOCK_BYTES))
    with open(path, "rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while got := file.readinto(block):
            digest.update(block[:got])
            length += got
            count(got)
    return digest.hexdigest(), length


def _problems_of_the_whole(manifest: Manifest, indexes: list[Index]) -> Iterator[Problem]:
    """Yield what is wrong between the shards: counts, keys and pairs."""
    rows = [index.rows for index in indexes]
    found = groups_in(rows)
    strangers = sorted({place for _, _, place in found if place >= len(manifest.places)})
    if strangers:
        yield Problem(
            problem=f"an index names place number {strangers[0]}, which the manifest has not"
        )
        return
    keys = [key for index in indexes for key in index.keys]
    for key, times in Counter(keys).items():
        if times > 1:
            yield Problem(key=key, problem=f"stands in the tars {times} times")
    if content_digest(keys, rows) != manifest.content_sha256:
        yield Problem(problem="the indexes do not hold the images that the manifest was made from")
    for role, there in count_groups(found).items():
        told = manifest.counts.get(role, {})
        for what in sorted(there.keys() | told.keys()):
            if (number := there.get(what, 0)) != (other := told.get(what, 0)):
                sentence = f"{role}, {what}: {number}, and the manifest says {other}"
                yield Problem(problem=sentence)
