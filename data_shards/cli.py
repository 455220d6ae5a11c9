"""The verbs of the data stage: `skydistill synth`, `shard` and `plan`."""

import json
import logging
import sys
from collections.abc import Iterator, Sequence

from data_shards.config import PlanConfig, ShardConfig, SynthConfig
from data_shards.layouts import read_layout
from data_shards.plan import Plan, PlanRows, rank_slice, ranks_share
from data_shards.progress import show_progress
from data_shards.recipe import parse_command
from data_shards.shards import ShardSet
from data_shards.split import trained_places
from data_shards.synth import write_world
from data_shards.write import write_shards

log = logging.getLogger(__name__)


def synth(argv: Sequence[str]) -> int:
    """Render a synthetic world in the folder layout of a public data set."""
    config = parse_command(SynthConfig, argv, prog="skydistill synth", positionals=["out"])
    with show_progress("rendering places", unit="images") as progress:
        world = write_world(config, progress=progress)
    log.info(
        "%s holds %d images of %d places, %d of them rendered now: %.0f s, %.1f images/s",
        world.out,
        world.num_images,
        world.num_train_places + world.num_test_places + world.num_distractors,
        world.num_rendered,
        world.seconds,
        world.images_per_second,
    )
    return 0


def shard(argv: Sequence[str]) -> int:
    """Write shards, indexes and manifest from raw folders."""
    config = parse_command(ShardConfig, argv, prog="skydistill shard", positionals=["raw", "out"])
    records = read_layout(config.raw, layout=config.layout)
    if config.dry_run:
        log.info("would write %d images of %s to %s", len(records), config.raw, config.out)
        return 0
    with show_progress("writing shards", unit="images") as progress:
        done = write_shards(
            records, config.out, layout=config.layout, workers=config.workers, progress=progress
        )
    manifest = done.manifest
    if config.json:
        result = {"out": str(config.out), "images": done.images, "counts": manifest.counts}
        sys.stdout.write(json.dumps(result | {"fingerprint": manifest.fingerprint}) + "\n")
    log.info(
        "%s %d images of %d places in %d tars at %s (fingerprint %s)",
        "unchanged:" if done.was_complete else "wrote",
        done.images,
        len(manifest.places),
        len(manifest.shards),
        config.out,
        manifest.fingerprint[:12],
    )
    for role, counts in manifest.counts.items():
        log.info("  %s: %s", role, ", ".join(f"{number} {word}" for word, number in counts.items()))
    return 0


def plan(argv: Sequence[str]) -> int:
    """Print the order of one epoch."""
    config = parse_command(PlanConfig, argv, prog="skydistill plan")
    rows_per_rank = ranks_share(global_batch=config.global_batch, world_size=config.world_size)
    shards = ShardSet.open(config.shards)
    places = trained_places(
        shards, fraction=config.validation_fraction, seed=config.validation_seed
    )
    whole = Plan(
        shards,
        places,
        seed=config.seed,
        global_batch=config.global_batch,
        drones_per_row=config.drones_per_row,
    )
    if config.json:
        rows = whole.epoch(config.epoch)
        lines = plan_lines(
            shards, rows, world_size=config.world_size, global_batch=config.global_batch
        )
        for line in lines:
            sys.stdout.write(line + "\n")
        return 0
    log.info("places %d, pairs %d per epoch", len(places), whole.pairs_available)
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
    for step in range(len(rows) // global_batch):
        slices = (
            rank_slice(step, rank=rank, world_size=world_size, global_batch=global_batch)
            for rank in range(world_size)
        )
        yield json.dumps({"step": step, "ranks": [_named(shards, rows[part]) for part in slices]})


def _named(shards: ShardSet, rows: PlanRows) -> list[dict[str, object]]:
    """Return planned rows as identifiers and keys."""
    keys = shards.images.key
    return [
        {
            "place": shards.places[place],
            "drone": keys[drone].tolist(),
            "satellite": str(keys[satellite]),
        }
        for place, drone, satellite in zip(rows.place, rows.drone, rows.satellite, strict=True)
    ]
