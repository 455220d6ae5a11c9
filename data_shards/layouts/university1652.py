"""University-1652: `train/{satellite,drone}/ID/*`, `test/{query,gallery}_{satellite,drone}/ID/*`.

Source: Zheng et al., ACM MM 2020, and the data set's README. Street and google folders are left
alone, and so is `test/4K_drone`, whose video frames no protocol uses. Hidden files are no images.
"""

import filecmp
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from data_shards.errors import LayoutError
from data_shards.schema import IMAGE_SUFFIXES, ImageRecord, Role, View

NUM_ORBIT_VIEWS = 54
ORBIT_TOP_M = 256.0
ORBIT_BOTTOM_M = 121.5

FOLDERS: tuple[tuple[str, View, Role], ...] = (
    ("train/satellite", View.SATELLITE, Role.TRAIN),
    ("train/drone", View.DRONE, Role.TRAIN),
    ("test/gallery_satellite", View.SATELLITE, Role.GALLERY),
    ("test/gallery_drone", View.DRONE, Role.GALLERY),
    ("test/query_satellite", View.SATELLITE, Role.QUERY),
    ("test/query_drone", View.DRONE, Role.QUERY),
)
"""Galleries stand before queries, because a place may have only some of its views as queries: the
gallery knows the position of each on the orbit."""


def orbit_altitude_m(position: int) -> float:
    """Return the height of view 1..54 on the descending helix, in metres (spec pfed 1.1)."""
    return ORBIT_TOP_M - (ORBIT_TOP_M - ORBIT_BOTTOM_M) / (NUM_ORBIT_VIEWS - 1) * (position - 1)


def read_university1652(raw: Path) -> list[ImageRecord]:
    """List the images of a University-1652 folder; a query that is in the gallery too is one.

    Raises:
        LayoutError: a view folder is missing or empty, a place lacks a view, or an id stands in
            train and in test.
    """
    found = [
        record for folder, view, role in FOLDERS for record in _folder(raw, folder, view, role)
    ]
    _refuse_shared_ids(raw, found)
    records = _merge_roles(found)
    _require_both_views(raw, records)
    return records


def _folder(raw: Path, folder: str, view: View, role: Role) -> list[ImageRecord]:
    root = raw / folder
    if not root.is_dir():
        raise LayoutError(f"{root} is missing; a University-1652 folder has {folder}/ID/*.jpg")
    records = [
        record
        for place in sorted(path for path in _shown(root) if path.is_dir())
        for record in _place(place, view, role)
    ]
    if not records:
        raise LayoutError(
            f"{root} holds no images; put one folder per place with *.jpg files there"
        )
    return records


def _place(folder: Path, view: View, role: Role) -> list[ImageRecord]:
    files = sorted(path for path in _shown(folder) if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise LayoutError(
            f"{folder} holds no image; add the {view.word} images of this place or remove it"
        )
    on_orbit = view is View.DRONE and len(files) == NUM_ORBIT_VIEWS
    return [
        ImageRecord(
            place=folder.name,
            view=view,
            roles=role,
            position=position,
            altitude_m=orbit_altitude_m(position) if on_orbit else None,
            source=path,
            name=re.sub(r"[^0-9A-Za-z_-]+", "-", path.stem),
        )
        for position, path in enumerate(files, start=1)
    ]


def _shown(folder: Path) -> Iterator[Path]:
    """Yield what is not hidden: a copy from a Mac holds `._image-01.jpeg`, which is no image."""
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _refuse_shared_ids(raw: Path, records: list[ImageRecord]) -> None:
    train = {record.place for record in records if record.roles & Role.TRAIN}
    test = {record.place for record in records if not record.roles & Role.TRAIN}
    if both := sorted(train & test):
        raise LayoutError(
            f"{raw}: place {both[0]} ({len(both)} in all) stands in train and in test, so the test "
            "would be trained on; keep each id on one side"
        )


def _merge_roles(records: list[ImageRecord]) -> list[ImageRecord]:
    """Join a query and a gallery file of one name and the same bytes; keep different ones apart."""
    merged: dict[str, ImageRecord] = {}
    for record in records:
        twin = merged.get(record.key)
        if twin is None:
            merged[record.key] = record
        elif not twin.roles & record.roles and _same_file(twin.source, record.source):
            merged[record.key] = replace(twin, roles=twin.roles | record.roles)
        else:
            apart = replace(record, name=f"{record.name}-{'-'.join(record.roles.words)}")
            if apart.key in merged:
                raise LayoutError(
                    f"{record.source} and {merged[apart.key].source} would share the key "
                    f"{apart.key}; rename one"
                )
            merged[apart.key] = apart
    return list(merged.values())


def _same_file(one: Path, other: Path) -> bool:
    return one.samefile(other) or filecmp.cmp(one, other, shallow=False)


def _require_both_views(raw: Path, records: list[ImageRecord]) -> None:
    views: dict[tuple[Role, str], set[View]] = {}
    for record in records:
        for role in Role:
            if role & record.roles:
                views.setdefault((role, record.place), set()).add(record.view)
    for (role, place), seen in sorted(
        views.items(), key=lambda item: (item[0][0].value, item[0][1])
    ):
        for view in (View.SATELLITE, View.DRONE):
            if view not in seen:
                raise LayoutError(
                    f"{raw}: {role.words[0]} place {place} has no {view.word} image; "
                    "add it or remove the place from the other view"
                )
