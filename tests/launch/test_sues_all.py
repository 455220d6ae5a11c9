"""`make test-slurm`: slurm/sues_all.sh whole on a real Slurm, with tiny models and pictures."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from tests.launch.conftest import ROOT, Cluster

DEMO_RECIPES = {
    "configs/pfed/sues200_teacher.yaml": "configs/pfed/demo_teacher.yaml",
    "configs/pfed/sues200_step1.yaml": "configs/pfed/demo_alone.yaml",
    "configs/pfed/sues200_step2.yaml": "configs/pfed/demo.yaml",
    "configs/bicrossnet/sues200_teacher.yaml": "configs/bicrossnet/demo_teacher.yaml",
    "configs/bicrossnet/sues200_student.yaml": "configs/bicrossnet/demo.yaml",
}
"""Recipe of a row to the one of the same role and method that is done here."""

SMALL = {
    "data.image_size": 32,
    "data.global_batch": 4,
    "data.validation_fraction": 0,
    "probe_every_steps": 0,
    "schedule": {"num_steps": 2, "warmup_steps": 1},
}


def write_small_sweep(folder: Path) -> None:
    """Write configs/sweeps/sues_all.yaml with the same rows, of small recipes."""
    values = yaml.safe_load((ROOT / "configs/sweeps/sues_all.yaml").read_text())
    for row in values["rows"]:
        row["recipe"] = DEMO_RECIPES[row["recipe"]]
        row["options"].pop("model.weights", None)
    values["options"] = SMALL
    values["accelerate"] = "configs/accelerate/cpu.yaml"
    path = folder / "configs/sweeps/sues_all.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(values))


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("SKYDISTILL_TEST_SLURM") != "whole",
    reason="20 trainings and 8 caches: make test-slurm; test_slurm_smoke.py is its short form",
)
def test_one_sbatch_brings_four_heights_and_two_methods_to_a_comparison(cluster: Cluster) -> None:
    world = ("--places", 6, "--test-places", 4, "--views", 2, "--image-size", 64)
    cluster.skydistill("synth", "raw", "--layout", "sues200", *world)
    cluster.skydistill("shard", "raw", "shards")
    write_small_sweep(cluster.folder)
    for script in ("sues_all.sh", "submit.sh"):
        (cluster.folder / "slurm").mkdir(exist_ok=True)
        shutil.copy(ROOT / "slurm" / script, cluster.folder / "slurm")
    cluster.run("sbatch", "slurm/sues_all.sh")
    cluster.wait(lambda: not cluster.queue(), seconds=120)
    (log,) = cluster.folder.glob("sues_all-*.out")
    assert "slurm/site.env does not exist" in log.read_text()
    assert not (cluster.folder / "out").exists()

    cluster.site(shards="shards", out="out", gpus_per_node=1, cpus_per_node=1, time=30, throttle=2)
    cluster.run("sbatch", "slurm/sues_all.sh")
    out = cluster.folder / "out"
    cluster.wait(lambda: "comparison" in str(cluster.queue()), seconds=300)
    cluster.wait(lambda: not cluster.queue(), seconds=3600)
    status = cluster.run("bash", "slurm/sues_all.sh", "--status")
    assert status.count(": done") == 40 and len(list(out.glob("*_cache_*"))) == 8
    reports = [
        json.loads(path.read_text()) for path in out.glob("runs/*/evaluations/test/report.json")
    ]
    assert len(reports) == 20
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    (experiment,) = (one for one in client.search_experiments() if one.name == "demo")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs.pop("sues_all").info.run_id
    assert len(runs) == 20
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent}
    comparison = (out / "comparison.md").read_text().replace("\\", "")
    assert "bicrossnet_student_300" in comparison and "pfed_step2_150" in comparison
