"""`benchmarks/gpu.sh` is right on the day a GPU is there: at toy size, every part says its line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

GOALS = {"T4", "T5", "T6", "C1 and C2", "E6", "E7", "D8", "D10"}
"""C1 and C2 are what C7 is called on a CPU."""

LACKING = ("mlflow", "deepspeed")
"""What the machine with the GPU has not."""


@pytest.mark.slow
def test_every_part_says_its_line(tmp_path: Path) -> None:
    for name in LACKING:
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name} here')\n")
    environment = os.environ | {
        "PYTHON": sys.executable,
        "PYTHONPATH": str(tmp_path),
        "OUT": str(tmp_path),
        "CUDA_VISIBLE_DEVICES": "",
    }
    ended = subprocess.run(
        [ROOT / "benchmarks/gpu.sh", "--toy"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert {line["id"] for line in lines} == GOALS
    assert all("value" in line and "must" in line for line in lines)
    assert (tmp_path / "gpu.jsonl").read_text() == ended.stdout


def test_a_part_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncase $1 in *e6*) echo \'{"id": "E6"}\';; *) exit 3;; esac\n')
    python.chmod(0o755)
    ended = subprocess.run(
        [ROOT / "benchmarks/gpu.sh"],
        env=os.environ | {"PYTHON": str(python), "OUT": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.returncode == 1 and len(lines) == 8
    assert {line["id"] for line in lines if "error" not in line} == {"E6"}


def test_only_the_parts_that_are_asked_for_run(tmp_path: Path) -> None:
    def ran(*asked: str) -> tuple[int, list[str]]:
        ended = subprocess.run(
            [ROOT / "benchmarks/gpu.sh", *asked],
            env=os.environ | {"PYTHON": "false"},
            capture_output=True,
            text=True,
        )
        return ended.returncode, [json.loads(line)["id"] for line in ended.stdout.splitlines()]

    assert ran("E7", "T4 and C7") == (1, ["T4 and C7", "E7"])
    assert ran("E9") == (2, [])
