"""Which image goes into which tar, and in what order: layout D of spec performance 2.3.

A drone tar holds a block of places, view round by view round, so any contiguous run of it shows
each place at most once; satellites lie in tars of their own.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from data_shards.schema import ImageRecord, Role, View

TRAIN = int(Role.TRAIN)
PLACES_PER_SHARD = 128
SATELLITES_PER_SHARD = 8192

GROUPS = (("train", TRAIN), ("test", 0))
"""Word in a tar's name, and which images are in it: those trained on, or the others."""

IN_ORDER = attrgetter("position", "place", "name")
"""View round by view round."""


@dataclass(frozen=True, kw_only=True)
class TarContent:
    """One tar to be: its name and its images in order."""

    name: str
    records: tuple[ImageRecord, ...]


def shard_layout(records: Sequence[ImageRecord]) -> list[TarContent]:
    """Return every tar with its ordered images, in the order of the manifest."""
    groups: dict[tuple[int, int], list[ImageRecord]] = defaultdict(list)
    for record in records:  # by plain integers, because flags are slow to compute with
        groups[int(record.roles) & TRAIN, int(record.view)].append(record)
    tars = []
    for word, train in GROUPS:
        for view in View:
            members = groups[train, int(view)]
            size = SATELLITES_PER_SHARD if view is View.SATELLITE else PLACES_PER_SHARD
            places = sorted({record.place for record in members})
            block_of = {place: number // size for number, place in enumerate(places)}
            blocks: dict[int, list[ImageRecord]] = defaultdict(list)
            for record in members:
                blocks[block_of[record.place]].append(record)
            for number, block in sorted(blocks.items()):
                name = f"{word}-{view.word}-{number:06d}.tar"
                tars.append(TarContent(name=name, records=tuple(sorted(block, key=IN_ORDER))))
    return tars
