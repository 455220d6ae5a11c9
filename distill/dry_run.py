"""What a recipe would do, said without doing it: nothing is written and no GPU is touched."""

import sys

import yaml

from data_shards.planning.plan import ranks_share
from data_shards.planning.split import held_out_places
from data_shards.recipe import to_values
from distill.config import DistillConfig
from distill.inputs import open_without_images
from distill.launched import launched_rank, launched_world_size, log_on_rank_zero
from distill.plan import make_plan


def dry_train(config: DistillConfig) -> None:
    """Print the resolved recipe and what training would do."""
    shards = open_without_images(config.data)
    fraction, seed = config.data.validation_fraction, config.data.validation_seed
    plan = make_plan(config, shards)
    world = config.expected_world_size or launched_world_size()
    rows = ranks_share(global_batch=config.data.global_batch, world_size=world)
    if launched_rank() == 0:
        sys.stdout.write(yaml.safe_dump(to_values(config), sort_keys=False))
    held_out = len(held_out_places(shards, fraction=fraction, seed=seed))
    log_on_rank_zero(
        f"would train {len(plan.places)} places ({held_out} held out) on {world} ranks x "
        f"{rows} rows"
    )
    epochs = config.schedule.num_steps / plan.steps_per_epoch
    log_on_rank_zero(
        f"{config.schedule.num_steps} steps = {epochs:.1f} epochs of {plan.steps_per_epoch} "
        f"steps, into {config.run_folder}"
    )


def dry_cache(config: DistillConfig) -> None:
    """Print what the teacher pass would write."""
    from distill.teacher.cache import cached_shards
    from distill.teacher.source import cache_key, load_teacher

    shards = open_without_images(config.data)
    key = cache_key(config, shards, load_teacher(config, shards))
    rows = sum(count for _, count in cached_shards(shards).values()) * config.augment.slots
    size = rows * key.width * (2 if key.dtype == "float16" else 4)
    log_on_rank_zero(
        f"would write {rows} rows of {key.width} numbers ({size / 2**20:.1f} MiB) to "
        f"{config.teacher.cache}"
    )
