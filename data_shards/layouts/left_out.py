"""What lies in a raw folder and was not taken: nothing is passed over without a word."""

import os
from collections import Counter
from collections.abc import Set
from pathlib import Path

from data_shards.formats import HEIC_SUFFIXES, READS_HEIC, SUFFIXES
from data_shards.layouts.folders import first_of, is_shown, suffix_of


def left_out(raw: Path, read: Set[str]) -> str:
    """Return in one line what was left out, with counts per reason; empty for nothing.

    Hidden files are not counted, nor is what lies beside the folders of the data set: its texts.

    Args:
        raw: the folder of the data set.
        read: its folders whose images were all taken.
    """
    strangers, others, heic, empty = Counter[str](), Counter[str](), 0, set[str]()
    known = (
        {os.fspath(raw)}
        | read
        | {os.fspath(parent) for folder in read for parent in Path(folder).parents}
    )
    for folder, folders, files in os.walk(raw):
        folders[:] = filter(is_shown, folders)
        suffixes = Counter(suffix_of(file) for file in files if is_shown(file))
        images = sum(suffixes.pop(suffix) for suffix in SUFFIXES & suffixes.keys())
        heic += sum(suffixes.pop(suffix, 0) for suffix in HEIC_SUFFIXES)
        others.update(suffixes if folder != os.fspath(raw) else {})
        if folder not in read and images:
            strangers[_outermost(folder, known)] += images
        elif not (images or folders or suffixes):
            empty.add(os.path.relpath(folder, raw))
    told = []
    if strangers:
        names = first_of(os.path.relpath(name, raw) for name in strangers)
        told.append(f"{strangers.total()} images in folders that are not of the layout ({names})")
    if heic and not READS_HEIC:
        told.append(f"{heic} HEIC images (install skydistill[heic] to read them)")
    if others:
        told.append(f"{others.total()} files that are no images ({first_of(others)})")
    if empty:
        told.append(f"{len(empty)} empty folders ({first_of(empty)})")
    return "left out: " + "; ".join(told) if told else ""


def _outermost(folder: str, known: Set[str]) -> str:
    """Return the outermost folder around `folder` in which nothing was taken."""
    if folder in known:
        return f"{folder}/*"
    while (parent := os.path.dirname(folder)) not in known and parent != folder:
        folder = parent
    return folder
