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
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_shards.decode import check_image, exif_orientation
from data_shards.errors import ShardError, require_known
from data_shards.index import ENCODINGS, ROW, Rows, index_content, write_aside
from data_shards.manifest import (
    MANIFEST_NAME,
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


@dataclass(kw_only=True)
class Sample:
    """Members of one key."""

    key: str
    images: list[tuple[str, tarfile.TarInfo]] = field(default_factory=list)
    """Suffix behind the key, such as `drone.jpg`, and the member."""

    told: dict[str, Any] = field(default_factory=dict)
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
    folder: Path, *, roles: Role | None, workers: int, progress: Progress
) -> ShardSummary:
    """Write an index beside each tar of `folder`, then the manifest.

    Args:
        folder: holds `*.tar`.
        roles: of images whose JSON tells none; None leaves it to the tar's name.
        workers: threads, one tar each; 0 means one per processor.
        progress: told of tars.

    Raises:
        ShardError: a tar is cut short, or a sample is not one image under one of our keys.
    """
    paths = _tars_in(folder)
    old = _manifest_there(folder)
    walked: list[WalkedTar] = []
    with ThreadPoolExecutor(workers or usable_cpus()) as pool:
        for tar in pool.map(partial(_walk, roles=roles), paths):
            walked.append(tar)
            progress(len(walked), len(paths))
    _refuse_repeated_keys(walked)
    try:
        manifest = _write_indexes(folder, walked)
        if manifest != old:
            write_manifest(folder, manifest)
    except OSError as error:
        raise ShardError(
            f"the indexes of {folder} could not be written ({error.strerror}); free space or make "
            "it writable, and run this again"
        ) from error
    return ShardSummary(
        manifest=manifest,
        images=sum(len(tar.keys) for tar in walked),
        was_complete=manifest == old,
        tars_written=0,
        tars_kept=len(walked),
    )


def _tars_in(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder / name for name in os.listdir(folder) if name.endswith(".tar"))
    except OSError as error:
        raise ShardError(
            f"{folder} cannot be read ({error.strerror}); give the folder that webdataset wrote"
        ) from error
    if not paths:
        raise ShardError(f"{folder} holds no tars; give the folder that webdataset wrote")
    return paths


def roles_of(words: Sequence[str]) -> Role | None:
    """Return the roles that a user named, or None for none.

    Raises:
        ShardError: a role is unknown.
    """
    roles = Role(0)
    for word in words:
        roles |= ROLES[require_known(word, ROLES, what="role", error=ShardError)]
    return roles or None


def _manifest_there(folder: Path) -> Manifest | None:
    """Return the manifest of an earlier indexing; refuse a folder that `skydistill shard` wrote."""
    if not (folder / MANIFEST_NAME).is_file():
        return None
    try:
        manifest = read_manifest(folder)
    except ShardError:
        return None
    if TARS_OF_OTHERS not in manifest.profile:
        raise ShardError(
            f"{folder} was written by skydistill shard and has its indexes; check it with "
            f"skydistill verify {folder}"
        )
    return manifest


def _write_indexes(folder: Path, walked: Sequence[WalkedTar]) -> Manifest:
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


def _refuse_repeated_keys(walked: Sequence[WalkedTar]) -> None:
    seen: dict[str, Path] = {}
    for key, path in ((key, tar.path) for tar in walked for key in tar.keys):
        if key in seen:
            raise ShardError(
                f"{path}: {key} stands in {seen[key].name} too; give every image its own key"
            )
        seen[key] = path


def _walk(path: Path, *, roles: Role | None) -> WalkedTar:
    """Read one tar from end to end."""
    rows, keys, places, positions = [], [], [], Counter[tuple[str, View]]()
    try:
        with path.open("rb") as file:
            for sample in _samples(path):
                row = np.zeros(1, dtype=ROW)
                place, view = _place_and_view(path, sample)
                positions[place, view] += 1
                _describe(path, sample, row, roles=roles, position=positions[place, view])
                row["view"] = view
                member = sample.images[0][1]
                file.seek(member.offset_data)
                _examine(path, sample, row, file.read(member.size))
                row["offset"], row["size"] = member.offset_data, member.size
                rows.append(row)
                keys.append(sample.key)
                places.append(place)
            file.seek(0)
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
    sample = Sample(key="")
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in filter(tarfile.TarInfo.isfile, tar):
                folder, slash, last = member.name.rpartition("/")
                stem, _, suffix = last.partition(".")
                if folder + slash + stem != sample.key:
                    if sample.key:
                        yield sample
                    sample = Sample(key=folder + slash + stem)
                _add(path, sample, suffix.lower(), member, tar)
            file.seek(tar.offset)
            if file.read(TAR_BLOCK) != bytes(TAR_BLOCK):  # every whole tar ends with such blocks
                raise tarfile.ReadError("its end is missing")
    except tarfile.TarError as error:
        behind = f"behind {sample.key}" if sample.key else "before its first image"
        raise ShardError(
            f"{path} is cut short {behind} ({error}); copy or write it again"
        ) from error
    if sample.key:
        yield sample


def _add(
    path: Path, sample: Sample, suffix: str, member: tarfile.TarInfo, tar: tarfile.TarFile
) -> None:
    if "." + suffix.rpartition(".")[2] in IMAGE_SUFFIXES:
        sample.images.append((suffix, member))
        return
    content = tar.extractfile(member) if suffix == "json" else None
    if content is None:
        return
    try:
        told = json.loads(content.read())
    except ValueError as error:
        raise ShardError(f"{path}: the JSON of {sample.key} cannot be parsed; mend it") from error
    sample.told = told if isinstance(told, dict) else {}


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


def _describe(path: Path, sample: Sample, row: Rows, *, roles: Role | None, position: int) -> None:
    """Fill in what the JSON tells, or else the user and the tar's name."""
    told = sample.told
    try:
        words = told.get("roles", [])
        if not isinstance(words, list):
            raise TypeError("roles is not a list")
        known = roles_of(words) or roles or ROLE_OF_PREFIX.get(path.name.partition("-")[0])
        altitude_m = told.get("altitude_m")
        row["position"] = told.get("position", position)
        row["altitude_m"] = np.nan if altitude_m is None else altitude_m
    except (ShardError, TypeError, ValueError, OverflowError) as error:
        raise ShardError(f"{path}: the JSON of {sample.key} is wrong ({error}); mend it") from error
    if known is None:
        raise ShardError(
            f"{path} does not say what {sample.key} is for; say --roles train, query, gallery or "
            "query,gallery, or call the tar train-*, query-* or gallery-*"
        )
    row["roles"] = known


def _examine(path: Path, sample: Sample, row: Rows, content: bytes) -> None:
    """Fill in what the image's bytes say."""
    if problem := check_image(content):
        raise ShardError(
            f"{path}: {sample.key} is not a readable image ({problem}); write the tar again"
        )
    suffix = "." + sample.images[0][0].rpartition(".")[2]
    row["encoding"] = ENCODINGS.index(IMAGE_SUFFIXES[suffix])
    row["orientation"] = exif_orientation(content)
    row["digest"] = np.void(hashlib.sha256(content).digest()[:16])
