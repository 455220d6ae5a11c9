"""Who is query and who is gallery: the protocols of the data sets, as data.

Galleries are whole: places that nobody asks for stay in as distractors, as the official
evaluators have it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from data_shards.errors import DescriptorError, require_known
from data_shards.schema import Role, View
from data_shards.shards import ImageTable, RowNumbers

SUES200_ALTITUDES_M = (150, 200, 250, 300)


@dataclass(frozen=True, kw_only=True)
class Side:
    """The images on one side of a search."""

    view: View
    role: Role
    altitude_m: int | None = None
    """Height of the drone images in metres; None takes all."""

    def rows(self, images: ImageTable) -> RowNumbers:
        """Return the rows of these images, sorted by place and position; perhaps none."""
        rows = images.where(role=self.role, view=self.view)
        return rows if self.altitude_m is None else rows[images.altitude_m[rows] == self.altitude_m]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One direction of search, as a data set defines it."""

    direction: str
    """As it stands in reports: `d2s` or `s2d`."""

    title: str
    query: Side
    gallery: Side
    altitude_m: int | None = None
    """Height of the drone images in metres, where the protocol is split by it."""

    @property
    def name(self) -> str:
        """Short and unique within a data set, as its row is called: `d2s`, `d2s/150m`."""
        at = "" if self.altitude_m is None else f"/{self.altitude_m}m"
        return f"{self.direction}{at}"

    @property
    def sides(self) -> tuple[Side, Side]:
        """Query and gallery."""
        return self.query, self.gallery


def _direction(name: str, query: View, gallery: View, altitude_m: int | None = None) -> Protocol:
    """Build a direction whose drone images, on either side, are those of one height."""
    heights = [altitude_m if view is View.DRONE else None for view in (query, gallery)]
    return Protocol(
        direction=name,
        title=f"{query.word} to {gallery.word}",
        query=Side(view=query, role=Role.QUERY, altitude_m=heights[0]),
        gallery=Side(view=gallery, role=Role.GALLERY, altitude_m=heights[1]),
        altitude_m=altitude_m,
    )


DRONE_TO_SATELLITE = _direction("d2s", View.DRONE, View.SATELLITE)
SATELLITE_TO_DRONE = _direction("s2d", View.SATELLITE, View.DRONE)

PROTOCOLS: dict[str, tuple[Protocol, ...]] = {
    "university1652": (
        DRONE_TO_SATELLITE,
        SATELLITE_TO_DRONE,
        _direction("street2s", View.STREET, View.SATELLITE),
        _direction("s2street", View.SATELLITE, View.STREET),
        _direction("street2d", View.STREET, View.DRONE),
        _direction("d2street", View.DRONE, View.STREET),
    ),
    "university160k": (DRONE_TO_SATELLITE,),
    "sues200": tuple(
        _direction(name, *views, altitude_m)
        for name, views in (
            ("d2s", (View.DRONE, View.SATELLITE)),
            ("s2d", (View.SATELLITE, View.DRONE)),
        )
        for altitude_m in SUES200_ALTITUDES_M
    ),
}
"""Layout of the raw data set to its directions of search."""


def protocols_of(layout: str) -> tuple[Protocol, ...]:
    """Return the protocols of a layout.

    Raises:
        DescriptorError: none are known for it.
    """
    return PROTOCOLS[require_known(layout, PROTOCOLS, what="protocol", error=DescriptorError)]


def split_by_presence(
    protocols: Sequence[Protocol], images: ImageTable
) -> tuple[tuple[Protocol, ...], tuple[Protocol, ...]]:
    """Tell the protocols that these images can be searched by from those that lack a side.

    Raises:
        DescriptorError: no protocol has both sides.
    """
    is_there = [all(len(side.rows(images)) for side in protocol.sides) for protocol in protocols]
    if not any(is_there):
        raise DescriptorError(
            "the shards hold no test images to search with and among; shard a data set that has "
            "its test folders"
        )
    pairs = list(zip(protocols, is_there, strict=True))
    return tuple(p for p, there in pairs if there), tuple(p for p, there in pairs if not there)
