"""One attempt at a run or a teacher cache, and how it ended, as `exit.json` tells scripts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from data_shards.errors import RecipeError, SkyDistillError
from data_shards.progress import show_progress
from data_shards.schema import View
from data_shards.shards import ShardSet
from distill.collectives import (
    broadcast_object,
    destroy_process_group,
    is_first_to_fail,
    wait_for_slow_ranks,
)
from distill.config import DistillConfig
from distill.inputs import open_inputs
from distill.launched import launched_rank, log_on_rank_zero, ranks_on_this_node
from distill.mlflow_runs import watch_node
from distill.run_folder import (
    DONE,
    FAILED,
    PREEMPTED,
    RunPaths,
    log_into,
    read_exit,
    record_exit,
    refuse_other_recipe,
)

if TYPE_CHECKING:
    from distill.session import Session
    from distill.train import Probe

ENDED, STOPPED = ("FINISHED", DONE, "done"), ("KILLED", PREEMPTED, "preempted")
"""What MLflow, a shell and a reader are told of a run that was trained to its end, or was not."""


@contextmanager
def one_rank_tells(config: DistillConfig | None = None) -> Iterator[None]:
    """Let the first rank that fails tell why, and record it; what follows on others is its echo.

    Without a `config` nobody knows yet whose run folder that would be, and nothing is written.
    """
    try:
        yield
    except Exception as error:
        code, reason = FAILED, f"{type(error).__name__}: {error}"
        if isinstance(error, SkyDistillError):
            code, reason = error.exit_code, str(error)
        if not is_first_to_fail():
            raise SystemExit(code) from error
        # A finished run's record stays, and that of another recipe, which is the very mistake.
        if config is not None and not is_finished(paths := RunPaths(config.run_folder)):
            with suppress(RecipeError):
                refuse_other_recipe(config)
                reason = "; ".join([reason, *getattr(error, "__notes__", [])])
                record_exit(paths, code=code, reason=reason)
        raise


def is_finished(paths: RunPaths) -> bool:
    """Return whether the run in a folder was trained to its end."""
    return (read_exit(paths.folder) or {}).get("code") == DONE


def train_once(
    config: DistillConfig,
    *,
    recipe: str,
    make_probes: Callable[[DistillConfig, ShardSet], Sequence["Probe"]],
) -> int:
    """Make one attempt at a run, and record how it ended; return the exit code.

    `recipe` is what was typed behind the verb, for sentences that name a command; `make_probes`
    makes the looks that the loop takes, before anything is written.
    """
    paths = RunPaths(config.run_folder)
    if launched_rank() == 0:  # before the ranks meet
        refuse_other_recipe(config)
        if not is_finished(paths):  # else its record stays until steps are really trained again
            paths.exit.unlink(missing_ok=True)

    from distill.session import Session, make_accelerator

    accelerator = make_accelerator(config)
    has_all_it_needs = is_finished(paths) and paths.weights.is_file()
    if broadcast_object(has_all_it_needs and not any(paths.checkpoints.glob("step-*"))):
        log_on_rank_zero(f"{paths.folder} is finished; set out to another folder to train anew")
        destroy_process_group()
        return DONE
    shards = open_inputs(config.data)
    wait_for_slow_ranks("shards")
    probes = make_probes(config, shards)
    session = Session(config, accelerator, shards, recipe=recipe)
    state = session.state
    if accelerator.is_main_process and state.step < config.schedule.num_steps:
        paths.exit.unlink(missing_ok=True)
    accelerator.wait_for_everyone()  # else a rank that fails at once could have recorded it before
    if config.tracking.system_metrics and accelerator.is_local_main_process:
        watch_node(paths, node=f"node{launched_rank() // ranks_on_this_node()}")
    log_on_rank_zero(
        f"{config.name}: {accelerator.num_processes} ranks ({accelerator.device.type}), "
        f"global batch {config.data.global_batch}, steps {state.step} to "
        f"{config.schedule.num_steps}, run folder {paths.folder}"
    )
    with log_into(paths.log) if accelerator.is_main_process else nullcontext():
        is_done = _run(session, probes)
    log_on_rank_zero(
        f"{'trained' if is_done else 'stopped at'} {state.step} steps in {state.seconds:.0f} s"
    )
    destroy_process_group()
    return DONE if is_done else PREEMPTED


def _run(session: "Session", probes: Sequence["Probe"]) -> bool:
    """Run the loop with its probes; write weights, `exit.json` and the end of the MLflow run."""
    from distill.preemption import StopFlag
    from distill.train import finish, train

    config, state, is_main = session.config, session.state, session.accelerator.is_main_process
    status = "FAILED"
    # A launcher may pass a signal on twice: it stays a flag until the ending is on record.
    file, timeout = session.paths.stop if is_main else None, config.collective_timeout_s
    with StopFlag(file, timeout=timedelta(seconds=timeout)) as flag:
        try:
            with show_progress(
                f"training {config.name}", unit="steps", enabled=is_main
            ) as progress:
                is_done = train(session, probes=probes, progress=progress, flag=flag)
            if is_done:
                finish(session)
            status, code, reason = ENDED if is_done else STOPPED
            if is_main:
                facts = {"step": state.step, "seconds": state.seconds}
                record_exit(session.paths, code=code, reason=reason, **facts)
                session.paths.stop.unlink(missing_ok=True)
        except RuntimeError as error:  # a rank that is gone or silent, say
            error.add_note(f"in step {state.step + 1}")
            raise
        finally:
            session.checkpoints.wait()
            if is_main:
                session.tracker.finish(status)
        session.accelerator.wait_for_everyone()
    return is_done


def cache_once(config: DistillConfig) -> int:
    """Run the teacher of a recipe over its shards, where that is not done yet."""
    from distill.preemption import StopFlag
    from distill.session import decode_threads, make_accelerator
    from distill.teacher.build import build_cache
    from distill.teacher.source import LiveTeacher, load_teacher

    assert config.teacher.cache is not None, "checked by the caller"
    folder, is_main = config.teacher.cache, launched_rank() == 0
    paths, timeout = RunPaths(folder), timedelta(seconds=config.collective_timeout_s)
    with StopFlag(paths.stop if is_main else None, timeout=timeout) as flag:
        accelerator = make_accelerator(config)
        shards = open_inputs(config.data, views=tuple(View))
        wait_for_slow_ranks("shards")
        teacher = LiveTeacher(config, shards, load_teacher(config, shards), accelerator.device)
        if is_main:
            paths.exit.unlink(missing_ok=True)
        with show_progress("caching the teacher", unit="rows", enabled=is_main) as progress:
            is_new = build_cache(
                teacher, folder, threads=decode_threads(config), progress=progress, flag=flag
            )
        if is_main and is_new is None:
            record_exit(paths, code=PREEMPTED, reason="preempted")
            paths.stop.unlink(missing_ok=True)
        came_to = {True: "wrote", False: "unchanged:", None: "stopped in"}[is_new]
        log_on_rank_zero(f"{came_to} teacher cache {folder} of {teacher.name}")
        accelerator.wait_for_everyone()
    destroy_process_group()
    return PREEMPTED if is_new is None else DONE
