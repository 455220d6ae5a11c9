"""Tars that others wrote with our keys get indexes and a manifest; they themselves stay untouched.

`skydistill shard FOLDER --index-only`: for what stock `webdataset.ShardWriter` wrote, one image and
at most one JSON per sample, keyed `PLACE/VIEW/NAME`.
"""

import hashlib
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from data_shards.decode import check_image, exif_orientation
from data_shards.errors import ShardError, require_known
from data_shards.index import ENCODINGS, ROW, Rows, index_content, write_aside
from data_shards.manifest import (
    TARS_OF_OTHERS,
    Manifest,
    ShardEntry,
    ShardSummary,
    content_digest,
    count_groups,
    groups_in,
    read_manifest,
    write_manifest,
)
from data_shards.packing.tar_chunk import TAR_BLOCK
from data_shards.progress import Progress
from data_shards.schema import IMAGE_SUFFIXES, Role, View
from data_shards.usable_cpus import usable_cpus

ROLE_OF_PREFIX = {"train": Role.TRAIN, "query": Role.QUERY, "gallery": Role.GALLERY}
"""First word of a tar's name to the roles of images whose JSON tells none."""

VIEWS = {view.word: view for view in View}
ROLES = {role.words[0]: role for role in Role}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Members of one key."""

    key: str
    images: list[tuple[str, tarfile.TarInfo]]
    """Suffix behind the key, such as `drone.jpg`, and the member."""

    described: tarfile.TarInfo | None
    """The JSON member."""


@dataclass(frozen=True, kw_only=True)
class WalkedTar:
    """All images of one tar, in its order."""

    path: Path
    keys: list[str]
    places: list[str]
    rows: Rows
    sha256: bytes
    num_bytes: int


def index_tars(
    folder: Path,
    *,
    roles: Role | None,
    workers: int,
    progress: Progress,
    name: str = "",
    is_decoded: bool = True,
) -> ShardSummary:
    """Write an index beside each tar of `folder`, then the manifest.

    Args:
        folder: holds `*.tar`.
        roles: of images whose JSON tells none; None leaves it to the tar's name.
        workers: threads, one tar each; 0 means one per processor.
        progress: told of tars.
        name: of the data set; by default as it was called before, or as the folder.
        is_decoded: whether every image is decoded once.

    Raises:
        ShardError: a tar is cut short, or a sample is not one image under one of our keys.
    """
    try:
        paths = sorted(folder / name for name in os.listdir(folder) if name.endswith(".tar"))
    except OSError as error:
        raise ShardError(
            f"{folder} cannot be read ({error.strerror}); give the folder that webdataset wrote"
        ) from error
    if not paths:
        raise ShardError(f"{folder} holds no tars; give the folder that webdataset wrote")
    old: Manifest | None = None
    with suppress(ShardError):  # none yet, or a damaged one
        old = read_manifest(folder)
    if old is not None and TARS_OF_OTHERS not in old.profile:
        raise ShardError(
            f"{folder} was written by skydistill shard and has its indexes; check it with "
            f"skydistill verify {folder}"
        )
    walked: list[WalkedTar] = []
    with ThreadPoolExecutor(workers or usable_cpus()) as pool:
        for tar in pool.map(partial(_walk, roles=roles, is_decoded=is_decoded), paths):
            walked.append(tar)
            progress(len(walked), len(paths))
    try:
        name = name or (old.name if old else "") or folder.resolve().name
        manifest = replace(_write_indexes(walked), name=name)
        if manifest != old:
            write_manifest(folder, manifest)
    except OSError as error:
        raise ShardError(
            f"the indexes of {folder} could not be written ({error.strerror}); free space or make "
            "it writable, and run this again"
        ) from error
    return ShardSummary(
        manifest=manifest, was_complete=manifest == old, tars_written=0, tars_kept=len(walked)
    )


def roles_of(words: Sequence[str]) -> Role | None:
    """Return the roles that a user named, or None for none.

    Raises:
        ShardError: a role is unknown.
    """
    roles = Role(0)
    for word in words:
        roles |= ROLES[require_known(word, ROLES, what="role", error=ShardError)]
    return roles or None


def _write_indexes(walked: Sequence[WalkedTar]) -> Manifest:
    seen: dict[str, Path] = {}
    for key, path in ((key, tar.path) for tar in walked for key in tar.keys):
        if key in seen:
            raise ShardError(
                f"{path}: {key} stands in {seen[key].name} too; give every image its own key"
            )
        seen[key] = path
    places = tuple(sorted({place for tar in walked for place in tar.places}))
    number = {place: index for index, place in enumerate(places)}
    entries = []
    for tar in walked:
        tar.rows["place"] = [number[place] for place in tar.places]
        index = tar.path.with_suffix(".index")
        content = index_content(tar.rows, tar.keys, tar_bytes=tar.num_bytes, tar_sha256=tar.sha256)
        if not (index.is_file() and index.read_bytes() == content):
            write_aside(index, content)
        entries.append(
            ShardEntry(
                name=tar.path.name,
                images=len(tar.keys),
                bytes=tar.num_bytes,
                sha256=tar.sha256.hex(),
                index_sha256=hashlib.sha256(content).hexdigest(),
            )
        )
    all_rows = [tar.rows for tar in walked]
    return Manifest(
        layout="webdataset",
        places=places,
        counts=count_groups(groups_in(all_rows)),
        shards=tuple(entries),
        content_sha256=content_digest([key for tar in walked for key in tar.keys], all_rows),
        profile={"bytes": "original", TARS_OF_OTHERS: "written by others"},
        split="tars",
    )


def _walk(path: Path, *, roles: Role | None, is_decoded: bool) -> WalkedTar:
    """Read one tar from end to end."""
    rows, keys, places, positions = [], [], [], Counter[tuple[str, View]]()
    try:
        with path.open("rb") as file:
            for sample in _samples(path):
                place, view = _place_and_view(path, sample)
                positions[place, view] += 1
                suffix, member = sample.images[0]
                content = os.pread(file.fileno(), member.size, member.offset_data)
                if problem := check_image(content, is_decoded=is_decoded):
                    raise ShardError(
                        f"{path}: {sample.key} is not a readable image ({problem}); write the tar "
                        "again"
                    )
                row = np.zeros(1, dtype=ROW)
                text = b"{}"
                if (told := sample.described) is not None:
                    text = os.pread(file.fileno(), told.size, told.offset_data)
                row["position"] = positions[place, view]
                _describe(path, sample.key, text, row, roles=roles)
                row["view"], row["offset"], row["size"] = view, member.offset_data, member.size
                row["encoding"] = ENCODINGS.index(IMAGE_SUFFIXES["." + suffix.rpartition(".")[2]])
                row["orientation"] = exif_orientation(content)
                row["digest"] = np.void(hashlib.sha256(content).digest()[:16])
                rows.append(row)
                keys.append(sample.key)
                places.append(place)
            sha256 = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise ShardError(f"{path} cannot be read ({error.strerror}); restore it") from error
    if not rows:
        raise ShardError(f"{path} holds no images; remove it")
    return WalkedTar(
        path=path,
        keys=keys,
        places=places,
        rows=np.concatenate(rows),
        sha256=sha256,
        num_bytes=path.stat().st_size,
    )


def _samples(path: Path) -> Iterator[Sample]:
    """Yield the samples of a tar: members that follow each other with one key.

    The key ends at the first dot of a name's last part.
    """
    key = ""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for key, members in groupby(filter(tarfile.TarInfo.isfile, tar), _key):
                suffixes = {member.name[len(key) + 1 :].lower(): member for member in members}
                kinds = {suffix: f".{suffix.rpartition('.')[2]}" for suffix in suffixes}
                images = [(s, m) for s, m in suffixes.items() if kinds[s] in IMAGE_SUFFIXES]
                yield Sample(key=key, images=images, described=suffixes.get("json"))
            file.seek(tar.offset)
            if file.read(TAR_BLOCK) != bytes(TAR_BLOCK):  # every whole tar ends with such blocks
                raise tarfile.ReadError("its end is missing")
    except tarfile.TarError as error:
        behind = f"behind {key}" if key else "before its first image"
        raise ShardError(
            f"{path} is cut short {behind} ({error}); copy or write it again"
        ) from error


def _key(member: tarfile.TarInfo) -> str:
    folder, slash, last = member.name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _place_and_view(path: Path, sample: Sample) -> tuple[str, View]:
    parts = sample.key.split("/")
    if len(parts) != 3 or parts[1] not in VIEWS:
        views = ", ".join(VIEWS)
        raise ShardError(
            f"{path}: the key {sample.key!r} is not PLACE/VIEW/NAME with a VIEW of {views}; "
            "write the tar with such keys"
        )
    if len(sample.images) != 1:
        raise ShardError(
            f"{path}: {sample.key} has {len(sample.images)} images; write one per sample"
        )
    word = sample.images[0][0].partition(".")[0]
    if word in VIEWS and word != parts[1]:
        raise ShardError(
            f"{path}: {sample.key} holds a {word} image; let the key name the view that is in it"
        )
    return parts[0], VIEWS[parts[1]]


def _describe(path: Path, key: str, text: bytes, row: Rows, *, roles: Role | None) -> None:
    """Fill in what the JSON tells, or else the user and the tar's name."""
    try:
        told = json.loads(text)
        told = told if isinstance(told, dict) else {}
        words = told.get("roles", [])
        if not isinstance(words, list):
            raise TypeError("roles is not a list")
        known = roles_of(words) or roles or ROLE_OF_PREFIX.get(path.name.partition("-")[0])
        altitude_m = told.get("altitude_m")
        row["position"] = told.get("position", row["position"])
        row["altitude_m"] = np.nan if altitude_m is None else altitude_m
    except (ShardError, TypeError, ValueError, OverflowError) as error:
        raise ShardError(f"{path}: the JSON of {key} is wrong ({error}); mend it") from error
    if known is None:
        raise ShardError(
            f"{path} does not say what {key} is for; say --roles train, query, gallery or "
            "query,gallery, or call the tar train-*, query-* or gallery-*"
        )
    row["roles"] = known
