"""The hall of training: `skydistill train` and `cache`, alone or under `accelerate launch`.

The only module of this package that looks ahead, to hand the loop its probe.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from data_shards.errors import RecipeError, SkyDistillError
from data_shards.manifest import MANIFEST_NAME
from data_shards.plan import Plan, ranks_share
from data_shards.progress import show_progress
from data_shards.recipe import find_recipe, load_recipe, print_recipe_help, to_values
from data_shards.shards import ShardSet
from data_shards.split import held_out_places, trained_places
from data_shards.verbs import run_verb
from distill.collectives import is_first_to_fail, launched_rank, launched_world_size, leave
from distill.config import DistillConfig
from distill.run_folder import DONE, FAILED, PREEMPTED, RunPaths, begin_attempt, record_exit

if TYPE_CHECKING:
    from distill.preemption import StopFlag
    from distill.session import Session

log = logging.getLogger(__name__)

DEFAULT_RECIPE = Path("configs/pfed/demo.yaml")


def run_train() -> int:
    """Be `distill/run.py`."""
    return run_verb(lambda: train(sys.argv[1:]))


def run_cache() -> int:
    """Be `distill/cache.py`."""
    return run_verb(lambda: cache(sys.argv[1:]))


def train(argv: Sequence[str]) -> int:
    """Train the model that a recipe describes, resuming where the last attempt stopped."""
    with _only_one_rank_speaks(_intended_run(argv)):
        asked = _read_arguments(argv, prog="skydistill train")
    if asked is None:
        return DONE
    config, recipe, is_dry = asked
    with _only_one_rank_speaks(None if is_dry else RunPaths(config.run_folder)):
        return _dry_run(config) if is_dry else _train(config, recipe=str(recipe))


def cache(argv: Sequence[str]) -> int:
    """Run the teacher of a recipe over its shards, once."""
    with _only_one_rank_speaks():
        asked = _read_arguments(argv, prog="skydistill cache")
        if asked is None:
            return DONE
        config, _, is_dry = asked
        if config.teacher.cache is None:
            raise RecipeError(f"recipe {config.name} names no cache folder; set teacher.cache")
        return _dry_cache(config) if is_dry else _cache(config)


def _read_arguments(argv: Sequence[str], *, prog: str) -> tuple[DistillConfig, Path, bool] | None:
    """Return recipe, its path, and whether it is a dry run; None when only help was asked for."""
    words = list(argv)
    if "-h" in words or "--help" in words:
        print_recipe_help(
            DistillConfig, prog=prog, usage=f"{prog} [RECIPE.yaml] [--dry-run] [--key value ...]"
        )
        return None
    is_dry = "--dry-run" in words
    words = [word for word in words if word != "--dry-run"]
    is_default = not words or words[0].startswith("--")
    recipe = DEFAULT_RECIPE if is_default else Path(words.pop(0))
    config = load_recipe(DistillConfig, recipe, words)
    if is_default:
        _say(f"no recipe given: {recipe} it is")
        if not (config.data.shards / MANIFEST_NAME).is_file():
            raise RecipeError(
                f"the default recipe {recipe} needs the shards {config.data.shards}, which are not "
                f"there; run skydistill demo, which makes them, or give a recipe: {prog} "
                "RECIPE.yaml"
            )
    return config, recipe, is_dry


def _intended_run(argv: Sequence[str]) -> RunPaths | None:
    """Return the run folder that a recipe means even if it is wrong otherwise, to record that."""
    if not argv or argv[0].startswith("-") or "--dry-run" in argv:
        return None
    try:
        values = yaml.safe_load(find_recipe(Path(argv[0])).read_text())
    except (SkyDistillError, OSError, ValueError, yaml.YAMLError):
        return None  # whoever reads it in earnest says what is wrong
    if not isinstance(values, dict):
        return None
    for word, value in pairwise([*argv, ""]):
        for key in ("out", "name"):
            if word == f"--{key}":
                values[key] = value
            elif word.startswith(f"--{key}="):
                values[key] = word.partition("=")[2]
    return RunPaths(Path(values.get("out") or f"outputs/{values.get('name', 'run')}"))


def _train(config: DistillConfig, *, recipe: str) -> int:
    """Make one attempt at a run, and record how it ended."""
    from distill.preemption import StopFlag
    from distill.session import make_accelerator, open_session

    if launched_rank() == 0:
        begin_attempt(RunPaths(config.run_folder))
    accelerator = make_accelerator(config)
    session = open_session(config, accelerator, recipe=recipe)
    _say(
        f"{config.name}: {accelerator.num_processes} ranks ({accelerator.device.type}), "
        f"global batch {config.data.global_batch}, steps {session.state.step} to "
        f"{config.schedule.num_steps}, run folder {session.paths.folder}"
    )
    # A launcher may pass a signal on twice: it stays a flag until the ending is on record.
    with StopFlag() as flag:
        is_done = _run(session, flag)
        accelerator.wait_for_everyone()
    state = session.state
    _say(f"{'trained' if is_done else 'stopped at'} {state.step} steps in {state.seconds:.0f} s")
    leave()
    return DONE if is_done else PREEMPTED


def _run(session: "Session", flag: "StopFlag") -> bool:
    """Run the loop with its probe; write weights, `exit.json` and the end of the MLflow run."""
    from distill.train import finish
    from distill.train import train as run_loop
    from evaluation.probe import RetrievalProbe

    config, state, is_main = session.config, session.state, session.accelerator.is_main_process
    status = "FAILED"
    try:
        probes = (
            [RetrievalProbe(session.shards, config.data)] if config.data.validation_fraction else []
        )
        with show_progress(f"training {config.name}", unit="steps", enabled=is_main) as progress:
            is_done = run_loop(session, probes=probes, progress=progress, flag=flag)
        if is_done:
            finish(session)
        status, code, reason = (
            ("FINISHED", DONE, "done") if is_done else ("KILLED", PREEMPTED, "preempted")
        )
        if is_main:
            record_exit(
                session.paths, code=code, reason=reason, step=state.step, seconds=state.seconds
            )
    finally:
        if is_main:
            session.tracker.finish(status)
    return is_done


def _cache(config: DistillConfig) -> int:
    from distill.session import decode_threads, make_accelerator
    from distill.teacher import load_teacher
    from distill.teacher_pass import build_cache

    assert config.teacher.cache is not None, "checked by the caller"
    accelerator = make_accelerator(config)
    shards = ShardSet.open(config.data.shards)
    teacher = load_teacher(config, shards)
    with show_progress(
        "caching the teacher", unit="rows", enabled=accelerator.is_main_process
    ) as progress:
        is_new = build_cache(
            config,
            shards,
            teacher,
            folder=config.teacher.cache,
            device=accelerator.device,
            threads=decode_threads(config),
            progress=progress,
        )
    _say(
        f"{'wrote' if is_new else 'unchanged:'} teacher cache {config.teacher.cache} of "
        f"{teacher.name}"
    )
    accelerator.wait_for_everyone()
    leave()
    return DONE


def _dry_run(config: DistillConfig) -> int:
    """Print the resolved recipe and what training would do; write nothing."""
    shards = ShardSet.open(config.data.shards)
    fraction, seed = config.data.validation_fraction, config.data.validation_seed
    places = trained_places(shards, fraction=fraction, seed=seed)
    plan = Plan(
        shards,
        places,
        seed=config.seed,
        global_batch=config.data.global_batch,
        drones_per_row=config.data.drones_per_row,
    )
    world = config.expected_world_size or launched_world_size()
    rows = ranks_share(global_batch=config.data.global_batch, world_size=world)
    if launched_rank() == 0:
        sys.stdout.write(yaml.safe_dump(to_values(config), sort_keys=False))
    held_out = len(held_out_places(shards, fraction=fraction, seed=seed))
    _say(f"would train {len(places)} places ({held_out} held out) on {world} ranks x {rows} rows")
    epochs = config.schedule.num_steps / plan.steps_per_epoch
    _say(
        f"{config.schedule.num_steps} steps = {epochs:.1f} epochs of {plan.steps_per_epoch} "
        f"steps, into {config.run_folder}"
    )
    return DONE


def _dry_cache(config: DistillConfig) -> int:
    """Print what the teacher pass would write."""
    from distill.teacher import cache_key, load_teacher
    from distill.teacher_cache import cached_shards

    shards = ShardSet.open(config.data.shards)
    key = cache_key(config, shards, load_teacher(config, shards))
    rows = sum(count for _, count in cached_shards(shards).values()) * config.augment.slots
    size = rows * key.width * (2 if key.dtype == "float16" else 4)
    _say(
        f"would write {rows} rows of {key.width} numbers ({size / 2**20:.1f} MiB) to "
        f"{config.teacher.cache}"
    )
    return DONE


def _say(line: str) -> None:
    """Log one line, on rank 0 alone."""
    if launched_rank() == 0:
        log.info("%s", line)


@contextmanager
def _only_one_rank_speaks(paths: RunPaths | None = None) -> Iterator[None]:
    """Let the first rank that fails tell why, and record it; what follows on others is its echo."""
    try:
        yield
    except Exception as error:
        is_mistake = isinstance(error, SkyDistillError)
        code = error.exit_code if isinstance(error, SkyDistillError) else FAILED
        if not is_first_to_fail():
            raise SystemExit(code) from error
        if paths is not None:
            reason = str(error) if is_mistake else f"{type(error).__name__}: {error}"
            record_exit(paths, code=code, reason=reason)
        raise
