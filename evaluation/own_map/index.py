"""Tiles of maps described once and kept: resumable, added to map by map, shared among ranks."""

# Shapes: N = tiles, n = tiles of one read, D = descriptor width, S = image size.

import hashlib
import io
import json
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_shards.augment.on_device import send
from data_shards.config import Resampling
from data_shards.decode import Pixels
from data_shards.errors import DescriptorError, counted
from data_shards.index import write_aside
from data_shards.lock import only_writer
from data_shards.manifest import write_json
from data_shards.progress import Tally, show_progress
from data_shards.usable_cpus import usable_cpus
from distill.collectives import rank, wait_for_all, world_size
from distill.config import CodecName
from distill.launched import ranks_on_this_node
from distill.models import Outputs, RetrievalModel, inference, normalize, to_device
from distill.teacher.codec import CODECS
from distill.weights_file import LoadedModel, load_student
from evaluation.feature_files import DAMAGE
from evaluation.output_files import writing
from evaluation.own_map.confidence import Calibration, calibrate
from evaluation.own_map.config import IndexConfig
from evaluation.own_map.ground import Numbers
from evaluation.own_map.maps import TILE, Map, Source, Tiles, open_sources

log = logging.getLogger(__name__)

MANIFEST = "index.json"

PART_TILES = 2048
"""Tiles that are described between two files: what a killed process loses at most."""

READ_TILES = 16
"""Most tiles of a row that are read at once."""

AHEAD = 3
"""Reads that wait for each thread that reads."""

LEAST_CONTENT = 0.25
"""Part of a tile that must show ground; what shows less is left out."""

OPTIONS = ("image_size", "codec", "footprint_m", "overlap")
"""By which, and by its model, the tiles of an index are made."""

Read = tuple[Tiles, Pixels, Numbers]
"""Tiles [n], their pictures [n, S, S, 3] and how much of each shows ground [n]."""


@dataclass(frozen=True, kw_only=True)
class IndexManifest:
    """What an index holds, and with which model it was made."""

    checkpoint: str
    checkpoint_sha256: str
    model: str
    image_size: int
    resampling: Resampling
    codec: CodecName
    footprint_m: tuple[float, ...]
    overlap: float
    maps: tuple[Mapping[str, Any], ...] = ()
    """Path, key, tiles, tiles left out and files of each map."""

    calibrations: tuple[Calibration, ...] = ()
    """One for each number of rotations; none where no pairs were there to calibrate on."""

    def part(self, folder: Path, key: str, number: int) -> Path:
        """Return a file of a map; of another model or other options, it has another name."""
        made = [self.checkpoint_sha256, *(getattr(self, name) for name in OPTIONS), key]
        digest = hashlib.sha256(repr(made).encode()).hexdigest()
        return folder / "parts" / f"{digest[:16]}-{number:05d}.npz"


@dataclass(frozen=True, kw_only=True)
class Index:
    """Every tile of an index, in memory."""

    folder: Path
    manifest: IndexManifest
    tiles: Tiles
    descriptor_ND: Tensor
    """float32, on the device that searches."""

    sources: dict[int, Source] = field(default_factory=dict)
    """Maps that were opened, by their number."""

    def map_of(self, tile: Any) -> Map:
        """Return the map of a tile, which is opened when it is first asked for.

        Raises:
            LayoutError: it is no longer where it was.
            DescriptorError: it is another map now.
        """
        number = int(tile["source"])
        if number not in self.sources:
            path, key = (self.manifest.maps[number][name] for name in ("path", "key"))
            opened, *_ = open_sources(Path(path), footprint_m=self.manifest.footprint_m[0])
            if opened.key != key:
                raise DescriptorError(
                    f"{path} changed since it was indexed in {self.folder}; index it again"
                )
            self.sources[number] = opened
        return self.sources[number].maps[int(tile["picture"])]


def index_maps(config: IndexConfig, device: torch.device) -> None:
    """Describe the tiles of maps that are not in the index yet; every rank calls it.

    Raises:
        SkyDistillError: a map or the model cannot be read, or the index was made otherwise.
    """
    loaded = load_student(config.checkpoint)
    loaded.model.refuse_size(config.image_size, key="--image-size")
    to_device(loaded.model, device)
    side = config.footprint_m[0]
    sources = [one for path in config.maps for one in open_sources(path, footprint_m=side)]
    cut = _cut(sources, config)
    taken = DescriptorError(f"another process writes {config.out}; wait for it, or end it")
    with writing(config.out, option="OUT, the folder of the index"):
        (config.out / "parts").mkdir(parents=True, exist_ok=True)
        with only_writer(config.out, taken=taken) if rank() == 0 else nullcontext():
            if rank() == 0:
                write_json(config.out / MANIFEST, asdict(_begun(config, loaded)))
            wait_for_all()
            manifest = read_manifest(config.out)
            for source, tiles in cut:
                parts = np.split(tiles, range(PART_TILES, len(tiles), PART_TILES))
                described = _describe(source, parts, manifest, config, loaded.model)
                wait_for_all()
                manifest = _added(manifest, source, config.out, len(parts), described)
            calibrations = calibrate(config, loaded, known=manifest.calibrations)
            if rank() == 0:
                manifest = replace(manifest, calibrations=calibrations)
                write_json(config.out / MANIFEST, asdict(manifest))
    wait_for_all()


