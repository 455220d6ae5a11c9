"""Where on Earth places or images lie, from a table that a person keeps beside the data set."""

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from unicodedata import normalize

from data_shards.errors import LayoutError
from data_shards.layouts.folders import same_id
from data_shards.schema import ImageRecord, Position
from data_shards.text_files import read_text

IMAGE = ("image", "photo", "file", "filename")
SUBJECTS = {"place": ("place", "id", *IMAGE), "image": IMAGE}
"""What the rows are of, to the names that its column may have, in any case."""

COLUMNS = {"lat": ("latitude", "lat"), "lon": ("longitude", "lon", "lng")}
"""Field of a `Position` to the names that its column may have, in any case."""

OPTIONAL = {
    "altitude_m": ("altitude_m", "altitude", "height"),
    "heading_deg": ("heading_deg", "heading", "yaw"),
    "gimbal_pitch_deg": ("gimbal_pitch_deg", "gimbal_pitch", "pitch"),
}

FOOTPRINT = {"footprint_m": ("footprint_m", "footprint", "width_m")}
"""Side on the ground of what a row shows."""

LARGEST = {"lat": 90.0, "lon": 180.0, "heading_deg": 360.0, "gimbal_pitch_deg": 180.0}
"""Bounds in degrees, on either side of 0."""

Coordinates = dict[str, tuple[float, float]]

Cameras = dict[str, Position]
"""Key of an image to where it was taken."""

MOST_FOLDERS = 5
"""Folders of a path by which a row may call an image."""


def read_table(path: Path, records: Sequence[ImageRecord]) -> tuple[Coordinates, Cameras]:
    """Read a CSV of `place,latitude,longitude` in degrees (WGS 84), or of `image` instead of place.

    Rows of images may also tell `altitude_m` above ground, `heading_deg` and `gimbal_pitch_deg`. An
    image is called by its file name, by the end of its path, or by its key.

    Returns:
        Where places lie, and where images were taken: one of both is empty.

    Raises:
        LayoutError: it cannot be read, a column is missing, or a line is wrong: its number is told.
    """
    found: Cameras = {}
    subject, names = "place", dict[str, set[str]]()
    for line, subject, cell, position, _ in read_rows(path):
        names = names or _names(subject, records)
        meant = names.get(same_id(cell), set())
        if len(meant) != 1:
            what = f"{len(meant)} images are called" if meant else f"there is no {subject}"
            raise LayoutError(
                f"{path}, line {line}: {what} {cell!r} in the raw folders; correct the line "
                "(with more of the path) or remove it"
            )
        (name,) = meant
        if name in found:
            raise LayoutError(
                f"{path}, line {line}: {subject} {name} stands there twice; keep one line"
            )
        found[name] = position
    if subject == "image":
        return {}, found
    return {place: (at.lat or 0.0, at.lon or 0.0) for place, at in sorted(found.items())}, {}


def read_rows(path: Path) -> Iterator[tuple[int, str, str, Position, float | None]]:
    """Yield of every row its line, whether it is of a place or image, what it calls it, and where.

    Last comes its footprint in metres, None where the table tells none.

    Raises:
        LayoutError: it cannot be read, a column is missing, or a line is wrong: its number is told.
    """
    try:
        for line, cells in _rows(path, normalize("NFC", read_text(path))):
            subject = "image" if "image" in cells else "place"
            cell = cells.pop(subject)
            given = {column: text for column, text in cells.items() if column in COLUMNS or text}
            numbers = {column: _number(path, line, column, text) for column, text in given.items()}
            footprint_m = numbers.pop("footprint_m", None)
            yield line, subject, cell, Position(**numbers), footprint_m
    except OSError as error:
        raise LayoutError(
            f"{path} cannot be read ({error.strerror}); give a CSV file of place,latitude,longitude"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise LayoutError(
            f"{path} is not a CSV file of text ({error}); save it as UTF-8 with commas"
        ) from error


def _names(subject: str, records: Sequence[ImageRecord]) -> dict[str, set[str]]:
    """Return what rows may call places, or images, to those who are called so."""
    names = defaultdict[str, set[str]](set)
    for record in records:
        if subject == "place":
            names[same_id(record.place)].add(record.place)
            continue
        parts = normalize("NFC", record.path).split("/")
        ends = ("/".join(parts[-number:]) for number in range(1, MOST_FOLDERS + 2))
        for called in (record.key, *ends):
            names[called].add(record.key)
    return names


def _rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and the named cells of every row that is not blank."""
    mark = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=mark)
    header = [name.strip().lower() for name in next(reader, [])]
    subject = "place" if set(header).isdisjoint(IMAGE) else "image"
    required = {subject: SUBJECTS[subject]} | COLUMNS
    columns = {}
    for meaning, names in (required | FOOTPRINT | (OPTIONAL if subject == "image" else {})).items():
        found = [at for at, name in enumerate(header) if name in names]
        if len(found) > 1 or (not found and meaning in required):
            raise LayoutError(
                f"{path}, line 1: {'no' if not found else 'more than one'} column is called "
                f"{' or '.join(names)}; the first line must be {subject},latitude,longitude"
            )
        if found:
            columns[meaning] = found[0]
    for row in reader:
        if any(cell.strip() for cell in row):
            cells = dict(enumerate(row))
            yield reader.line_num, {name: cells.get(at, "").strip() for name, at in columns.items()}


def _number(path: Path, line: int, column: str, text: str) -> float:
    largest = LARGEST.get(column, math.inf)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    is_side = column in FOOTPRINT
    if not -largest <= number <= largest or math.isinf(number) or (is_side and number <= 0):
        (called, *_) = (COLUMNS | OPTIONAL | FOOTPRINT)[column]
        within = f" of degrees between {-largest:g} and {largest:g}" if column in LARGEST else ""
        within = " of metres above 0" if is_side else within
        raise LayoutError(
            f"{path}, line {line}: {called} {text!r} is not a number{within}; correct it"
        )
    return number
