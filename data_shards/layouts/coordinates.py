"""Where on Earth the places lie, from a table that a person keeps beside the data set."""

import csv
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from data_shards.errors import LayoutError
from data_shards.layouts.folders import same_id
from data_shards.text_files import read_text

COLUMNS = {
    "place": ("place", "id"),
    "latitude": ("latitude", "lat"),
    "longitude": ("longitude", "lon", "lng"),
}
"""What a column means to the names it may have, in any case."""

LARGEST = {"latitude": 90.0, "longitude": 180.0}
"""Bounds of both angles in degrees, on either side of 0."""

Coordinates = dict[str, tuple[float, float]]


def read_coordinates(path: Path, places: Iterable[str]) -> Coordinates:
    """Read a CSV of `place,latitude,longitude` in degrees (WGS 84) for some or all of `places`.

    Raises:
        LayoutError: it cannot be read, a column is missing, or a line is wrong: its number is told.
    """
    known = {same_id(place): place for place in places}
    found: Coordinates = {}
    try:
        for line, cells in _rows(path, read_text(path).splitlines(keepends=True)):
            place = known.get(same_id(cells["place"]))
            if place is None:
                raise LayoutError(
                    f"{path}, line {line}: there is no place {cells['place']!r} in the raw "
                    "folders; correct or remove the line"
                )
            if place in found:
                raise LayoutError(
                    f"{path}, line {line}: place {place} stands there twice; keep one line"
                )
            found[place] = (
                _angle(path, line, "latitude", cells["latitude"]),
                _angle(path, line, "longitude", cells["longitude"]),
            )
    except OSError as error:
        raise LayoutError(
            f"{path} cannot be read ({error.strerror}); give a CSV file of place,latitude,longitude"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise LayoutError(
            f"{path} is not a CSV file of text ({error}); save it as UTF-8 with commas"
        ) from error
    return dict(sorted(found.items()))


def _rows(path: Path, file: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and the named cells of every row that is not blank."""
    reader = csv.reader(file)
    header = [name.strip().lower() for name in next(reader, [])]
    columns = {}
    for meaning, names in COLUMNS.items():
        found = [at for at, name in enumerate(header) if name in names]
        if len(found) != 1:
            raise LayoutError(
                f"{path}, line 1: {'no' if not found else 'more than one'} column is called "
                f"{' or '.join(names)}; the first line must be place,latitude,longitude"
            )
        columns[meaning] = found[0]
    for row in reader:
        if any(cell.strip() for cell in row):
            cells = dict(enumerate(row))
            yield reader.line_num, {name: cells.get(at, "").strip() for name, at in columns.items()}


def _angle(path: Path, line: int, meaning: str, text: str) -> float:
    largest = LARGEST[meaning]
    try:
        angle = float(text)
    except ValueError:
        angle = math.nan
    if not -largest <= angle <= largest:
        raise LayoutError(
            f"{path}, line {line}: {meaning} {text!r} is not a number of degrees between "
            f"{-largest:g} and {largest:g}; correct it"
        )
    return angle
