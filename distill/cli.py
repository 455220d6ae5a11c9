"""The hall of training: `skydistill train` and `cache`, alone or under `accelerate launch`.

The only module of this package that looks ahead, to hand the loop its probe.
"""

import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from data_shards.errors import RecipeError, SkyDistillError
from data_shards.manifest import MANIFEST_NAME
from data_shards.planning.plan import ranks_share
from data_shards.planning.split import held_out_places
from data_shards.progress import show_progress
from data_shards.recipe import load_recipe, print_recipe_help, to_values
from data_shards.schema import View
from data_shards.shards import ShardSet
from data_shards.verbs import run_verb
from distill.collectives import (
    is_first_to_fail,
    launched_rank,
    launched_world_size,
    leave,
    wait_for_slow_ranks,
)
from distill.config import DistillConfig
from distill.inputs import open_inputs, open_without_images
from distill.plan import make_plan
from distill.run_folder import (
    DONE,
    FAILED,
    PREEMPTED,
    RunPaths,
    begin_attempt,
    forget_exit,
    record_exit,
    record_failure,
)

if TYPE_CHECKING:
    from distill.preemption import StopFlag
    from distill.session import Session
    from distill.train import Probe

log = logging.getLogger(__name__)

DEFAULT_RECIPE = Path("configs/pfed/demo.yaml")


def run_train() -> int:
    """Be `distill/run.py`."""
    return run_verb(lambda: train(sys.argv[1:]))


