"""Every command of docs/tutorial.md, in its order, on a tiny world: raw folders to a comparison."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from launch.main import main
from tests.documents import ROOT, blocks, commands, file_named_in

pytestmark = pytest.mark.slow

TINY_WORLD = ("--places", "24", "--test-places", "6", "--distractors", "4", "--views", "4")
TINY = {
    "data.image_size": 48,
    "data.global_batch": 8,
    "data.validation_fraction": 0.2,
    "augment.slots": 2,
    "schedule.num_steps": 10,
    "schedule.warmup_steps": 2,
    "probe_every_steps": 5,
    "log_every_steps": 2,
}
TINY_RECIPE = [word for key, value in TINY.items() for word in (f"--{key}", str(value))]

SLURM = {
    "scontrol": "echo up",
    "squeue": "",
    "sinfo": "echo main",
    "sbatch": "echo $$ >> jobs; echo $$",
}
"""A controller that takes every job and runs none; tests/launch has a real one."""


def shrunk(words: list[str]) -> list[str]:
    """Return a command for the tiny world; the last value of an option wins."""
    if words[:2] == ["skydistill", "synth"]:
        kept = words[: words.index("--places")]
        return [*kept, *TINY_WORLD, "--image-size", "48", "--workers", "1"]
    if words[:2] == ["skydistill", "plan"]:
        return [*words, "--global-batch", "8"]
    is_training = words[0] == "accelerate" or words[:2] == ["skydistill", "train"]
    return [*words, *TINY_RECIPE] if is_training else words


def run_here(words: list[str]) -> int:
    """Run `skydistill VERB`, or the verb behind an `accelerate launch`, in this process."""
    if words[0] == "skydistill":
        return main(words[1:])
    script = next(word for word in words if word.startswith("distill/"))
    verb = {"distill/run.py": "train", "distill/cache.py": "cache"}[script]
    return main([verb, *words[words.index(script) + 1 :]])


def run_on_two_ranks(words: list[str]) -> int:
    """Run an `accelerate launch` as it stands, from another folder than the checkout."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    in_checkout = [
        str(ROOT / word) if word.startswith(("configs/", "distill/")) else word
        for word in words[2:]
    ]
    asked = ["--expected_world_size", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, *in_checkout, *asked], env=environment, check=False
    ).returncode


def run(words: list[str]) -> int:
    """Run a command, shrunk: only the student's training is launched; a sweep launches its rows."""
    if words[0] == "cp":
        return subprocess.run(words, check=False).returncode
    is_student = "distill/run.py" in words and "configs/pfed/demo.yaml" in words
    return (run_on_two_ranks if is_student else run_here)(shrunk(words))


def save(name: str, text: str) -> None:
    """Save a file that the tutorial shows: a sweep, of tiny rows, or lines behind those there."""
    if name.endswith(".yaml"):
        text = yaml.safe_dump(yaml.safe_load(text) | {"options": TINY, "processes": 1})
    with Path(name).open("a") as file:
        file.write(text)


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Walk through the tutorial in an empty folder that has what lies in a checkout's `slurm/`."""
    folder = tmp_path_factory.mktemp("journey")
    shutil.copytree(ROOT / "slurm", folder / "slurm")
    (folder / "bin").mkdir()
    for name, body in SLURM.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / "bin" / name).chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        for language, text in blocks(ROOT / "docs/tutorial.md"):
            if name := file_named_in(text):
                save(name, text)
            for words in commands(text) if language == "sh" else ():
                # That it serves is tested in tests/launch/test_mlflow_server.py.
                assert words[:2] == ["mlflow", "ui"] or run(words) == 0, " ".join(words)
    yield folder


def test_the_journey_of_the_readme_is_that_of_the_tutorial() -> None:
    tutorial = [
        words
        for language, text in blocks(ROOT / "docs/tutorial.md")
        if language == "sh"
        for words in commands(text)
    ]
    (journey,) = (
        commands(text) for _, text in blocks(ROOT / "README.md") if "skydistill synth" in text
    )
    assert [words for words in tutorial if words in journey] == journey[1:], "behind activate"


def test_a_sweep_puts_alone_and_distilled_side_by_side(journey: Path) -> None:
    out = journey / "outputs/my_sweep"
    for name in ("alone-0", "distilled-0"):
        assert json.loads((out / "runs" / name / "exit.json").read_text())["code"] == 0
    page = (out / "comparison.html").read_text()
    assert "alone" in page and "distilled" in page


def test_the_cluster_is_given_the_same_rows(journey: Path) -> None:
    out = journey / "outputs/on_cluster"
    jobs = json.loads((out / "slurm/jobs.json").read_text())
    assert list(jobs) == ["students", "evaluate-students", "comparison"]
    assert "--gpus-per-node=2" in (out / "slurm/students.sh").read_text()
    assert "--num_processes 2" in (out / "slurm/students.tsv").read_text()
    assert (out / "mlflow.db").is_file(), "synced, though no row began"


def test_raw_images_become_a_report(journey: Path) -> None:
    report = json.loads((journey / "outputs/student/evaluations/world/report.json").read_text())
    rows = {row["name"]: row["metrics"] for row in report["results"]}
    for direction in ("d2s", "s2d"):
        for name in ("recall@1", "recall@5", "recall@10", "recall@1%", "ap"):
            assert 0 <= rows[direction][name] <= 1
        assert rows[direction]["recall@10"] > 0, "among ten places, ten guesses find one"
    assert rows["d2s"]["num_queries"] == 6 * 4
    assert rows["d2s"]["num_gallery"] == 6 + 4
    assert rows["d2s/no-distractors"]["num_gallery"] == 6
    assert rows["s2d"]["num_gallery"] == (6 + 4) * 4
    with Image.open(
        journey / "outputs/student/evaluations/world/figures/retrieval_d2s.png"
    ) as panel:
        assert min(panel.size) > 300


def test_the_report_becomes_a_page(journey: Path) -> None:
    page = (journey / "outputs/comparison.html").read_text()
    assert "student_distilled" in page and "How the models learned" in page
    assert page.count("data:image/jpeg") == 2, "what was found in both directions"


def test_the_student_really_trained_on_two_ranks(journey: Path) -> None:
    run = journey / "outputs/student"
    assert json.loads((run / "environment.json").read_text())["world_size"] == 2
    ended = json.loads((run / "exit.json").read_text())
    assert (ended["code"], ended["reason"], ended["step"]) == (0, "done", 10)
    saved = torch.load(run / "checkpoints/step-00000010/training.pt", weights_only=True)
    assert len(saved["random"]) == 2
    terms = set().union(*(json.loads(line)["metrics"] for line in (run / "metrics.jsonl").open()))
    wanted = {"cross_entropy", "info_nce", "logit_distillation", "feature_distillation"}
    assert {f"train/{name}" for name in wanted} <= terms


def test_mlflow_holds_runs_metrics_and_weights(journey: Path) -> None:
    outputs = journey / "outputs"
    with sqlite3.connect(outputs / "mlflow.db") as store:
        runs = dict(store.execute("select name, status from runs"))
        metrics = {key for (key,) in store.execute("select distinct key from metrics")}
    assert runs == {"teacher": "FINISHED", "student_distilled": "FINISHED"}
    assert {
        "train/total",
        "probe/d2s/recall_at_1",
        "test/d2s/recall_at_1",
        "test/s2d/ap",
    } <= metrics
    assert list((outputs / "mlartifacts").rglob("model.safetensors"))
