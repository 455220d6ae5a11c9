"""What every layout demands of its images: places of one side and with both views."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from data_shards.errors import LayoutError
from data_shards.schema import ImageRecord, Role, View

PAIRED = (View.SATELLITE, View.DRONE)


def refuse_shared_places(raw: Path, *, train: set[str], test: set[str]) -> None:
    """Refuse a place that is trained on and tested on.

    Raises:
        LayoutError: there is one.
    """
    if both := sorted(train & test):
        raise LayoutError(
            f"{raw}: place {both[0]} ({len(both)} in all) stands in train and in test, so the test "
            "would be trained on; keep each id on one side"
        )


def places_of(records: Iterable[ImageRecord], role: Role) -> set[str]:
    """Return the places that have an image of a role."""
    wanted = int(role)  # of plain integers, because flags take ten times as long
    return {record.place for record in records if int(record.roles) & wanted}


def require_both_views(raw: Path, records: Iterable[ImageRecord]) -> None:
    """Demand a satellite and a drone image of every place, in each role that it has one in.

    Street images need no role of their own: a place that has some must be complete somewhere.

    Raises:
        LayoutError: a place lacks one.
    """
    places: dict[tuple[Role, View], set[str]] = defaultdict(set)
    for roles, view, place in {(record.roles, record.view, record.place) for record in records}:
        for role in roles:
            places[role, view].add(place)
    complete: set[str] = set()
    for role in Role:
        for view, other in (PAIRED, PAIRED[::-1]):
            if lacking := sorted(places[role, other] - places[role, view]):
                raise LayoutError(
                    f"{raw}: {role.words[0]} place {lacking[0]} has no {view.word} image; "
                    "add it or remove the place from the other view"
                )
        complete |= places[role, View.DRONE]
    for (_, view), of_view in places.items():
        if view not in PAIRED and (lacking := sorted(of_view - complete)):
            raise LayoutError(
                f"{raw}: place {lacking[0]} ({len(lacking)} in all) has {view.word} images and no "
                "satellite and drone images; add them or remove the place"
            )


def require_answers(raw: Path, records: Iterable[ImageRecord]) -> None:
    """Demand that every place that is queried from the air or from space stands in the galleries.

    Raises:
        LayoutError: one does not, so that its queries could not be answered.
    """
    paired = [record for record in records if record.view in PAIRED]
    lacking = sorted(places_of(paired, Role.QUERY) - places_of(paired, Role.GALLERY))
    if lacking:
        raise LayoutError(
            f"{raw}: place {lacking[0]} ({len(lacking)} in all) is queried and stands in no "
            "gallery; add it to the galleries or remove its queries"
        )
