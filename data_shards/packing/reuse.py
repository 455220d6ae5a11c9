"""Tars of an earlier run that need not be made again, with their indexes brought up to date."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_shards.errors import ShardError
from data_shards.index import read_index, write_index
from data_shards.manifest import Manifest, ShardEntry
from data_shards.packing.cut import TarContent
from data_shards.packing.image_profile import Profile
from data_shards.packing.notes import SourceNotes, read_tar_note
from data_shards.packing.pack import PackedTar


@dataclass(frozen=True, kw_only=True)
class FinishedTar:
    """A whole tar, and where its index is."""

    tar: TarContent
    entry: ShardEntry
    index: Path

    def renumbered(self, folder: Path, number: Mapping[str, int]) -> PackedTar:
        """Write the index into `folder` with the numbers that the places have now.

        Raises:
            ShardError: tar or index are not what they were.
        """
        tar = folder / self.entry.name
        old, keys = read_index(self.index, tar=tar, sha256=self.entry.index_sha256)
        rows = old.copy()
        rows["place"] = np.array([number[record.place] for record in self.tar.records])
        if self.index == tar.with_suffix(".index") and bool((rows == old).all()):
            return PackedTar(entry=self.entry, rows=rows)
        digest = write_index(
            tar.with_suffix(".index"),
            rows,
            keys,
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
        index = partial / tar.index_name
        if entry is not None and _is_whole(partial / tar.name, index, entry):
            found[tar.name] = FinishedTar(tar=tar, entry=entry, index=index)
    return found


def _is_whole(tar: Path, index: Path, entry: ShardEntry) -> bool:
    try:
        read_index(index, tar=tar, sha256=entry.index_sha256)
    except ShardError:
        return False
    return True


def linked_tars(
    out: Path, partial: Path, tars: Sequence[TarContent], *, manifest: Manifest
) -> dict[str, FinishedTar]:
    """Bring finished tars from `out` into `partial`, as further names of the same files."""
    entries = {entry.name: entry for entry in manifest.shards}
    found = {}
    for tar in tars:
        link_or_copy(out / tar.name, partial / tar.name)
        entry, index = entries[tar.name], out / tar.index_name
        found[tar.name] = FinishedTar(tar=tar, entry=entry, index=index)
    return found


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
