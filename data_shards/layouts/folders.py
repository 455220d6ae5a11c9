"""Looking into folders as people really have them: any case, links, hidden files, no order.

A listing asks the file system for names only, not for sizes or times: University-1652 has about
140,000 files, and on a network disk every question counts.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from itertools import permutations
from pathlib import Path
from unicodedata import normalize

from data_shards.errors import LayoutError, counted
from data_shards.formats import SUFFIXES
from data_shards.schema import ImageRecord, Position, Role, View

log = logging.getLogger(__name__)

DIGITS = re.compile("([0-9]+)")
NO_KEY = re.compile("[^0-9A-Za-z_-]+")

LEFT_BY_MACS = "__MACOSX"
"""Folder of an archive packed on a Mac: it repeats all names, and holds no images."""


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in `folder`, links to folders too, in the natural order of their names."""
    with os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if is_shown(entry.name) and entry.is_dir()]
    return sorted(found, key=lambda path: natural(path.name))


def image_names(folder: Path) -> list[str]:
    """Return the names of the image files in `folder` in their natural order.

    A dangling link counts as an image: it is told when it cannot be read, instead of not at all.
    """
    with os.scandir(folder) as entries:
        found = [
            entry.name
            for entry in entries
            if suffix_of(entry.name) in SUFFIXES and is_shown(entry.name) and not entry.is_dir()
        ]
    return sorted(found, key=natural)


def child(folder: Path, name: str) -> Path | None:
    """Return the folder in `folder` that is called `name` in any case.

    Raises:
        LayoutError: there are several, such as `Train` and `train`.
    """
    return child_like(folder, re.escape(name))


def child_like(folder: Path, pattern: str) -> Path | None:
    """Return the folder in `folder` whose name fits `pattern` in any case.

    Raises:
        LayoutError: there are several, so that a place could have two sources.
    """
    found = [path for path in subfolders(folder) if re.fullmatch(pattern, path.name, re.IGNORECASE)]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise LayoutError(
            f"{folder} holds {names}, two sources for the same places; move one of them away"
        )
    return found[0] if found else None


def natural(name: str) -> list[str | int]:
    """Return a sort key that puts `2.jpg` before `10.jpg`."""
    parts: list[str | int] = list(DIGITS.split(name))
    parts[1::2] = map(int, parts[1::2])
    return parts


def stem(file: str) -> str:
    return file.rpartition(".")[0]


def suffix_of(file: str) -> str:
    """Return the suffix in lower case, with its dot; a `Path` would take ten times as long."""
    return file[file.rfind(".") :].lower()


def key_name(stem: str) -> str:
    """Return a file's stem as it may stand in a key: without dots, blanks and the like."""
    return NO_KEY.sub("-", normalize("NFC", stem))


def record_of(
    folder: str | Path,
    file: str,
    *,
    place: str,
    view: View,
    roles: Role,
    position: int = 1,
    altitude_m: float | None = None,
    camera: Position | None = None,
    prefix: str = "",
) -> ImageRecord:
    """Describe an image file."""
    return ImageRecord(
        place=place,
        view=view,
        roles=roles,
        position=position,
        altitude_m=altitude_m,
        path=f"{folder}/{file}",
        name=prefix + key_name(stem(file)),
        camera=camera,
    )


def same_id(place: str) -> str:
    """Return what the spellings of one place have in common: `1`, `01` and `0001` are one id."""
    return str(int(place)) if place.isdecimal() else normalize("NFC", place)


def refuse_two_spellings(raw: Path, places: Iterable[str]) -> None:
    """Refuse folders such as `1` and `0001`, which would be two sources for one place.

    Raises:
        LayoutError: an id is spelled in two ways.
    """
    seen: dict[str, str] = {}
    for place in sorted(set(places)):
        other = seen.setdefault(same_id(place), place)
        if other != place:
            raise LayoutError(
                f"{raw}: place {same_id(place)} is called {other} and {place}, two sources for one "
                "place; give its folders one name or move one away"
            )


def is_shown(name: str) -> bool:
    """Tell whether a name is meant to be seen: a copy from a Mac holds `._image-01.jpeg`."""
    return not name.startswith(".") and name != LEFT_BY_MACS


PAIRED = (View.SATELLITE, View.DRONE)


def refuse_shared_places(raw: Path, *, train: set[str], test: set[str]) -> None:
    """Refuse a place that is trained on and tested on.

    Raises:
        LayoutError: there is one.
    """
    if both := sorted(train & test):
        raise LayoutError(
            f"{raw}: place {both[0]} ({len(both)} in all) stands in train and in test, so the test "
            "would be trained on; keep each id on one side"
        )


def places_of(records: Iterable[ImageRecord], role: Role) -> set[str]:
    wanted = int(role)  # of plain integers, because flags take ten times as long
    return {record.place for record in records if int(record.roles) & wanted}


Places = dict[tuple[Role, View], set[str]]


def gaps(records: Iterable[ImageRecord]) -> Iterator[str]:
    """Say which places or whole views are missing for training or for a search.

    Any part of a data set may be missing; what is there is used.
    """
    there: Places = {(role, view): set() for role in Role for view in View}
    for roles, view, place in {(record.roles, record.view, record.place) for record in records}:
        for role in roles:
            there[role, view].add(place)
    trained = there[Role.TRAIN, View.SATELLITE] & there[Role.TRAIN, View.DRONE]
    is_tested = any(places for (role, _), places in there.items() if role is not Role.TRAIN)
    for view, other in (PAIRED, PAIRED[::-1]):
        if lonely := there[Role.TRAIN, view] - there[Role.TRAIN, other]:
            yield f"no {other.word} image to train on: {_named(lonely)}, not trained on"
        yield from _search_gaps(view, other, there) if is_tested else ()
    if not (trained and is_tested):
        yield f"no place to {'test' if trained else 'train'} on"


def _search_gaps(view: View, other: View, there: Places) -> Iterator[str]:
    """Say what a search of `view` among `other`, or the other way round, lacks of `other`."""
    queries, gallery = there[Role.QUERY, view], there[Role.GALLERY, other]
    if not (queries and gallery):
        lacking = f"{other.word} gallery" if queries else f"{view.word} queries"
        yield f"no {lacking}, so that {view.word} to {other.word} cannot be searched"
    asked, found = queries - gallery, there[Role.GALLERY, view] - gallery
    for lonely, what in (
        (asked & found, "distractors and queries without answer"),
        (asked - found, "queries without answer"),
        (found - asked, "distractors"),
    ):
        if gallery and lonely:
            yield f"no {other.word} image in the gallery: {_named(lonely)}, {what}"


EXAMPLES = 3
"""How many of many a sentence names."""


def first_of(names: Iterable[str]) -> str:
    """Join the first few of many names, and say when there are more."""
    known = sorted(names, key=natural)
    return ", ".join(known[:EXAMPLES]) + (", ..." if len(known) > EXAMPLES else "")


def tell_lonely(table: Path, **names: set[str]) -> None:
    """Log the names that only one of two lists has, such as rows without a photograph."""
    for noun, other in permutations(names):
        if lonely := names[noun] - names[other]:
            told = counted(len(lonely), noun)
            log.info("%s: %s without %s (%s)", table, told, other, first_of(lonely))


def _named(places: set[str]) -> str:
    return f"{counted(len(places), 'place')} ({first_of(places)})"
