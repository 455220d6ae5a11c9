"""What one `skydistill shard` did, and how its images are counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from data_shards.index import Rows
from data_shards.layouts.published import PLACES
from data_shards.manifest import Manifest
from data_shards.schema import Role, View

WORD_OF_VIEW = {int(view): view.word for view in View}
WORDS_OF_ROLES = {number: Role(number).words for number in range(8)}

Counts: TypeAlias = dict[str, dict[str, int]]
"""Role, then view or `places`, to a number."""

Place = TypeVar("Place", int, str)

Groups: TypeAlias = Counter[tuple[int, int, Place]]
"""Roles, view and place (or its number), to a number of images."""


@dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """What one `skydistill shard` did."""

    manifest: Manifest
    images: int
    was_complete: bool
    """True when the folder already held the shards of these very files and nothing was written."""

    tars_written: int
    tars_kept: int
    """Tars of an earlier run whose files nobody touched since."""


def groups_in(indexes: Sequence[Rows]) -> Groups[int]:
    """Count the images of some indexes in groups."""
    groups: Groups[int] = Counter()
    for rows in indexes:
        columns = (rows[name].tolist() for name in ("roles", "view", "place"))
        groups.update(zip(*columns, strict=True))
    return groups


def count_groups(groups: Groups[Place]) -> Counts:
    """Count images per role and view, and places per role, as the manifest does."""
    counts: dict[str, Counter[str]] = {role.words[0]: Counter() for role in Role}
    places: dict[str, set[Place]] = {role.words[0]: set() for role in Role}
    for (roles, view, place), times in groups.items():
        for word in WORDS_OF_ROLES[roles]:
            counts[word][WORD_OF_VIEW[view]] += times
            places[word].add(place)
    return {
        word: dict(sorted(of_role.items())) | {PLACES: len(places[word])}
        for word, of_role in counts.items()
    }
