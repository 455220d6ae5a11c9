"""Tars of an earlier run that need not be made again, with their indexes brought up to date."""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_shards.errors import ShardError
from data_shards.index import Index, read_index, write_index
from data_shards.manifest import Manifest, ShardEntry
from data_shards.packing.cut import TarContent
from data_shards.packing.image_profile import Profile
from data_shards.packing.notes import SourceNotes, read_tar_note
from data_shards.packing.pack import PackedTar


@dataclass(frozen=True, kw_only=True)
class FinishedTar:
    """A whole tar, and its index."""

    tar: TarContent
    entry: ShardEntry
    path: Path
    """Where its index was read; perhaps not in the folder that is written."""

    index: Index

    def renumbered(self, folder: Path, number: Mapping[str, int]) -> PackedTar:
        """Write the index into `folder` with the numbers that the places have now."""
        path, rows = folder / self.entry.index_name, self.index.rows.copy()
        rows["place"] = np.array([number[record.place] for record in self.tar.records])
        if self.path == path and bool((rows == self.index.rows).all()):
            return PackedTar(entry=self.entry, rows=rows)
        digest = write_index(
            path,
            rows,
            self.index.keys,
            tar_bytes=self.entry.bytes,
            tar_sha256=bytes.fromhex(self.entry.sha256),
        )
        return PackedTar(entry=replace(self.entry, index_sha256=digest.hex()), rows=rows)


def finished_tars(
    partial: Path, tars: Sequence[TarContent], *, notes: SourceNotes, profile: Profile
) -> dict[str, FinishedTar]:
    """Return the tars that an interrupted run finished, and whose files nobody touched since."""
    found = {}
    for tar in tars:
        entry = read_tar_note(partial, tar, inputs=notes.inputs[tar.name], profile=profile)
        if entry is not None:
            with suppress(ShardError):  # damaged since: it is made again
                found[tar.name] = _finished(tar, entry, partial, index_in=partial)
    return found


def linked_tars(
    out: Path, partial: Path, tars: Sequence[TarContent], *, manifest: Manifest
) -> dict[str, FinishedTar]:
    """Bring finished tars from `out` into `partial`, as further names of the same files.

    Raises:
        ShardError: tar or index are not what they were.
    """
    entries = {entry.name: entry for entry in manifest.shards}
    found = {}
    for tar in tars:
        link_or_copy(out / tar.name, partial / tar.name)
        found[tar.name] = _finished(tar, entries[tar.name], partial, index_in=out)
    return found


def _finished(tar: TarContent, entry: ShardEntry, folder: Path, *, index_in: Path) -> FinishedTar:
    path = index_in / entry.index_name
    index = read_index(path, tar=folder / tar.name, sha256=entry.index_sha256)
    return FinishedTar(tar=tar, entry=entry, path=path, index=index)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
