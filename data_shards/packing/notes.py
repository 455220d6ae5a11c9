"""Notes from one `skydistill shard` to the next: from which files each tar was made.

They let a later run keep every tar whose files nobody touched. They are notes of this program to
itself and no part of the format: without them everything is read again.
"""

import hashlib
import json
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_shards.file_stamp import file_stamp
from data_shards.manifest import ShardEntry, write_json
from data_shards.packing.cut import TarContent
from data_shards.packing.image_profile import Profile
from data_shards.packing.stored_image import unreadable
from data_shards.schema import SCHEMA_VERSION, ImageRecord

SOURCE_NAME = ".source.json"
"""In a finished folder: which raw folder, and the inputs of every tar."""

NOTE_SUFFIX = ".made"
"""In an unfinished folder, beside each finished tar: its inputs and its entry of the manifest."""

FACTS = struct.Struct("<qqqIBd")
"""Stamp of a file, and what its record holds besides names."""


@dataclass(frozen=True, kw_only=True)
class SourceNotes:
    """What finished shards were made from."""

    source: str = ""
    """Folder that holds all image files; empty where it is not known."""

    inputs: dict[str, str] = field(default_factory=dict)
    """Tar to the digest of `inputs_of`."""

    compared: str = ""
    """`RawDataset.compared`: the raw files that were found equal."""


def inputs_of(tar: TarContent, profile: Profile) -> str:
    """Return a digest over all that decides a tar: equal means that nobody touched its files.

    Contents are not read. Numbers are packed: to write them as text would take as long as to ask
    the file system for them.

    Raises:
        ShardError: a file is gone.
    """
    names = [f"{SCHEMA_VERSION} {tar.name} {json.dumps(profile.choice, sort_keys=True)}"]
    facts = bytearray()
    for record in tar.records:
        path = record.path
        try:
            size, changed, inode_changed = file_stamp(path)
        except OSError as error:
            raise unreadable(record, error) from error
        names.append(f"{record.place} {record.name} {path[path.rfind('/') + 1 :]}")
        altitude_m = math.nan if record.altitude_m is None else record.altitude_m
        facts += FACTS.pack(size, changed, inode_changed, record.position, record.roles, altitude_m)
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
    """Write the notes of finished shards."""
    write_json(folder / SOURCE_NAME, asdict(notes))


def write_tar_note(folder: Path, entry: ShardEntry, *, inputs: str, profile: Profile) -> None:
    """Say that a tar is finished and on the disk, and what it was made from."""
    path = (folder / entry.name).with_suffix(NOTE_SUFFIX)
    write_json(path, {"inputs": inputs, "profile": profile.facts, "entry": asdict(entry)})


def read_tar_note(
    folder: Path, tar: TarContent, *, inputs: str, profile: Profile
) -> ShardEntry | None:
    """Return the entry of a tar finished earlier from these very inputs, if there is one."""
    try:
        note: dict[str, Any] = json.loads((folder / tar.name).with_suffix(NOTE_SUFFIX).read_text())
        entry = ShardEntry(**note["entry"])
        made_from = entry.name, note["inputs"], note["profile"]
        return entry if made_from == (tar.name, inputs, profile.facts) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
