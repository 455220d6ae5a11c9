"""The searches of one evaluation: every row of the protocol, and what is reported beside it."""

from dataclasses import dataclass, replace

import numpy as np

from data_shards.schema import View
from data_shards.shards import ImageTable, RowNumbers
from evaluation.describe import Descriptors
from evaluation.joined_shards import JoinedShards
from evaluation.protocols import Protocol, protocols_of, split_by_presence
from evaluation.ranking import Ranking, metrics
from evaluation.result import CLEAN, Gallery, Result
from evaluation.verdict import Verdict, chance, judge


@dataclass(frozen=True, kw_only=True)
class Search:
    """Which images look for which, under the name of the row that reports it."""

    protocol: Protocol
    query_rows: RowNumbers
    gallery_rows: RowNumbers
    gallery: Gallery = "full"

    @property
    def is_from_the_air(self) -> bool:
        """Whether drone images look for satellite tiles: what conditions are laid over."""
        return self.protocol.direction == "d2s"

    def has_answers(self, images: ImageTable) -> bool:
        """Whether a query's place is in the gallery: those of a challenge have secret answers."""
        asked = images.place[self.query_rows]
        return bool(np.isin(asked, images.place[self.gallery_rows]).any())

    @property
    def has_drone_views(self) -> bool:
        """Whether drone images stand on one side and satellite tiles on the other."""
        return {side.view for side in self.protocol.sides} == {View.DRONE, View.SATELLITE}

    def without_distractors(self, images: ImageTable) -> "Search":
        """Return the search among the places that are asked for alone."""
        is_asked = np.isin(images.place[self.gallery_rows], images.place[self.query_rows])
        return replace(self, gallery="no-distractors", gallery_rows=self.gallery_rows[is_asked])

    def judged(
        self, descriptors: Descriptors, images: ImageTable, *, queries: Descriptors | None = None
    ) -> Verdict:
        """Search; every rank calls it."""
        return judge(
            descriptors,
            images,
            query_rows=self.query_rows,
            gallery_rows=self.gallery_rows,
            queries=queries,
        )

    def result(self, ranking: Ranking, *, condition: str = CLEAN, rerank: str = "") -> Result:
        """Return the row of a report."""
        return Result(
            direction=self.protocol.direction,
            title=self.protocol.title,
            altitude_m=self.protocol.altitude_m,
            gallery=self.gallery,
            condition=condition,
            rerank=rerank,
            metrics=metrics(ranking),
            chance=chance(ranking),
        )


@dataclass(frozen=True, kw_only=True)
class Searches:
    """The headline searches of a data set, and those that its shards have no images for."""

    found: tuple[Search, ...]
    answered: tuple[Search, ...]
    """Those of them that can be judged."""

    absent: tuple[Protocol, ...]

    @property
    def rows(self) -> list[RowNumbers]:
        """Every image that is needed, shared ones more than once."""
        return [rows for search in self.found for rows in (search.query_rows, search.gallery_rows)]

    @property
    def drone_rows(self) -> list[RowNumbers]:
        """The drone images of every search between drone images and satellite tiles."""
        return [
            search.query_rows if search.protocol.query.view is View.DRONE else search.gallery_rows
            for search in self.found
            if search.has_drone_views
        ]

    @property
    def from_the_air(self) -> tuple[Search, ...]:
        """Those in which drone images look for satellite tiles."""
        return tuple(search for search in self.found if search.is_from_the_air)


def find_searches(shards: JoinedShards) -> Searches:
    """Return the searches of a test set's layout among its images and those of its distractors.

    Raises:
        DescriptorError: no protocol is known for the layout, or no test image is there.
    """
    images = shards.main.images
    found, absent = split_by_presence(protocols_of(shards.manifest.layout), images)
    searches = [
        Search(
            protocol=protocol,
            query_rows=protocol.query.rows(images),
            gallery_rows=np.concatenate(
                [protocol.gallery.rows(images), shards.distractor_rows(protocol.gallery.view)]
            ),
        )
        for protocol in found
    ]
    answered = tuple(search for search in searches if search.has_answers(shards.images))
    return Searches(found=tuple(searches), answered=answered, absent=absent)


def drone_views_per_place(searches: Searches, shards: JoinedShards) -> int:
    """Return the most drone images that one place of the test set has on one side of a search.

    Distractors of other shards do not count: nobody asks for them.
    """
    place = shards.main.images.place
    own = [place[rows[rows < len(place)]] for rows in searches.drone_rows]
    return max((int(np.bincount(places, minlength=1).max()) for places in own), default=0)
