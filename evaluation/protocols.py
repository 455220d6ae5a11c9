"""Who is query and who is gallery: the protocols of the data sets, as data.

Galleries are whole: places that nobody asks for stay in as distractors, as the official
evaluators have it.
"""

from dataclasses import dataclass

from data_shards.errors import DescriptorError
from data_shards.nearest import choose
from data_shards.schema import Role, View
from data_shards.shards import ImageTable, RowNumbers


@dataclass(frozen=True, kw_only=True)
class Side:
    """The images on one side of a search."""

    view: View
    role: Role

    def rows(self, images: ImageTable) -> RowNumbers:
        """Return the rows of these images, sorted by place and position.

        Raises:
            DescriptorError: there are none.
        """
        rows = images.where(role=self.role, view=self.view)
        if not len(rows):
            (role,) = self.role.words
            raise DescriptorError(
                f"the shards hold no {self.view.word} image in the role of {role}; "
                "shard a data set that has its test folders"
            )
        return rows


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One direction of search, as a data set defines it."""

    name: str
    """As it stands in reports: `d2s` or `s2d`."""

    title: str
    query: Side
    gallery: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        """Query and gallery."""
        return self.query, self.gallery


def _direction(name: str, query: View, gallery: View) -> Protocol:
    return Protocol(
        name=name,
        title=f"{query.word} to {gallery.word}",
        query=Side(view=query, role=Role.QUERY),
        gallery=Side(view=gallery, role=Role.GALLERY),
    )


DRONE_TO_SATELLITE = _direction("d2s", View.DRONE, View.SATELLITE)
SATELLITE_TO_DRONE = _direction("s2d", View.SATELLITE, View.DRONE)

PROTOCOLS: dict[str, tuple[Protocol, ...]] = {
    "university1652": (DRONE_TO_SATELLITE, SATELLITE_TO_DRONE),
}
"""Layout of the raw data set to its directions of search."""


def protocols_of(layout: str) -> tuple[Protocol, ...]:
    """Return the protocols of a layout.

    Raises:
        DescriptorError: none are known for it.
    """
    return PROTOCOLS[choose(layout, PROTOCOLS, what="protocol", error=DescriptorError)]
