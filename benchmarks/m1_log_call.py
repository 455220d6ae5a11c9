"""Goal M1: what logging 20 metrics takes on the trainer's thread, against a call of MLflow there.

A real thread carries the lines to a SQLite store meanwhile. Between two calls the trainer's thread
waits, as it does for a device. The other one is `log_batch` of the same metrics, in turn.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from line import report
from mlflow.entities import Metric

from distill.mlflow_runs import RunInStore, read_link
from distill.run_folder import RunPaths
from distill.tracking import Tracker

SEED, STEPS, EVERY, WAIT = 0, 3000, 60, 0.005
MOST_US, MOST_US_P99, LEAST_RATIO = 50, 1000, 200

METRICS = {f"train/metric_{number}": number / 7 for number in range(20)}


def begun(folder: Path) -> Tracker:
    """Return the tracker of a run in a new SQLite store, with a thread that sends."""
    folder.mkdir()
    tracker = Tracker(RunPaths(folder))
    uri = f"sqlite:///{folder.parent / 'mlflow.db'}"
    tracker.start(name="m1", experiment="benchmarks", uri=uri, params={}, tags={})
    return tracker


def seconds_of(tracker: Tracker, in_store: RunInStore) -> tuple[list[float], list[float]]:
    """Return the seconds of each call of ours, and of each of MLflow's."""
    ours, theirs = list[float](), list[float]()
    for step in range(STEPS):
        begin = time.perf_counter()
        tracker.log(step, METRICS)
        ours.append(time.perf_counter() - begin)
        if step % EVERY == 0:
            begin = time.perf_counter()
            batch = [Metric(name, value, step, step) for name, value in METRICS.items()]
            in_store.client.log_batch(in_store.run_id, batch)
            theirs.append(time.perf_counter() - begin)
        time.sleep(WAIT)
    return sorted(ours), theirs


def main() -> int:
    """Log by turns and print one line."""
    with tempfile.TemporaryDirectory() as folder:
        other = begun(Path(folder, "other"))
        other.finish("FINISHED")
        tracker = begun(Path(folder, "run"))
        ours, theirs = seconds_of(tracker, RunInStore(other.paths))
        tracker.finish("FINISHED")
        unsent = tracker.paths.metrics.stat().st_size - read_link(tracker.paths)["sent_bytes"]
    p99 = ours[int(0.99 * len(ours))]
    value = {
        "median us": round(1e6 * median(ours), 1),
        "p99 us": round(1e6 * p99, 1),
        "log_batch median us": round(1e6 * median(theirs)),
        "log_batch / ours": round(median(theirs) / median(ours)),
        "bytes not sent at the end": unsent,
    }
    passed = (
        value["median us"] <= MOST_US
        and value["p99 us"] <= MOST_US_P99
        and value["log_batch / ours"] >= LEAST_RATIO
        and unsent == 0
    )
    must = f"median <= {MOST_US} us, p99 <= {MOST_US_P99} us, >= {LEAST_RATIO} x faster, all sent"
    return report("M1", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