def run_cache() -> int:
    """Be `distill/cache.py`."""
    return run_verb(lambda: cache(sys.argv[1:]))


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One command line, understood."""

    config: DistillConfig
    recipe: Path
    overrides: tuple[str, ...]
    is_dry: bool

    def typed(self) -> str:
        """Return recipe and overrides as a person types them again, for a single process."""
        words = [str(self.recipe), *self.overrides]
        if self.config.expected_world_size not in (None, 1):
            words += ["--expected_world_size", "1"]
        return shlex.join(words)


def train(argv: Sequence[str]) -> int:
    """Train the model that a recipe describes, resuming where the last attempt stopped."""
    with _only_one_rank_speaks():
        asked = _read_arguments(argv, prog="skydistill train")
    if asked is None:
        return DONE
    with _only_one_rank_speaks(None if asked.is_dry else asked.config):
        _refuse_before_the_demo(asked, inputs=1 if asked.is_dry else 3)
        return _dry_run(asked.config) if asked.is_dry else _train(asked)


def cache(argv: Sequence[str]) -> int:
    """Run the teacher of a recipe over its shards, once."""
    with _only_one_rank_speaks():
        asked = _read_arguments(argv, prog="skydistill cache")
        if asked is None:
            return DONE
        config = asked.config
        if config.teacher.cache is None:
            raise RecipeError(f"recipe {config.name} names no cache folder; set teacher.cache")
        _refuse_before_the_demo(asked, inputs=2)
        return _dry_cache(config) if asked.is_dry else _cache(config)


def _read_arguments(argv: Sequence[str], *, prog: str) -> _Asked | None:
    """Return what is asked for; None when only help was."""
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
    return _Asked(config=config, recipe=recipe, overrides=tuple(words), is_dry=is_dry)


def _refuse_before_the_demo(asked: _Asked, *, inputs: int) -> None:
    """Send to the demo whoever starts the default recipe before its first `inputs` are made."""
    if asked.recipe != DEFAULT_RECIPE:
        return
    demo = load_recipe(DistillConfig, DEFAULT_RECIPE)
    pairs = zip(_demo_inputs(asked.config), _demo_inputs(demo), strict=False)
    for (name, path), (_, demo_path) in islice(pairs, inputs):
        if path != demo_path:
            return  # the demo makes none of these
        if not path.is_file():
            raise RecipeError(
                f"the default recipe {DEFAULT_RECIPE} needs the {name} {path.parent}, not there "
                "yet; run skydistill demo, which makes shards, teacher and cache, or give a recipe"
            )


def _demo_inputs(config: DistillConfig) -> Iterator[tuple[str, Path]]:
    """Yield what a distilled student needs: name, and the file that makes it whole."""
    yield "shards", Path(config.data.shards) / MANIFEST_NAME
    if config.objectives.needs_teacher and config.teacher.run is not None:
        yield "teacher", RunPaths(config.teacher.run).weights
    is_cached = config.objectives.needs_teacher and config.teacher.source == "cache"
    if is_cached and config.teacher.cache is not None:
        from distill.teacher_cache import META_NAME

        yield "teacher cache", config.teacher.cache / META_NAME


def _train(asked: _Asked) -> int:
    """Make one attempt at a run, and record how it ended."""
    config = asked.config
    if launched_rank() == 0:
        begin_attempt(config)

    from distill.preemption import StopFlag
    from distill.session import make_accelerator, open_session

    accelerator = make_accelerator(config)
    shards = open_inputs(config.data)
    wait_for_slow_ranks("shards")
    probes = _probes(config, shards)
    session = open_session(config, accelerator, shards, recipe=asked.typed())
    if accelerator.is_main_process and session.state.step < config.schedule.num_steps:
        forget_exit(session.paths)
    _say(
        f"{config.name}: {accelerator.num_processes} ranks ({accelerator.device.type}), "
        f"global batch {config.data.global_batch}, steps {session.state.step} to "
        f"{config.schedule.num_steps}, run folder {session.paths.folder}"
    )
    # A launcher may pass a signal on twice: it stays a flag until the ending is on record.
    with StopFlag() as flag:
        is_done = _run(session, probes, flag)
        accelerator.wait_for_everyone()
    state = session.state
    _say(f"{'trained' if is_done else 'stopped at'} {state.step} steps in {state.seconds:.0f} s")
    leave()
    return DONE if is_done else PREEMPTED


def _probes(config: DistillConfig, shards: ShardSet) -> list["Probe"]:
    """Return the looks that the loop takes, before anything is written."""
    from evaluation.probe import RetrievalProbe

    return [RetrievalProbe(shards, config.data)] if config.data.validation_fraction else []


def _run(session: "Session", probes: Sequence["Probe"], flag: "StopFlag") -> bool:
    """Run the loop with its probes; write weights, `exit.json` and the end of the MLflow run."""
    from distill.train import finish
    from distill.train import train as run_loop

    config, state, is_main = session.config, session.state, session.accelerator.is_main_process
    status = "FAILED"
    try:
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
    shards = open_inputs(config.data, views=tuple(View))
    wait_for_slow_ranks("shards")
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
    shards = open_without_images(config.data)
    fraction, seed = config.data.validation_fraction, config.data.validation_seed
    plan = make_plan(config, shards)
    world = config.expected_world_size or launched_world_size()
    rows = ranks_share(global_batch=config.data.global_batch, world_size=world)
    if launched_rank() == 0:
        sys.stdout.write(yaml.safe_dump(to_values(config), sort_keys=False))
    held_out = len(held_out_places(shards, fraction=fraction, seed=seed))
    num_places = len(plan.places)
    _say(f"would train {num_places} places ({held_out} held out) on {world} ranks x {rows} rows")
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

    shards = open_without_images(config.data)
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
def _only_one_rank_speaks(config: DistillConfig | None = None) -> Iterator[None]:
    """Let the first rank that fails tell why, and record it; what follows on others is its echo.

    Without a `config` nobody knows yet whose run folder that would be, and nothing is written.
    """
    try:
        yield
    except Exception as error:
        is_mistake = isinstance(error, SkyDistillError)
        code = error.exit_code if isinstance(error, SkyDistillError) else FAILED
        if not is_first_to_fail():
            raise SystemExit(code) from error
        if config is not None:
            reason = str(error) if is_mistake else f"{type(error).__name__}: {error}"
            record_failure(config, code=code, reason=reason)
        raise
