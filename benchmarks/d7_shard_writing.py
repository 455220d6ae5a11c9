"""Goal D7: folder to shards against webdataset's `ShardWriter`, and what a second run costs.

Both write the same image bytes under the same keys with the same JSON, from files in the page
cache. Ours is timed from the list of records to the folder in its place, with every image decoded
as a check, digests, index, manifest and every flush to the disk; `ShardWriter` runs with its
defaults, which check and flush nothing. Before any timing the samples are compared, and our shards
with those of a second run. The listing of the raw folder, which both need, is told apart.
"""

import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import webdataset as wds
from line import report
from PIL import Image

from data_shards.layouts import read_layout
from data_shards.packing.notes import SOURCE_NAME
from data_shards.packing.stored_image import Profile
from data_shards.packing.write import write_shards
from data_shards.schema import SCHEMA_VERSION, RawDataset
from data_shards.usable_cpus import usable_cpus

PLACES, VIEWS, ROUNDS, SEED = 48, 54, 5, 0
KIB = (40, 80)
"""Smallest and largest image: what 512 px aerial photographs take at quality 75 to 95."""


def write_raw(root: Path) -> None:
    """Write the folders of University-1652: noise on smooth ground, 40 to 80 KiB, all different."""
    random = np.random.default_rng(SEED)
    jpegs: list[bytes] = []
    while len(jpegs) < 24:
        ground = Image.fromarray(random.integers(0, 256, (24, 24, 3)).astype(np.uint8))
        smooth = np.asarray(ground.resize((512, 512), Image.Resampling.BICUBIC)).astype(np.float32)
        noisy = smooth + random.normal(0, random.uniform(3, 9), smooth.shape)
        jpeg = simplejpeg.encode_jpeg(
            noisy.clip(0, 255).astype(np.uint8), quality=90, colorsubsampling="420"
        )
        if KIB[0] <= len(jpeg) / 1024 <= KIB[1]:
            jpegs.append(jpeg)
    number = 0

    def put(path: Path) -> None:
        nonlocal number
        path.parent.mkdir(parents=True, exist_ok=True)
        jpeg = jpegs[number % len(jpegs)]
        path.write_bytes(jpeg[:2] + b"\xff\xfe\x00\x0a" + number.to_bytes(8, "big") + jpeg[2:])
        number += 1

    for place in range(PLACES):
        put(root / f"train/satellite/{place:04d}/{place:04d}.jpg")
        for view in range(1, VIEWS + 1):
            put(root / f"train/drone/{place:04d}/image-{view:02d}.jpeg")
    for role in ("query", "gallery"):
        for word in ("satellite", "drone"):
            put(root / f"test/{role}_{word}/5000/{role}.jpg")


def sample_json(dataset: RawDataset) -> dict[str, dict[str, Any]]:
    """Return what our JSON members will hold, so that the reference writes the same."""
    described = {}
    for record in dataset.records:
        described[record.key] = {
            "schema_version": SCHEMA_VERSION,
            "key": record.key,
            "place": record.place,
            "view": record.view.word,
            "roles": record.roles.words,
            "position": record.position,
            "altitude_m": record.altitude_m,
            "orientation": 1,
        }
    return described


def write_by_webdataset(dataset: RawDataset, out: Path, described: dict[str, Any]) -> None:
    """Write with stock settings: images as bytes, JSON by its own encoder."""
    out.mkdir()
    with wds.ShardWriter(str(out / "%06d.tar"), verbose=0) as writer:
        for record in dataset.records:
            image = record.source.read_bytes()
            sample = {"__key__": record.key, f"{record.view.word}.jpg": image}
            writer.write(sample | {"json": described[record.key]})


def write_ours(dataset: RawDataset, out: Path, *, is_decoded: bool = True) -> None:
    """Write as `skydistill shard` does, or with `--no-decode`."""
    write_shards(
        dataset,
        out,
        profile=Profile(),
        workers=0,
        progress=lambda *_, **__: None,
        is_decoded=is_decoded,
    )


def samples(folder: Path) -> Iterator[tuple[str, tuple[bytes, dict[str, Any]]]]:
    """Yield key, image and JSON of every sample, read by stock webdataset."""
    for tar in sorted(folder.glob("*.tar")):
        for sample in wds.WebDataset(str(tar), shardshuffle=False, empty_check=False):
            (image,) = (value for name, value in sample.items() if name.endswith(".jpg"))
            told = json.loads(sample["json"])
            told.pop("sha256", None)
            yield sample["__key__"], (image, told)


def content(folder: Path) -> dict[str, bytes]:
    """Return all files but the program's own notes."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != SOURCE_NAME}


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor seconds, the system's included."""
    used, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    return wall, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def spread(values: list[float]) -> list[float]:
    """Return median, least and largest."""
    return [round(number, 2) for number in (statistics.median(values), min(values), max(values))]


def main() -> int:
    """Compare, then time both in turn."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_raw(root / "raw")
        dataset = read_layout(root / "raw", layout="university1652")
        described = sample_json(dataset)
        ours, theirs = root / "ours", root / "theirs"
        write_ours(dataset, ours)
        write_by_webdataset(dataset, theirs, described)
        assert dict(samples(ours)) == dict(samples(theirs)), "samples differ"
        write_ours(dataset, root / "again")
        is_identical = content(ours) == content(root / "again")
        rates, unchecked, processor, again, again_own, walks = [], [], [], [], [], []
        for _ in range(ROUNDS):
            shutil.rmtree(ours)
            shutil.rmtree(theirs)
            os.sync()
            reference = seconds(lambda: write_by_webdataset(dataset, theirs, described))
            os.sync()
            own = seconds(lambda: write_ours(dataset, ours))
            unchanged = seconds(lambda: write_ours(dataset, ours))
            walk = seconds(lambda: read_layout(root / "raw", compared=dataset.compared))
            shutil.rmtree(root / "unchecked", ignore_errors=True)
            os.sync()
            quick = seconds(lambda: write_ours(dataset, root / "unchecked", is_decoded=False))
            rates.append(reference[0] / own[0])
            unchecked.append(reference[0] / quick[0])
            processor.append(reference[1] / own[1])
            again.append(reference[0] / unchanged[0])
            again_own.append(own[0] / unchanged[0])
            walks.append(reference[0] / (unchanged[0] + walk[0]))
        size = sum(record.source.stat().st_size for record in dataset.records)
    count = len(dataset.records)
    value = {
        "rate / ShardWriter": spread(rates),
        "rate / ShardWriter without the decoding": spread(unchecked),
        "processor seconds of ShardWriter / ours": spread(processor),
        "byte-identical": is_identical,
        "unchanged re-run, speed-up over ShardWriter": spread(again),
        "unchanged re-run, speed-up over our own writing": spread(again_own),
        "unchanged re-run with the listing of the raw folder": spread(walks),
        "last round": {
            "images": count,
            "mean KiB": round(size / count / 1024, 1),
            "threads": usable_cpus(),
            "our images/s": round(count / own[0]),
            "our wall and processor seconds": [round(number, 3) for number in own],
            "ShardWriter's": [round(number, 3) for number in reference],
            "unchanged": [round(number, 4) for number in unchanged],
            "listing": [round(number, 4) for number in walk],
        },
    }
    passed = is_identical and spread(rates)[0] >= 1 and spread(again)[0] >= 50
    must = "rate >= 1, every image decoded; byte-identical; unchanged re-run >= 50 (median of 5)"
    return report("D7", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
