"""Started by test_faults.py and by benchmarks: what happens to runs whose ranks are ill-treated.

Prints one JSON of what was seen: `python -m tests.distill.on_faults RECIPE ENGINE hang:0 ...`, with
the JSON of DeepSpeed or - for DDP.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from distill.checkpoint import SET_ASIDE
from distill.run_folder import RunPaths, read_exit
from tests.distill.conftest import OF_THE_MACHINE, merge
from tests.distill.forked_ranks import Job, until


def losses(run: Path) -> list[dict[str, float]]:
    """Return the metric lines of a run, without times."""
    lines = [json.loads(line) for line in RunPaths(run).metrics.read_text().splitlines()]
    return [
        {"step": line["step"]}
        | {key: value for key, value in line["metrics"].items() if key not in OF_THE_MACHINE}
        for line in lines
    ]


def samples(job: Job) -> tuple[dict[int, list[int]], int]:
    """Return the rows of every step, rank after rank, and how often a step was trained twice.

    A step that is trained again after a fault must have the rows it had before it.
    """
    ranks = [job.lines(rank) for rank in range(job.world_size)]
    seen = [dict(lines) for lines in ranks]
    assert all(dict(lines)[step] == rows for lines in ranks for step, rows in lines)
    again = sum(len(lines) - len(rows) for lines, rows in zip(ranks, seen, strict=True))
    return {step: [r for rows in seen for r in rows.get(step, [])] for step in seen[0]}, again


def in_another_folder(recipe: Path, name: str, **changes: Any) -> Path:
    """Copy a recipe, with changes laid over it, to a folder of its own, where its run will be."""
    folder = recipe.parent / name
    folder.mkdir()
    values = merge(json.loads(recipe.read_text()), {"out": str(folder / "run"), **changes})
    (folder / "recipe.yaml").write_text(json.dumps(values))
    return folder / "recipe.yaml"


def kills(recipe: Path, engine: Path | None, times: str) -> dict[str, Any]:
    """Kill one rank outright, so often, every second time during a save; compare the end of it."""
    # More than all attempts together get before they are killed.
    changes = {"save_every_steps": 2, "schedule": {"num_steps": 8 * int(times) + 16}}
    with Job(in_another_folder(recipe, "whole", **changes), engine=engine) as whole:
        assert whole.wait() == [0, 0], "the uninterrupted run failed"
    numbers, killed = random.Random(0), in_another_folder(recipe, "killed", **changes)
    told = []
    for number in range(int(times)):
        with Job(killed, engine=engine) as job:
            folder, before = RunPaths(job.run).checkpoints, job.lines()
            begun = max((step for step, _ in before), default=0)
            job.wait_for_step(begun + numbers.randint(1, 4), after=len(before))
            if number % 2:
                until(lambda folder=folder: any(folder.glob("*.partial")), job)
            else:
                time.sleep(numbers.random() * 0.05)
            rank = numbers.randrange(2)
            os.kill(job.pids[rank], signal.SIGKILL)
            at = time.monotonic()
            job.wait()
            told.append(
                {"rank": rank, "step": job.lines()[-1][0], "seconds": time.monotonic() - at}
                | {"left": sorted(path.name for path in folder.iterdir())}
                | {"reason": (read_exit(job.run) or {}).get("reason", "")}
            )
    with Job(killed, engine=engine) as job:
        assert job.wait() == [0, 0], "the last attempt failed"
    rows, again = samples(job)
    return {
        "kills": told,
        "steps": len(rows),
        "steps trained again": again,
        "losses identical": losses(job.run) == losses(whole.run),
        "samples identical": rows == samples(whole)[0],
    }


def hang(recipe: Path, engine: Path | None, rank: str) -> dict[str, Any]:
    """Stop one rank of two for good; return what the other one tells, and after how long."""
    changes = {"collective_timeout_s": 4, "schedule": {"num_steps": 10_000}}
    with Job(in_another_folder(recipe, f"hang{rank}", **changes), engine=engine) as job:
        job.wait_for_step(3, after=0)
        os.kill(job.pids[int(rank)], signal.SIGSTOP)
        at = time.monotonic()
        (code,) = job.wait(1 - int(rank))
        return {
            "code": code,
            "seconds": time.monotonic() - at,
            "step": job.lines(1 - int(rank))[-1][0] + 1,
            "exit": read_exit(job.run),
        }


def stop(recipe: Path, engine: Path | None, name: str) -> dict[str, Any]:
    """Send a signal to rank 1; return how many steps and seconds later the job has ended."""
    changes = {"save_every_steps": 10_000, "schedule": {"num_steps": 10_000}}
    with Job(in_another_folder(recipe, name, **changes), engine=engine) as job:
        job.wait_for_step(5, after=0)
        step, at = job.lines()[-1][0], time.monotonic()
        os.kill(job.pids[1], getattr(signal, name))
        codes = job.wait()
        ended = read_exit(job.run) or {}
        return {
            "codes": codes,
            "seconds": round(time.monotonic() - at, 2),
            "steps later": ended["step"] - step - 1,
            "saved": sorted(path.name for path in RunPaths(job.run).checkpoints.iterdir())
            == [f"step-{ended['step']:08d}"],
        }


def elastic(recipe: Path, engine: Path | None, *sizes: str) -> dict[str, Any]:
    """Train a part on so many ranks each, beside a run on as many as first; compare their ends."""
    changes = {"model": {"dropout": 0.0}, "schedule": {"num_steps": 3 * len(sizes) + 3}}
    first = in_another_folder(recipe, "as_many", **changes)
    with Job(first, world_size=int(sizes[0]), engine=engine) as whole:
        assert set(whole.wait()) == {0}, "the uninterrupted run failed"
    changing = in_another_folder(recipe, "changing", **changes)
    rows: dict[int, list[int]] = {}
    for number, size in enumerate(sizes):
        is_last, threads = number == len(sizes) - 1, ("--data.threads", str(1 + number % 2))
        with Job(changing, world_size=int(size), engine=engine, words=threads) as job:
            if not is_last:
                job.wait_for_step(3 * number + 1, after=0)
                os.kill(job.pids[-1], signal.SIGUSR1)
            assert set(job.wait()) == {0 if is_last else 75}
        rows |= samples(job)[0]
        for path in changing.parent.glob("rank*.txt"):
            path.unlink()
    one, two = losses(whole.run), losses(job.run)
    differences = [
        abs(b["train/total"] / a["train/total"] - 1) for a, b in zip(one, two, strict=True)
    ]
    return {
        "world sizes": [int(size) for size in sizes],
        "steps": len(one),
        "samples identical": rows == samples(whole)[0] and len(rows) == len(one),
        "largest relative difference of losses": max(differences),
    }


def damage(recipe: Path, engine: Path | None, how: str) -> dict[str, Any]:
    """Damage the newest checkpoint; return where the same command goes on, and to what end."""
    changes = {"save_every_steps": 2, "schedule": {"num_steps": 8}}
    with Job(in_another_folder(recipe, how, **changes), engine=engine) as job:
        assert job.wait() == [0, 0], "the run failed"
    before, trained, checkpoints = losses(job.run), len(job.lines()), RunPaths(job.run).checkpoints
    for file in (checkpoints / "step-00000008").glob("*.*"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content[: len(content) // 2] if how == "truncated" else content)
    with Job(job.recipe, engine=engine) as again:
        codes = again.wait()
    return {
        "codes": codes,
        "begun at": again.lines()[trained][0],
        "losses identical": losses(job.run) == before,
        "kept aside": [path.name for path in (checkpoints / SET_ASIDE).iterdir()],
    }


def late(recipe: Path, engine: Path | None, steps: str, rounds: str) -> dict[str, Any]:
    """Return the seconds to the second batch of a fresh run, and of one resumed at `steps`."""
    changes = {"save_every_steps": int(steps), "schedule": {"num_steps": int(steps) + 10_000}}
    with Job(in_another_folder(recipe, "late", **changes), engine=engine) as job:
        until(lambda: any(RunPaths(job.run).checkpoints.glob("step-*[0-9]")), job)
    seconds: dict[str, list[float]] = {"fresh": [], "resumed": []}
    for number in range(int(rounds) + 1):
        fresh = in_another_folder(recipe, f"fresh{number}", **changes)
        for name, path in {"fresh": fresh, "resumed": job.recipe}.items():
            (path.parent / "rank0.txt").unlink(missing_ok=True)
            with Job(path, engine=engine) as one:
                until(lambda one=one: len(one.lines()) > 1, one)  # type: ignore[misc]
                assert one.lines()[0][0] == (int(steps) if name == "resumed" else 0)
                if number:
                    seconds[name].append(time.monotonic() - one.started)
    return seconds


SCENARIOS = {one.__name__: one for one in (kills, hang, stop, elastic, damage, late)}


def main(recipe: Path, engine: str, *asked: str) -> None:
    seen = {}
    for words in asked:
        name, _, values = words.partition(":")
        settings = None if engine == "-" else Path(engine)
        seen[words] = SCENARIOS[name](recipe, settings, *values.split(","))  # type: ignore[operator]
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
