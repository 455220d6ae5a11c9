"""Who is query and who is gallery: the protocols of the data sets, and the searches of a test set.

Galleries are whole: places that nobody asks for stay in as distractors, as the official
evaluators have it.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from data_shards.errors import DescriptorError
from data_shards.schema import Role, View
from data_shards.shards import ImageTable, RowNumbers
from evaluation.joined_shards import JoinedShards
from evaluation.report import Gallery

MOST_HEIGHTS = 10
"""Heights at which a data set is evaluated one by one; where there are more, a flight descends."""


@dataclass(frozen=True)
class Protocol:
    """One direction of search, as a data set defines it."""

    direction: str
    """As it stands in reports: `d2s` or `s2d`."""

    query: View
    gallery: View
    altitude_m: int | None = None
    """Height of the drone images in metres, on either side; None takes all."""

    @property
    def title(self) -> str:
        return f"{self.query.word} to {self.gallery.word}"

    @property
    def name(self) -> str:
        """Short and unique within a data set, as its row is called: `d2s`, `d2s/150m`."""
        at = "" if self.altitude_m is None else f"/{self.altitude_m}m"
        return f"{self.direction}{at}"

    def rows(self, images: ImageTable) -> tuple[RowNumbers, RowNumbers]:
        """Return queries and gallery, each sorted by place and position; perhaps none."""

        def of(role: Role, view: View) -> RowNumbers:
            rows = images.where(role=role, view=view)
            takes_all = self.altitude_m is None or view is not View.DRONE
            return rows if takes_all else rows[images.altitude_m[rows] == self.altitude_m]

        return of(Role.QUERY, self.query), of(Role.GALLERY, self.gallery)


DRONE_TO_SATELLITE = Protocol("d2s", View.DRONE, View.SATELLITE)
SATELLITE_TO_DRONE = Protocol("s2d", View.SATELLITE, View.DRONE)

BOTH_WAYS = (DRONE_TO_SATELLITE, SATELLITE_TO_DRONE)

PROTOCOLS: dict[str, tuple[Protocol, ...]] = {
    "university1652": (
        *BOTH_WAYS,
        Protocol("street2s", View.STREET, View.SATELLITE),
        Protocol("s2street", View.SATELLITE, View.STREET),
        Protocol("street2d", View.STREET, View.DRONE),
        Protocol("d2street", View.DRONE, View.STREET),
    ),
    "university160k": (DRONE_TO_SATELLITE,),
    "denseuav": BOTH_WAYS,
}
"""Layout of the raw data set to its directions of search, where heights are not told apart."""


def protocols_of(layout: str, images: ImageTable) -> tuple[Protocol, ...]:
    """Return the directions of a layout; of any other, those of its views, height by height."""
    if layout in PROTOCOLS:
        return PROTOCOLS[layout]
    street = [
        one
        for one in PROTOCOLS["university1652"]
        if one not in BOTH_WAYS and all(map(len, one.rows(images)))
    ]
    tested = tested_heights(images)
    heights = np.unique(tested[~np.isnan(tested)])
    if not (0 < len(heights) <= MOST_HEIGHTS and (heights == heights.round()).all()):
        return (*BOTH_WAYS, *street)
    by_height = [replace(one, altitude_m=int(height)) for one in BOTH_WAYS for height in heights]
    return (*by_height, *street)


def tested_heights(images: ImageTable) -> npt.NDArray[np.float32]:
    """Return the height in metres of every drone image that is tested, NaN where it is unknown."""
    is_tested = images.roles & (Role.QUERY | Role.GALLERY) != 0
    heights: npt.NDArray[np.float32] = images.altitude_m[(images.view == View.DRONE) & is_tested]
    return heights


def height_note(layout: str, images: ImageTable) -> str:
    """Say how many drone images without a height are left out, or how many heights are one row."""
    protocols, heights = protocols_of(layout, images), tested_heights(images)
    unknown, known = int(np.isnan(heights).sum()), len(np.unique(heights[~np.isnan(heights)]))
    if protocols[0].altitude_m is not None and unknown:
        return f"left out: {unknown:,} of {len(heights):,} drone images, whose height is not known"
    if protocols[0].altitude_m is None and layout not in PROTOCOLS and known > 1:
        return f"drone images of {known:,} heights are searched together"
    return ""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Which images look for which, under the name of the row that reports it."""

    protocol: Protocol
    query_rows: RowNumbers
    gallery_rows: RowNumbers
    gallery: Gallery = "full"

    @property
    def has_drone_views(self) -> bool:
        """Whether drone images stand on one side and satellite tiles on the other."""
        return {self.protocol.query, self.protocol.gallery} == {View.DRONE, View.SATELLITE}

    def without_distractors(self, images: ImageTable) -> "Search":
        """Return the search among the places that are asked for alone."""
        is_asked = np.isin(images.place[self.gallery_rows], images.place[self.query_rows])
        return replace(self, gallery="no-distractors", gallery_rows=self.gallery_rows[is_asked])


@dataclass(frozen=True, kw_only=True)
class Searches:
    """The headline searches of a data set, and those that its shards have no images for."""

    found: tuple[Search, ...]
    answered: tuple[Search, ...]
    """Those of them whose answers are known: a challenge keeps its own secret."""

    absent: tuple[Protocol, ...]

    @property
    def rows(self) -> list[RowNumbers]:
        """Every image that is needed, shared ones more than once."""
        return [rows for search in self.found for rows in (search.query_rows, search.gallery_rows)]

    @property
    def drone_rows(self) -> list[RowNumbers]:
        """The drone images of every search between drone images and satellite tiles."""
        return [
            search.query_rows if search.protocol.query is View.DRONE else search.gallery_rows
            for search in self.found
            if search.has_drone_views
        ]

    @property
    def drone_to_satellite(self) -> tuple[Search, ...]:
        """Those in which drone images look for satellite tiles: what conditions are laid over."""
        return tuple(
            one for one in self.found if one.protocol.direction == DRONE_TO_SATELLITE.direction
        )


def find_searches(shards: JoinedShards) -> Searches:
    """Return the searches of a test set's layout among its images and those of its distractors.

    Raises:
        DescriptorError: no test image is there.
    """
    images, layout = shards.main.images, shards.manifest.layout
    rows = {protocol: protocol.rows(images) for protocol in protocols_of(layout, images)}
    is_there = {protocol: all(map(len, sides)) for protocol, sides in rows.items()}
    if not any(is_there.values()):
        raise DescriptorError(
            "the shards hold no test images to search with and among; shard both views of test "
            "places, or search a map with the photographs (skydistill index, skydistill query)"
        )
    searches = [
        Search(
            protocol=protocol,
            query_rows=query_rows,
            gallery_rows=np.concatenate([gallery_rows, shards.distractor_rows(protocol.gallery)]),
        )
        for protocol, (query_rows, gallery_rows) in rows.items()
        if is_there[protocol]
    ]
    answered = [one for one in searches if len(one.without_distractors(shards.images).gallery_rows)]
    return Searches(
        found=tuple(searches),
        answered=tuple(answered),
        absent=tuple(protocol for protocol in rows if not is_there[protocol]),
    )


def drone_views_per_place(searches: Searches, shards: JoinedShards) -> int:
    """Return the most drone images that one place of the test set has on one side of a search.

    Distractors of other shards do not count: nobody asks for them.
    """
    place = shards.main.images.place
    own = [place[rows[rows < len(place)]] for rows in searches.drone_rows]
    return max((int(np.bincount(places, minlength=1).max()) for places in own), default=0)
