"""A test set and the shards of its distractors as one table of images."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from data_shards.errors import DescriptorError
from data_shards.schema import View
from data_shards.shards import ImageTable, OpenTar, RowNumbers, ShardSet

DISTRACTOR_VIEWS = (View.SATELLITE, View.DRONE)


class JoinedShards(ShardSet):
    """The images of a test set, and behind them those of further shards, all under row numbers.

    Place `0007` of the second folder is called `distractors-2/0007`: an id names a place within its
    own shards only. Distractors have no role, so no protocol takes them for its own.
    """

    def __init__(self, main: ShardSet, distractors: Sequence[ShardSet] = ()) -> None:
        """Join them.

        Raises:
            DescriptorError: two of them hold the very same images.
        """
        self.main, self.distractors = main, tuple(distractors)
        self._parts = (main, *distractors)
        _refuse_equals(self._parts)
        self._starts = np.cumsum([0, *(len(part.images) for part in self._parts[:-1])])
        names = ["", *(f"distractors-{number + 1}/" for number in range(len(distractors)))]
        named = list(zip(names, self._parts, strict=True))
        places = [name + place for name, part in named for place in part.places]
        coordinates = {
            name + place: at
            for name, part in named
            for place, at in part.manifest.coordinates.items()
        }
        manifest = replace(main.manifest, places=tuple(places), coordinates=coordinates)
        super().__init__(main.folder, manifest, _joined_images(self._parts))
        self.source, self.aspect = main.source, main.aspect

    @property
    def fingerprint(self) -> str:
        """Name of the test set's own shards."""
        return self.main.fingerprint

    def distractor_rows(self, view: View) -> RowNumbers:
        """Return the images that join the galleries of a view."""
        if view not in DISTRACTOR_VIEWS:
            return np.empty(0, dtype=np.int64)
        start = len(self.main.images)
        return start + np.flatnonzero(self.images.view[start:] == view)

    def read(self, row: int) -> "memoryview[Any]":
        """Return the bytes of one image file, without copying."""
        part, own = self._find(row)
        return part.read(own)

    def locate(self, row: int) -> tuple[OpenTar, int, int]:
        """Return where another process finds those bytes: tar, offset and size."""
        part, own = self._find(row)
        return part.locate(own)

    def describe(self, row: int) -> str:
        """Name one image for a sentence: tar and key."""
        part, own = self._find(row)
        return part.describe(own)

    def _find(self, row: int) -> tuple[ShardSet, int]:
        at = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._parts[at], row - int(self._starts[at])


def _joined_images(parts: Sequence[ShardSet]) -> ImageTable:
    """Stand the tables one behind the other; the images behind the first have no role."""
    if len(parts) == 1:
        return parts[0].images
    names = [column.name for column in fields(ImageTable)]
    columns = {name: [getattr(part.images, name) for part in parts] for name in names}
    columns["roles"][1:] = [np.zeros_like(roles) for roles in columns["roles"][1:]]
    for name, counts in (
        ("place", [len(part.places) for part in parts]),
        ("shard", [len(part.manifest.shards) for part in parts]),
    ):
        starts = np.cumsum([0, *counts[:-1]])
        columns[name] = [
            column + start for column, start in zip(columns[name], starts, strict=True)
        ]
    return ImageTable(**{name: np.concatenate(column) for name, column in columns.items()})


def _refuse_equals(parts: Sequence[ShardSet]) -> None:
    seen: dict[str, ShardSet] = {}
    for part in parts:
        other = seen.setdefault(part.manifest.content_sha256, part)
        if other is not part:
            why = (
                "right answers would count as wrong ones"
                if other is parts[0]
                else "they count twice"
            )
            raise DescriptorError(
                f"{part.source} holds the very images of {other.source}, so that {why}; leave it "
                "out of --distractors, or give other shards"
            )
