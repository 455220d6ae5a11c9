"""On a real Slurm: a two-node array is submitted, preempted, queued again, finished, compared."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from data_shards.shards import ShardSet
from distill.run_folder import read_exit
from tests.launch.conftest import ROOT, Cluster

SMALL = {
    "model.arch": "convnext_micro",
    "data.image_size": 32,
    "data.global_batch": 4,
    "data.validation_fraction": 0,
    "log_every_steps": 1,
}
RECIPE = "configs/pfed/demo_alone.yaml"


STEPS = 300
"""So many that there is time to preempt the run."""


def write_sweep(folder: Path, shards: ShardSet) -> Path:
    def row(name: str, steps: int, **more: object) -> dict[str, object]:
        options = {"schedule": {"num_steps": steps, "warmup_steps": 1}}
        return {"name": name, "recipe": "configs/pfed/demo_alone.yaml", "options": options, **more}

    after = row("after", 2, evaluate=False)
    after["options"] |= {"start": "{runs}/short-{seed}"}
    values = {
        "out": "out",
        "shards": str(shards.folder),
        "options": SMALL,
        "rows": [row("long", STEPS), row("short", 2), after],
    }
    path = folder / "smoke.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.slow
def test_a_preempted_row_of_two_nodes_goes_on_and_the_rows_behind_it_wait(
    cluster: Cluster, tiny_shards: ShardSet
) -> None:
    sweep = write_sweep(cluster.folder, tiny_shards)
    site = {"nodes": 2, "gpus_per_node": 1, "cpus_per_node": 1, "time": 30}
    cluster.site(**site, partition="nowhere")
    said = cluster.skydistill("sweep", sweep.name, "--slurm", code=2)
    assert "partition nowhere" in said and "main (2 nodes, gpu:2)" in said
    cluster.site(**site | {"gpus_per_node": 4})
    words = ("sweep", sweep.name, "--options.data.global_batch", 8)
    assert "with 4 GPU(s) each" in cluster.skydistill(*words, "--slurm", code=2)
    assert not (cluster.folder / "out").exists(), "nothing was submitted"

    cluster.site(**site)
    said = cluster.skydistill("sweep", sweep.name, "--slurm", "--dry-run")
    assert "bash -n and sbatch --test-only accept all scripts" in said
    said = cluster.skydistill("sweep", sweep.name, "--slurm")
    jobs = json.loads((cluster.folder / "out/slurm/jobs.json").read_text())
    assert [line.split(";")[1] for line in said.splitlines() if line.startswith("job ")] == [
        " waits for nothing",
        f" waits for students ({jobs['students']}), row by row",
        f" waits for students ({jobs['students']}), row by row",
        " waits for the end of all",
    ]

    assert not (cluster.folder / "out/mlflow.db").exists()
    run = cluster.folder / "out/runs/long-0"
    cluster.wait((run / "metrics.jsonl").is_file, seconds=300)
    cluster.run("scancel", "--signal=USR1", "--batch", f"{jobs['students']}_0")
    name = "smoke-students"
    cluster.wait(lambda: [name, "0", "PENDING", "BeginTime"] in cluster.queue(), seconds=300)
    ended = read_exit(run)
    assert ended is not None and ended["code"] == 75
    assert "BeginTime" in cluster.skydistill("sweep", sweep.name, "--status")
    cluster.run("scontrol", "update", f"JobId={jobs['students']}_0", "StartTime=now")
    cluster.wait(lambda: not cluster.queue(), seconds=300)

    ended = read_exit(run)
    assert ended is not None and ended["code"] == 0
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["step"] for line in lines} == set(range(1, STEPS + 1))
    assert len(lines) == STEPS + 1, "each step once, and what the run came to"
    (log,) = (cluster.folder / "out/logs").glob("smoke-students-*_0.out")
    assert "attempt 1" in log.read_text() and "attempt 2" in log.read_text()
    assert "2 ranks" in log.read_text()
    for name in ("comparison.md", "comparison.html"):
        assert "long" in (cluster.folder / "out" / name).read_text()
    client = MlflowClient(f"sqlite:///{cluster.folder / 'out/mlflow.db'}")
    (experiment,) = (one for one in client.search_experiments() if one.name == "demo")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert runs.keys() == {"smoke", "long", "short", "after"}, "jobs spooled; each is there once"
    for name in ("long", "short", "after"):
        assert runs[name].data.tags["mlflow.parentRunId"] == runs["smoke"].info.run_id
    totals = client.get_metric_history(runs["long"].info.run_id, "train/total")
    assert sorted(one.step for one in totals) == list(range(1, STEPS + 1))
    assert runs["long"].data.metrics["test/d2s/recall_at_1"] >= 0


@pytest.mark.slow
def test_what_is_finished_is_not_done_again(cluster: Cluster) -> None:
    shutil.rmtree(cluster.folder / "out/runs/short-0/evaluations")
    assert "give --resume" in cluster.skydistill("sweep", "smoke.yaml", "--slurm", code=2)
    said = cluster.skydistill("sweep", "smoke.yaml", "--resume")
    assert "finished before: students\nfinished before: students-2\n" in said
    assert "evaluate-students, 2 rows, each on 1 node(s) with 1 GPU(s); waits for nothing" in said
    cluster.wait(lambda: not cluster.queue(), seconds=300)
    logs = [path.read_text() for path in cluster.logs() if "evaluate" in path.name]
    assert sum("finished before" in log for log in logs) == 1
    assert (cluster.folder / "out/runs/short-0/evaluations/test/report.json").is_file()
    assert cluster.skydistill("sweep", "smoke.yaml", "--status").count(": done") == 5


@pytest.mark.slow
def test_a_stage_alone_waits_for_what_it_builds_on(cluster: Cluster) -> None:
    words = ("sweep", "smoke.yaml", "--slurm", "--only", "evaluations")
    said = cluster.skydistill(*words, "--out", "elsewhere", code=2)
    assert "build on students, and elsewhere/runs/long-0 is neither finished nor" in said
    for script in ("submit.sh", "evaluations.sh", "comparison.sh"):
        shutil.copy(ROOT / "slurm" / script, cluster.folder / "slurm")
    shutil.rmtree(cluster.folder / "out/runs/short-0/evaluations")
    (cluster.folder / "out/comparison.html").unlink()
    for script in ("evaluations.sh", "comparison.sh"):
        cluster.run("env", "SWEEP=smoke.yaml", "bash", f"slurm/{script}")
    jobs = json.loads((cluster.folder / "out/slurm/jobs.json").read_text())
    assert jobs.keys() == {"evaluate-students", "comparison"}
    cluster.wait(lambda: not cluster.queue(), seconds=300)
    assert "short" in (cluster.folder / "out/comparison.html").read_text()


@pytest.mark.slow
def test_what_is_cancelled_saves_and_stays_cancelled(cluster: Cluster) -> None:
    words = ("sweep", "smoke.yaml", "--out", "cancelled")
    cluster.skydistill(*words, "--slurm")
    run = cluster.folder / "cancelled/runs/long-0"
    cluster.wait((run / "metrics.jsonl").is_file, seconds=300)
    assert "jobs in the queue" in cluster.skydistill(*words, "--resume", code=2)
    assert "are cancelled" in cluster.skydistill(*words, "--cancel")
    cluster.wait(lambda: not cluster.queue(), seconds=120)
    ended = read_exit(run)
    assert ended is not None and ended["code"] == 75
    assert "ended with 75" in cluster.skydistill(*words, "--status")
    assert not cluster.queue(), "the script did not queue it again"
