"""The commands of the launch stage: `skydistill demo` and `sweep`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from data_shards.recipe import load_recipe, parse_command, print_recipe_help
from launch.config import DemoConfig, SweepConfig


def demo(argv: Sequence[str]) -> int:
    """Walk the whole journey, and show what came of it."""
    config = parse_command(DemoConfig, argv, prog="skydistill demo")
    from launch.demo import demo_stages, run_demo

    stages = demo_stages(config)
    if config.dry_run:
        for stage in stages:
            sys.stdout.write(f"# {stage.title}\n{stage.typed}\n")
        return 0
    return run_demo(config, stages)


def sweep(argv: Sequence[str]) -> int:
    """Do the rows of a sweep on this machine (`--local`, the only way for now), or print them."""
    words = [word for word in argv if word not in ("--dry-run", "--local")]
    if not words or words[0].startswith("-"):
        usage = "skydistill sweep SWEEP.yaml [--local] [--dry-run] [--key value ...]"
        print_recipe_help(SweepConfig, prog="skydistill sweep", usage=usage)
        return 0
    config = load_recipe(SweepConfig, Path(words[0]), words[1:])
    from launch.sweep import run_sweep, sweep_stages

    stages = sweep_stages(config)
    if "--dry-run" not in argv:
        return run_sweep(config, stages)
    for stage in stages:
        sys.stdout.write(f"# {stage.title}\n{stage.typed}\n")
    return 0
