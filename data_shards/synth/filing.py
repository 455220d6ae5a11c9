"""Putting a place on the disk so that a folder is either whole or not there."""

import io
import os
import shutil
from pathlib import Path

from PIL import Image

from data_shards.synth.folders import FiledPlace
from data_shards.synth.orbit import Orbit
from data_shards.synth.place import photograph

BENCH = ".unfinished"
"""Folder inside a world where the files of a place lie until all of them are there."""


def is_filed(root: Path, place: FiledPlace) -> bool:
    """Tell whether all files of a place are there."""
    return all(
        (root / folder / place.satellite_name).is_file() for folder in place.satellite
    ) and all(
        (root / folder / name).is_file() for folder in place.drone for name in place.drone_names
    )


def render_place(root: Path, place: FiledPlace, *, orbit: Orbit, image_size: int) -> int:
    """Render a place, file it under `root`, and return the number of files.

    Query and gallery share their bytes: the second name of a file is a hard link where the file
    system has them.
    """
    photographs = photograph(place.key, orbit=orbit, image_size=image_size)
    bench = root / BENCH / f"{place.place_id}-{os.getpid()}"
    shutil.rmtree(bench, ignore_errors=True)
    satellite = {place.satellite_name: _encoded(photographs.satellite, place.satellite_name)}
    drone = dict(zip(place.drone_names, photographs.drone, strict=True))
    _file(root, bench / "satellite", place.satellite, satellite)
    _file(root, bench / "drone", place.drone, drone)
    shutil.rmtree(bench)
    return len(place.satellite) + len(place.drone) * len(drone)


def _encoded(jpeg: bytes, name: str) -> bytes:
    """Return a photograph as its file name wants it: as it is, or its pixels as PNG."""
    if not name.endswith(".png"):
        return jpeg
    file = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).save(file, "PNG")
    return file.getvalue()


def _file(root: Path, bench: Path, folders: tuple[Path, ...], files: dict[str, bytes]) -> None:
    """Write files aside, link them for the further folders, and move each folder into place."""
    asides = [bench / str(number) for number in range(len(folders))]
    for number, aside in enumerate(asides):
        aside.mkdir(parents=True)
        for name, content in files.items():
            (aside / name).parent.mkdir(exist_ok=True)
            if number == 0:
                (aside / name).write_bytes(content)
            else:
                _link(asides[0] / name, aside / name)
    for aside, folder in zip(asides, folders, strict=True):
        target = root / folder
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
