"""The commands of the launch stage: `skydistill demo`, `sweep`, `mlflow`, `doctor`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from data_shards.errors import RecipeError
from data_shards.recipe import load_recipe, parse_command, print_recipe_help
from launch.config import DemoConfig, DoctorConfig, SweepConfig, SyncConfig


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


def doctor(argv: Sequence[str]) -> int:
    """Tell whether this machine can train."""
    config = parse_command(DoctorConfig, argv, prog="skydistill doctor")
    from launch.doctor import examine

    return examine(config)


def mlflow(argv: Sequence[str]) -> int:
    """Bring spooled runs to MLflow: `skydistill mlflow sync`.

    Raises:
        RecipeError: it is asked for something else.
        TrackingError: a folder was never tracked, or the store does not answer.
    """
    if argv[:1] not in (["sync"], ["-h"], ["--help"]):
        raise RecipeError("skydistill mlflow sync FOLDER ... is all it does; see --help")
    words = [word for word in argv if word != "sync"]
    config = parse_command(
        SyncConfig, words, prog="skydistill mlflow sync", positionals=["folders"]
    )
    from launch.tracking import sync

    for folder in config.folders:
        for line in sync(folder, config.tracking_uri):
            sys.stdout.write(f"{line}\n")
    return 0


FLAGS = ("--local", "--slurm", "--dry-run", "--status", "--cancel", "--resume")
"""What `sweep` is asked to do, beside options of the sweep."""


def sweep(argv: Sequence[str]) -> int:
    """Do the rows of a sweep here (`--local`, the default) or on a cluster (`--slurm`).

    Raises:
        RecipeError: the sweep, a row of it or the site is wrong, or the cluster refuses a job.
    """
    words = [word for word in argv if word not in FLAGS]
    asked = set(argv) & set(FLAGS)
    if not words or words[0].startswith("-"):
        usage = f"skydistill sweep SWEEP.yaml [{'] ['.join(FLAGS)}] [--key value ...]"
        print_recipe_help(SweepConfig, prog="skydistill sweep", usage=usage)
        return 0
    actions = asked - {"--slurm", "--local"}
    if len(actions) > 1 or {"--slurm", "--local"} <= asked:
        raise RecipeError(f"{' and '.join(sorted(asked))} do not go together; give one of them")
    if asked - {"--local", "--dry-run"}:
        return _sweep_on_cluster(Path(words[0]), words[1:], *actions)
    config = load_recipe(SweepConfig, Path(words[0]), words[1:])
    from launch.slurm import stages_of_kind
    from launch.sweep import run_sweep, sweep_stages

    stages = sweep_stages(config)
    if "--dry-run" not in argv:
        return run_sweep(config, stages, name=Path(words[0]).stem)
    for stage in stages_of_kind(stages, config.only):
        sys.stdout.write(f"# {stage.title}\n{stage.typed}\n")
    return 0


def _sweep_on_cluster(path: Path, words: Sequence[str], action: str = "") -> int:
    """Submit the jobs of a sweep, or print, watch, resume or cancel them."""
    from launch.cluster import cancel, open_cluster_sweep, print_scripts, print_status, submit

    sweep = open_cluster_sweep(path, words)
    if action in ("", "--resume"):
        return submit(sweep, resume=action == "--resume")
    return {"--dry-run": print_scripts, "--status": print_status, "--cancel": cancel}[action](sweep)