def _cut(sources: Sequence[Source], config: IndexConfig) -> list[tuple[Source, Tiles]]:
    """Cut maps into tiles; those too small for any are named and left out."""
    cut = [(one, one.tiles(config.footprint_m, overlap=config.overlap)) for one in sources]
    if not any(len(tiles) for _, tiles in cut):
        which = sources[0].path if len(sources) == 1 else f"each of {len(sources)} maps"
        words = ", ".join(f"{side:g}" for side in config.footprint_m)
        raise DescriptorError(
            f"{which} is smaller than every footprint of {words} m; give a smaller --footprint-m"
        )
    sides = np.array(config.footprint_m)
    for source, tiles in cut:
        absent = sides[~np.isin(sides.astype(np.float32), tiles["footprint_m"])]
        if len(absent) and source.pictures is None:
            words = ", ".join(f"{side:g}" for side in absent)
            left_out = "it has no such tiles" if len(tiles) else "it is left out"
            log.info("%s is smaller than footprints of %s m: %s", source.path, words, left_out)
    return [(source, tiles) for source, tiles in cut if len(tiles)]


def _begun(config: IndexConfig, loaded: LoadedModel) -> IndexManifest:
    """Return the manifest of an index that holds no map yet, or the one that is there."""
    asked = IndexManifest(
        checkpoint=str(loaded.path.absolute()),
        checkpoint_sha256=loaded.sha256,
        model=loaded.name,
        image_size=config.image_size or loaded.image_size,
        resampling=loaded.resampling,
        codec=config.codec,
        footprint_m=config.footprint_m,
        overlap=config.overlap,
    )
    there = read_manifest(config.out) if (config.out / MANIFEST).exists() else asked
    if not there.maps:
        return asked
    refuse_other_model(config.out, there, loaded)
    if other := [name for name in OPTIONS if getattr(asked, name) != getattr(there, name)]:
        given = ((f"--{one.replace('_', '-')}", np.ravel(getattr(there, one))) for one in other)
        words = [str(word) for option, values in given for word in (option, *values)]
        raise DescriptorError(
            f"{config.out} was made with {' '.join(words)}; give the same, or another folder"
        )
    return there


def refuse_other_model(folder: Path, there: IndexManifest, loaded: LoadedModel) -> None:
    """Refuse a model that did not make an index.

    Raises:
        DescriptorError: which one did.
    """
    if there.checkpoint_sha256 != loaded.sha256:
        raise DescriptorError(
            f"{folder} was made with another model ({there.model}, {there.checkpoint_sha256[:12]}) "
            f"than {loaded.path} ({loaded.name}, {loaded.sha256[:12]}); give that one, or index "
            "the map again into another folder"
        )


