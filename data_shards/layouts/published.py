"""What the public data sets hold, as published, and how a copy of one differs from that.

Sources: the README of University-1652 (spec pfed 1.1, bicrossnet 1.1) and the split script of
SUES-200 (spec bicrossnet 1.2). Drone images are 54 per place, and 50 per place and altitude.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from data_shards.layouts.split import official_split
from data_shards.manifest import PLACES
from data_shards.schema import Role, View
from data_shards.shards import ShardSet

EXAMPLES = 3
"""Places that a sentence about many places names."""


class Image(NamedTuple):
    """What a comparison needs to know of one image."""

    key: str
    place: str
    view: View
    roles: Role
    altitude_m: float | None


@dataclass(frozen=True, kw_only=True)
class Published:
    """The counts of a public data set."""

    title: str

    counts: Mapping[Role, Mapping[str, int]]
    """Role, then view (and `places`), to the number of images."""

    drones: int
    """Drone images of a place, or of a place at one altitude."""

    altitudes_m: tuple[int, ...] = ()
    """Altitudes that are counted apart; none where a flight is one descent."""

    optional: tuple[View, ...] = ()
    """Views that a copy may lack altogether."""

    stray: int = 0
    """Drone images that one test place has too many, in the data set as it is downloaded."""


PUBLISHED: dict[str, Published] = {
    "university1652": Published(
        title="University-1652",
        counts={
            Role.TRAIN: {PLACES: 701, "satellite": 701, "drone": 37_854, "street": 11_663},
            Role.QUERY: {PLACES: 701, "satellite": 701, "drone": 37_854, "street": 2_579},
            Role.GALLERY: {PLACES: 951, "satellite": 951, "drone": 51_354, "street": 2_921},
        },
        drones=54,
        optional=(View.STREET,),
        stray=1,
    ),
    "sues200": Published(
        title="SUES-200",
        counts={
            Role.TRAIN: {PLACES: 120, "satellite": 120, "drone": 24_000},
            Role.QUERY: {PLACES: 80, "satellite": 80, "drone": 16_000},
            Role.GALLERY: {PLACES: 200, "satellite": 200, "drone": 40_000},
        },
        drones=50,
        altitudes_m=(150, 200, 250, 300),
    ),
}
"""Name of a layout to its data set. Google's images of University-1652 are not counted: their
number is not part of what its README states as the benchmark."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How a copy of a data set compares to the published one, one sentence each."""

    differences: tuple[str, ...] = ()
    """Where the counts differ; `skydistill verify --expect official` refuses on these."""

    peculiarities: tuple[str, ...] = ()
    """What is odd about the published data set itself: the stray query of University-1652."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of it, as it stands in `RawDataset.deviations` and in the manifest."""
        return self.differences + self.peculiarities


def compare(layout: str, images: Iterable[Image]) -> Comparison:
    """Compare the images of a copy with the published counts; a pure function of these images.

    Call it with `images_in(shards)` for shards; a layout that is not in `PUBLISHED` compares to
    nothing. A small part of a data set, or a synthetic world, is told in one sentence.
    """
    published = PUBLISHED.get(layout)
    if published is None:
        return Comparison()
    known = list(images)
    tally = _count(known, published)
    if partial := _partial_sentence(published, tally):
        return Comparison(differences=(partial,))
    stray = _find_stray(published, tally)
    return Comparison(
        differences=(*_differences(published, tally, stray), *_split_differences(layout, tally)),
        peculiarities=tuple(_stray_sentence(published, known, stray)),
    )


def images_in(shards: ShardSet) -> Iterator[Image]:
    """Yield the images of a shard folder, for `compare`."""
    table, places = shards.images, shards.places
    columns = (table.key, table.place, table.view, table.roles, table.altitude_m)
    for key, place, view, roles, altitude_m in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        known = None if math.isnan(altitude_m) else altitude_m
        yield Image(key, places[place], View(view), Role(roles), known)


@dataclass
class _Tally:
    """Everything that is counted, in one pass over the images."""

    counts: dict[Role, Counter[str]] = field(
        default_factory=lambda: {role: Counter() for role in Role}
    )
    places: dict[Role, set[str]] = field(default_factory=lambda: {role: set() for role in Role})
    flights: dict[Role, Counter[tuple[str, int | None]]] = field(
        default_factory=lambda: {role: Counter() for role in Role}
    )
    """Role, then place and altitude, to the number of drone images."""

    satellites: Counter[str] = field(default_factory=Counter)


def _count(images: Sequence[Image], published: Published) -> _Tally:
    tally = _Tally()
    has_altitudes = bool(published.altitudes_m)
    groups = Counter(
        (int(roles), int(view), place, altitude_m if has_altitudes else None)
        for _, place, view, roles, altitude_m in images
    )
    for (roles, view, place, altitude_m), count in groups.items():
        altitude = round(altitude_m) if altitude_m else None
        if view == View.SATELLITE:
            tally.satellites[place] += count
        for role in Role(roles):
            tally.counts[role][View(view).word] += count
            tally.places[role].add(place)
            if view == View.DRONE:
                tally.flights[role][place, altitude] += count
    for role in Role:
        tally.counts[role][PLACES] = len(tally.places[role])
    return tally


def _partial_sentence(published: Published, tally: _Tally) -> str | None:
    """Say that fewer than half of the places are there, or more than twice as many, if so."""
    sides = (Role.TRAIN, Role.QUERY)
    counts = [(tally.counts[side][PLACES], published.counts[side][PLACES]) for side in sides]
    if all(told / 2 <= found <= told * 2 for found, told in counts):
        return None
    (train, all_train), (query, all_query) = counts
    return (
        f"this is not the whole of {published.title}: {train:,} places to train on instead of "
        f"{all_train:,} and {query:,} to query instead of {all_query:,}, so no other count is "
        "compared with the published ones"
    )


