"""The verbs of the data stage: `skydistill synth`, `shard`, `verify` and `plan`."""

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from data_shards.config import PlanConfig, ShardConfig, SynthConfig, VerifyConfig
from data_shards.errors import RecipeError, ShardError, counted
from data_shards.layouts import AUTO, found_lines, leave_out, read_layout
from data_shards.manifest import PLACES, Manifest, ShardSummary
from data_shards.packing.image_facts import image_size_advice, total
from data_shards.packing.index_tars import WEBDATASET, index_tars, roles_of, tars_in, tars_left_out
from data_shards.packing.notes import read_source_notes
from data_shards.packing.stored_image import Profile, UnreadableError
from data_shards.packing.write import write_shards
from data_shards.planning.neighbours import read_neighbours
from data_shards.planning.place_views import trained_places
from data_shards.planning.plan import Plan, PlanRows, rank_slice, ranks_share
from data_shards.progress import show_progress
from data_shards.recipe import parse_command
from data_shards.remote.local_cache import LocalCache
from data_shards.remote.sources import NO_IMAGES, open_shards
from data_shards.remote.transport import is_remote, shown_address
from data_shards.schema import RawDataset, Role, View
from data_shards.shards import ShardSet
from data_shards.synth.world import write_world
from data_shards.verify import verify_shards

log = logging.getLogger(__name__)

MOST_PROBLEMS = 20
"""Lines that `skydistill verify` prints before it only counts."""


def synth(argv: Sequence[str]) -> int:
    """Render a synthetic world in the folder layout of a public data set."""
    config = parse_command(SynthConfig, argv, prog="skydistill synth", positionals=["out"])
    if config.map:
        return _synth_map(config)
    with show_progress("rendering places", unit="images") as progress:
        world = write_world(config, progress=progress)
    log.info(
        "%s holds %s of %s, %d of them rendered now: %.0f s, %.1f images/s",
        world.out,
        counted(world.num_images, "image"),
        counted(world.num_train_places + world.num_test_places + world.num_distractors, "place"),
        world.num_rendered,
        world.seconds,
        world.images_per_second,
    )
    return 0


def _synth_map(config: SynthConfig) -> int:
    try:
        from data_shards.synth.ground_map import write_map
    except ImportError as error:
        raise RecipeError(
            f"--map needs {error.name}, which is not installed; install skydistill[maps]"
        ) from error
    if config.dry_run:
        log.info("would write a map of %s to %s", counted(config.test_places, "place"), config.out)
        return 0
    with show_progress("rendering a map", unit="places") as progress:
        count = write_map(config, progress=progress)
    log.info("%s holds a map of %s, and a photograph of each", config.out, counted(count, "place"))
    return 0


def shard(argv: Sequence[str]) -> int:
    """Write shards, indexes and manifest from raw folders."""
    config = parse_command(ShardConfig, argv, prog="skydistill shard", positionals=["raw", "out"])
    if config.out is None or config.index_only:
        return _index(config)
    dataset = read_layout(
        config.raw,
        layout=config.layout,
        split=config.split,
        coordinates=config.coordinates,
        compared=read_source_notes(config.out).compared,
        name=config.name,
    )
    _tell(found_lines(dataset))
    if config.dry_run:
        count, places = len(dataset.records), len({record.place for record in dataset.records})
        found = {"out": str(config.out), "images": count, "places": places}
        _print_json(config, found | _origin(dataset) | {"dry_run": True})
        images, raw = counted(count, "image"), config.raw.absolute()
        log.info("would write %s of %s to %s", images, raw, config.out)
        return 0
    profile = Profile(
        image_size=config.image_size,
        quality=config.quality,
        resampling=config.resampling,
        aspect=config.aspect,
    )
    with show_progress("writing shards", unit="images") as progress:
        write = partial(
            write_shards,
            out=config.out,
            profile=profile,
            workers=config.workers,
            progress=progress,
            is_decoded=not config.no_decode,
        )
        try:
            done = write(dataset)
        except UnreadableError as error:
            _tell(error.problems)
            if not config.skip_unreadable:
                raise
            dataset = leave_out(dataset, error.records, raw=config.raw)
            _tell(found_lines(dataset))
            done = write(dataset)
    _report(config, config.out, done)
    return 0


def _index(config: ShardConfig) -> int:
    """Write indexes and a manifest beside tars of others."""
    roles = roles_of([word for word in config.roles.split(",") if word])
    if config.dry_run:
        tars = len(tars_in(config.raw))
        _print_json(config, {"out": str(config.raw), "dry_run": True, "tars": tars})
        log.info("would index %s of %s", counted(tars, "tar"), config.raw.absolute())
        _tell(filter(None, [tars_left_out(config.raw)]))
        return 0
    with show_progress("indexing tars", unit="tars") as progress:
        done = index_tars(
            config.raw,
            roles=roles,
            workers=config.workers,
            progress=progress,
            name=config.name,
            layout=WEBDATASET if config.layout == AUTO else config.layout,
            coordinates=config.coordinates,
            is_decoded=not config.no_decode,
            skip_unreadable=config.skip_unreadable,
        )
    _report(config, config.raw.absolute(), done)
    return 0


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        log.info("%s", line)


def _origin(found: RawDataset | Manifest) -> dict[str, object]:
    return {
        "name": found.name,
        "layout": found.layout,
        "split": found.split,
        "deviations": found.deviations,
        "coordinates": len(found.coordinates),
    }


def _print_json(config: ShardConfig, result: Mapping[str, object]) -> None:
    if config.json:
        sys.stdout.write(json.dumps(result) + "\n")