def read_manifest(folder: Path) -> IndexManifest:
    """Read what an index holds.

    Raises:
        DescriptorError: there is none, it is damaged, or of another version.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise DescriptorError(
            f"no index at {folder}; make one with skydistill index MAP {folder} --checkpoint RUN"
        )
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
        values["calibrations"] = [Calibration.of(one) for one in values["calibrations"]]
        tuples = {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
        return IndexManifest(**(values | tuples))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DescriptorError(
            f"{path} does not fit this version of skydistill or is damaged ({error}); remove it "
            "and index the maps again, or index them into another folder"
        ) from error


def open_index(folder: Path, manifest: IndexManifest, device: torch.device) -> Index:
    """Read every tile and descriptor of an index.

    Raises:
        DescriptorError: it is damaged, or holds no tile.
    """
    tiles, rows = [np.zeros(0, dtype=TILE)], []
    for number, one in enumerate(manifest.maps):
        for part in range(one["parts"]):
            path = manifest.part(folder, one["key"], part)
            if not (stored := read_part(path)):
                raise DescriptorError(
                    f"{path} is missing or damaged; index {one['path']} again, which mends it"
                )
            tiles.append(stored["tiles"])
            rows.append(stored["descriptors"])
            tiles[-1]["source"] = number
    if not manifest.maps:
        raise DescriptorError(
            f"{folder} is unfinished: none of its maps is whole; run the same skydistill index "
            "again, which goes on where it was"
        )
    if not sum(map(len, rows)):
        raise DescriptorError(f"{folder} holds no tile; index a map into it")
    described = CODECS[manifest.codec].decode(np.concatenate(rows), device)["descriptor"]
    return Index(
        folder=folder,
        manifest=manifest,
        tiles=np.concatenate(tiles),
        descriptor_ND=F.normalize(described),  # rounding took a little from it
    )


def read_part(path: Path) -> Mapping[str, Any] | None:
    """Return what one file of an index holds; None where it is missing or damaged."""
    with suppress(*DAMAGE, KeyError, RuntimeError), np.load(path) as stored:
        part = {name: stored[name] for name in ("tiles", "descriptors", "left_out")}
        return part if len(part["tiles"]) == len(part["descriptors"]) else None
    return None


def _describe(
    source: Source,
    parts: Sequence[Tiles],
    manifest: IndexManifest,
    config: IndexConfig,
    model: RetrievalModel,
) -> int:
    """Write the parts of a map that are not there whole, every so many on this rank; count them."""
    mine = {
        path: parts[number]
        for number in range(rank(), len(parts), world_size())
        if not read_part(path := manifest.part(config.out, source.key, number))
    }
    threads = config.threads or max(1, usable_cpus() // ranks_on_this_node())
    title = f"indexing {source.path.name}"
    with (
        show_progress(title, unit="tiles", enabled=rank() == 0) as progress,
        inference(model),
        ThreadPoolExecutor(threads, thread_name_prefix="map") as pool,
    ):
        tally = Tally(progress, sum(map(len, mine.values())))
        reads = _read_ahead(source, mine.values(), manifest, pool, ahead=AHEAD * threads)
        for path, part in mine.items():
            kept, descriptor_ND = _described(reads, len(part), model, config.batch_size, tally)
            rows = CODECS[manifest.codec].encode(Outputs(descriptor=descriptor_ND))
            content = io.BytesIO()
            np.savez(content, tiles=kept, descriptors=rows, left_out=len(part) - len(kept))
            write_aside(path, content.getvalue())
    return len(mine)


def _read_ahead(
    source: Source, parts: Any, manifest: IndexManifest, pool: ThreadPoolExecutor, *, ahead: int
) -> Iterator[Read]:
    """Yield all tiles of all parts in order, read by threads, a few reads ahead."""

    def read(tiles: Tiles) -> Read:
        one = source.maps[int(tiles["picture"][0])]
        size, resampling = manifest.image_size, manifest.resampling
        return tiles, *one.images(tiles, image_size=size, resampling=resampling)

    def cut() -> Iterator[Tiles]:
        """Cut where another row of the map or picture begins, and into few at once."""
        names = ["picture", "row", "footprint_m"]
        for part in parts:
            for row in np.split(part, (part[names][1:] != part[names][:-1]).nonzero()[0] + 1):
                yield from np.split(row, range(READ_TILES, len(row), READ_TILES))

    pending: deque[Future[Read]] = deque()
    for tiles in cut():
        pending.append(pool.submit(read, tiles))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _described(
    reads: Iterator[Read], count: int, model: RetrievalModel, batch_size: int, tally: Tally
) -> tuple[Tiles, Tensor]:
    """Take `count` tiles; return those that show ground, and their descriptors [N, D].

    Batches are cut within a part, so that its bits do not depend on what was described before.
    """
    device = next(model.parameters()).device
    kept, described = [np.zeros(0, dtype=TILE)], [torch.empty(0, model.width)]
    waiting = np.empty((0, 0, 0, 3), dtype=np.uint8)
    while count or len(waiting):
        if count:
            tiles, images, content = next(reads)
            count -= len(tiles)
            kept.append(tiles[content >= LEAST_CONTENT])
            images = images[content >= LEAST_CONTENT]
            tally.add(len(tiles) - len(images))
            waiting = np.concatenate([waiting, images]) if len(waiting) else images
        while len(waiting) >= batch_size or (len(waiting) and not count):
            batch, waiting = waiting[:batch_size], waiting[batch_size:]
            described.append(model.describe(normalize(send(batch, device))).float().cpu())
            tally.add(len(batch))
    descriptor_ND = torch.cat(described)
    if not descriptor_ND.isfinite().all():
        raise DescriptorError("descriptors are not finite: this model did not learn; train again")
    return np.concatenate(kept), descriptor_ND


def _added(
    manifest: IndexManifest, source: Source, folder: Path, parts: int, described: int
) -> IndexManifest:
    """Return the manifest with a map where it lies now, written; an older state is replaced."""
    tiles = left_out = 0
    for number in range(parts):
        with np.load(manifest.part(folder, source.key, number)) as stored:
            tiles += len(stored["tiles"])
            left_out += int(stored["left_out"])
    path, key = str(source.path.absolute()), source.key
    added = {"path": path, "key": key, "parts": parts, "tiles": tiles, "left_out": left_out}
    maps = {one["key"]: one for one in manifest.maps if one["path"] != path or one["key"] == key}
    manifest = replace(manifest, maps=tuple((maps | {key: added}).values()))
    if rank() == 0:
        write_json(folder / MANIFEST, asdict(manifest))
        counts = f"{counted(tiles, 'tile')}, {left_out:,} nearly empty ones left out"
        log.info("%s%s", source.path, f": {counts}" if described else f" is in {folder} already")
    return manifest
