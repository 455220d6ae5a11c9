"""Shards opened for reading: one table over all images, and the bytes of any of them."""

import hashlib
import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_shards.index import read_index
from data_shards.manifest import Manifest, read_manifest
from data_shards.schema import Role, View

RowNumbers = npt.NDArray[np.int64]
"""Rows of the image table, counted over all shards in the order of the manifest."""


@dataclass(frozen=True, kw_only=True)
class ImageTable:
    """Columns over all images of all shards; a row number names one image everywhere."""

    key: npt.NDArray[np.str_]
    place: npt.NDArray[np.int64]
    """Number of the place in `ShardSet.places`."""

    view: npt.NDArray[np.uint8]
    roles: npt.NDArray[np.uint8]
    position: npt.NDArray[np.int64]
    altitude_m: npt.NDArray[np.float32]
    """NaN where the data set does not tell it."""

    shard: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.key)

    def where(self, *, role: Role, view: View, places: Iterable[int] | None = None) -> RowNumbers:
        """Return the rows of one role and view, of `places` only, sorted by place and position."""
        chosen = (self.roles & role != 0) & (self.view == view)
        if places is not None:
            chosen &= np.isin(self.place, np.fromiter(places, dtype=np.int64))
        rows = np.flatnonzero(chosen)
        order = np.lexsort((rows, self.position[rows], self.place[rows]))
        return rows[order]


class ShardSet:
    """A shard folder: manifest, image table, and mapped tars."""

    def __init__(self, folder: Path, manifest: Manifest, images: ImageTable) -> None:
        self.folder, self.manifest, self.images = folder, manifest, images
        self._maps: dict[int, mmap.mmap] = {}

    @classmethod
    def open(cls, folder: Path) -> "ShardSet":
        """Open a shard folder, checking that every tar is there in full length with its own index.

        Raises:
            ShardError: manifest, a tar or an index is missing, damaged or of another version.
        """
        manifest = read_manifest(folder)
        parts, keys, shard = [], [], []
        for number, entry in enumerate(manifest.shards):
            rows, row_keys = read_index(
                folder / entry.index_name, tar=folder / entry.name, sha256=entry.index_sha256
            )
            parts.append(rows)
            keys += row_keys
            shard.append(np.full(len(rows), number, dtype=np.int64))
        rows = np.concatenate(parts)
        images = ImageTable(
            key=np.array(keys, dtype=np.str_),
            place=rows["place"].astype(np.int64),
            view=rows["view"].copy(),
            roles=rows["roles"].copy(),
            position=rows["position"].astype(np.int64),
            altitude_m=rows["altitude_m"].copy(),
            shard=np.concatenate(shard),
            offset=rows["offset"].astype(np.int64),
            size=rows["size"].astype(np.int64),
        )
        return cls(folder, manifest, images)

    @property
    def fingerprint(self) -> str:
        """Name of these very shards."""
        return self.manifest.fingerprint

    @property
    def places(self) -> tuple[str, ...]:
        """Identifiers of all places; `ImageTable.place` holds numbers into it."""
        return self.manifest.places

    @cached_property
    def train_places(self) -> npt.NDArray[np.int64]:
        """Numbers of the places with both a satellite and a drone image to train on, ascending."""
        satellites = self.images.where(role=Role.TRAIN, view=View.SATELLITE)
        drones = self.images.where(role=Role.TRAIN, view=View.DRONE)
        return np.intersect1d(self.images.place[satellites], self.images.place[drones])

    @cached_property
    def key_hashes(self) -> npt.NDArray[np.uint64]:
        """64 bits per image that depend on its key alone; what augmentation is drawn from."""
        return np.array([hash_text(key) for key in self.images.key.tolist()], dtype=np.uint64)

    @cached_property
    def place_hashes(self) -> npt.NDArray[np.uint64]:
        """64 bits per place that depend on its identifier alone."""
        return np.array([hash_text(place) for place in self.places], dtype=np.uint64)

    def read(self, row: int) -> "memoryview[Any]":
        """Return the bytes of one image file, without copying."""
        shard = int(self.images.shard[row])
        if shard not in self._maps:
            with (self.folder / self.manifest.shards[shard].name).open("rb") as tar:
                self._maps[shard] = mmap.mmap(tar.fileno(), 0, access=mmap.ACCESS_READ)
        start = int(self.images.offset[row])
        return memoryview(self._maps[shard])[start : start + int(self.images.size[row])]

    def describe(self, row: int) -> str:
        """Name one image for a sentence: tar and key."""
        tar = self.folder / self.manifest.shards[int(self.images.shard[row])].name
        return f"{tar}: {self.images.key[row]}"


def hash_text(text: str) -> int:
    """Return 64 bits of a text that are the same on every machine and in every year."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
