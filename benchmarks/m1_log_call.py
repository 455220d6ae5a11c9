"""Goal M1: what logging 20 metrics takes on the trainer's thread, against a call of MLflow there.

A real thread carries the lines to a SQLite store meanwhile. Calls are timed back to back, as those
of MLflow (`log_batch` of the same metrics), and once a step of 50 ms of matrices, which leave
nothing of ours in the processor's caches. The goal is for the first; the second is told beside it.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from clock import threads
from line import report
from mlflow.entities import Metric

from distill.mlflow_runs import RunInStore, read_link
from distill.run_folder import RunPaths
from distill.tracking import Tracker

SEED, STEPS, STEP = 0, 600, 0.05
MOST_US, MOST_US_P99, LEAST_RATIO = 50, 1000, 200

METRICS = {f"train/metric_{number}": number / 7 for number in range(20)}


def begun(folder: Path) -> Tracker:
    """Return the tracker of a run in a new SQLite store, with a thread that sends."""
    folder.mkdir()
    tracker = Tracker(RunPaths(folder))
    uri = f"sqlite:///{folder.parent / 'mlflow.db'}"
    tracker.start(name="m1", experiment="benchmarks", uri=uri, params={}, tags={})
    return tracker


def seconds_of(call: Callable[[int], object], steps: int, *, step_seconds: float) -> list[float]:
    """Return the sorted seconds of each call, with matrices between two of them."""
    seconds, matrix = list[float](), torch.ones(128, 128)
    for step in range(steps):
        begin = time.perf_counter()
        call(step)
        seconds.append(time.perf_counter() - begin)
        while time.perf_counter() - begin < step_seconds:
            matrix = (matrix @ matrix).clamp(-1, 1)
    return sorted(seconds)


def main() -> int:
    """Log by turns and print one line."""
    with tempfile.TemporaryDirectory() as folder, threads(1):
        other = begun(Path(folder, "other"))
        other.finish("FINISHED")
        run = RunInStore(other.paths)

        def log_batch(step: int) -> None:
            points = [Metric(name, value, step, step) for name, value in METRICS.items()]
            run.client.log_batch(run.run_id, points)

        tracker = begun(Path(folder, "run"))
        cold = seconds_of(lambda step: tracker.log(step, METRICS), STEPS, step_seconds=STEP)
        theirs = seconds_of(log_batch, STEPS // 5, step_seconds=0)
        ours = seconds_of(lambda step: tracker.log(STEPS + step, METRICS), STEPS, step_seconds=0)
        tracker.finish("FINISHED")
        unsent = tracker.paths.metrics.stat().st_size - read_link(tracker.paths)["sent_bytes"]
    value = {
        "median us": round(1e6 * median(ours), 1),
        "p99 us": round(1e6 * ours[int(0.99 * len(ours))], 1),
        "once a step: median us": round(1e6 * median(cold), 1),
        "once a step: p99 us": round(1e6 * cold[int(0.99 * len(cold))], 1),
        "log_batch median us": round(1e6 * median(theirs)),
        "log_batch / ours": round(median(theirs) / median(ours)),
        "bytes not sent at the end": unsent,
    }
    passed = (
        value["median us"] <= MOST_US
        and max(value["p99 us"], value["once a step: p99 us"]) <= MOST_US_P99
        and value["log_batch / ours"] >= LEAST_RATIO
        and unsent == 0
    )
    must = f"median <= {MOST_US} us, p99 <= {MOST_US_P99} us, >= {LEAST_RATIO} x faster, all sent"
    return report("M1", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
