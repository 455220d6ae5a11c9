"""Sweeps in a real MLflow store: a run above those of the rows; what spooled arrives once."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from data_shards.errors import RecipeError, TrackingError
from data_shards.lock import hold
from data_shards.manifest import write_json
from distill.config.tracking import TrackingConfig
from distill.mlflow_runs import read_link
from distill.run_folder import RunPaths, record_exit
from distill.tracking import Tracker, continue_run, tracking_uri
from launch import cli
from launch.config import SweepConfig
from launch.demo import Stage
from launch.tracking import begin_sweep, sync
from tests.distill.conftest import environment

ROWS = ("a", "b")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SQLite store, set up by the first run that is brought to it."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep that spooled: one row was trained to its end, one failed."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "out"
    stage = Stage(name="a", title="a", argv=[], tracking=TrackingConfig(experiment="sweeps"))
    begin_sweep(
        SweepConfig(out=folder, shards=Path("shards"), rows=()),
        [stage],
        name="heights",
        uri="spool",
    )
    for row, code in zip(ROWS, (0, 1), strict=True):
        tracker = spooled(folder / "runs" / row, sweep=folder)
        for step in (1, 2, 3):
            tracker.log(step, {"train/total": 1.0 / step})
        for step, recall in ((2, 0.75), (3, 0.5)):
            tracker.log(step, {"probe/d2s/recall_at_1": recall, "probe/d2s/ap": recall / 2})
        tracker.finish("FINISHED")
        record_exit(tracker.paths, code=code, reason="said so")
    return folder


@pytest.mark.parametrize(("is_evaluated", "status"), [(False, "FAILED"), (True, "FINISHED")])
def test_a_sweep_has_ended_well_when_all_it_promised_is_there(
    tmp_path: Path, store: str, is_evaluated: bool, status: str
) -> None:
    folder, name = tmp_path / "out", f"promises-{status}"
    run = RunPaths(folder / "runs" / "a")
    asked = TrackingConfig(experiment=name)
    stages = [
        Stage(name="a", title="a", argv=[], run="a", makes=run.folder, tracking=asked),
        Stage(name="evaluate-a", title="evaluate a", argv=[], uses=(run.folder,)),
    ]
    begin_sweep(
        SweepConfig(out=folder, shards=Path("shards"), rows=()), stages, name=name, uri="spool"
    )
    assert not list(folder.parent.glob("mlflow.db")), "nor when it is brought before a row began"
    list(sync(folder, store))
    spooled(run.folder, sweep=folder).finish("FINISHED")
    record_exit(run, code=0, reason="said so")
    run.weights.touch()
    if is_evaluated:
        (run.folder / "evaluations/test").mkdir(parents=True)
        (run.folder / "evaluations/test/report.json").touch()
    list(sync(folder, store))
    assert runs_in(store, name)[name].info.status == status


def spooled(folder: Path, *, sweep: Path | None = None, uri: str | None = None) -> Tracker:
    paths = RunPaths(folder)
    paths.folder.mkdir(parents=True)
    tracker = Tracker(paths)
    tracker.start(
        name=folder.name,
        experiment="rows",
        uri=tracking_uri(paths, uri, sweep=sweep),
        params={"seed": "0"},
        tags={"role": "alone"},
        sweep=sweep,
    )
    return tracker


def runs_in(uri: str, experiment: str) -> dict[str, Run]:
    client = MlflowClient(uri)
    (known,) = (one for one in client.search_experiments() if one.name == experiment)
    runs = client.search_runs([known.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs), "each once"
    return {run.info.run_name: run for run in runs}


def everything(uri: str, runs: dict[str, Run]) -> dict[tuple[str, str], list[tuple[object, ...]]]:
    """Every point of every metric, with its time."""
    client = MlflowClient(uri)
    return {
        (name, key): [(m.step, m.value, m.timestamp) for m in history]
        for name, run in runs.items()
        for key in run.data.metrics
        if (history := client.get_metric_history(run.info.run_id, key))
    }


def test_a_sweep_that_spooled_is_brought_to_its_own_store_once(out: Path) -> None:
    assert not (out / "mlflow.db").exists()
    checkpoint = out / "runs/a/checkpoints/step-00000002"
    checkpoint.mkdir(parents=True)
    write_json(checkpoint / "state.json", {"state": {"step": 2}, "sha256": {"weights": "abc"}})
    (out / "comparison.html").write_text("<table>")
    assert cli.mlflow(["sync", str(out)]) == 0
    uri = f"sqlite:///{out / 'mlflow.db'}"
    runs = runs_in(uri, "sweeps")
    assert {name: run.info.status for name, run in runs.items()} == {
        "heights": "FAILED",
        "a": "FINISHED",
        "b": "FAILED",
    }
    parent, client = runs["heights"].info.run_id, MlflowClient(uri)
    assert {runs[row].data.tags["mlflow.parentRunId"] for row in ROWS} == {parent}
    assert [file.path for file in client.list_artifacts(parent)] == ["comparison.html"]
    metrics = runs["a"].data.metrics
    assert metrics["best/d2s/recall_at_1"] == 0.75 and metrics["best/step"] == 2
    assert metrics["final/d2s/recall_at_1"] == 0.5 and metrics["final/d2s/ap"] == 0.25
    assert len(runs["a"].data.tags["mlflow.source.git.commit"]) == 40
    (file,) = client.list_artifacts(runs["a"].info.run_id)
    kept = json.loads(Path(client.download_artifacts(runs["a"].info.run_id, file.path)).read_text())
    assert kept["checkpoints"] == [
        {
            "step": 2,
            "path": str(checkpoint),
            "metrics": {"d2s/recall_at_1": 0.75, "d2s/ap": 0.375},
            "sha256": {"weights": "abc"},
        }
    ]

    before, ended = everything(uri, runs), runs["a"].info.end_time
    *lines, view = sync(out)
    assert all(": 0 lines sent" in line for line in lines)
    assert view.endswith(
        "/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=heights"
    )
    again = runs_in(uri, "sweeps")
    assert again.keys() == runs.keys() and everything(uri, again) == before
    assert again["a"].info.end_time == ended

    assert tracking_uri(RunPaths(out / "runs/c"), None, sweep=out) == "spool", "jobs go on spooling"
    with continue_run(RunPaths(out / "runs/a")) as evaluation:
        evaluation.log(3, {"test/d2s@150/recall_at_1".replace("@", "-"): 0.25})
        evaluation.log_dataset("sues200", "f" * 64, "shards", context="test")
    assert "test" not in str(runs_in(uri, "sweeps")["a"].data.metrics)
    assert sum("2 lines sent" in line for line in sync(out / "runs/a")) == 1
    run = runs_in(uri, "sweeps")["a"]
    assert run.data.metrics["test/d2s-150/recall_at_1"] == 0.25
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.tags[0].value) == ("sues200-test", "test")


@pytest.mark.slow
@pytest.mark.parametrize("before", ["create_run", "log_batch", "set_terminated"])
def test_a_sync_that_is_killed_and_repeated_gives_the_same(out: Path, before: str) -> None:
    """It is killed right after its first call of that name, which had reached the store."""
    uri = f"sqlite:///{out / 'mlflow.db'}"
    program = f"""
