"""Notes from one `skydistill shard` to the next: from which files each tar was made.

They let a later run keep every tar whose files nobody touched. They are notes of this program to
itself and no part of the format: without them everything is read again.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_shards.manifest import ShardEntry, write_json
from data_shards.packing.cut import TarContent
from data_shards.packing.image_profile import Profile
from data_shards.packing.stored_image import unreadable
from data_shards.schema import SCHEMA_VERSION, ImageRecord

SOURCE_NAME = ".source.json"
"""In a finished folder: which raw folder, and the inputs of every tar."""

NOTE_SUFFIX = ".made"
"""In an unfinished folder, beside each finished tar: its inputs and its entry of the manifest."""


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

    Of each file it holds the size and the times of the last change of content and of inode, to the
    nanosecond where the file system has them; contents are not read.

    Raises:
        ShardError: a file is gone.
    """
    lines = [f"{SCHEMA_VERSION} {json.dumps(profile.choice, sort_keys=True)}"]
    for record in tar.records:
        path = os.fspath(record.source)
        try:
            stat = os.stat(path)
        except OSError as error:
            raise unreadable(record, error) from error
        lines.append(
            f"{record.place} {int(record.view)} {record.name} {path[path.rfind('/') + 1 :]} "
            f"{int(record.roles)} {record.position} {record.altitude_m} "
            f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        )
    text = "\n".join(lines).encode(errors="surrogateescape")  # file names that are no UTF-8
    return hashlib.sha256(text).hexdigest()


def source_folder(records: Sequence[ImageRecord]) -> str:
    """Return the folder that holds all image files, without symbolic links."""
    paths = [os.fspath(record.source) for record in records]
    ends = (min(paths), max(paths))  # what the first and the last have in common, all have
    folders = [os.path.dirname(os.path.abspath(path)) for path in ends]
    return os.path.realpath(os.path.commonpath(folders))


def read_source_notes(out: Path) -> SourceNotes:
    """Return the notes of finished shards, or empty ones where there are none to be read."""
    try:
        values = json.loads((out / SOURCE_NAME).read_text())
        return SourceNotes(
            source=str(values["source"]),
            inputs=dict(values["inputs"]),
            compared=str(values["compared"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
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
