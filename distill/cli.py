"""The hall of training: `skydistill train` and `cache`, alone or under `accelerate launch`.

The only module of this package that looks ahead, to hand the loop its probe.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from data_shards.errors import RecipeError, SkyDistillError, WorldSizeError
from data_shards.manifest import MANIFEST_NAME
from data_shards.plan import Plan, ranks_share
from data_shards.progress import show_progress
from data_shards.recipe import load_recipe, print_recipe_help, to_values
from data_shards.shards import ShardSet
from data_shards.split import held_out_places, trained_places
from data_shards.verbs import run_verb
from distill.collectives import launched_rank, launched_world_size, leave
from distill.config import DistillConfig
from distill.run_folder import DONE, FAILED, PREEMPTED, RunPaths, begin_attempt, claim_exit

if TYPE_CHECKING:
    from distill.checkpoint import RunState

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
    asked = _read_arguments(argv, prog="skydistill train")
    if asked is None:
        return DONE
    config, recipe, is_dry = asked
    return (
        _dry_run(config) if is_dry else _attempt(config, lambda: _train(config, recipe=str(recipe)))
    )


def cache(argv: Sequence[str]) -> int:
    """Run the teacher of a recipe over its shards, once."""
    asked = _read_arguments(argv, prog="skydistill cache")
    if asked is None:
        return DONE
    config, _, is_dry = asked
    if config.teacher.cache is None:
        raise RecipeError(f"recipe {config.name} names no cache folder; set teacher.cache")
    if is_dry:
        return _dry_cache(config)
    with _only_rank_zero_speaks():
        return _cache(config)


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
    with _only_rank_zero_speaks():
        config = load_recipe(DistillConfig, recipe, words)
        if is_default:
            _say(f"no recipe given: {recipe} it is")
            if not (config.data.shards / MANIFEST_NAME).is_file():
                raise RecipeError(
                    f"the default recipe {recipe} needs the shards {config.data.shards}, which "
                    "are not there; "
                    f"run skydistill demo, which makes them, or give a recipe: {prog} RECIPE.yaml"
                )
    return config, recipe, is_dry


def _attempt(config: DistillConfig, work: "Callable[[], RunState]") -> int:
    """Do one attempt at a run and record how it ended; the first rank that fails says why."""
    paths = RunPaths(config.run_folder)
    if launched_rank() == 0:
        begin_attempt(paths)
    try:
        state = work()
    except Exception as error:
        code = error.exit_code if isinstance(error, SkyDistillError) else FAILED
        if not _is_first_to_fail(paths, error, code=code):
            raise SystemExit(code) from error
        raise
    is_done = state.step == config.schedule.num_steps
    code, reason = (DONE, "done") if is_done else (PREEMPTED, "preempted")
    if launched_rank() == 0:
        claim_exit(paths, code=code, reason=reason, step=state.step, seconds=state.seconds)
    leave()
    return code


def _is_first_to_fail(paths: RunPaths, error: Exception, *, code: int) -> bool:
    """Record a failure, and return whether this rank is the one to tell it."""
    if isinstance(error, WorldSizeError) and launched_rank() != 0:
        return False  # the ranks have not met, and every one of them knows
    reason = (
        str(error) if isinstance(error, SkyDistillError) else f"{type(error).__name__}: {error}"
    )
    return claim_exit(paths, code=code, reason=reason)


def _train(config: DistillConfig, *, recipe: str) -> "RunState":
    from distill.session import make_accelerator, open_session
    from distill.train import finish
    from distill.train import train as run_loop
    from evaluation.probe import RetrievalProbe

    accelerator = make_accelerator(config)
    session = open_session(config, accelerator, recipe=recipe)
    steps = config.schedule.num_steps
    _say(
        f"{config.name}: {accelerator.num_processes} ranks ({accelerator.device.type}), "
        f"global batch {config.data.global_batch}, steps {session.state.step} to {steps}, run "
        f"folder {session.paths.folder}"
    )
    status = "FAILED"
    try:
        probes = (
            [RetrievalProbe(session.shards, config.data)] if config.data.validation_fraction else []
        )
        with show_progress(
            f"training {config.name}", unit="steps", enabled=accelerator.is_main_process
        ) as progress:
            is_done = run_loop(session, probes=probes, progress=progress)
        if is_done:
            finish(session)
        status = "FINISHED" if is_done else "KILLED"
    finally:
        if accelerator.is_main_process:
            session.tracker.finish(status)
    accelerator.wait_for_everyone()
    _say(
        f"{'trained' if is_done else 'stopped at'} {session.state.step} steps in "
        f"{session.state.seconds:.0f} s"
    )
    return session.state


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
def _only_rank_zero_speaks() -> Iterator[None]:
    """Let a mistake that every rank makes alike be told once."""
    try:
        yield
    except SkyDistillError as error:
        if launched_rank() != 0:
            raise SystemExit(error.exit_code) from error
        raise
