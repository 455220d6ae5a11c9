"""The one training loop: teacher or student, any method, any number of ranks."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import mean

from torch import Tensor
from torch.profiler import record_function

from data_shards.errors import CheckpointError, DivergedError
from data_shards.progress import Progress
from distill.models import RetrievalModel
from distill.optim import set_learning_rates
from distill.preemption import StopFlag
from distill.profiling import watched_batches, write_metrics
from distill.run_folder import RunPaths
from distill.session import Session
from distill.step import DistillStep, weigh
from distill.teacher.source import class_places
from distill.weights_file import save_training_parts, save_weights

log = logging.getLogger(__name__)

Probe = Callable[[RetrievalModel, int], dict[str, float]]
"""A look during training: model and step in, named numbers out.

Every rank calls it, in training mode, and it leaves the model as it was.
"""


def train(session: Session, *, probes: Sequence[Probe], progress: Progress, flag: StopFlag) -> bool:
    """Train as the recipe says, from the newest checkpoint on; return False when `flag` stops it.

    Raises:
        DivergedError: a term stopped being finite.
        CheckpointError: the checkpoint to stop with could not be written.
    """
    config, state = session.config, session.state
    schedule, optimizer, weights = config.schedule, session.optimizer, config.objectives.weights
    step = session.micro_batches or session.step
    started = time.monotonic() - state.seconds
    for planned in watched_batches(session):
        # batch
        with record_function("batch"):
            batch = session.on_device(planned)
            phase = session.enter_phase(batch.step)

        # losses
        with record_function("forward"):
            terms, measures = step(batch, phase.terms)
            total = weigh(terms, weights)
            seen = {"total": total, **terms, **measures}

        # gradients
        set_learning_rates(optimizer, schedule, batch.step)
        with record_function("backward"):
            session.backward(total)
        with record_function("optimizer"):
            optimizer.step()
            optimizer.zero_grad()
        state.step += 1
        state.seconds = time.monotonic() - started

        # log
        is_logged = state.step % config.log_every_steps == 0
        if is_logged:
            with record_function("log"):
                write_metrics(session, _finite_means(session, seen), progress)
        is_best = _probe(session, probes)

        # save
        stopped = flag.seen_by_any_rank()
        is_due = state.step % config.save_every_steps == 0 or state.step == schedule.num_steps
        if stopped or is_due or is_best:
            if not is_logged:  # else just looked at
                _finite_means(session, seen)
            with record_function("save"):
                session.checkpoints.save(state, must_succeed=stopped)
        if stopped:
            return state.step == schedule.num_steps
    session.checkpoints.wait()
    return True


def _finite_means(session: Session, seen: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the means over all ranks, and the gradient norm; stop a run that is not finite.

    Asked before every line and every checkpoint, so a checkpoint never holds what has diverged.
    """
    means = session.accelerator.reduce(
        {name: value.detach().float() for name, value in seen.items()}, reduction="mean"
    )
    if session.grad_norm is not None:
        means["grad_norm"] = session.grad_norm
    values = {name: float(value) for name, value in means.items()}
    if bad := [name for name, value in values.items() if not math.isfinite(value)]:
        raise DivergedError(
            f"step {session.state.step}: {', '.join(sorted(set(bad) - {'total'}) or bad)} not "
            "finite; lower optimizer.learning_rate (the newest checkpoint is in "
            f"{session.paths.checkpoints})"
        )
    return values


def _probe(session: Session, probes: Sequence[Probe]) -> bool:
    """Look at the held-out places when it is time: every `probe_every_steps`, and at the end.

    Returns whether it is the best look so far, where the best is kept.
    """
    step, every = session.state.step, session.config.probe_every_steps
    if step != session.config.schedule.num_steps and (not every or step % every):
        return False
    whole, recalls = session.gather(), list[float]()
    for probe in probes:
        metrics = probe(whole.model, step)
        recalls += [value for name, value in metrics.items() if name.endswith("/recall_at_1")]
        if session.accelerator.is_main_process:
            session.tracker.log(step, metrics)
            log.info(
                "step %d: %s",
                step,
                ", ".join(f"{name} {value:.3f}" for name, value in metrics.items()),
            )

    state, recall = session.state, mean(recalls) if recalls else -1.0
    if not session.config.keep_best or recall <= state.best_recall:
        return False
    state.best_recall, state.best_step = recall, step
    if session.accelerator.is_main_process:
        try:
            _save_weights(session, session.paths.best, whole)
        except CheckpointError as error:
            log.warning("training goes on: %s", error)
    return True


def finish(session: Session) -> None:
    """Write the weights that users take away, and hand them to MLflow; rank 0 writes."""
    whole, paths = session.gather(), session.paths
    if session.accelerator.is_main_process:
        _save_weights(session, paths, whole)
        kept = paths.best if paths.best.weights.is_file() else paths
        session.tracker.log_artifact(kept.card)
        register = session.config.tracking.register
        session.tracker.log_model(kept.weights, width=whole.model.width, register=register)


def _save_weights(session: Session, paths: RunPaths, whole: DistillStep) -> None:
    save_weights(
        paths.weights,
        paths.card,
        whole.model,
        session.config,
        places=class_places(session.shards),
        step=session.state.step,
        trained_on=session.trained_on,
        descriptor_space=session.descriptor_space,
        teacher=session.teacher.origin if session.teacher else None,
    )
    save_training_parts(paths, whole)
