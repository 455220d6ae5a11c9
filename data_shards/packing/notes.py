"""Notes from one `skydistill shard` to the next: from which files each tar was made.

They let a later run keep every tar whose files nobody touched. They are notes of this program to
itself and no part of the format: without them everything is read again.
"""

import hashlib
import json
import math
import os
import shutil
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_shards.errors import ShardError
from data_shards.index import read_index, write_index
from data_shards.layouts.duplicates import file_stamp
from data_shards.manifest import Manifest, ShardEntry, write_json
from data_shards.packing.image_facts import ImageFacts, total
from data_shards.packing.pack import PackedTar
from data_shards.packing.shard_layout import TarContent
from data_shards.packing.stored_image import Profile
from data_shards.schema import SCHEMA_VERSION, ImageRecord

SOURCE_NAME = ".source.json"
"""In a finished folder: which raw folder, and the inputs of every tar."""

NOTE_SUFFIX = ".made"
"""In an unfinished folder, beside each finished tar: its inputs and its entry of the manifest."""

NO_FILE = (0, 0, 0)

FACTS = struct.Struct("<qqqIBd")
"""Stamp of a file, and what its record holds besides names."""


@dataclass(frozen=True, kw_only=True)
class SourceNotes:
    """What finished shards were made from."""

    source: str = ""
    """Folder that holds all image files; empty where it is not known."""

    inputs: dict[str, str] = field(default_factory=dict)
    """Tar to the digest of `inputs_of`."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Tar to what is known of its image files; empty where an earlier version wrote it."""

    compared: str = ""
    """`RawDataset.compared`: the raw files that were found equal."""


def inputs_of(tar: TarContent, profile: Profile, *, is_decoded: bool) -> str:
    """Return a digest over all that decides a tar and what was looked at: equal means unchanged.

    Contents are not read. Numbers are packed: to write them as text would take as long as to ask
    the file system for them.
    """
    names = [f"{SCHEMA_VERSION} {tar.name} {json.dumps(profile.choice, sort_keys=True)}"]
    names += ["decoded"] * is_decoded
    facts = bytearray()
    for record in tar.records:
        path = record.path
        try:
            stamp = file_stamp(path)
        except OSError:
            stamp = NO_FILE  # whoever reads it tells
        names.append(f"{record.place} {record.name} {path[path.rfind('/') + 1 :]}")
        names += [str(record.camera)] * (record.camera is not None)
        altitude_m = math.nan if record.altitude_m is None else record.altitude_m
        facts += FACTS.pack(*stamp, record.position, record.roles, altitude_m)
    text = "\n".join(names).encode(errors="surrogateescape")  # file names that are no UTF-8
    return hashlib.sha256(text + facts).hexdigest()


def source_folder(records: Sequence[ImageRecord]) -> str:
    """Return the folder that holds all image files, without symbolic links."""
    paths = [record.path for record in records]
    ends = (min(paths), max(paths))  # what the first and the last have in common, all have
    folders = [os.path.dirname(os.path.abspath(path)) for path in ends]
    return os.path.realpath(os.path.commonpath(folders))


def read_source_notes(out: Path) -> SourceNotes:
    """Return the notes of finished shards, or empty ones where there are none to be read."""
    try:
        return SourceNotes(**json.loads((out / SOURCE_NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return SourceNotes()


def write_source_notes(folder: Path, notes: SourceNotes) -> None:
    write_json(folder / SOURCE_NAME, vars(notes))


def write_tar_note(folder: Path, packed: PackedTar, *, inputs: str, profile: Profile) -> None:
    """Say that a tar is finished and on the disk, and what it was made from."""
    path = (folder / packed.entry.name).with_suffix(NOTE_SUFFIX)
    told = {"inputs": inputs, "profile": profile.facts, "entry": asdict(packed.entry)}
    write_json(path, told | {"facts": packed.facts})


def finished_tars(
    partial: Path,
    tars: Sequence[TarContent],
    *,
    notes: SourceNotes,
    profile: Profile,
    number: Mapping[str, int],
) -> dict[str, PackedTar]:
    """Return the tars that an interrupted run finished, and whose files nobody touched since."""
    found = {}
    for tar in tars:
        try:
            note = json.loads((partial / tar.name).with_suffix(NOTE_SUFFIX).read_text())
            entry, facts = ShardEntry(**note["entry"]), total([note["facts"]])
            made_from = entry.name, note["inputs"], note["profile"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if made_from == (tar.name, notes.inputs[tar.name], profile.facts):
            with suppress(ShardError):  # damaged since: it is made again
                found[tar.name] = _renumbered(tar, entry, facts, partial, number)
    return found


def linked_tars(
    out: Path,
    partial: Path,
    tars: Sequence[TarContent],
    *,
    manifest: Manifest,
    notes: SourceNotes,
    number: Mapping[str, int],
) -> dict[str, PackedTar]:
    """Bring finished tars from `out` into `partial`, as further names of the same files.

    Raises:
        ShardError: tar or index are not what they were.
    """
    entries = {entry.name: entry for entry in manifest.shards}
    found = {}
    for tar in tars:
        for name in (tar.name, entries[tar.name].index_name):
            link_or_copy(out / name, partial / name)
        facts = total([notes.facts[tar.name]] if tar.name in notes.facts else [])
        found[tar.name] = _renumbered(tar, entries[tar.name], facts, partial, number)
    return found


def _renumbered(
    tar: TarContent, entry: ShardEntry, facts: ImageFacts, folder: Path, number: Mapping[str, int]
) -> PackedTar:
    """Let the index of a whole tar in `folder` have the numbers that its places have now."""
    path = folder / entry.index_name
    index = read_index(path, tar=folder / tar.name, sha256=entry.index_sha256)
    rows = index.rows.copy()
    rows["place"] = np.array([number[record.place] for record in tar.records])
    digest = write_index(path, rows, index.keys, tar_bytes=entry.bytes, tar_sha256=entry.sha256)
    return PackedTar(entry=replace(entry, index_sha256=digest), rows=rows, facts=facts)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
