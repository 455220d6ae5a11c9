"""Tars that others wrote with our keys get indexes and a manifest; they themselves stay untouched.

`skydistill shard FOLDER --index-only`: for what stock `webdataset.ShardWriter` wrote, one image and
at most one JSON per sample, keyed `PLACE/VIEW/NAME`.
"""

import hashlib
import json
import logging
import math
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np

from data_shards.decode import check_image
from data_shards.errors import LayoutError, ShardError, counted, require_known
from data_shards.formats import STORED
from data_shards.index import ENCODINGS, ROW, Rows, write_index
from data_shards.layouts import LAYOUTS, found_lines, leave_out, with_facts
from data_shards.layouts.folders import (
    first_of,
    is_shown,
    places_of,
    refuse_shared_places,
    refuse_two_spellings,
    suffix_of,
)
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
from data_shards.packing.stored_image import UnreadableError, read_header
from data_shards.packing.tar_chunk import TAR_BLOCK
from data_shards.progress import Progress
from data_shards.schema import IMAGE_SUFFIXES, ImageRecord, RawDataset, Role, View
from data_shards.usable_cpus import usable_cpus

log = logging.getLogger(__name__)

WEBDATASET = "webdataset"
"""Layout of tars that are of no public data set, or of one that nobody named."""

OTHER_TARS = re.compile(r"[^.].*(/.*|[.](?!tar$)(?i:tar([.](gz|bz2|xz|zst|lz4))?|t(gz|bz2?|xz)))")

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

    members: dict[str, tarfile.TarInfo]
    """All of them by suffix."""


@dataclass(frozen=True, kw_only=True)
class WalkedTar:
    """All readable images of one tar, in its order."""

    path: Path
    records: list[ImageRecord]
    rows: Rows
    unreadable: list[tuple[ImageRecord, str]]
    """The others, each with a sentence."""

    linked: int
    """Samples with a link in place of a file, which webdataset does not read either."""

    sha256: str
    num_bytes: int


def index_tars(
    folder: Path,
    *,
    roles: Role | None,
    workers: int,
    progress: Progress,
    name: str = "",
    layout: str = WEBDATASET,
    coordinates: Path | None = None,
    is_decoded: bool = True,
    skip_unreadable: bool = False,
) -> ShardSummary:
    """Write an index beside each tar of `folder`, then the manifest.

    Args:
        folder: holds `*.tar`.
        roles: of images whose JSON tells none; None leaves it to the tar's name.
        workers: threads, one tar each; 0 means one per processor.
        progress: told of tars.
        name: of the data set; by default as it was called before, or as the folder.
        layout: the public data set that the images are of, if they are of one.
        coordinates: CSV file of place, latitude and longitude.
        is_decoded: whether every image is decoded once.
        skip_unreadable: whether images that cannot be decoded get no row.

    Raises:
        UnreadableError: images cannot be decoded, all that are told.
        ShardError: a tar is cut short, or a sample is not one image under one of our keys.
        LayoutError: the places are not what those of raw folders must be.
    """
    require_known(layout, (WEBDATASET, *LAYOUTS), what="layout", error=LayoutError)
    old = _earlier(folder)
    tars, walk = [], partial(_walk, roles=roles, is_decoded=is_decoded)
    with ThreadPoolExecutor(workers or usable_cpus()) as pool:
        for tar in pool.map(walk, paths := tars_in(folder)):
            tars.append(tar)
            progress(len(tars), len(paths))
    unreadable = [problem for tar in tars for problem in tar.unreadable]
    for _, sentence in unreadable:
        log.info("%s", sentence)
    if unreadable and not skip_unreadable:
        raise UnreadableError(unreadable)
    name = name or (old.name if old else "") or folder.resolve().name
    dataset = with_facts(_checked(tars, folder, layout), name=name, coordinates=coordinates)
    dataset = leave_out(dataset, [record for record, _ in unreadable], raw=folder)
    for line in found_lines(dataset):
        log.info("%s", line)
    try:
        manifest = _write_indexes(tars, dataset)
        if manifest != old:
            write_manifest(folder, manifest)
    except OSError as error:
        raise ShardError(
            f"the indexes of {folder} could not be written ({error.strerror}); free space or make "
            "it writable, and run this again"
        ) from error
    return ShardSummary(manifest=manifest, was_complete=manifest == old, tars_kept=len(tars))


