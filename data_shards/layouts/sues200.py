"""SUES-200, as it is downloaded and as its own script splits it; both give the same records.

Raw: `satellite-view/ID/0.png` and `drone_view_512/ID/HEIGHT/*.jpg`. Split, with the satellite tile
of a place repeated under every height: `Training/HEIGHT/{drone,satellite}/ID` and
`Testing/HEIGHT/{query,gallery}_{drone,satellite}/ID`. The galleries hold all places, those that
train as well (spec bicrossnet 1.2).
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from data_shards.errors import LayoutError
from data_shards.layouts.duplicates import by_role, joined
from data_shards.layouts.folders import (
    child,
    child_like,
    image_names,
    places_of,
    record_of,
    refuse_shared_places,
    subfolders,
)
from data_shards.layouts.split import choose_split
from data_shards.schema import ImageRecord, RawDataset, Role, View

LAYOUT = "sues200"

RAW_PATTERNS = {View.SATELLITE: r"satellite[-_]view.*", View.DRONE: r"drone[-_]view.*"}
"""Releases of other image sizes name their folders after the size."""

SPLIT_SIDES = (
    (
        r"train(ing)?",
        (("satellite", View.SATELLITE, Role.TRAIN), ("drone", View.DRONE, Role.TRAIN)),
    ),
    (
        r"test(ing)?",
        (
            ("gallery_satellite", View.SATELLITE, Role.GALLERY),
            ("gallery_drone", View.DRONE, Role.GALLERY),
            ("query_satellite", View.SATELLITE, Role.QUERY),
            ("query_drone", View.DRONE, Role.QUERY),
        ),
    ),
)

HEIGHT = re.compile(r"([0-9]+) ?m?", re.IGNORECASE)
"""Name of a folder of one altitude, in metres."""


def find_sues200(folder: Path) -> str | None:
    """Say in words what `folder` holds of SUES-200: raw folders, an already split copy, or none."""
    names = subfolders(folder)
    if any(_fits(path, pattern) for path in names for pattern in RAW_PATTERNS.values()):
        return "raw: satellite-view/ID, drone_view_512/ID/HEIGHT"
    for path in names:
        if any(_fits(path, pattern) for pattern, _ in SPLIT_SIDES) and heights_in(path):
            return "already split: Training/HEIGHT/VIEW/ID, Testing/HEIGHT/ROLE_VIEW/ID"
    return None


def read_sues200(raw: Path, *, split: Path | None = None, compared: str = "") -> RawDataset:
    """List the images of a SUES-200 folder, raw or already split; `compared` is of an earlier run.

    Raises:
        LayoutError: a place has two sources or stands in train and in test, or nothing says which
            places train.
    """
    is_raw = any(child_like(raw, pattern) for pattern in RAW_PATTERNS.values())
    is_split = any(
        (side := child_like(raw, pattern)) and heights_in(side) for pattern, _ in SPLIT_SIDES
    )
    if is_raw and is_split:
        raise LayoutError(
            f"{raw} holds raw folders and an already split copy, two sources for the same places; "
            "move one of them away"
        )
    found, name = list((_split_records if is_split else _raw_records)(raw)), "folders"
    places = {record.place for record in found}
    if is_split:
        if split is not None:
            raise LayoutError(
                f"{raw} is an already split copy, whose folders say which places train; leave out "
                "--split, or give the folder that holds drone_view_512"
            )
        sides = {"train": places_of(found, Role.TRAIN), "test": places_of(found, Role.QUERY)}
        refuse_shared_places(raw, **sides)
    else:
        chosen = choose_split(raw, places, file=split, layout=LAYOUT)
        train, name = chosen.train_of(places), chosen.name
        roles = {place: Role.TRAIN if place in train else Role.QUERY for place in places}
        found = [replace(r, roles=Role.GALLERY | roles[r.place]) for r in found]

    def apart(record: ImageRecord) -> str:
        """Name an image beside another of its key: `0.png` beside `0.jpg`, or another folder's."""
        if not is_split:
            return f"{record.name}-{record.suffix}"
        if record.view is View.SATELLITE:
            return f"{record.name}-{record.source.parents[2].name}"
        return by_role(record)

    return joined(raw, LAYOUT, found, compared=compared, split=name, apart=apart)


def _raw_records(raw: Path) -> Iterator[ImageRecord]:
    for view, pattern in RAW_PATTERNS.items():
        root = child_like(raw, pattern)
        for place in subfolders(root) if root else ():
            heights = {None: place} if view is View.SATELLITE else heights_in(place)
            for height, folder in heights.items():
                yield from records_in(folder, place.name, view, height)


def _split_records(raw: Path) -> Iterator[ImageRecord]:
    for pattern, folders in SPLIT_SIDES:
        side = child_like(raw, pattern)
        for height, folder in heights_in(side).items() if side else ():
            for name, view, role in folders:
                root = child(folder, name)
                for place in subfolders(root) if root else ():
                    for record in records_in(place, place.name, view, height):
                        yield replace(record, roles=role)


def heights_in(folder: Path) -> dict[int, Path]:
    """Return the folders of altitudes in metres, lowest first."""
    found: dict[int, Path] = {}
    for path in subfolders(folder):
        if match := HEIGHT.fullmatch(path.name):
            if other := found.get(int(match[1])):
                raise LayoutError(
                    f"{other} and {path} are two sources for one altitude; move one away"
                )
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def records_in(folder: Path, place: str, view: View, height: int | None) -> Iterator[ImageRecord]:
    """Yield the images of one folder; the roles are not known yet and stand as none."""
    altitude = height if view is View.DRONE else None
    for file in image_names(folder):
        yield record_of(
            folder,
            file,
            place=place,
            view=view,
            roles=Role(0),
            altitude_m=None if altitude is None else float(altitude),
            prefix="" if altitude is None else f"{altitude}-",
        )


def _fits(path: Path, pattern: str) -> bool:
    return re.fullmatch(pattern, path.name, re.IGNORECASE) is not None
