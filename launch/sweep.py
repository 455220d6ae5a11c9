"""A sweep: rows of a table as commands; on one machine each is done once, one after another."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from data_shards.errors import TrackingError
from data_shards.recipe import load_recipe
from launch.config import SweepConfig, SweepRow
from launch.demo import (
    DemoFailedError,
    Stage,
    comparison_stage,
    evaluate_argv,
    launched_argv,
    run_stage,
)
from launch.demo_paths import EVALUATED, DemoPaths
from launch.demo_view import open_view
from launch.slurm import stages_of_kind
from launch.tracking import begin_sweep, sync


def sweep_stages(config: SweepConfig) -> list[Stage]:
    """Return the commands of a sweep, seed by seed.

    Raises:
        RecipeError: a row names no recipe, or contradicts itself, or its run folder holds a run of
            another recipe; nothing was started.
    """
    return [
        stage
        for seed in config.seeds
        for row in config.rows
        for stage in _row_stages(config, row, seed)
    ]


def _row_stages(config: SweepConfig, row: SweepRow, seed: int) -> Iterator[Stage]:
    """Yield the commands of one row: training or cache, then the evaluation of what was trained."""
    from data_shards.planning.plan import ranks_share
    from distill.config import DistillConfig
    from distill.run_folder import refuse_other_recipe

    paths, name = DemoPaths(config.out), f"{row.name}-{seed}"
    fixed: dict[str, Any] = {"name": row.name, "seed": seed, "data.shards": str(config.shards)}
    fixed |= {"out": str(paths.runs / name), "tracking.sweep": str(config.out)}
    places = {"runs": str(paths.runs), "weights": str(config.weights)}
    words = [
        word
        for key, value in {**config.options, **fixed, **row.options}.items()
        for word in (f"--{key}", _typed(value, **places, seed=seed))
    ]
    recipe = load_recipe(DistillConfig, row.recipe, words)
    if row.verb == "train":
        refuse_other_recipe(recipe)
        ranks_share(global_batch=recipe.data.global_batch, world_size=config.processes)
    is_taught = recipe.objectives.needs_teacher and recipe.teacher.source == "cache"
    teacher = recipe.teacher.run if recipe.objectives.needs_teacher else None
    cache = recipe.teacher.cache if is_taught else None
    built_on = (teacher, cache, recipe.start) if row.verb == "train" else (teacher,)
    yield Stage(
        name=name,
        title=f"{row.verb} {row.name}, seed {seed}",
        argv=launched_argv(
            row.verb,
            row.recipe,
            *words,
            processes=config.processes,
            accelerate=config.accelerate,
        ),
        processes=config.processes,
        run=name if row.verb == "train" else None,
        cache=cache,
        makes=paths.runs / name if row.verb == "train" else cache,
        tracking=recipe.tracking,
        teacher=teacher,
        uses=tuple(path for path in built_on if path is not None),
    )
    if row.verb == "train" and row.evaluate:
        yield Stage(
            name=f"evaluate-{name}",
            title=f"evaluate {row.name}, seed {seed}",
            argv=evaluate_argv(paths.runs / name, config.shards, "--no-figures", "--overwrite"),
            uses=(paths.runs / name,),
        )


def _typed(value: object, **places: object) -> str:
    """Return a value of YAML as it is typed behind its option."""
    if isinstance(value, str):
        return value.format(**places)
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


def is_done(stage: Stage) -> bool:
    """Return whether the run of a stage was trained to its end, or the model of one evaluated.

    A cache that is there is found out by the command that makes it.
    """
    from distill.run_folder import read_exit

    if stage.run and stage.makes:
        return (read_exit(stage.makes) or {}).get("code") == 0
    return stage.makes is None and (stage.uses[0] / EVALUATED).is_file()


def run_sweep(config: SweepConfig, stages: Sequence[Stage], *, name: str) -> int:
    """Do what is not done yet, put what was evaluated side by side, and all into MLflow.

    Raises:
        DemoFailedError: a row failed; the sentence names it, its reason and its log.
    """
    begin_sweep(config, stages, name=name)
    try:
        return _do_rows(config, stages_of_kind(stages, config.only))
    finally:
        try:
            *_, view = sync(config.out)
            sys.stdout.write(f"{view}\n")
        except TrackingError as error:
            sys.stdout.write(f"{error}\n")


def _do_rows(config: SweepConfig, stages: Sequence[Stage]) -> int:
    """Do what is not done yet, and put what was evaluated side by side.

    Raises:
        DemoFailedError: a row failed; the sentence names it, its reason and its log.
    """
    from distill.teacher.cache import cache_facts

    paths = DemoPaths(config.out)
    left = [stage for stage in stages if not is_done(stage)]
    with open_view([stage.title for stage in left]) as view:
        for number, stage in enumerate(left):
            with view.stage(number):
                run_stage(stage, paths, view)
    done = len(stages) - len(left)
    sys.stdout.write(f"{len(left)} commands done, {done} were done before; runs: {paths.runs}\n")
    for cache, count in students_of_caches(stages).items():
        seconds = cache_facts(cache)["seconds"]
        sys.stdout.write(
            f"{cache}: {seconds:.0f} teacher seconds for {count} students, {seconds / count:.0f} "
            "each\n"
        )
    if config.only == "comparison" or (
        config.only is None and any(stage.makes is None for stage in stages)
    ):
        comparison = comparison_stage(paths)
        try:
            with open_view([comparison.title]) as view, view.stage(0):
                run_stage(comparison, paths, view)
            sys.stdout.write(f"comparison: {paths.comparison}\n")
        except DemoFailedError as error:  # all rows are done, but some were not measured alike
            sys.stdout.write(f"no comparison: {error}\n")
    return 0


def students_of_caches(stages: Sequence[Stage]) -> Counter[Path]:
    """Count the students that read each teacher cache."""
    return Counter(stage.cache for stage in stages if stage.run and stage.cache)
