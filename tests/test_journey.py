"""The commands that the README prints, run on a tiny world: raw folders to a compared student."""

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from launch.main import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TINY_WORLD = ("--places", "24", "--test-places", "6", "--distractors", "4", "--views", "4")
TINY_RECIPE = (
    *("--data.image_size", "48", "--data.global_batch", "8", "--augment.slots", "2"),
    *("--schedule.num_steps", "10", "--schedule.warmup_steps", "2", "--probe_every_steps", "5"),
    *("--log_every_steps", "2", "--data.validation_fraction", "0.2"),
)


def readme_commands() -> list[list[str]]:
    """Return the commands under the README's heading `By hand`, as words."""
    text = (ROOT / "README.md").read_text()
    block = re.search(r"## By hand.*?```sh\n(.*?)```", text, re.S)
    assert block, "the README shows the journey by hand"
    return [
        shlex.split(line) for line in block[1].replace("\\\n", " ").splitlines() if line.strip()
    ]


def shrunk(words: list[str]) -> list[str]:
    """Return a command of the README for the tiny world; the last value of an option wins."""
    if words[:2] == ["skydistill", "synth"]:
        kept = words[: words.index("--places")]
        return [*kept, *TINY_WORLD, "--image-size", "48", "--workers", "1"]
    return [*words, *TINY_RECIPE] if words[0] == "accelerate" else words


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


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Walk the whole journey in an empty folder; only the student's training is launched twice."""
    folder = tmp_path_factory.mktemp("journey")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for words in readme_commands():
            if words[0] not in ("skydistill", "accelerate"):
                continue
            is_student = "distill/run.py" in words and "configs/pfed/demo.yaml" in words
            code = (run_on_two_ranks if is_student else run_here)(shrunk(words))
            assert code == 0, " ".join(words)
    finally:
        os.chdir(before)
    yield folder


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
