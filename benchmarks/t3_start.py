"""Goal T3: seconds from the command to the first step on two ranks, and from the last to the end.

A tiny student on a CPU, shards there, their index read for the first time in the process; the end
has the checkpoint, the weights and MLflow beside the run. Steps are timed by their metric lines.
"""

import sys
import tempfile
from dataclasses import replace
from os import sched_getaffinity
from pathlib import Path
from statistics import median

from launches import launch
from line import report
from noise import noise_shards
from ranks import recipe

MUST_START, MUST_END, SEED, RUNS = 8.0, 2.0, 0, 5


def main() -> int:
    """Start some trainings, and print one line."""
    is_toy = "--toy" in sys.argv
    starts, ends = [], []
    with tempfile.TemporaryDirectory() as name:
        shards = noise_shards(Path(name), places=64, views=4)
        for number in range(1 if is_toy else RUNS):
            config = recipe(shards, Path(name) / f"run-{number}", rows=8, num_steps=5)
            run = launch(replace(config, log_every_steps=1), ranks=2, cores=sched_getaffinity(0))
            starts.append(run.lines[0][1] - run.began)
            ends.append(run.ended - run.lines[-1][1])
    value = {
        name: {"median": round(median(found), 2), "least": round(min(found), 2)}
        for name, found in (("command to first step", starts), ("last step to end", ends))
    }
    passed = median(starts) <= MUST_START and median(ends) <= MUST_END
    must = f"<= {MUST_START} s and <= {MUST_END} s"
    code = report("T3", value=value, must=must, passed=passed, seed=SEED)
    return 0 if is_toy else code


if __name__ == "__main__":
    sys.exit(main())