def _report(config: ShardConfig, out: Path, done: ShardSummary) -> None:
    """Say what was written."""
    manifest = done.manifest
    result = {"out": str(out), "written": done.tars_written, "kept": done.tars_kept}
    result |= {"images": done.images, "counts": manifest.counts, "profile": manifest.profile}
    result |= _origin(manifest) | {"fingerprint": manifest.fingerprint}
    _print_json(config, result)
    log.info(
        "%s %s of %s in %s at %s (%s, fingerprint %s)",
        "unchanged:" if done.was_complete else "indexed" if config.index_only else "wrote",
        counted(done.images, "image"),
        counted(len(manifest.places), "place"),
        counted(len(manifest.shards), "tar"),
        out,
        manifest.name,
        manifest.fingerprint[:12],
    )
    if done.tars_kept and not done.was_complete and not config.index_only:
        log.info("  %s written, %d kept", counted(done.tars_written, "tar"), done.tars_kept)
    of_roles = 0
    for role in (role.words[0] for role in Role):
        counts = dict(sorted(manifest.counts[role].items()))
        places, images = counts.pop(PLACES), sum(counts.values())
        views = ", ".join(f"{number} {word}" for word, number in counts.items())
        told = f"{counted(images, 'image')} of {counted(places, 'place')}"
        log.info("  %s: %s (%s)", role, told, views or "none")
        of_roles += images
    if of_roles > done.images:
        log.info("  stored once for two roles: %s", counted(of_roles - done.images, "image"))
    facts = total(read_source_notes(out).facts.values())
    _tell(facts.lines())
    if facts.are_large and manifest.profile == Profile().facts and not done.was_complete:
        _tell([image_size_advice(ShardSet.open(out))])


def verify(argv: Sequence[str]) -> int:
    """Check a shard folder and list every problem."""
    config = parse_command(VerifyConfig, argv, prog="skydistill verify", positionals=["shards"])
    if is_remote(config.shards):
        raise ShardError(
            f"{shown_address(config.shards)} is an address, and verify reads a folder; run it "
            "where the shards lie (what is fetched from an address is checked as it comes)"
        )
    folder = Path(config.shards)
    with show_progress("verifying", unit="MB") as progress:
        result = verify_shards(
            folder,
            expect=config.expect,
            workers=config.workers,
            progress=progress,
            is_decoded=config.decode,
        )
    _tell(map(str, result.problems[:MOST_PROBLEMS]))
    if config.json:
        sys.stdout.write(json.dumps(result.values) + "\n")
    if not result.is_ok:
        raise result.sentence(folder, told=MOST_PROBLEMS)
    log.info(
        "%s is whole%s: %s, %.2f GB in %.1f s (%.2f GB/s)",
        folder,
        " and every image decodes" if config.decode else "",
        counted(result.images, "image"),
        result.bytes / 1e9,
        result.seconds,
        result.bytes / 1e9 / max(result.seconds, 1e-9),
    )
    return 0


def plan(argv: Sequence[str]) -> int:
    """Print the order of one epoch."""
    config = parse_command(PlanConfig, argv, prog="skydistill plan")
    rows_per_rank = ranks_share(global_batch=config.global_batch, world_size=config.world_size)
    cache = LocalCache(config.local_cache, gib=config.local_cache_gib)
    shards = open_shards(config.shards, roles=NO_IMAGES, cache=cache)
    places = trained_places(
        shards, fraction=config.validation_fraction, seed=config.validation_seed
    )
    whole = Plan(
        shards,
        places,
        seed=config.seed,
        global_batch=config.global_batch,
        drones_per_row=config.drones_per_row,
        third_view=None if config.third_view == "none" else View[config.third_view.upper()],
        altitudes=config.altitudes,
    )
    if config.neighbours is not None:
        mined = read_neighbours(config.neighbours, whole.place_names)
        whole = whole.with_neighbours(mined)
        log.info("hard samples: table %s, %d per place", mined.digest[:12], mined.table.shape[1])
    if config.json:
        rows = whole.epoch(config.epoch)
        lines = plan_lines(
            shards, rows, world_size=config.world_size, global_batch=config.global_batch
        )
        for line in lines:
            sys.stdout.write(line + "\n")
        return 0
    log.info("places %d, pairs %d per epoch", len(whole.places), whole.pairs_available)
    if whole.left_out:
        log.info("places left out, because they lack a view: %d", whole.left_out)
    log.info(
        "steps %d per epoch, global batch %d = %d ranks x %d",
        whole.steps_per_epoch,
        config.global_batch,
        config.world_size,
        rows_per_rank,
    )
    log.info("pairs left for another epoch: %d", whole.pairs_available - whole.pairs_per_epoch)
    return 0


def plan_lines(
    shards: ShardSet, rows: PlanRows, *, world_size: int, global_batch: int
) -> Iterator[str]:
    """Yield one JSON line per step: what every rank is shown, rank by rank and row by row."""
    keys = shards.images.key
    thirds = [None] * len(rows) if rows.third is None else rows.third.tolist()
    for step in range(len(rows) // global_batch):
        ranks = []
        for rank in range(world_size):
            part = rank_slice(step, rank=rank, world_size=world_size, global_batch=global_batch)
            shown = rows[part]
            columns = (shown.place, shown.drone, shown.satellite, thirds[part])
            ranks.append(
                [
                    {
                        "place": shards.places[place],
                        "drone": keys[drone].tolist(),
                        "satellite": str(keys[satellite]),
                    }
                    | ({} if third is None else {"third": str(keys[third])})
                    for place, drone, satellite, third in zip(*columns, strict=True)
                ]
            )
        yield json.dumps({"step": step, "ranks": ranks})