def _find_stray(published: Published, tally: _Tally) -> str | None:
    """Return the one test place that has the published surplus of drone images, if just one has."""
    surplus = published.drones + published.stray
    found = {
        place
        for role in (Role.QUERY, Role.GALLERY)
        for (place, _), count in tally.flights[role].items()
        if published.stray and count == surplus
    }
    return found.pop() if len(found) == 1 else None


def _differences(published: Published, tally: _Tally, stray: str | None) -> Iterator[str]:
    """Yield what differs: numbers of each role first, then places that are not as the others."""
    for role in Role:
        if _is_small_gallery(published, tally, role):
            yield (
                f"the galleries hold the {len(tally.places[Role.QUERY])} test places only, not "
                f"all {published.counts[role][PLACES]}: results are not comparable with the "
                "official ones"
            )
            continue
        yield from _wrong_counts(published, tally, role, stray)
    yield from _missing_altitudes(published, tally)
    for role in Role:
        yield from _uneven_flights(published, tally, role, stray)
    uneven = sorted(place for place, count in tally.satellites.items() if count != 1)
    if uneven:
        told = [f"{place} has {tally.satellites[place]}" for place in uneven]
        yield f"{_places(len(uneven))} with other than 1 satellite image: {_first(told)}"


def _is_small_gallery(published: Published, tally: _Tally, role: Role) -> bool:
    """Tell whether training places that belong into the galleries are missing there."""
    queries, gallery = tally.places[Role.QUERY], tally.places[Role.GALLERY]
    is_shared = published.counts[Role.GALLERY][PLACES] == sum(
        published.counts[part][PLACES] for part in (Role.TRAIN, Role.QUERY)
    )
    return role is Role.GALLERY and is_shared and queries == gallery


def _wrong_counts(
    published: Published, tally: _Tally, role: Role, stray: str | None
) -> Iterator[str]:
    has_stray = stray and tally.flights[role][stray, None] == published.drones + published.stray
    for word, told in published.counts[role].items():
        found = tally.counts[role][word]
        expected = told + (published.stray if has_stray and word == View.DRONE.word else 0)
        is_left_out = not found and word in {view.word for view in published.optional}
        if found != expected and not is_left_out:
            what = word if word == PLACES else f"{word} images"
            yield f"{role.words[0]} has {found:,} {what} instead of {expected:,}"


def _missing_altitudes(published: Published, tally: _Tally) -> Iterator[str]:
    seen = {altitude for flights in tally.flights.values() for _, altitude in flights}
    for altitude in published.altitudes_m:
        if altitude not in seen:
            yield f"there are no drone images at {altitude} m"
    for altitude in sorted(a for a in seen if a is not None and published.altitudes_m):
        if altitude not in published.altitudes_m:
            yield f"there are drone images at {altitude} m, which {published.title} has not"


def _uneven_flights(
    published: Published, tally: _Tally, role: Role, stray: str | None
) -> Iterator[str]:
    """Yield one sentence on the places of a role that have too many or too few drone images."""
    flights = tally.flights[role]
    seen = {altitude for of_role in tally.flights.values() for _, altitude in of_role}
    altitudes: list[int | None] = [a for a in published.altitudes_m if a in seen]
    uneven = [
        (place, altitude)
        for place in sorted(tally.places[role])
        for altitude in altitudes or [None]
        if flights[place, altitude] != published.drones and place != stray
    ]
    if uneven:
        told = [
            f"{place}{'' if altitude is None else f' at {altitude} m'} has "
            f"{flights[place, altitude]}"
            for place, altitude in uneven
        ]
        what = _places(len({place for place, _ in uneven}))
        at = " at an altitude" if published.altitudes_m else ""
        yield (
            f"{role.words[0]} has {what} with other than {published.drones} drone images{at}: "
            f"{_first(told)}"
        )


def _split_differences(layout: str, tally: _Tally) -> Iterator[str]:
    """Yield how the training places differ from the official split, where all ids are there."""
    split = official_split(layout)
    everywhere = {place for places in tally.places.values() for place in places}
    if split is None or not split.names_exactly(everywhere):
        return
    official = split.train_of(everywhere)
    wrong = sorted(tally.places[Role.TRAIN] ^ official)
    if wrong:
        yield (
            f"the split is not the official one: {_places(len(wrong))} on another side: "
            f"{_first(wrong)}"
        )


def _stray_sentence(
    published: Published, images: Iterable[Image], stray: str | None
) -> Iterator[str]:
    """Yield whether the odd image of the published data set is there, and which it is."""
    if not published.stray:
        return
    queries = published.counts[Role.QUERY][View.DRONE.word] + published.stray
    if stray is None:
        yield (
            f"the stray drone image of the published {published.title}, which makes its drone "
            f"queries {queries:,}, is not there"
        )
        return
    orbit = {f"image-{view:02d}" for view in range(1, published.drones + 1)}
    drones = [i.key for i in images if i.place == stray and i.view is View.DRONE]
    odd = [key for key in drones if key.rpartition("/")[2] not in orbit]
    what = f"{odd[0]} is" if len(odd) == published.stray else f"an image of place {stray} is"
    yield (
        f"{what} the stray drone image of the published {published.title}, which makes its drone "
        f"queries {queries:,} instead of {published.counts[Role.QUERY][PLACES]} x "
        f"{published.drones}"
    )


def _places(count: int) -> str:
    return f"{count:,} place{'s' if count != 1 else ''}"


def _first(told: Sequence[str]) -> str:
    """Join the first few of many, and say when there are more."""
    return ", ".join(told[:EXAMPLES]) + (", ..." if len(told) > EXAMPLES else "")
