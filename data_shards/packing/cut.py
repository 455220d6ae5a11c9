"""Which image goes into which tar, and in what order: layout D of spec performance 2.3.

A drone tar holds a block of places, view round by view round, so any contiguous run of it shows
each place at most once; satellites lie in tars of their own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_shards.schema import ImageRecord, Role, View

TRAIN = int(Role.TRAIN)
PLACES_PER_SHARD = 128
SATELLITES_PER_SHARD = 8192

GROUPS = (("train", True), ("test", False))
"""Word in a tar's name, and whether its images are trained on."""


@dataclass(frozen=True, kw_only=True)
class TarContent:
    """One tar to be: its name and its images in order."""

    name: str
    records: tuple[ImageRecord, ...]

    @property
    def index_name(self) -> str:
        """File name of the index beside the tar."""
        return Path(self.name).with_suffix(".index").name


def cut_into_tars(records: Sequence[ImageRecord]) -> list[TarContent]:
    """Return every tar with its ordered images, in the order of the manifest."""
    groups: dict[tuple[bool, View], list[ImageRecord]] = {}
    for record in records:
        is_train = bool(int(record.roles) & TRAIN)
        groups.setdefault((is_train, record.view), []).append(record)
    return [
        tar
        for word, is_train in GROUPS
        for view in View
        for tar in _blocks(word, view, groups.get((is_train, view), []))
    ]


def _blocks(word: str, view: View, records: list[ImageRecord]) -> Iterator[TarContent]:
    """Yield the tars of one group and view: blocks of places in the order of identifiers."""
    size = SATELLITES_PER_SHARD if view is View.SATELLITE else PLACES_PER_SHARD
    places = sorted({record.place for record in records})
    block_of = {place: number // size for number, place in enumerate(places)}
    blocks: dict[int, list[ImageRecord]] = {}
    for record in records:
        blocks.setdefault(block_of[record.place], []).append(record)
    for number, members in sorted(blocks.items()):
        members.sort(key=lambda record: (record.position, record.place, record.name))
        yield TarContent(name=f"{word}-{view.word}-{number:06d}.tar", records=tuple(members))