def roles_of(words: Sequence[str]) -> Role | None:
    """Return the roles that a user named, or None for none.

    Raises:
        ShardError: a role is unknown.
    """
    roles = Role(0)
    for word in words:
        roles |= ROLES[require_known(word, ROLES, what="role", error=ShardError)]
    return roles or None


def _earlier(folder: Path) -> Manifest | None:
    """Return the manifest of the run before; none yet, or a damaged one, is None."""
    try:
        old = read_manifest(folder)
    except ShardError:
        return None
    if TARS_OF_OTHERS not in old.profile:
        raise ShardError(
            f"{folder} was written by skydistill shard and has its indexes; check it with "
            f"skydistill verify {folder}"
        )
    return old


def tars_in(folder: Path) -> list[Path]:
    """Return the tars of a folder by their names, without what a Mac leaves beside them.

    Raises:
        ShardError: it cannot be read, or holds none.
    """
    try:
        names = sorted(filter(is_shown, os.listdir(folder)))
    except OSError as error:
        raise ShardError(
            f"{folder} cannot be read ({error.strerror}); give the folder that webdataset wrote"
        ) from error
    if not (tars := [folder / name for name in names if name.endswith(".tar")]):
        left_out = tars_left_out(folder) or "give the folder that webdataset wrote"
        raise ShardError(f"{folder} holds no tars; {left_out}")
    return tars


def _checked(tars: Sequence[WalkedTar], folder: Path, layout: str) -> RawDataset:
    """Return all images, if their keys and places are as those of raw folders must be."""
    seen: dict[str, Path] = {}
    for key, path in ((record.key, tar.path) for tar in tars for record in tar.records):
        if key in seen:
            raise ShardError(
                f"{path}: {key} stands in {seen[key].name} too; give every image its own key"
            )
        seen[key] = path
    records = tuple(record for tar in tars for record in tar.records)
    refuse_two_spellings(folder, (record.place for record in records))
    train, test = (places_of(records, role) for role in (Role.TRAIN, Role.QUERY))
    refuse_shared_places(folder, train=train, test=test)
    left_out = tars_left_out(folder, linked=sum(tar.linked for tar in tars))
    return RawDataset(layout=layout, records=records, split="tars", left_out=left_out)


def tars_left_out(folder: Path, *, linked: int = 0) -> str:
    """Return in one line which samples and tars were left out; empty for none."""
    links = f"{counted(linked, 'sample')} with links (tar -h --hard-dereference writes files)"
    told = [links] * (linked > 0)
    names = [os.path.relpath(path, folder) for path in folder.glob("*/[!.]*.tar")]
    if others := [name for name in names + os.listdir(folder) if OTHER_TARS.fullmatch(name)]:
        told.append(f"{counted(len(others), 'tar')} not called FOLDER/*.tar ({first_of(others)})")
    return "left out: " + "; ".join(told) if told else ""


def _write_indexes(tars: Sequence[WalkedTar], dataset: RawDataset) -> Manifest:
    number = {place: at for at, place in enumerate(sorted({r.place for r in dataset.records}))}
    entries, all_rows = [], [tar.rows for tar in tars]
    for tar in tars:
        tar.rows["place"] = [number[record.place] for record in tar.records]
        index, keys = tar.path.with_suffix(".index"), [record.key for record in tar.records]
        digest = write_index(index, tar.rows, keys, tar_bytes=tar.num_bytes, tar_sha256=tar.sha256)
        entries.append(
            ShardEntry(
                name=tar.path.name,
                images=len(keys),
                bytes=tar.num_bytes,
                sha256=tar.sha256,
                index_sha256=digest,
            )
        )
    return Manifest(
        layout=dataset.layout,
        name=dataset.name,
        places=tuple(number),
        counts=count_groups(groups_in(all_rows)),
        shards=tuple(entries),
        content_sha256=content_digest([record.key for record in dataset.records], all_rows),
        profile={"bytes": "original", TARS_OF_OTHERS: "written by others"},
        split=dataset.split,
        deviations=dataset.deviations,
        coordinates=dataset.coordinates,
    )


