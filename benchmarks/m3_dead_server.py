"""Goal M3: how long a run's end waits for a dead server, and what kill -9 loses of its metrics.

Nothing listens at one address; at the other one somebody accepts and never answers. A killed
process had said what it logged; its spool is then synced to a store, twice.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from line import report

from distill.run_folder import RunPaths
from distill.tracking import Tracker
from launch.tracking import sync

SEED, KILLS, LINES = 0, 5, 100
MOST_SECONDS = 5.0

LOGS_UNTIL_KILLED = """
import sys
from pathlib import Path
from distill.run_folder import RunPaths
from distill.tracking import Tracker
tracker = Tracker(RunPaths(Path(sys.argv[1])))
asked = {"experiment": "benchmarks", "params": {}, "tags": {}}
tracker.start(name=sys.argv[1], uri=sys.argv[2], **asked)
for step in range(10**6):
    tracker.log(step, {"train/total": step / 7})
    print(step, flush=True)
"""


def seconds_to_end(folder: Path, uri: str) -> float:
    """Return how long the end of a run takes whose server is dead."""
    folder.mkdir()
    tracker = Tracker(RunPaths(folder))
    tracker.start(name="m3", experiment="benchmarks", uri=uri, params={}, tags={})
    for step in range(LINES):
        tracker.log(step, {"train/total": 1.0})
        time.sleep(0.02)
    begin = time.perf_counter()
    tracker.finish("FINISHED")
    return time.perf_counter() - begin


def lost_by_a_kill(folder: Path, uri: str, steps: int) -> tuple[int, int]:
    """Return how many points a killed run had logged, and how many the store lacks or has twice."""
    from mlflow import MlflowClient

    folder.mkdir()
    words = [sys.executable, "-c", LOGS_UNTIL_KILLED, str(folder), uri]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = -1
        while said < steps:
            said = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        said = max([said, *(int(line) for line in child.stdout if line.endswith("\n"))])
    assert [*sync(folder), *sync(folder)]
    run_id = json.loads((folder / "mlflow.json").read_text())["run_id"]
    history = MlflowClient(uri).get_metric_history(run_id, "train/total")
    found = [point.step for point in history]
    lost = {*range(said + 1)} - {*found}
    return said + 1, len(lost) + len(found) - len({*found})


def main() -> int:
    """End runs, kill runs, and print one line."""
    draw = random.Random(SEED)
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as silent:
        folder, port = Path(name), silent.getsockname()[1]
        ends = {
            "nothing listens": seconds_to_end(folder / "dead", "http://127.0.0.1:9"),
            "never answers": seconds_to_end(folder / "silent", f"http://127.0.0.1:{port}"),
        }
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        killed = [
            lost_by_a_kill(folder / f"killed-{number}", uri, draw.randrange(2000, 60000))
            for number in range(KILLS)
        ]
    value = {
        "seconds to end": {server: round(seconds, 2) for server, seconds in ends.items()},
        "points logged before kill -9": [logged for logged, _ in killed],
        "lost or twice after a replay": sum(faults for _, faults in killed),
    }
    passed = max(ends.values()) <= MOST_SECONDS and not any(lost for _, lost in killed)
    must = f"<= {MOST_SECONDS:g} s, nothing lost"
    return report("M3", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
