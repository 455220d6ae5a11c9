"""What the public data sets hold, as published, and how a copy of one differs from that.

Sources: the README of University-1652 (spec pfed 1.1, bicrossnet 1.1) and the split script of
SUES-200 (spec bicrossnet 1.2). Drone images are 54 per place, and 50 per place and altitude.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from data_shards.errors import counted
from data_shards.layouts.folders import first_of
from data_shards.layouts.split import official_split
from data_shards.manifest import PLACES
from data_shards.schema import Role, View
from data_shards.shards import ShardSet


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
    copy = _Copy(layout, published, list(images))
    if copy.is_partial:
        return Comparison(differences=(copy.partial_sentence,))
    peculiarities = (copy.stray_sentence,) if published.stray else ()
    return Comparison(differences=tuple(copy.differences()), peculiarities=peculiarities)


def is_official(shards: ShardSet) -> bool:
    layout = shards.manifest.layout
    return layout in PUBLISHED and not compare(layout, images_in(shards)).differences


def images_in(shards: ShardSet) -> Iterator[Image]:
    """Yield the images of a shard folder, for `compare`."""
    table, places = shards.images, shards.places
    columns = (table.key, table.place, table.view, table.roles, table.altitude_m)
    for key, place, view, roles, altitude_m in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        known = None if math.isnan(altitude_m) else altitude_m
        yield Image(key, places[place], View(view), Role(roles), known)


class _Copy:
    """A copy of a data set, counted in one pass over its images."""

    def __init__(self, layout: str, published: Published, images: Sequence[Image]) -> None:
        self.layout, self.published, self.images = layout, published, images
        self.counts: dict[Role, Counter[str]] = {role: Counter() for role in Role}
        self.places: dict[Role, set[str]] = {role: set() for role in Role}
        self.flights: dict[Role, Counter[tuple[str, int | None]]] = {r: Counter() for r in Role}
        """Role, then place and altitude, to the number of drone images."""
        self.satellites = Counter[str]()
        has_altitudes = bool(published.altitudes_m)
        groups = Counter(
            (int(roles), int(view), place, altitude_m if has_altitudes else None)
            for _, place, view, roles, altitude_m in images
        )
        for (roles, view, place, altitude_m), count in groups.items():
            if view == View.SATELLITE:
                self.satellites[place] += count
            for role in Role(roles):
                self.counts[role][View(view).word] += count
                self.places[role].add(place)
                if view == View.DRONE:
                    self.flights[role][place, round(altitude_m) if altitude_m else None] += count
        for role in Role:
            self.counts[role][PLACES] = len(self.places[role])
        self.altitudes = {at for flights in self.flights.values() for _, at in flights}
        surplus = published.drones + published.stray
        strays = {
            place
            for role in (Role.QUERY, Role.GALLERY)
            for (place, _), count in self.flights[role].items()
            if published.stray and count == surplus
        }
        self.stray = strays.pop() if len(strays) == 1 else None
        """The one test place that has the published surplus of drone images, if just one has."""

    @property
    def is_partial(self) -> bool:
        """Whether fewer than half of the places are there, or more than twice as many."""
        sides = (Role.TRAIN, Role.QUERY)
        told = [self.published.counts[side][PLACES] for side in sides]
        found = [len(self.places[side]) for side in sides]
        return not all(t / 2 <= f <= t * 2 for f, t in zip(found, told, strict=True))

    @property
    def partial_sentence(self) -> str:
        """How much of the data set is there."""
        published, train, query = self.published, Role.TRAIN, Role.QUERY
        return (
            f"this is not the whole of {published.title}: "
            f"{counted(len(self.places[train]), 'place')} to train on instead of "
            f"{published.counts[train][PLACES]:,} and "
            f"{len(self.places[query]):,} to query instead of {published.counts[query][PLACES]:,}, "
            "so no other count is compared with the published ones"
        )

    @property
    def stray_sentence(self) -> str:
        """Whether the odd image of the published data set is there, and which it is."""
        published = self.published
        queries = published.counts[Role.QUERY][View.DRONE.word] + published.stray
        odd = f"the stray drone image of the published {published.title}, which makes its drone"
        if self.stray is None:
            return f"{odd} queries {queries:,}, is not there"
        orbit = {f"image-{view:02d}" for view in range(1, published.drones + 1)}
        drones = [i.key for i in self.images if i.place == self.stray and i.view is View.DRONE]
        keys = [key for key in drones if key.rpartition("/")[2] not in orbit]
        what = keys[0] if len(keys) == published.stray else f"an image of place {self.stray}"
        places = published.counts[Role.QUERY][PLACES]
        return f"{what} is {odd} queries {queries:,} instead of {places} x {published.drones}"

    def differences(self) -> Iterator[str]:
        """Yield what differs: numbers of each role first, then places that are not as others."""
        published, queries = self.published, self.places[Role.QUERY]
        told = {role: published.counts[role][PLACES] for role in Role}
        # Where training places belong into the galleries, they may be missing there.
        is_shared = told[Role.GALLERY] == told[Role.TRAIN] + told[Role.QUERY]
        for role in Role:
            if role is Role.GALLERY and is_shared and queries == self.places[role]:
                yield (
                    f"the galleries hold the {len(queries)} test places only, not all "
                    f"{told[role]}: results are not comparable with the official ones"
                )
            else:
                yield from self.wrong_counts(role)
        for altitude in published.altitudes_m:
            if altitude not in self.altitudes:
                yield f"there are no drone images at {altitude} m"
        others = {at for at in self.altitudes if at and published.altitudes_m}
        for altitude in sorted(others.difference(published.altitudes_m)):
            yield f"there are drone images at {altitude} m, which {published.title} has not"
        for role in Role:
            yield from self.uneven_flights(role)
        yield from self.odd_places()

    def odd_places(self) -> Iterator[str]:
        """Yield which places have not just one tile, and which stand on another side."""
        if uneven := sorted(place for place, count in self.satellites.items() if count != 1):
            listed = [f"{place} has {self.satellites[place]}" for place in uneven]
            what = counted(len(uneven), "place")
            yield f"{what} with other than 1 satellite image: {first_of(listed)}"
        split, everywhere = official_split(self.layout), set().union(*self.places.values())
        if split is not None and split.names_exactly(everywhere):
            wrong = sorted(self.places[Role.TRAIN] ^ split.train_of(everywhere))
            if wrong:
                what = f"{counted(len(wrong), 'place')} on another side: {first_of(wrong)}"
                yield f"the split is not the official one: {what}"

    def wrong_counts(self, role: Role) -> Iterator[str]:
        """Yield the counts of a role that differ; a view that is optional may be missing."""
        published, counts = self.published, self.counts[role]
        has_stray = self.flights[role][self.stray or "", None] == published.drones + published.stray
        for word, told in published.counts[role].items():
            expected = told + published.stray * (has_stray and word == View.DRONE.word)
            is_left_out = not counts[word] and word in {view.word for view in published.optional}
            if counts[word] != expected and not is_left_out:
                what = word if word == PLACES else f"{word} images"
                yield f"{role.words[0]} has {counts[word]:,} {what} instead of {expected:,}"

    def uneven_flights(self, role: Role) -> Iterator[str]:
        """Yield one sentence on the places of a role with too many or too few drone images."""
        flights, usual = self.flights[role], self.published.drones
        known = [at for at in self.published.altitudes_m if at in self.altitudes]
        altitudes: Sequence[int | None] = known or [None]
        uneven = [
            (place, altitude)
            for place in sorted(self.places[role])
            for altitude in altitudes
            if flights[place, altitude] != usual and place != self.stray
        ]
        if uneven:
            told = [
                f"{place}{'' if altitude is None else f' at {altitude} m'} has "
                f"{flights[place, altitude]}"
                for place, altitude in uneven
            ]
            what = counted(len({place for place, _ in uneven}), "place")
            at = " at an altitude" if self.published.altitudes_m else ""
            yield (
                f"{role.words[0]} has {what} with other than {usual} drone images{at}: "
                f"{first_of(told)}"
            )
