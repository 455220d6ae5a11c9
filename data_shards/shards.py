"""Shards opened for reading: one table over all images, and the bytes of any of them."""

import errno
import hashlib
import mmap
import os
import resource
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from data_shards.config import Aspect
from data_shards.errors import ShardError
from data_shards.index import read_index
from data_shards.manifest import Manifest, read_manifest
from data_shards.schema import Role, View

MUCH = 0.25
"""Part of the limit on open files that mapped tars may take without a thought."""

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

    orientation: npt.NDArray[np.uint8]
    """EXIF orientation 1 to 8 of the stored pixels: how a decoder's picture is to be turned."""

    shard: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    digest: npt.NDArray[np.uint64]
    """64 bits of the SHA-256 of the stored file."""

    def __len__(self) -> int:
        return len(self.key)

    def where(self, *, role: Role, view: View, places: Iterable[int] | None = None) -> RowNumbers:
        """Return the rows of one role and view, of `places` only, sorted by place and position."""
        chosen = (self.roles & role != 0) & (self.view == view)
        if places is not None:
            chosen &= np.isin(self.place, np.fromiter(places, dtype=np.int64))
        rows = np.flatnonzero(chosen)
        # One stable sort of one word: half the memory of sorting by three columns.
        word = self.place[rows].astype(np.int64)
        word *= int(self.position.max(initial=0)) + 1
        word += self.position[rows]
        return rows[np.argsort(word, kind="stable")]


class OpenTar(NamedTuple):
    """A tar that is mapped: its inode is that of no other file for so long."""

    path: str
    inode: int


class ShardSet:
    """A shard folder: manifest, image table, and mapped tars."""

    def __init__(self, folder: Path, manifest: Manifest, images: ImageTable) -> None:
        self.folder, self.manifest, self.images = folder, manifest, images
        self._tars: dict[int, tuple[OpenTar, mmap.mmap]] = {}
        self.source = str(folder)
        """Where they were said to lie: the folder, or the address they were fetched from."""

        self.aspect: Aspect = "squeeze"
        """How images that are not square become so when they are decoded."""

        self.lease: object = None
        """What keeps `folder` from being evicted while these shards are open."""

    @classmethod
    def open(cls, folder: Path | str, *, has_all_tars: bool = True) -> "ShardSet":
        """Open a shard folder, checking that every tar is there in full length with its own index.

        Without `has_all_tars` the tars are left to the caller, who reads only from those there.

        Raises:
            ShardError: manifest, a tar or an index is missing, damaged or of another version.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        allow_open_files(len(manifest.shards))
        parts, shard = [], []
        keys: list[str] = []
        for number, entry in enumerate(manifest.shards):
            index = read_index(
                folder / entry.index_name,
                tar=folder / entry.name if has_all_tars else None,
                sha256=entry.index_sha256,
            )
            parts.append(index.rows)
            keys += index.keys
            shard.append(np.full(len(index.rows), number, dtype=np.int64))
        rows = np.concatenate(parts)
        columns: dict[str, Any] = {
            name: rows[name].copy() for name in ("view", "roles", "altitude_m", "orientation")
        } | {name: rows[name].astype(np.int64) for name in ("place", "position", "offset", "size")}
        images = ImageTable(
            key=np.array(keys, dtype=np.str_),
            shard=np.concatenate(shard),
            digest=rows["digest"].copy().view("<u8")[::2].copy(),
            **columns,
        )
        return cls(folder, manifest, images)

    def shown(self, aspect: Aspect) -> Self:
        """Return these shards, their images made square in one way or another.

        Raises:
            ShardError: they were written at one size, which was done in another way.
        """
        made = self.manifest.profile.get("aspect", "squeeze")
        if "image_size" in self.manifest.profile and made != aspect:
            raise ShardError(
                f"{self.source} holds images of one size, made square by {made}, and data.aspect "
                f"is {aspect}; train with {made}, or write shards with --aspect {aspect}"
            )
        other = copy(self)
        other.aspect = aspect
        return other

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    @cached_property
    def plan_digest(self) -> str:
        """Name of all that plans and draws are made of: equal where only images' bytes differ."""
        sha, images = hashlib.sha256("\n".join(self.places).encode()), self.images
        sha.update("\n".join(images.key.tolist()).encode())
        for column in (images.place, images.view, images.roles, images.position, images.altitude_m):
            sha.update(column.tobytes())
        return sha.hexdigest()

    @property
    def places(self) -> tuple[str, ...]:
        """Identifiers of all places; `ImageTable.place` holds numbers into it."""
        return self.manifest.places

    @cached_property
    def train_places(self) -> npt.NDArray[np.int64]:
        """Numbers of the places with both a satellite and a drone image to train on, ascending."""
        images, is_complete = self.images, np.ones(len(self.places), dtype=bool)
        for view in (View.SATELLITE, View.DRONE):
            has_view = np.zeros(len(self.places), dtype=bool)
            has_view[images.place[(images.roles & Role.TRAIN != 0) & (images.view == view)]] = True
            is_complete &= has_view
        return np.flatnonzero(is_complete)

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
        _, mapped = self._tar(int(self.images.shard[row]))
        start = int(self.images.offset[row])
        return memoryview(mapped)[start : start + int(self.images.size[row])]

    def locate(self, row: int) -> tuple[OpenTar, int, int]:
        """Return where another process finds those bytes: tar, offset and size."""
        tar, _ = self._tar(int(self.images.shard[row]))
        return tar, int(self.images.offset[row]), int(self.images.size[row])

    def _tar(self, shard: int) -> tuple[OpenTar, mmap.mmap]:
        """Map a tar, and make sure that the folder is still the one whose indexes were read."""
        if shard not in self._tars:
            path = self.folder / self.manifest.shards[shard].name
            try:
                with path.open("rb") as tar:
                    mapped = mmap.mmap(tar.fileno(), 0, access=mmap.ACCESS_READ)
                    opened = OpenTar(str(path), os.fstat(tar.fileno()).st_ino)
            except OSError as error:
                advice = "restore it and start again"
                if error.errno == errno.EMFILE:
                    tars = len(self.manifest.shards)
                    advice = f"allow more open files than the {tars} tars (ulimit)"
                raise ShardError(f"{path} cannot be read ({error.strerror}); {advice}") from error
            if read_manifest(self.folder).fingerprint != self.fingerprint:
                raise ShardError(
                    f"{self.folder} was brought up to date while it was being read; start again"
                )
            self._tars[shard] = opened, mapped
        return self._tars[shard]

    def describe(self, row: int) -> str:
        """Name one image for a sentence: tar and key."""
        tar = self.folder / self.manifest.shards[int(self.images.shard[row])].name
        return f"{tar}: {self.images.key[row]}"


def allow_open_files(count: int) -> None:
    """Let this process open `count` more files, where that is much: a mapped tar is an open file.

    The usual limit of 1024 is one that every process may raise for itself, up to the system's.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and count > soft * MUCH:
        most = soft + count
        more = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))


def hash_text(text: str) -> int:
    """Return 64 bits of a text that are the same on every machine and in every year."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
