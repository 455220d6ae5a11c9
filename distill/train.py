"""The one training loop: teacher or student, any method, any number of ranks."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from data_shards.errors import DivergedError
from data_shards.progress import Progress
from distill.checkpoint import save_checkpoint, save_weights
from distill.mining import planned_batches
from distill.models import RetrievalModel
from distill.optim import learning_rate_factor, set_learning_rate
from distill.preemption import StopFlag
from distill.session import Session
from distill.step import weigh
from distill.teacher import class_places

log = logging.getLogger(__name__)

Probe = Callable[[RetrievalModel, int], dict[str, float]]
"""A look during training: model and step in, named numbers out.

Every rank calls it, in training mode, and it leaves the model as it was.
"""


def train(session: Session, *, probes: Sequence[Probe], progress: Progress, flag: StopFlag) -> bool:
    """Train as the recipe says, from the newest checkpoint on; return False when `flag` stops it.

    Raises:
        DivergedError: a term stopped being finite.
        CheckpointError: a checkpoint could not be written.
    """
    config, accelerator, state = session.config, session.accelerator, session.state
    schedule, optimizer, weights = config.schedule, session.optimizer, config.objectives.weights
    clock = _Clock(state.seconds)
    session.step.train()
    for batch in planned_batches(session):
        # batch
        teacher = session.teacher(batch) if session.teacher else None
        satellite, drone, place = session.on_device(batch)

        # losses
        with accelerator.autocast():
            terms = session.step(satellite, drone, place, teacher)
            total = weigh(terms, weights)

        # gradients
        factor = learning_rate_factor(schedule, state.step)
        set_learning_rate(optimizer, peak=config.optimizer.learning_rate, factor=factor)
        accelerator.backward(total)
        norm = accelerator.clip_grad_norm_(
            session.step.parameters(), config.optimizer.max_grad_norm
        )
        optimizer.step()
        optimizer.zero_grad()
        state.step += 1
        state.seconds = clock.seconds()

        # log
        is_logged = state.step % config.log_every_steps == 0
        if is_logged:
            means = _finite_means(session, {"total": total, **terms}, norm=norm)
            metrics = _log(session, means, factor=factor)
            progress(state.step, schedule.num_steps, **_shown(metrics))
        _probe(session, probes)

        # save
        stopped = flag.seen_by_any_rank(accelerator)
        if stopped or state.step % config.save_every_steps == 0 or state.step == schedule.num_steps:
            if not is_logged:  # else just looked at
                _finite_means(session, {"total": total, **terms}, norm=norm)
            save_checkpoint(accelerator, state, session.paths, keep=config.keep_checkpoints)
        if stopped:
            return state.step == schedule.num_steps
    return True


class _Clock:
    """Seconds spent in the loop, those of earlier attempts included."""

    def __init__(self, earlier: float) -> None:
        self.start = time.monotonic() - earlier

    def seconds(self) -> float:
        return time.monotonic() - self.start


def _finite_means(
    session: Session, terms: Mapping[str, Tensor], *, norm: Tensor | None
) -> dict[str, float]:
    """Return total, terms and gradient norm over all ranks; stop a run that stopped being finite.

    Asked before every line and every checkpoint, so a checkpoint never holds what has diverged.
    """
    means = session.accelerator.reduce(
        {name: term.detach().float() for name, term in terms.items()}, reduction="mean"
    )
    if norm is not None and not session.optimizer.step_was_skipped:  # by fp16's loss scaling
        means["grad_norm"] = norm
    values = {name: float(value) for name, value in means.items()}
    if bad := [name for name, value in values.items() if not math.isfinite(value)]:
        raise DivergedError(
            f"step {session.state.step}: {', '.join(sorted(set(bad) - {'total'}) or bad)} not "
            "finite; lower optimizer.learning_rate (the newest checkpoint is in "
            f"{session.paths.checkpoints})"
        )
    return values


def _log(session: Session, means: Mapping[str, float], *, factor: float) -> dict[str, float]:
    """Write one metric line."""
    metrics = {f"train/{name}": value for name, value in means.items()}
    metrics["train/learning_rate"] = session.config.optimizer.learning_rate * factor
    metrics["train/images_per_second"] = _images_per_second(session)
    if session.accelerator.is_main_process:
        session.tracker.log(session.state.step, metrics)
    return metrics


def _images_per_second(session: Session) -> float:
    """Return images trained per second over all ranks, since the run began."""
    data, state = session.config.data, session.state
    return state.step * data.global_batch * (1 + data.drones_per_row) / max(state.seconds, 1e-9)


def _shown(metrics: Mapping[str, float]) -> dict[str, float]:
    """Pick what stands beside a progress bar."""
    return {"loss": metrics["train/total"], "images/s": metrics["train/images_per_second"]}


def _probe(session: Session, probes: Sequence[Probe]) -> None:
    """Look at the held-out places when it is time: every `probe_every_steps`, and at the end."""
    step, every = session.state.step, session.config.probe_every_steps
    if step != session.config.schedule.num_steps and (not every or step % every):
        return
    for probe in probes:
        metrics = probe(session.model, step)
        if session.accelerator.is_main_process:
            session.tracker.log(step, metrics)
            log.info(
                "step %d: %s",
                step,
                ", ".join(f"{name} {value:.3f}" for name, value in metrics.items()),
            )


def finish(session: Session) -> None:
    """Write the weights that users take away, and hand them to MLflow; rank 0 alone."""
    if not session.accelerator.is_main_process:
        return
    save_weights(
        session.paths,
        session.model,
        session.config,
        places=class_places(session.shards),
        layout=session.shards.manifest.layout,
        step=session.state.step,
    )
    for path in _artifacts(session):
        session.tracker.log_artifact(path)


def _artifacts(session: Session) -> Iterator[Path]:
    yield from (
        session.paths.recipe,
        session.paths.environment,
        session.paths.card,
        session.paths.weights,
    )
