"""A teacher's outputs on disk: one fixed-width row per image and augmentation slot.

A row is a list of named outputs with shapes. The key covers everything that could change a number
in it; a cache with another key is refused by naming what differs (spec performance 3.3).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from data_shards.augment.config import AugmentConfig
from data_shards.augment.variations import AUGMENT_VERSION
from data_shards.errors import CacheError
from data_shards.planning.place_views import at_altitudes
from data_shards.remote.fetch import WantedFile
from data_shards.remote.local_cache import LocalCache
from data_shards.remote.sources import copy_to_node
from data_shards.schema import Role
from data_shards.shards import RowNumbers, ShardSet
from distill.config import CodecName
from distill.inputs import PAIRED_VIEWS
from distill.models import Outputs, Shapes
from distill.models.preprocess import PREPROCESSING
from distill.models.weights import Origin
from distill.run_folder import flat
from distill.teacher.codec import CODECS, Rows

CACHE_VERSION = 3
"""Raised when the code would compute other outputs from the same weights and pixels."""

META_NAME = "cache.json"

KEY_NAME = "building.json"
"""Key of an unfinished cache, so that only the same build continues it, and its seconds so far."""

LIBRARIES = ("torch", "timm", "numpy", "opencv-python-headless", "pillow", "simplejpeg")
"""Those that turn bytes into pixels, and pixels into outputs."""

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class CacheKey:
    """Everything that the numbers in a cache depend on."""

    teacher_sha256: str
    outputs: dict[str, list[int]]
    """Name of each output to its shape, in the order of the row."""

    shards: str
    """Fingerprint of the shards."""

    image_size: int
    augment: dict[str, Any]
    decoder: str
    """Decoder, resampling, and how images became square unless they were squeezed."""

    altitudes: list[float] = field(default_factory=list)
    """Heights of the drone views that have rows, ascending; all heights if empty."""

    augment_version: int = AUGMENT_VERSION
    preprocessing: str = PREPROCESSING
    codec: CodecName = "float16"
    precision: str = "fp32"
    version: int = CACHE_VERSION
    libraries: dict[str, str] = field(
        default_factory=lambda: {name: version(name).partition("+")[0] for name in LIBRARIES}
    )
    """Without a build's own mark (`+cpu`): a cache made on GPUs is read anywhere."""

    @property
    def digest(self) -> str:
        """SHA-256 over all fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def shapes(self) -> Shapes:
        """Name of each output to its shape."""
        return {name: tuple(shape) for name, shape in self.outputs.items()}

    @property
    def row(self) -> np.dtype[np.void]:
        """What one row is on disk."""
        return CODECS[self.codec].dtype(self.shapes)

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Name the fields in which `other` (as read from disk) differs, in words of the recipe."""
        own, theirs = (dict(flat(values)) for values in (asdict(self), other))
        found = []
        for name in own | theirs:
            mine, its = own.get(name, "none"), theirs.get(name, "none")
            words = name.removeprefix("libraries.")
            if name not in ("teacher_sha256", "shards"):  # digests tell a person nothing
                words += f" ({its}, here {mine})"
            found += [words] if mine != its else []
        return found


def augment_values(augment: AugmentConfig) -> dict[str, Any]:
    """Return the augmentation policy as it stands in a key.

    The constants of a family are code: `AUGMENT_VERSION` stands for them. That the loader does all
    is not named, as it was not before there was another way.
    """
    values = asdict(augment)
    return values if augment.device else {k: v for k, v in values.items() if k != "device"}


def cached_shards(shards: ShardSet, altitudes: Sequence[float]) -> dict[str, RowNumbers]:
    """Return name to image rows of the shards that a recipe trains on.

    The rows are of all tiles, and of the drone views at `altitudes` (all heights if empty).
    """
    images = shards.images
    tiles, drones = (images.where(role=Role.TRAIN, view=view) for view in PAIRED_VIEWS)
    rows = np.sort(np.concatenate([tiles, at_altitudes(shards, drones, altitudes)]))
    numbers, starts = np.unique(images.shard[rows], return_index=True)
    names = [shards.manifest.shards[number].name for number in numbers.tolist()]
    return dict(zip(names, np.split(rows, starts[1:]), strict=True))


def rows_name(shard: str) -> str:
    """Return the file name of a shard's rows."""
    return Path(shard).with_suffix(".npy").name


def tar_digests(shards: ShardSet) -> dict[str, str]:
    """Return the rows file of each tar to the tar's SHA-256."""
    return {rows_name(entry.name): entry.sha256 for entry in shards.manifest.shards}


