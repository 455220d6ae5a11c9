"""What is seen of a run from outside: its metric lines, and where its steps went."""

import logging
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.profiler import profile, record_function, schedule

from data_shards.loader import Batch
from data_shards.progress import Progress
from distill.mining import planned_batches
from distill.run_folder import METRIC_LINES
from distill.session import Session

log = logging.getLogger(__name__)
lines = logging.getLogger(METRIC_LINES)

PARTS = ("data", "batch", "forward", "backward", "optimizer", "log", "save")
"""What the loop marks by `record_function`, in its order."""

COLLECTIVES = ("gloo:", "nccl:")
"""Begin the names of what is sent between ranks; most of it lies inside `backward`."""


def watched_batches(session: Session) -> Iterator[Batch]:
    """Yield the batches of this rank; note how long each was waited for, and trace some steps."""
    batches, began, waited = planned_batches(session), time.monotonic(), 0.0
    with _traced(session) as next_step:
        while True:
            started = time.monotonic()
            with record_function("data"):
                batch = next(batches, None)
            now = time.monotonic()
            waited += now - started
            session.data_wait = waited / max(now - began, 1e-9)
            if batch is None:
                return
            yield batch
            next_step()


def write_metrics(session: Session, means: Mapping[str, float], progress: Progress) -> None:
    """Write one metric line, and show how far the run is; speed is of all ranks, since it began.

    `data_wait` is the share of this attempt's time that rank 0 waited for its loader, and
    `memory_gib` the most that its GPU, else its process, held.
    """
    data, state = session.config.data, session.state
    num_images = state.step * data.global_batch * (1 + data.drones_per_row)
    speed = num_images / max(state.seconds, 1e-9)
    memory_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if torch.cuda.is_available():
        memory_gib = torch.cuda.max_memory_allocated() / 2**30
    rates = {group["name"]: group["lr"] for group in session.groups.param_groups}
    metrics = {f"train/{name}": value for name, value in means.items()}
    metrics |= {"train/learning_rate": max(rates.values())}
    metrics |= {f"train/learning_rate/{name}": rate for name, rate in rates.items()}
    metrics |= {"train/images_per_second": speed}
    metrics |= {"train/steps_per_second": state.step / max(state.seconds, 1e-9)}
    metrics |= {"train/data_wait": session.data_wait, "train/memory_gib": memory_gib}
    if session.accelerator.is_main_process:
        session.tracker.log(state.step, metrics)
    told = " ".join(f"{name}={value:.5g}" for name, value in metrics.items())
    lines.info("step %d: %s", state.step, told)
    shown = {"loss": means["total"], "images/s": speed, "data wait": session.data_wait}
    progress(state.step, session.config.schedule.num_steps, **shown, GiB=memory_gib)


@contextmanager
def _traced(session: Session) -> Iterator[Callable[[], None]]:
    """Trace `profile_steps` steps behind the first two; yield what is called behind each step."""
    num_steps, rank = session.config.profile_steps, session.accelerator.process_index
    if not num_steps:
        yield lambda: None
        return
    folder = session.paths.profile

    def write(seen: profile) -> None:
        folder.mkdir(exist_ok=True)
        seen.export_chrome_trace(str(folder / f"trace-rank{rank}.json"))
        parts = table(seen)
        (folder / f"table-rank{rank}.txt").write_text(parts)
        log.info("traced rank %d into %s:\n%s", rank, folder, parts)

    phases = schedule(wait=1, warmup=1, active=num_steps, repeat=1)
    with profile(schedule=phases, on_trace_ready=write, acc_events=True) as seen:
        yield seen.step


def table(seen: profile) -> str:
    """Return milliseconds of host and device, and the share of the host's, of each part a step."""
    averages = {one.key: one for one in seen.key_averages()}
    steps = [one for name, one in averages.items() if name.startswith("ProfilerStep")]
    count, whole = sum(one.count for one in steps), sum(one.cpu_time_total for one in steps)
    rows = [(name, [averages[name]]) for name in PARTS if name in averages]
    sent = [one for name, one in averages.items() if name.startswith(COLLECTIVES)]
    told = [f"{'part':24}{'host ms':>10}{'device ms':>11}{'share':>8}"]
    for name, events in [*rows, ("communication (inside)", sent), ("step", steps)]:
        host, device = (
            sum(getattr(event, kind) for event in events)
            for kind in ("cpu_time_total", "device_time_total")
        )
        share = host / max(whole, 1e-9)
        told.append(f"{name:24}{host / count / 1e3:10.2f}{device / count / 1e3:11.2f}{share:8.1%}")
    return "\n".join(told) + "\n"