def _walk(path: Path, *, roles: Role | None, is_decoded: bool) -> WalkedTar:
    """Read one tar from end to end."""
    rows, records, unreadable = [], list[ImageRecord](), list[tuple[ImageRecord, str]]()
    positions, linked = Counter[tuple[str, View]](), 0
    try:
        with path.open("rb") as file:
            for sample in _samples(path):
                if not all(member.isfile() for member in sample.members.values()):
                    linked += 1
                    continue
                place, view = _place_and_view(path, sample)
                positions[place, view] += 1
                suffix, member = sample.images[0]
                content = os.pread(file.fileno(), member.size, member.offset_data)
                row = np.zeros(1, dtype=ROW)
                text = b"{}"
                if (json_member := sample.members.get("json")) is not None:
                    text = os.pread(file.fileno(), json_member.size, json_member.offset_data)
                row["view"], row["position"] = view, positions[place, view]
                _describe(path, sample.key, text, row, roles=roles)
                row["offset"], row["size"] = member.offset_data, member.size
                header, named = read_header(content), suffix.rpartition(".")[2]
                encoding = STORED.get(header.format, IMAGE_SUFFIXES[f".{named}"])
                row["encoding"], row["orientation"] = ENCODINGS.index(encoding), header.orientation
                row["digest"] = np.void(hashlib.sha256(content).digest()[:16])
                altitude_m = float(row["altitude_m"][0])
                record = ImageRecord(
                    place=place,
                    view=view,
                    roles=Role(int(row["roles"][0])),
                    position=int(row["position"][0]),
                    altitude_m=None if math.isnan(altitude_m) else altitude_m,
                    path=f"{path}/{member.offset}",
                    name=sample.key.rpartition("/")[2],
                )
                if problem := check_image(content, is_decoded=is_decoded):
                    told = f"{path}: {sample.key} is not a readable image ({problem})"
                    unreadable.append((record, f"{told}; write the tar again"))
                else:
                    rows.append(row)
                    records.append(record)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ShardError(f"{path} cannot be read ({error.strerror}); restore it") from error
    if not (rows or unreadable or linked):
        raise ShardError(f"{path} holds no images; remove it")
    return WalkedTar(
        path=path,
        records=records,
        rows=np.concatenate([np.zeros(0, dtype=ROW), *rows]),
        unreadable=unreadable,
        linked=linked,
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
            files = (
                m
                for m in tar
                if (m.isfile() or (m.linkname and suffix_of(m.name) in (*IMAGE_SUFFIXES, ".json")))
                and all(map(is_shown, _parts(m)))
            )
            for key, of_key in groupby(files, _key):
                members = {_parts(m)[-1].partition(".")[2].lower(): m for m in of_key}
                images = [(s, m) for s, m in members.items() if suffix_of(m.name) in IMAGE_SUFFIXES]
                yield Sample(key=key, images=images, members=members)
            file.seek(tar.offset)
            if file.read(TAR_BLOCK) != bytes(TAR_BLOCK):  # every whole tar ends with such blocks
                raise tarfile.ReadError("its end is missing")
    except tarfile.TarError as error:
        behind = f"behind {key}" if key else "before its first image, or packed"
        raise ShardError(
            f"{path} is cut short {behind} ({error}); copy or write it again"
        ) from error


def _parts(member: tarfile.TarInfo) -> list[str]:
    """Return the folders and the name of a member; `tar -c .` puts a dot before them."""
    return member.name.removeprefix("./").split("/")


def _key(member: tarfile.TarInfo) -> str:
    *folders, last = _parts(member)
    return "/".join((*folders, last.partition(".")[0]))


def _place_and_view(path: Path, sample: Sample) -> tuple[str, View]:
    parts = sample.key.split("/")
    if len(parts) != 3 or parts[1] not in VIEWS:
        views = ", ".join(VIEWS)
        raise ShardError(
            f"{path}: the key {sample.key!r} is not PLACE/VIEW/NAME with a VIEW of {views}; "
            "write the tar with such keys"
        )
    if len(sample.images) != 1:
        names = ", ".join(_parts(member)[-1] for member in sample.members.values())
        raise ShardError(
            f"{path}: {sample.key} has {len(sample.images)} images ({names}); write one per "
            f"sample, as {', '.join(IMAGE_SUFFIXES)}"
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
