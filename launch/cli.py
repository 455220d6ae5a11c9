"""The command of the launch stage: `skydistill demo`."""

import sys
from collections.abc import Sequence

from data_shards.recipe import parse_command
from launch.config import DemoConfig


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
