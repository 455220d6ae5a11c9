"""DenseUAV: `train/{drone,satellite}/ID/H80.JPG`, `test/{query,gallery}_{drone,satellite}/ID/*`.

A place has a photograph and two tiles (`H80.tif`, and `H80_old.tif` of another year) for each of
three heights, which the names tell; the galleries hold the places that train too. Each line of
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
    PAIRED,
    child,
    image_names,
    places_of,
    record_of,
    refuse_shared_places,
    stem,
    subfolders,
)
from data_shards.layouts.university1652 import FOLDERS, find_university1652
from data_shards.schema import ImageRecord, RawDataset, Role, View
from data_shards.text_files import read_text

GPS_PATTERN = "Dense_GPS_*.txt"
HEIGHT = re.compile(r"H([0-9]+).*", re.IGNORECASE)


def find_denseuav(folder: Path) -> str | None:
    """Say in words whether `folder` holds the folders of DenseUAV and its table of positions."""
    is_there = any(folder.glob(GPS_PATTERN)) and find_university1652(folder)
    return "train/VIEW/ID, test/ROLE_VIEW/ID, Dense_GPS" if is_there else None


def read_denseuav(raw: Path, *, split: Path | None = None, compared: str = "") -> RawDataset:
    """List the images of a DenseUAV folder, and where its places lie.

    Raises:
        LayoutError: a place trains and is queried or has two spellings, a line of the table is
            wrong, or a split was given.
    """
    if split is not None:
        raise LayoutError(f"{raw} is DenseUAV, whose folders are its split; leave out --split")
    found = list(_records(raw))
    train, query = (places_of(found, role) for role in (Role.TRAIN, Role.QUERY))
    refuse_shared_places(raw, train=train, test=query)
    there, tables = {record.place for record in found}, sorted(raw.glob(GPS_PATTERN))
    lying = {place: at for table in tables for place, at in _positions(table) if place in there}
    return replace(joined(raw, "denseuav", found, compared=compared), coordinates=lying)


def _records(raw: Path) -> Iterator[ImageRecord]:
    for part, name, view, role in (one for one in FOLDERS if one[2] in PAIRED):
        side = child(raw, part)
        root = child(side, name) if side else None
        for place in subfolders(root) if root else ():
            for file in image_names(place):
                height = HEIGHT.fullmatch(stem(file)) if view is View.DRONE else None
                altitude_m = float(height[1]) if height else None
                yield record_of(
                    place, file, place=place.name, view=view, roles=role, altitude_m=altitude_m
                )


def _positions(table: Path) -> Iterator[tuple[str, tuple[float, float]]]:
    for number, line in enumerate(read_text(table).splitlines(), start=1):
        try:
            path, east, north, *_ = line.split()
            yield path.split("/")[-2], (float(north.lstrip("N")), float(east.lstrip("E")))
        except (ValueError, IndexError) as error:
            raise LayoutError(
                f"{table}, line {number}: it is not a path, E longitude, N latitude and height; "
                "copy the file again"
            ) from error
