"""DenseUAV: `train/{drone,satellite}/ID/H80.JPG`, `test/{query,gallery}_{drone,satellite}/ID/*`.

A place has a photograph and two tiles (`H80.tif`, and `H80_old.tif` of another year) for each of
three heights, which the names tell; the galleries hold the places that train too. Each line of
`Dense_GPS_ALL.txt` is a path, `E` longitude, `N` latitude and height. Source: README.md, test.py
and evaluateDistance.py of Dmmm1997/DenseUAV.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from data_shards.errors import LayoutError
from data_shards.layouts.duplicates import Comparisons, folders_of, merge_duplicates
from data_shards.layouts.folders import (
    PAIRED,
    child,
    image_names,
    key_name,
    places_of,
    refuse_shared_places,
    refuse_two_spellings,
    stem,
    subfolders,
)
from data_shards.layouts.sues200 import numbered
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
    places = {record.place for record in found}
    refuse_two_spellings(raw, places)
    train, query = (places_of(found, role) for role in (Role.TRAIN, Role.QUERY))
    refuse_shared_places(raw, train=train, test=query)
    comparisons = Comparisons(compared)
    records = merge_duplicates(
        found,
        apart=lambda record: f"{record.name}-{'-'.join(record.roles.words)}",
        comparisons=comparisons,
    )
    tables = sorted(raw.glob(GPS_PATTERN))
    lying = {place: at for table in tables for place, at in _positions(table) if place in places}
    return RawDataset(
        layout="denseuav",
        records=numbered(records),
        folders=folders_of(found),
        compared=comparisons.made,
        coordinates=lying,
    )


def _records(raw: Path) -> Iterator[ImageRecord]:
    for part, name, view, role in (one for one in FOLDERS if one[2] in PAIRED):
        side = child(raw, part)
        root = child(side, name) if side else None
        for place in subfolders(root) if root else ():
            for file in image_names(place):
                height = HEIGHT.fullmatch(stem(file)) if view is View.DRONE else None
                yield ImageRecord(
                    place=place.name,
                    view=view,
                    roles=role,
                    position=1,
                    altitude_m=float(height[1]) if height else None,
                    path=os.path.join(place, file),
                    name=key_name(stem(file)),
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
