"""Goal M2: metrics per second that reach a SQLite store, against MLflow's own asynchronous calls.

Ours is a spool of 20 metrics a line, sent as the tracker's thread sends it. Theirs is `log_metric`
with `synchronous=False`, one call a metric, waited for; both are counted in the store.
"""

import sys
import tempfile
import time
from pathlib import Path

from line import report

from distill.mlflow_runs import RunInStore, begin_run
from distill.run_folder import RunPaths
from distill.tracking import Tracker

SEED, ROUNDS, LINES, OF_THEIRS, IN_A_LINE = 0, 3, 1000, 200, 20
LEAST_PER_SECOND, LEAST_RATIO = 2500, 40


def opened(folder: Path, name: str) -> RunInStore:
    """Return a run in the SQLite store of a folder."""
    paths = RunPaths(folder / name)
    paths.folder.mkdir()
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    begin_run(paths, name=name, experiment="benchmarks", uri=uri, params={}, tags={})
    return RunInStore(paths)


def points(run: RunInStore, names: list[str]) -> int:
    """Return how many points of some metrics the store has."""
    return sum(len(run.client.get_metric_history(run.run_id, name)) for name in names)


def ours(folder: Path, name: str) -> float:
    """Return the metrics per second of a spool."""
    run, names = opened(folder, name), [f"metric_{number}" for number in range(IN_A_LINE)]
    tracker = Tracker(run.paths)
    for step in range(LINES):
        tracker.log(step, dict.fromkeys(names, step / 7))
    begin = time.perf_counter()
    run.send()
    seconds = time.perf_counter() - begin
    assert points(run, names) == LINES * IN_A_LINE
    return LINES * IN_A_LINE / seconds


def theirs(folder: Path, name: str) -> float:
    """Return the metrics per second of MLflow's queue."""
    run = opened(folder, name)
    begin = time.perf_counter()
    waited = [
        run.client.log_metric(run.run_id, "metric", step / 7, step=step, synchronous=False)
        for step in range(OF_THEIRS)
    ]
    for one in waited:
        assert one is not None
        one.wait()
    seconds = time.perf_counter() - begin
    assert points(run, ["metric"]) == OF_THEIRS
    return OF_THEIRS / seconds


def main() -> int:
    """Send by turns and print one line."""
    with tempfile.TemporaryDirectory() as folder:
        opened(Path(folder), "first")
        rates = [
            (ours(Path(folder), f"ours-{number}"), theirs(Path(folder), f"theirs-{number}"))
            for number in range(ROUNDS)
        ]
    rates.sort()
    own, other = rates[ROUNDS // 2]
    value = {
        "metrics per second": round(own),
        "synchronous=False": round(other),
        "ratio": round(own / other, 1),
        "all rounds": [[round(one) for one in pair] for pair in rates],
    }
    passed = own >= LEAST_PER_SECOND and own / other >= LEAST_RATIO
    must = f">= {LEAST_PER_SECOND} per second and >= {LEAST_RATIO} x synchronous=False"
    return report("M2", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
