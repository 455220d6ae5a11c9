"""UAV-VisLoc: `REGION/drone/*.JPG`, `REGION/REGION.csv` and a map `REGION/satelliteREGION.tif`.

The data set has no tiles: its maps are for `skydistill index`, which cuts and searches them. Here
every photograph is a query of its own, with the position that the table has: filename, lat, lon;
heights there are not said to be above ground. Source: README.md of IntelliSensing/UAV-VisLoc.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

from data_shards.layouts.coordinates import read_rows
from data_shards.layouts.duplicates import joined
from data_shards.layouts.folders import (
    child,
    image_names,
    key_name,
    record_of,
    stem,
    subfolders,
    tell_lonely,
)
from data_shards.schema import ImageRecord, Position, RawDataset, Role, View


def find_visloc(folder: Path) -> str | None:
    """Say in words whether `folder` holds regions of UAV-VisLoc."""
    if any(os.path.isfile(region / f"{region.name}.csv") for region in subfolders(folder)):
        return "REGION/drone, REGION/REGION.csv"
    return None


def read_visloc(raw: Path, *, compared: str = "") -> RawDataset:
    """List the photographs of all regions.

    Args:
        raw: the folder that holds the regions.
        compared: `RawDataset.compared` of an earlier run.

    Raises:
        LayoutError: a table is damaged.
    """
    found = [record for region in subfolders(raw) for record in _photos(region)]
    return joined(raw, "visloc", found, compared=compared)


def _photos(region: Path) -> Iterator[ImageRecord]:
    table, folder = region / f"{region.name}.csv", child(region, "drone")
    rows = read_rows(table) if table.is_file() else ()
    cameras = {_called(file): Position(lat=at.lat, lon=at.lon) for _, _, file, at, _ in rows}
    files = image_names(folder) if folder else []
    tell_lonely(table, row=set(cameras), photograph=set(map(_called, files)))
    for file in files:
        yield record_of(
            folder or "",
            file,
            place=key_name(stem(file)),
            view=View.DRONE,
            roles=Role.QUERY | Role.GALLERY,
            camera=cameras.get(_called(file)),
        )


def _called(file: str) -> str:
    """Return what the spellings `1.JPG` and `1.jpg` of a file have in common."""
    name, suffix = os.path.splitext(file)
    return normalize("NFC", name + suffix.lower())
