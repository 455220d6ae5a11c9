"""GTA-UAV: `drone/images/*.png`, `satellite/ZOOM_OFFSET_X_Y.png`, `*-area-drone2sate-*.json`.

A list names photographs, each with the tiles that overlap it enough and by how much. Here one
belongs to the tile that overlaps it most: to find another of its tiles does not count, as it does
in the official evaluation. The map is a game's, in metres; it is laid where the equator meets the
zero meridian, so that distances are right. Tiles of the first release are `ZOOM_X_Y.png`. Source:
README.md (of December 2024), game4loc/dataset/gta.py and gta_mm.py of Yux1angJi/GTA-UAV.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from data_shards.errors import LayoutError, require_known
from data_shards.layouts.duplicates import joined
from data_shards.layouts.folders import child, image_names, record_of, stem, tell_lonely
from data_shards.schema import ImageRecord, Position, RawDataset, Role, View
from data_shards.text_files import read_text

SPLITS = ("cross-area", "same-area")
SIDES = {"train": Role.TRAIN, "test": Role.QUERY | Role.GALLERY}

TILE = re.compile("([0-9]+)(?:_([0-9]+))?_([0-9]+)_([0-9]+)")
"""Zoom, 256ths of a tile by which it is moved, column and row; others beside them are none."""

MAP_SIDE_M = 24_576 * 0.45
"""Pixels of the whole map, and metres of each."""

METRES_PER_DEGREE = 111_195.0


def find_gta_uav(folder: Path) -> str | None:
    """Say in words whether `folder` holds the lists of GTA-UAV."""
    is_there = any((folder / f"{split}-drone2sate-test.json").is_file() for split in SPLITS)
    return "drone/images, satellite, *-area-drone2sate-*.json" if is_there else None


def read_gta_uav(raw: Path, *, split: Path | None = None, compared: str = "") -> RawDataset:
    """List the photographs of both sides of a split, and all tiles; those of no list are galleries.

    Args:
        raw: the folder that holds the lists.
        split: `cross-area` or `same-area`; by default the first that is there.
        compared: `RawDataset.compared` of an earlier run.

    Raises:
        LayoutError: the split is not there, or a list is damaged.
    """
    there = [one for one in SPLITS if (raw / f"{one}-drone2sate-test.json").is_file()] or SPLITS
    name = require_known(str(split or there[0]), there, what="split", error=LayoutError)
    listed = [record for side in SIDES for record in _photos(raw, name, side)]
    photos = [record for record in listed if os.path.lexists(record.path)]
    tell_lonely(raw, record={r.path for r in listed}, photograph={r.path for r in photos})
    roles = dict[str, Role]()
    for photo in photos:
        roles[photo.place] = roles.get(photo.place, Role.GALLERY) | photo.roles
    tiles, coordinates = list[ImageRecord](), dict[str, tuple[float, float]]()
    folder = child(raw, "satellite")
    for file in image_names(folder) if folder else ():
        if not (tile := TILE.fullmatch(place := stem(file))):
            continue
        role = roles.get(place, Role.GALLERY)
        tiles.append(record_of(folder or "", file, place=place, view=View.SATELLITE, roles=role))
        zoom, offset, x, y = map(int, tile.groups(default="0"))
        side_m, middle = MAP_SIDE_M / 2**zoom, 0.5 + offset / 256
        coordinates[place] = _degrees(side_m * (x + middle), side_m * (y + middle))
    dataset = joined(raw, "gta_uav", photos + tiles, compared=compared, split=name)
    return replace(dataset, coordinates=coordinates)


def _photos(raw: Path, split: str, side: str) -> Iterator[ImageRecord]:
    """Yield the photographs of a list that have a tile."""
    path = raw / f"{split}-drone2sate-{side}.json"
    try:
        for entry in json.loads(read_text(path)) if path.is_file() else ():
            weights = entry["pair_pos_sate_weight_list"]
            pairs = zip(weights, entry["pair_pos_sate_img_list"], strict=True)
            if weights:
                lat, lon = _degrees(*entry["drone_loc_x_y"])
                height_m = float(entry["drone_metadata"]["height"])
                yield record_of(
                    raw / entry["drone_img_dir"],
                    entry["drone_img_name"],
                    place=stem(max(pairs)[1]),
                    view=View.DRONE,
                    roles=SIDES[side],
                    altitude_m=height_m,
                    camera=Position(lat=lat, lon=lon, altitude_m=height_m),
                )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LayoutError(f"{path} is no list of GTA-UAV ({error}); copy it again") from error


def _degrees(x_m: float, y_m: float) -> tuple[float, float]:
    """Return latitude and longitude of a point east and south of the corner of the map."""
    return -y_m / METRES_PER_DEGREE, x_m / METRES_PER_DEGREE
