"""A world in the folders of a data set: checked, resumed, rendered in parallel, then named."""

import hashlib
import io
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from data_shards.config import SynthConfig
from data_shards.errors import LayoutError, SkyDistillError, require_known
from data_shards.packing.notes import link_or_copy
from data_shards.progress import Progress
from data_shards.synth.camera import Orbit
from data_shards.synth.folders import WORLDS, FiledPlace
from data_shards.synth.place import photograph
from data_shards.usable_cpus import usable_cpus

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
    satellite = {place.satellite_name: photographs.satellite}
    if place.satellite_name.endswith(".png"):
        file = io.BytesIO()
        Image.open(io.BytesIO(photographs.satellite)).save(file, "PNG")
        satellite = {place.satellite_name: file.getvalue()}
    drone = dict(zip(place.drone_names, photographs.drone, strict=True))
    _file(root, bench / "satellite", place.satellite, satellite)
    _file(root, bench / "drone", place.drone, drone)
    shutil.rmtree(bench)
    return len(place.satellite) + len(place.drone) * len(drone)


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
                link_or_copy(asides[0] / name, aside / name)
    for aside, folder in zip(asides, folders, strict=True):
        target = root / folder
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)


GENERATOR_VERSION = 2
"""Raised whenever the same settings give other pixels."""

DESCRIPTION = "world.json"


@dataclass(frozen=True, kw_only=True)
class WorldSummary:
    """What stands in a world, and how long the missing part of it took."""

    out: Path
    num_train_places: int
    num_test_places: int
    num_distractors: int
    num_images: int
    """Files in all folders, second names of shared files included."""

    num_rendered: int
    """Images rendered this time; 0 when everything was there."""

    seconds: float
    images_per_second: float


def write_world(config: SynthConfig, *, progress: Progress) -> WorldSummary:
    """Write the world that `config` describes, or what is missing of it.

    The world grows in a hidden folder beside `config.out` and takes its name when it is whole, so
    an interrupted run leaves nothing under that name, and the next run keeps what is rendered.

    Raises:
        LayoutError: the layout is unknown, `out` holds something else, or the disk refuses.
    """
    require_known(config.layout, WORLDS, what="layout", error=LayoutError)
    out = config.out.absolute()
    facts = {
        "generator": "skydistill synth",
        "generator_version": GENERATOR_VERSION,
        "layout": config.layout,
        "places": config.places,
        "test_places": config.test_places,
        "distractors": config.num_distractors,
        "views": config.num_views,
        "image_size": config.image_size,
        "seed": config.seed,
    }
    description = json.dumps(facts, indent=2) + "\n"
    if is_named := (out / DESCRIPTION).is_file():
        if (out / DESCRIPTION).read_text() != description:
            raise LayoutError(
                f"{config.out} holds a synthetic world of other settings (see "
                f"{config.out / DESCRIPTION}); delete it or choose another folder"
            )
    elif out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise LayoutError(f"{config.out} exists and is no synthetic world; choose another folder")
    places = WORLDS[config.layout].places(config)
    started, rendered = time.monotonic(), 0
    if not config.dry_run:
        digest = hashlib.sha256(description.encode()).hexdigest()[:8]
        root = out if is_named else out.parent / f".{out.name}.unfinished-{digest}"
        with _disk_errors(root):
            rendered = _render(config, root, places, progress)
            if not is_named:
                (root / DESCRIPTION).write_text(description)
                root.rename(out)
    seconds = time.monotonic() - started
    return WorldSummary(
        out=config.out,
        num_train_places=config.places,
        num_test_places=config.test_places,
        num_distractors=config.num_distractors,
        num_images=sum(len(p.satellite) + len(p.drone) * len(p.drone_names) for p in places),
        num_rendered=rendered,
        seconds=seconds,
        images_per_second=rendered / seconds if rendered else 0.0,
    )


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    """Turn what the disk or a lost process says into a sentence."""
    try:
        yield
    except BrokenProcessPool as error:
        raise SkyDistillError(
            f"a rendering process died, most likely for want of memory; run again with fewer "
            f"workers (what is rendered is kept in {root})"
        ) from error
    except OSError as error:
        raise LayoutError(
            f"cannot write {error.filename or root}: {error.strerror or error}; free some space "
            f"or choose another folder, then run again (what is rendered is kept in {root})"
        ) from error


def _render(config: SynthConfig, root: Path, places: list[FiledPlace], progress: Progress) -> int:
    """Render what is missing under `root` and return the number of images.

    No matrix product is used anywhere, so a process is one thread, and bytes do not depend on it.
    """
    folders, size = WORLDS[config.layout], config.image_size
    orbit = folders.orbit(config.num_views)
    root.mkdir(parents=True, exist_ok=True)
    missing = [place for place in places if not is_filed(root, place)]
    per_place = len(places[0].drone_names) + 1
    total, there = len(places) * per_place, (len(places) - len(missing)) * per_place
    progress(there, total)
    started = time.monotonic()
    workers = min(config.workers or usable_cpus(), len(missing))
    with ProcessPoolExecutor(max(workers, 1), multiprocessing.get_context("spawn")) as pool:
        rendered: Iterator[int]
        if workers > 1:
            jobs = (
                pool.submit(render_place, root, place, orbit=orbit, image_size=size)
                for place in missing
            )
            rendered = (future.result() for future in as_completed(jobs))
        else:
            rendered = (
                render_place(root, place, orbit=orbit, image_size=size) for place in missing
            )
        try:
            for number, _ in enumerate(rendered, start=1):
                done, seconds = number * per_place, max(time.monotonic() - started, 1e-9)
                progress(there + done, total, **{"images/s": done / seconds})
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    for name, text in folders.beside(config).items():
        if not (root / name).is_file():
            (root / name).write_text(text)
    shutil.rmtree(root / BENCH, ignore_errors=True)
    return len(missing) * per_place
