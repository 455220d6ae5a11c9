"""Goals F3 to F7: signals, other numbers of ranks, damaged checkpoints, a late resume, goodput.

Real processes: ranks are forks of one that has imported everything (`tests/distill/on_faults.py`),
which meet by gloo, so the seconds are without imports; the restart of F7 is one of
`accelerate launch` from nothing. F7 is simulated from what was measured here: failures come with a
mean of three hours between them, a month long; each costs the work since the newest sealed
checkpoint, what it takes until the other ranks have ended, and the restart. Two arguments: the
seconds for which a save of ConvNeXt-T stalls training and is written, which F2 measures
(`f2_async_save.py`).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from line import report
from noise import noise_shards

ROOT = Path(__file__).parents[1]
SEED, ROUNDS, GLOBAL_BATCH = 0, 5, 8
PLACES, VIEWS = 100, 20
LATE = PLACES * VIEWS // GLOBAL_BATCH * 9 // 10
ELASTIC, RESUMED, KILLS = "elastic:4,2,1,4", f"late:{LATE},{ROUNDS}", "kills:4"
MOST_STEPS, MOST_SECONDS, MOST_DIFFERENCE, MOST_LATE, LEAST_GOODPUT = 2, 5.0, 1e-6, 1.2, 0.98
MTBF_S, SAVE_EVERY_S, MONTH_S = 3 * 3600.0, 60.0, 30 * 24 * 3600.0
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def write_recipe(folder: Path, shards: Path) -> Path:
    """Write the recipe of a run of small images, without dropout and batch statistics."""
    values = {
        "name": "faults",
        "out": str(folder / "run"),
        "role": "alone",
        "data": {
            "shards": str(shards),
            "image_size": 32,
            "global_batch": GLOBAL_BATCH,
            "threads": 1,
            "validation_fraction": 0.0,
        },
        "augment": {"slots": 2},
        "model": {"arch": "convnext_micro", "weights": "none", "bottleneck": 0, "dropout": 0.0},
        "objectives": {"info_nce": {"weight": 1.0}},
        "schedule": {"num_steps": 10, "warmup_steps": 2},
        "tracking": {"uri": "http://127.0.0.1:9"},
        "log_every_steps": 1,
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(values))
    return path


def ill_treated(recipe: Path, *scenarios: str) -> dict[str, Any]:
    """Let the processes be started and ill-treated; return what was seen."""
    command = [sys.executable, "-m", "tests.distill.on_faults", str(recipe), "-", *scenarios]
    ended = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, check=True)
    seen: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return seen


def restart_seconds(recipe: Path) -> float:
    """Return the seconds from an `accelerate launch` to the first metric line of a resumed run."""
    metrics = recipe.parent / "run/metrics.jsonl"
    begun_with = metrics.read_text().count("\n")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    command += ["configs/accelerate/cpu.yaml", "distill/run.py", str(recipe)]
    begun = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as job:
        # Lines behind the checkpoint go first; the first new one is that of a step.
        written = metrics.stat().st_mtime_ns
        while metrics.stat().st_mtime_ns == written or metrics.read_text().count("\n") <= LATE:
            assert job.poll() is None and time.monotonic() - begun < 300, begun_with
            time.sleep(0.01)
        seconds = time.monotonic() - begun
        job.terminate()
    return seconds


def goodput(*, stall_s: float, write_s: float, notice_s: float, restart_s: float) -> float:
    """Return the share of a month in which training got on, simulated failure by failure."""
    numbers, clock, useful = np.random.default_rng(SEED), 0.0, 0.0
    while clock < MONTH_S:
        until_failure = float(numbers.exponential(MTBF_S))
        rounds, rest = divmod(until_failure, SAVE_EVERY_S + stall_s)
        # The newest checkpoint may not have been sealed yet.
        sealed = rounds if rest >= write_s else max(0.0, rounds - 1)
        useful += sealed * SAVE_EVERY_S
        clock += until_failure + notice_s + restart_s
    return useful / clock


def f3(seen: dict[str, Any]) -> int:
    """Report how soon a signal to one rank ends the job."""
    stops = {name: seen[f"stop:{name}"] for name in ("SIGTERM", "SIGUSR1")}
    passed = all(
        one["codes"] == [75, 75]
        and one["saved"]
        and one["steps later"] <= MOST_STEPS
        and one["seconds"] <= MOST_SECONDS
        for one in stops.values()
    )
    must = f"code 75, a checkpoint, <= {MOST_STEPS} steps and <= {MOST_SECONDS} s"
    return report("F3", value=stops, must=must, passed=passed, seed=SEED)


def f4(seen: dict[str, Any]) -> int:
    """Report what changes with the number of ranks, in the middle of an epoch."""
    value = seen[ELASTIC]
    difference = value["largest relative difference of losses"]
    passed = value["samples identical"] and difference <= MOST_DIFFERENCE
    must = f"identical samples, losses within {MOST_DIFFERENCE} relative"
    return report("F4", value=value, must=must, passed=passed, seed=SEED)


def f5(seen: dict[str, Any]) -> int:
    """Report what becomes of a damaged checkpoint."""
    value = {how: seen[f"damage:{how}"] for how in ("truncated", "flipped")}
    passed = all(
        one["codes"] == [0, 0]
        and one["begun at"] == 6
        and one["losses identical"]
        and one["kept aside"] == ["step-00000008"]
        for one in value.values()
    )
    must = "found, kept aside, the one before it used, the same losses"
    return report("F5", value=value, must=must, passed=passed, seed=SEED)


def f6(seen: dict[str, Any]) -> int:
    """Report how much longer it takes to resume late in an epoch than to start afresh."""
    seconds = seen[RESUMED]
    ratios = [a / b for a, b in zip(seconds["resumed"], seconds["fresh"], strict=True)]
    value = {
        "step": LATE,
        "seconds": {name: round(median(values), 2) for name, values in seconds.items()},
        "ratio": [round(number, 3) for number in (median(ratios), min(ratios), max(ratios))],
    }
    passed = median(ratios) <= MOST_LATE
    must = f"<= {MOST_LATE} (median, least, largest)"
    return report("F6", value=value, must=must, passed=passed, seed=SEED)


def f7(seen: dict[str, Any], *, stall_s: float, write_s: float, restart_s: float) -> int:
    """Report the share of a simulated month that is training."""
    notice_s = mean(kill["seconds"] for kill in seen[KILLS]["kills"])
    costs = {"stall_s": stall_s, "write_s": write_s, "notice_s": notice_s, "restart_s": restart_s}
    share = goodput(**costs)
    value: dict[str, object] = {name: round(number, 3) for name, number in costs.items()}
    value |= {"goodput": round(share, 4), "simulated": "a month, saves every 60 s, MTBF 3 h"}
    must = f">= {LEAST_GOODPUT}"
    return report("F7", value=value, must=must, passed=share >= LEAST_GOODPUT, seed=SEED)


def main(stall_s: float = 0.3, write_s: float = 5.0) -> int:
    """Print one line per goal."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = write_recipe(folder, noise_shards(folder, places=PLACES, views=VIEWS).folder)
        asked = ("stop:SIGTERM", "stop:SIGUSR1", ELASTIC, "damage:truncated", "damage:flipped")
        seen = ill_treated(recipe, *asked, RESUMED, KILLS)
        restart_s = restart_seconds(folder / "late/recipe.yaml")
    failed = sum(goal(seen) for goal in (f3, f4, f5, f6))
    failed += f7(seen, stall_s=stall_s, write_s=write_s, restart_s=restart_s)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:3])))
