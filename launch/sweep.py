"""A sweep on one machine: rows of a table as commands, each done once, one after another."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from data_shards.recipe import load_recipe, to_values
from launch.config import SweepConfig, SweepRow
from launch.demo import Stage, launched_argv, run_stage, verb_argv
from launch.demo_paths import DemoPaths
from launch.demo_view import open_view


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
    from distill.config import DistillConfig
    from distill.run_folder import RunPaths, refuse_other_recipe

    paths, name = DemoPaths(config.out), f"{row.name}-{seed}"
    fixed: dict[str, Any] = {"name": row.name, "seed": seed, "data.shards": str(config.shards)}
    fixed["out"] = str(paths.runs / name)
    words = [
        word
        for key, value in {**config.options, **fixed, **row.options}.items()
        for word in (f"--{key}", _typed(value, runs=str(paths.runs), seed=seed))
    ]
    recipe = load_recipe(DistillConfig, row.recipe, words)
    if row.verb == "train":
        refuse_other_recipe(RunPaths(recipe.run_folder), to_values(recipe))
    is_taught = recipe.objectives.needs_teacher and recipe.teacher.source == "cache"
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
        cache=recipe.teacher.cache if is_taught else None,
    )
    if row.verb == "train" and row.evaluate:
        checkpoint = ("--checkpoint", paths.runs / name, "--shards", config.shards)
        yield Stage(
            name=f"evaluate-{name}",
            title=f"evaluate {row.name}, seed {seed}",
            argv=verb_argv("evaluate", *checkpoint, "--no-figures"),
        )


def _typed(value: object, *, runs: str, seed: int) -> str:
    """Return a value of YAML as it is typed behind its option."""
    if isinstance(value, str):
        return value.format(runs=runs, seed=seed)
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


def run_sweep(config: SweepConfig, stages: Sequence[Stage]) -> int:
    """Do what is not done yet.

    Raises:
        DemoFailedError: a row failed; the sentence names it, its reason and its log.
    """
    from distill.run_folder import read_exit
    from distill.teacher.cache import cache_facts

    paths = DemoPaths(config.out)
    left = [
        stage
        for stage in stages
        if not (stage.run and (read_exit(paths.runs / stage.run) or {}).get("code") == 0)
        and not (paths.runs / stage.name.removeprefix("evaluate-") / "evaluation.json").is_file()
    ]
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
    return 0


def students_of_caches(stages: Sequence[Stage]) -> Counter[Path]:
    """Count the students that read each teacher cache."""
    return Counter(stage.cache for stage in stages if stage.run and stage.cache)
