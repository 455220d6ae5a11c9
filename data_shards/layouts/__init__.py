"""Raw folders in, image records out: one module per public data set."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from data_shards.errors import LayoutError, counted, require_known
from data_shards.formats import HEIC_SUFFIXES, SUFFIXES
from data_shards.layouts.coordinates import Cameras, read_table
from data_shards.layouts.folders import first_of, gaps, is_shown, subfolders, suffix_of
from data_shards.layouts.gta_uav import find_gta_uav, read_gta_uav
from data_shards.layouts.own_folders import LAYOUT as FOLDERS
from data_shards.layouts.own_folders import find_folders, read_folders
from data_shards.layouts.published import PUBLISHED, Image, compare
from data_shards.layouts.sues200 import find_sues200, read_sues200
from data_shards.layouts.university160k import LAYOUT as UNIVERSITY_160K
from data_shards.layouts.university160k import find_university160k, read_university160k
from data_shards.layouts.university1652 import (
    find_denseuav,
    find_university1652,
    read_denseuav,
    read_university1652,
)
from data_shards.layouts.visloc import find_visloc, read_visloc
from data_shards.schema import ImageRecord, RawDataset

log = logging.getLogger(__name__)

AUTO = "auto"
"""Look at the folders and say which layout it is."""

DEPTH = 2
"""How many folders below the one given a data set may lie: archives unpack into one or two."""

HEIC_ADVICE = "install skydistill[heic] to read them"

FIXED = {"denseuav", "university1652", UNIVERSITY_160K, "visloc"}
"""Layouts whose folders say which places train, if any."""

UNANSWERED = {UNIVERSITY_160K}
"""Layouts of challenges, whose queries belong to places that only the organizers know."""


class Layout(NamedTuple):
    """The folders of one public data set."""

    find: Callable[[Path], str | None]
    """Say in words which of its folders are in a folder, or None."""

    read: Callable[..., RawDataset]
    """(raw, compared=), and split= unless it is of `FIXED`: list the images below `raw`."""

    example: str
    """Paths by which a person recognizes it."""


LAYOUTS = {
    "denseuav": Layout(
        find_denseuav, read_denseuav, "train/drone/ID/H80.JPG and Dense_GPS_ALL.txt"
    ),
    "visloc": Layout(find_visloc, read_visloc, "01/drone and 01/01.csv"),
    "gta_uav": Layout(find_gta_uav, read_gta_uav, "cross-area-drone2sate-test.json"),
    "university1652": Layout(
        find_university1652, read_university1652, "train/satellite/ID and test/query_drone/ID"
    ),
    "sues200": Layout(
        find_sues200, read_sues200, "drone_view_512/ID/HEIGHT, or Training/HEIGHT/drone/ID"
    ),
    "university160k": Layout(
        find_university160k, read_university160k, "gallery_satellite_160k and query_drone_160k"
    ),
    FOLDERS: Layout(find_folders, read_folders, "satellite/PLACE and drone/PLACE/ALTITUDE"),
}
"""Those of public data sets, and the one that people make of their own photographs."""


class _Place(NamedTuple):
    """A folder that is in a layout."""

    folder: Path
    layout: str
    form: str


def read_layout(
    raw: Path,
    *,
    layout: str = AUTO,
    split: Path | None = None,
    coordinates: Path | None = None,
    compared: str = "",
    name: str = "",
) -> RawDataset:
    """List every image below `raw`, or below the one folder in it that holds a data set.

    Args:
        raw: the folder that holds `train` and `test`, or `drone_view_512`, or one around it.
        layout: a name of `LAYOUTS`, or `auto`.
        split: YAML file that says which places train, where the folders do not.
        coordinates: CSV file of place, latitude and longitude.
        compared: `RawDataset.compared` of an earlier run; files it speaks of are not read again.
        name: what the data set is called, if anything was said.

    Returns:
        The records, sorted by key, and how they differ from what is published.

    Raises:
        LayoutError: the layout is unknown, or the folders are not in it or not readable.
    """
    raw = raw.absolute()  # what lies below `.` is listed without the dot and walked with it
    require_known(layout, [AUTO, *LAYOUTS], what="layout", error=LayoutError)
    try:
        found = _locate(raw, list(LAYOUTS) if layout == AUTO else [layout])
        log.info("%s is read as %s (%s)", found.folder, found.layout, found.form)
        if split and found.layout in FIXED:
            told = f"{found.folder} is {found.layout}, whose folders are its split"
            raise LayoutError(f"{told}; leave out --split")
        chosen = {"split": split} if split else {}
        dataset = LAYOUTS[found.layout].read(found.folder, compared=compared, **chosen)
        strangers = left_out(found.folder, dataset.files)
    except OSError as error:
        raise LayoutError(
            f"{error.filename} cannot be read ({error.strerror}); make it readable or remove it"
        ) from error
    keyed = sorted(((r.key, r) for r in dataset.records), key=itemgetter(0))
    if not keyed:
        raise LayoutError(f"{found.folder} holds no images; {strangers or 'add them'}")
    dataset = replace(
        dataset,
        records=tuple(record for _, record in keyed),
        left_out=strangers,
        folder=found.folder.resolve().name,
    )
    return with_facts(dataset, name=name, coordinates=coordinates)


def with_facts(dataset: RawDataset, *, name: str, coordinates: Path | None) -> RawDataset:
    """Return a data set with its name, its coordinates, and how it differs from the published one.

    Raises:
        LayoutError: `coordinates` is no such table of these places.
    """
    records, places, cameras = dataset.records, dataset.coordinates, Cameras()
    if coordinates:
        told, cameras = read_table(coordinates, records)
        places = places | told
    if cameras:
        records = tuple(replace(r, camera=cameras.get(r.key, r.camera)) for r in records)
    return replace(
        dataset,
        records=records,
        name=name,
        deviations=_deviations(dataset.layout, records),
        coordinates=places,
    )


def leave_out(dataset: RawDataset, unreadable: Sequence[ImageRecord], *, raw: Path) -> RawDataset:
    """Return a data set without some images; its deviations name those without an intact copy.

    Raises:
        LayoutError: nothing is left.
    """
    gone = {record.path for record in unreadable}
    kept = tuple(record for record in dataset.records if record.path not in gone)
    if not kept:
        note = f" ({dataset.left_out})" if dataset.left_out else ""
        raise LayoutError(f"no image of {raw} is readable{note}; copy the data set again")
    keys, lost = {record.key for record in kept}, dict.fromkeys(r.key for r in unreadable)
    told = (f"{key} is left out, because it is unreadable" for key in lost if key not in keys)
    return replace(dataset, records=kept, deviations=(*_deviations(dataset.layout, kept), *told))


def _deviations(layout: str, records: Sequence[ImageRecord]) -> tuple[str, ...]:
    images = (Image(r.key, r.place, r.view, r.roles, r.altitude_m) for r in records)
    return compare(layout, images).sentences


def left_out(raw: Path, taken: Set[str]) -> str:
    """Return in one line what was left out, with counts per reason; empty for nothing.

    Hidden files are not counted, nor is what lies beside the folders of the data set: its texts.

    Args:
        raw: the folder of the data set.
        taken: paths of its images that were taken.
    """
    strangers, unnamed, heic, others, empty = (Counter[str]() for _ in range(5))
    read = {os.path.dirname(path) for path in taken}
    known = {os.fspath(raw)} | read | {os.fspath(up) for one in read for up in Path(one).parents}
    for folder, folders, files in os.walk(raw):
        folders[:] = filter(is_shown, folders)
        shown = {f"{folder}/{file}": suffix_of(file) for file in files if is_shown(file)}
        images = {path for path, suffix in shown.items() if suffix in SUFFIXES}
        suffixes = Counter(suffix for path, suffix in shown.items() if path not in images)
        heic.update([HEIC_ADVICE] * sum(suffixes.pop(suffix, 0) for suffix in HEIC_SUFFIXES))
        others.update(suffixes if folder != os.fspath(raw) else {})
        if folder in read:
            unnamed.update(os.path.relpath(path, raw) for path in images - taken)
        elif images:
            strangers[os.path.relpath(_outermost(folder, known), raw)] += len(images)
        elif not (folders or suffixes):
            empty[os.path.relpath(folder, raw)] += 1
    reasons = (
        (strangers, "image", " in folders that are not of the layout"),
        (unnamed, "image", " of no place"),
        (heic, "HEIC image", ""),
        (others, "other file", ""),
        (empty, "empty folder", ""),
    )
    told = [f"{counted(of.total(), noun)}{in_} ({first_of(of)})" for of, noun, in_ in reasons if of]
    return "left out: " + "; ".join(told) if told else ""


def _outermost(folder: str, known: Set[str]) -> str:
    """Return the outermost folder around `folder` in which nothing was taken."""
    if folder in known:
        return f"{folder}/*"
    while (parent := os.path.dirname(folder)) not in known and parent != folder:
        folder = parent
    return folder


def found_lines(dataset: RawDataset) -> list[str]:
    """Return what was found in raw folders as lines to read, with every deviation."""
    places = {record.place for record in dataset.records}
    lines = [
        f"found {counted(len(dataset.records), 'image')} of {counted(len(places), 'place')}; "
        f"layout {dataset.layout}, split {dataset.split}"
    ]
    if dataset.coordinates:
        lines.append(f"coordinates of {counted(len(dataset.coordinates), 'place')}")
    label = "other than published: " * (dataset.layout in PUBLISHED)
    lines += [f"  {label}{sentence}" for sentence in dataset.deviations]
    if dataset.layout not in UNANSWERED:
        lines += [f"  {sentence}" for sentence in gaps(dataset.records)]
    return lines + [f"  {dataset.left_out}"] * bool(dataset.left_out)


def _locate(raw: Path, layouts: list[str]) -> _Place:
    """Return the one folder, at or below `raw`, that is in one of `layouts`."""
    if not raw.is_dir():
        raise LayoutError(f"{raw} is not a folder; give the folder that holds the data set")
    folders, closed, around = [raw], list[Path](), list[Path]()
    for depth in range(DEPTH + 1):
        if depth:
            below = [path for folder in folders for path in subfolders(folder)]
            closed += [path for path in below if not _is_open(path)]  # a disk's `lost+found`
            folders = [path for path in below if path not in closed]
        around += folders
        if found := _one_of(raw, folders, [name for name in layouts if name != FOLDERS]):
            return found
    _point_elsewhere(raw, layouts)
    if FOLDERS in layouts and (found := _one_of(raw, around, [FOLDERS])):
        return found
    if len(layouts) == 1:
        return _Place(folder=raw, layout=layouts[0], form="as told")
    examples = "; ".join(f"{name}: {LAYOUTS[name].example}" for name in layouts)
    note = f" ({closed[0]} cannot be read)" if closed else ""
    raise LayoutError(
        f"{raw} holds no data set that is known{note}; give the folder that holds one, such as "
        f"{examples}"
    )


def _one_of(raw: Path, folders: Sequence[Path], layouts: list[str]) -> _Place | None:
    found = [place for folder in folders for place in _found(folder, layouts)]
    if len(found) > 1:
        names = ", ".join(f"{place.folder} ({place.layout})" for place in found)
        raise LayoutError(
            f"{raw} holds several data sets: {names}; give the folder of one, or its --layout"
        )
    return found[0] if found else None


def _point_elsewhere(raw: Path, layouts: list[str]) -> None:
    """Name the folder or the layout that was most likely meant, if there is one.

    Raises:
        LayoutError: `raw` is in another layout, or lies inside a data set.
    """
    for likely in ([name for name in LAYOUTS if name != FOLDERS], [FOLDERS]):
        if others := list(_found(raw, [name for name in likely if name not in layouts])):
            raise LayoutError(
                f"{raw} is in layout {others[0].layout} ({others[0].form}); leave out --layout"
            )
        for parent in filter(_is_open, raw.absolute().parents[:DEPTH]):
            if outer := list(_found(parent, likely)):
                raise LayoutError(
                    f"{raw} lies inside {outer[0].layout} ({outer[0].form}); give {parent}"
                )


def _found(folder: Path, layouts: list[str]) -> Iterator[_Place]:
    """Yield the first of `layouts` that a folder is in: some have folders or lists of another."""
    for name in layouts:
        if form := LAYOUTS[name].find(folder):
            yield _Place(folder=folder, layout=name, form=form)
            return


def _is_open(folder: Path) -> bool:
    return os.access(
        folder, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids
    )
