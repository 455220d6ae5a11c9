"""UAV-VisLoc: `REGION/drone/*.JPG`, `REGION/REGION.csv` and a map `REGION/satelliteREGION.tif`.

The data set has no tiles: its maps are for `skydistill index`, which cuts and searches them. Here
every photograph is a query of its own, with the position that the table has: filename, lat, lon;
heights there are not said to be above ground. Source: README.md of IntelliSensing/UAV-VisLoc.
"""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from data_shards.errors import LayoutError
from data_shards.layouts.duplicates import joined
from data_shards.layouts.folders import child, image_names, key_name, record_of, stem, subfolders
from data_shards.schema import ImageRecord, Position, RawDataset, Role, View
from data_shards.text_files import read_text


def find_visloc(folder: Path) -> str | None:
    """Say in words whether `folder` holds regions of UAV-VisLoc."""
    if any(os.path.isfile(region / f"{region.name}.csv") for region in subfolders(folder)):
        return "REGION/drone, REGION/REGION.csv"
    return None


def read_visloc(raw: Path, *, split: Path | None = None, compared: str = "") -> RawDataset:
    """List the photographs of all regions.

    Args:
        raw: the folder that holds the regions.
        split: there is none to choose.
        compared: `RawDataset.compared` of an earlier run.

    Raises:
        LayoutError: a table is damaged, or a split was given.
    """
    if split is not None:
        raise LayoutError(f"{raw} is UAV-VisLoc, where no place trains; leave out --split")
    found = [record for region in subfolders(raw) for record in _photos(region)]
    return joined(raw, "visloc", found, compared=compared)


def _photos(region: Path) -> Iterator[ImageRecord]:
    table, folder = region / f"{region.name}.csv", child(region, "drone")
    cameras = _positions(table) if table.is_file() else {}
    for file in image_names(folder) if folder else ():
        yield record_of(
            folder or "",
            file,
            place=key_name(stem(file)),
            view=View.DRONE,
            roles=Role.QUERY | Role.GALLERY,
            camera=cameras.get(file),
        )


def _positions(table: Path) -> dict[str, Position]:
    try:
        rows = csv.DictReader(read_text(table).splitlines())
        return {r["filename"]: Position(lat=float(r["lat"]), lon=float(r["lon"])) for r in rows}
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise LayoutError(
            f"{table} is not a table of filename, lat and lon ({error}); copy it again"
        ) from error