class FeatureCache:
    """A finished cache, opened for reading by image row and slot."""

    def __init__(self, shards: ShardSet, folder: Path, key: CacheKey) -> None:
        """Map the rows; use `open`, which checks them first."""
        self.key, self.folder, self.shards = key, folder, shards
        self.lease: object = None
        """What keeps `folder` from being evicted while this cache is open."""

        self.shard_of, self.slots = shards.images.shard, int(key.augment["slots"])
        self._rows: dict[int, Rows] = {}
        self._row = key.row
        described = cached_shards(shards, key.altitudes)
        self.described = np.concatenate(list(described.values()))
        """Image rows that have an answer in every slot, ascending."""

        # Where in its shard's file an image stands; behind the end of any file if it is in none.
        self._at = np.full(len(shards.images), len(shards.images), dtype=np.int64)
        for name, images in described.items():
            rows = np.load(folder / rows_name(name), mmap_mode="r")
            if rows.shape != (len(images), self.slots) or rows.dtype != key.row:
                raise ValueError(f"{rows_name(name)} has shape {rows.shape} of {rows.dtype}")
            self._at[images] = np.arange(len(images))
            self._rows[int(self.shard_of[images[0]])] = rows.reshape(-1)

    @classmethod
    def open(cls, folder: Path, *, shards: ShardSet, key: CacheKey, recipe: str) -> "FeatureCache":
        """Open the cache in `folder` if it was made from exactly what `key` says.

        `recipe` is what was typed behind the verb, for the command that makes the cache.

        Raises:
            CacheError: it is missing, unfinished, cut short, or made from something else. (The
                digests beside the key are not compared here: that would read every row.)
        """
        make = f"run skydistill cache {recipe}"
        remedy = f"{make} --teacher.cache NEW_FOLDER, and train with that folder"
        if not is_finished(folder, key, remedy=remedy, plan=shards.plan_digest):
            raise CacheError(f"no finished teacher cache at {folder}; {make}")
        try:
            return cls(shards, folder, key)
        except (OSError, ValueError) as error:
            raise CacheError(
                f"teacher cache {folder} is damaged ({error}); remove it and {make}"
            ) from error

    def staged(self, cache: LocalCache) -> "FeatureCache":
        """Return this cache as copied to the node's own disk, or itself where there is no room."""
        content = (self.folder / META_NAME).read_bytes()
        files = [
            WantedFile(name=name, sha256=sha, bytes=(self.folder / name).stat().st_size)
            for name, sha in json.loads(content)["sha256"].items()
        ]
        name = hashlib.sha256(content).hexdigest()
        entry = copy_to_node(self.folder, files, name=name, cache=cache)
        if entry is None:
            return self
        copied = FeatureCache(self.shards, entry.folder, self.key)
        copied.lease = entry
        return copied

    def lookup(
        self, rows: RowNumbers, slots: npt.NDArray[np.int64], device: torch.device = CPU
    ) -> Outputs:
        """Return the named outputs [N, ...] of N images in their slots, float32 on `device`.

        Raises:
            LookupError: an image is none of `described`.
        """
        shard = self.shard_of[rows]
        order = np.argsort(shard, kind="stable")
        of_shard = (self._at[rows] * self.slots + slots)[order]
        counts = np.bincount(shard)
        ends = np.cumsum(counts).tolist()
        found = np.empty(len(rows), dtype=self._row)
        for number in np.flatnonzero(counts).tolist():
            part = slice(ends[number - 1] if number else 0, ends[number])
            found[order[part]] = self._rows[number].take(of_shard[part])
        return CODECS[self.key.codec].decode(found, device)


def is_finished(folder: Path, key: CacheKey, *, remedy: str, plan: str = "") -> bool:
    """Return whether `folder` holds the finished cache of `key`.

    With `plan`, one of shards of this very plan, of which images were replaced, is unfinished.

    Raises:
        CacheError: it is of another key, with the remedy for that, or its meta file is damaged.
    """
    path = folder / META_NAME
    if not path.is_file():
        return False
    try:
        meta = json.loads(path.read_text())
        differs = key.differences(dict(meta["key"]))
        if differs == ["shards"] and plan and meta.get("plan") == plan:
            return False
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(
            f"{path} is damaged; remove {folder} and run skydistill cache again"
        ) from error
    if differs:
        raise CacheError(
            f"teacher cache {folder} was made from another {', '.join(differs)}; {remedy}"
        )
    return True


def cache_facts(folder: Path) -> dict[str, Any]:
    """Return what a finished cache is, by names that a report uses, without its shards.

    Raises:
        CacheError: there is none, it is unfinished, or a file of it is cut short or missing.
    """
    if not (folder / META_NAME).is_file():
        raise CacheError(f"{folder} holds no finished teacher cache; run skydistill cache")
    try:
        meta = json.loads((folder / META_NAME).read_text())
        key, seconds = CacheKey(**meta["key"]), float(meta["seconds"])
        origin = Origin(**meta["origin"])
        files = [np.load(folder / name, mmap_mode="r") for name in meta["sha256"]]
        if key.digest != meta["digest"] or any(rows.dtype != key.row for rows in files):
            raise ValueError(f"{META_NAME} does not fit its rows")
        rows = sum(rows.size for rows in files)
        return {
            "folder": str(folder),
            "teacher": meta["teacher"],
            "teacher_started_from": origin.source,
            "teacher_licence": origin.licence_in_words,
            **asdict(key),
            "rows": rows,
            "bytes_per_row": key.row.itemsize,
            "bytes": sum(path.stat().st_size for path in folder.iterdir()),
            "seconds": seconds,
            "seconds_per_1000_rows": round(1000 * seconds / rows, 4),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CacheError(
            f"teacher cache {folder} is damaged, or of another version ({error}); remove it and "
            "run skydistill cache"
        ) from error
