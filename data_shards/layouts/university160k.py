"""University-160k: the test set of a challenge, two flat folders and no answers.

`gallery_satellite_160k/NAME.webp` holds 168,437 tiles, those of University-1652 among them under
other names; `query_drone_160k/NAME.jpeg` the drone images (with weather laid over them,
`query_drone160k_wx/query_drone_160k_wx_24`), and `query_drone_name.txt` beside them their order, a
file name per line. Source: `test_160k.py`, `image_folder.py` and the README of
layumi/University1652-Baseline.

Only the organizers know which tile belongs to which query. So each tile is a place of its name, and
each query a place of its own, called after its line: `query-000001`. Places sort as the lines do.
"""

from collections.abc import Iterator
from pathlib import Path

from data_shards.errors import LayoutError
from data_shards.layouts.folders import (
    child,
    child_like,
    image_names,
    key_name,
    record_of,
    stem,
    subfolders,
)
from data_shards.schema import ImageRecord, RawDataset, Role, View
from data_shards.text_files import read_text

LAYOUT = "university160k"

GALLERY, QUERIES, ORDER = "gallery_satellite_160k", "query_drone_160k", "query_drone_name.txt"
QUERIES_PATTERN = r"query_drone_?160k.*"


def find_university160k(folder: Path) -> str | None:
    """Say in words what `folder` holds of University-160k: its gallery, its queries, or nothing."""
    if child(folder, GALLERY) or child_like(folder, QUERIES_PATTERN):
        return f"flat: {GALLERY}, {QUERIES}, {ORDER}"
    return None


def read_university160k(raw: Path, *, compared: str = "") -> RawDataset:
    """List the images of a University-160k folder; a gallery alone is one of distractors.

    Args:
        raw: the folder that holds `gallery_satellite_160k`.
        compared: unused, because no image stands in two folders.

    Raises:
        LayoutError: the gallery is missing or empty, the order of the queries is not told or names
            other files, or a name cannot stand in a key.
    """
    del compared
    gallery = child(raw, GALLERY)
    if gallery is None:
        raise LayoutError(f"{raw / GALLERY} is missing; put the tiles to be searched there")
    records = list(_tiles(gallery))
    queries = child_like(raw, QUERIES_PATTERN)
    if queries is not None:  # perhaps with other folders packed around the images
        while not image_names(queries) and len(inner := subfolders(queries)) == 1:
            queries = inner[0]
        records += _queries(queries, raw / ORDER)
    files = frozenset(record.path for record in records)
    return RawDataset(layout=LAYOUT, records=tuple(records), files=files)


def _tiles(folder: Path) -> Iterator[ImageRecord]:
    """Yield the tiles; the name of each is what an answer calls it."""
    files = image_names(folder)
    if not files:
        raise LayoutError(f"{folder} holds no images; put the tiles to be searched there")
    seen: dict[str, str] = {}
    for file in files:
        name = _told_name(folder, file)
        if name in seen:
            raise LayoutError(
                f"{folder} holds {seen[name]} and {file}, which an answer cannot tell apart; move "
                "one of them away"
            )
        seen[name] = file
        yield record_of(folder, file, place=name, view=View.SATELLITE, roles=Role.GALLERY)


def _queries(folder: Path, order: Path) -> Iterator[ImageRecord]:
    """Yield the queries that the list names; others are left alone, as the challenge does."""
    try:
        lines = read_text(order).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LayoutError(
            f"{order} cannot be read and says in which order the queries of {folder} are answered; "
            "put the challenge's file there, one file name per line"
        ) from error
    names = [line.strip() for line in lines if line.strip()]
    there = set(image_names(folder))
    for number, name in enumerate(names, start=1):
        if name not in there:
            raise LayoutError(
                f"{order} names {name!r} in line {number}, which is no image in {folder}; copy the "
                "folder again or mend the list"
            )
        _told_name(folder, name)
        place = f"query-{number:06d}"
        yield record_of(folder, name, place=place, view=View.DRONE, roles=Role.QUERY)
    if not names:
        raise LayoutError(f"{order} is empty; put the challenge's file there")


def _told_name(folder: Path, file: str) -> str:
    """Return a file's name as it stands in keys, which must be as it stands in answers."""
    name = stem(file)
    if key_name(name) != name:
        raise LayoutError(
            f"{folder / file} has other characters in its name than letters, digits, - and _; "
            "rename it"
        )
    return name
