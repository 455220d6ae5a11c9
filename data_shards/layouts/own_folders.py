"""Photographs of one's own: `satellite/PLACE/*` and `drone/PLACE/[ALTITUDE/]*`.

Any part may be missing: tiles without photographs are distractors, photographs without a tile are
queries without answer. Which places train is said by a split; by default all are to test on, so
that nothing is trained on by accident.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from data_shards.layouts.duplicates import joined
from data_shards.layouts.folders import child, subfolders
from data_shards.layouts.split import choose_split
from data_shards.layouts.sues200 import heights_in, records_in
from data_shards.schema import ImageRecord, RawDataset, Role, View

LAYOUT = "folders"

VIEWS = (View.SATELLITE, View.DRONE)


def find_folders(folder: Path) -> str | None:
    """Say in words whether `folder` holds folders of places under `satellite` or `drone`."""
    roots = (child(folder, view.word) for view in VIEWS)
    if any(subfolders(root) for root in roots if root):
        return "satellite/PLACE, drone/PLACE, drone/PLACE/ALTITUDE"
    return None


def read_folders(raw: Path, *, split: Path | None = None, compared: str = "") -> RawDataset:
    """List the images of a folder of one's own; `compared` is of an earlier run.

    Raises:
        LayoutError: a place or an altitude is spelled in two ways, or the split is wrong.
    """
    found = [record for view in VIEWS for record in _records(raw, view)]
    places = {record.place for record in found}
    chosen = choose_split(raw, places, file=split, layout=LAYOUT)
    train = chosen.train_of(places)
    with_photos = {record.place for record in found if record.view is View.DRONE}

    def roles(record: ImageRecord) -> Role:
        if record.place in train:
            return Role.TRAIN
        # A tile that no photograph could answer is not asked for.
        is_asked = record.place in with_photos
        return Role.GALLERY | Role.QUERY if is_asked else Role.GALLERY

    return joined(
        raw,
        LAYOUT,
        [replace(record, roles=roles(record)) for record in found],
        compared=compared,
        split=chosen.name,
        apart=lambda record: f"{record.name}-{record.suffix}",
    )


def _records(raw: Path, view: View) -> Iterator[ImageRecord]:
    root = child(raw, view.word)
    for place in subfolders(root) if root else ():
        yield from records_in(place, place.name, view, None)
        for height, folder in heights_in(place).items() if view is View.DRONE else ():
            yield from records_in(folder, place.name, view, height)
