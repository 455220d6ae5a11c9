"""University-1652: `train/{satellite,drone}/ID/*`, `test/{query,gallery}_{satellite,drone}/ID/*`.

Street views stand beside them, and in training those of an image search (`google`). Source: Zheng
et al., ACM MM 2020, and the data set's README. No protocol uses the video frames, `test/4K_drone`.

DenseUAV has the same folders: of a place a photograph and two tiles (`H80.tif`, and `H80_old.tif`
of another year) for each of three heights; its galleries hold the places that train too. A line of
`Dense_GPS_ALL.txt` is a path, `E` longitude, `N` latitude and height. Source: README.md, test.py
and evaluateDistance.py of Dmmm1997/DenseUAV.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from data_shards.errors import LayoutError
from data_shards.layouts.duplicates import joined
from data_shards.layouts.folders import (
    child,
    image_names,
    places_of,
    record_of,
    refuse_shared_places,
    stem,
    subfolders,
)
from data_shards.schema import ImageRecord, RawDataset, Role, View
from data_shards.text_files import read_text

NUM_ORBIT_VIEWS = 54
ORBIT_TOP_M = 256.0
ORBIT_BOTTOM_M = 121.5

FOLDERS: tuple[tuple[str, str, View, Role], ...] = (
    ("train", "satellite", View.SATELLITE, Role.TRAIN),
    ("train", "drone", View.DRONE, Role.TRAIN),
    ("train", "street", View.STREET, Role.TRAIN),
    ("train", "google", View.GOOGLE, Role.TRAIN),
    ("test", "gallery_satellite", View.SATELLITE, Role.GALLERY),
    ("test", "gallery_drone", View.DRONE, Role.GALLERY),
    ("test", "gallery_street", View.STREET, Role.GALLERY),
    ("test", "query_satellite", View.SATELLITE, Role.QUERY),
    ("test", "query_drone", View.DRONE, Role.QUERY),
    ("test", "query_street", View.STREET, Role.QUERY),
)
"""Galleries stand before queries, because a place may have only some of its views as queries: the
gallery knows the position of each on the orbit."""

SIDES = ("train", "test")

GPS_PATTERN = "Dense_GPS_*.txt"
HEIGHT = re.compile(r"H([0-9]+)", re.IGNORECASE)


def orbit_altitude_m(position: int) -> float:
    """Return the height of view 1..54 on the descending helix, in metres (spec pfed 1.1)."""
    return ORBIT_TOP_M - (ORBIT_TOP_M - ORBIT_BOTTOM_M) / (NUM_ORBIT_VIEWS - 1) * (position - 1)


def find_university1652(folder: Path) -> str | None:
    """Say in words what `folder` holds of University-1652: some of its view folders, or nothing."""
    wanted = {(part, name) for part, name, _, _ in FOLDERS}
    for side in subfolders(folder):
        part = side.name.lower()
        if part in SIDES and any((part, path.name.lower()) in wanted for path in subfolders(side)):
            return "train/VIEW/ID, test/ROLE_VIEW/ID"
    return None


def read_university1652(raw: Path, *, compared: str = "") -> RawDataset:
    """List the images of a University-1652 folder; a query that is in the gallery too is one.

    Raises:
        LayoutError: an id stands in train and in test or is spelled in two ways.
    """
    found = [record for folder in FOLDERS for record in _folder(raw, *folder)]
    train = places_of(found, Role.TRAIN)
    test = places_of(found, Role.GALLERY) | places_of(found, Role.QUERY)
    refuse_shared_places(raw, train=train, test=test)
    return joined(raw, "university1652", found, compared=compared, is_numbered=False)


def find_denseuav(folder: Path) -> str | None:
    """Say in words whether `folder` holds DenseUAV: its folders, and its heights or a table."""
    is_dense = any(map(any, map(folder.glob, (GPS_PATTERN, "t*/*drone/*/H80.JPG"))))
    return "train/VIEW/ID/H80.*" if is_dense and find_university1652(folder) else None


def read_denseuav(raw: Path, *, compared: str = "") -> RawDataset:
    """List the images of a DenseUAV folder, and where its places lie.

    Raises:
        LayoutError: a place trains and is queried or has two spellings, or a line of the table is
            wrong.
    """
    found = [
        replace(record, altitude_m=float(height[1]) if height else None)
        for folder in FOLDERS
        for record in _folder(raw, *folder)
        for height in [HEIGHT.match(record.name) if record.view is View.DRONE else None]
    ]
    train, query = (places_of(found, role) for role in (Role.TRAIN, Role.QUERY))
    refuse_shared_places(raw, train=train, test=query)
    there, tables = {record.place for record in found}, sorted(raw.glob(GPS_PATTERN))
    lying = {place: at for table in tables for place, at in _positions(table) if place in there}
    return replace(joined(raw, "denseuav", found, compared=compared), coordinates=lying)


def _positions(table: Path) -> Iterator[tuple[str, tuple[float, float]]]:
    for number, line in enumerate(read_text(table).splitlines(), start=1):
        try:
            if line.strip():
                path, east, north, *_ = line.split()
                yield path.split("/")[-2], (float(north.lstrip("N")), float(east.lstrip("E")))
        except (ValueError, IndexError) as error:
            raise LayoutError(
                f"{table}, line {number}: it is not a path, E longitude, N latitude and height; "
                "copy the file again"
            ) from error


def _folder(raw: Path, part: str, name: str, view: View, role: Role) -> list[ImageRecord]:
    side = child(raw, part)
    root = child(side, name) if side else None
    records: list[ImageRecord] = []
    for folder in subfolders(root) if root else ():
        files, on_orbit = image_names(folder), 0
        if view is View.DRONE:
            files, on_orbit = _along_the_orbit(files)
        records += [
            record_of(
                folder,
                file,
                place=folder.name,
                view=view,
                roles=role,
                position=position,
                altitude_m=orbit_altitude_m(position) if position <= on_orbit else None,
            )
            for position, file in enumerate(files, start=1)
        ]
    return records


def _along_the_orbit(files: list[str]) -> tuple[list[str], int]:
    """Return the files with those of a whole flight first, and how many these are: 54 or none.

    One test place of the published data set has 55 files; the view numbers in the names of the
    others still say where each was taken.
    """
    if len(files) == NUM_ORBIT_VIEWS:
        return files, NUM_ORBIT_VIEWS
    numbered: dict[int, str] = {}
    for file in files:
        if match := re.fullmatch(r"image-([0-9]{2})", stem(file), re.IGNORECASE):
            numbered.setdefault(int(match[1]), file)
    wanted = range(1, NUM_ORBIT_VIEWS + 1)
    if not numbered.keys() >= set(wanted):
        return files, 0
    orbit = [numbered[view] for view in wanted]
    return orbit + [file for file in files if file not in orbit], NUM_ORBIT_VIEWS