import os
from pathlib import Path
from mlflow import MlflowClient
from launch.tracking import sync
call = MlflowClient.{before}
def last(*given, **asked):
    call(*given, **asked)
    os.kill(os.getpid(), 9)
MlflowClient.{before} = last
list(sync(Path({str(out)!r})))
"""
    told = {**environment(), "MLFLOW_TRACKING_URI": ""}
    ended = subprocess.run([sys.executable, "-c", program], env=told)
    assert ended.returncode == -signal.SIGKILL
    assert list(sync(out))
    runs = runs_in(uri, "sweeps")
    assert runs.keys() == {"heights", *ROWS}
    assert [run.data.params for run in runs.values()].count({"seed": "0"}) == 2
    points = everything(uri, runs)
    for row in ROWS:
        assert [point[:2] for point in points[row, "train/total"]] == [(1, 1), (2, 0.5), (3, 1 / 3)]
        assert [point[1] for point in points[row, "probe/d2s/ap"]] == [0.375, 0.25]


def test_a_killed_run_is_told_from_one_that_trains(tmp_path: Path, store: str) -> None:
    tracker = spooled(tmp_path / "killed", uri="spool")
    tracker.log(1, {"train/total": 1.0})
    with hold(tracker.paths.lock):
        assert "1 lines sent" in next(sync(tracker.paths.folder, store))
        assert runs_in(store, "rows")["killed"].info.status == "RUNNING"
    assert f"0 lines sent to {store}" in next(sync(tracker.paths.folder))
    assert runs_in(store, "rows")["killed"].info.status == "KILLED"


def test_a_spool_may_move_with_its_run(tmp_path: Path, store: str) -> None:
    tracker = spooled(tmp_path / "node", uri="spool")
    (tracker.paths.folder / "note.txt").write_text("ours")
    tracker.log_artifact(tracker.paths.folder / "note.txt", folder="notes")
    moved = tracker.paths.folder.rename(tmp_path / "laptop")
    assert list(sync(moved, store))
    files = MlflowClient(store).list_artifacts(read_link(RunPaths(moved))["run_id"], "notes")
    assert [file.path for file in files] == ["notes/note.txt"]


def test_what_cannot_be_synced_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="has no mlflow.json; give the folder of a run"):
        cli.mlflow(["sync", str(tmp_path)])
    with pytest.raises(RecipeError, match="mlflow sync FOLDER"):
        cli.mlflow(["serve"])
    spooled(tmp_path / "run", uri="spool")
    with pytest.raises(TrackingError, match="does not answer .*it goes on where it was"):
        cli.mlflow(["sync", str(tmp_path / "run"), "--tracking-uri", "http://127.0.0.1:9"])
