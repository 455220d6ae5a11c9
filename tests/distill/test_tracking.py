"""A real MLflow: a SQLite store, a server on 127.0.0.1, and a server that is not there."""

import json
import logging
import resource
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pandas
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from distill.mlflow_runs import RunInStore, read_lines
from distill.run_folder import RunPaths
from distill.tracking import Tracker, continue_run, tracking_uri
from tests.distill.conftest import NO_SERVER, metric_lines


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SQLite store, set up by the first tracker that uses it."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    paths = RunPaths(tmp_path / "run")
    paths.folder.mkdir()
    return paths


def start(paths: RunPaths, uri: str, **params: str) -> Tracker:
    tracker = Tracker(paths)
    tracker.start(
        name="tiny run", experiment="tests", uri=uri, params=params, tags={"role": "alone"}
    )
    return tracker


def link(paths: RunPaths) -> dict:
    return json.loads(paths.mlflow.read_text())


def history(paths: RunPaths, name: str) -> list[tuple[int, float]]:
    client = MlflowClient(link(paths)["uri"])
    return sorted((m.step, m.value) for m in client.get_metric_history(link(paths)["run_id"], name))


def run_of(paths: RunPaths):
    return MlflowClient(link(paths)["uri"]).get_run(link(paths)["run_id"])


def test_metrics_params_and_files_reach_a_store(paths, store):
    tracker = start(paths, store, **{"model.arch": "convnext_micro", "seed": "0"})
    assert link(paths)["run_id"] is None  # neither mlflow nor the store is waited for
    for step in range(3):
        tracker.log(step, {"train/total": 1.5 - step, "probe/d2s/recall_at_1": 0.25})
    note = paths.folder / "note.txt"
    note.write_text("ours")
    tracker.log_artifact(note, folder="notes")
    tracker.finish("FINISHED")
    run = run_of(paths)
    assert run.info.run_name == "tiny run" and run.info.status == "FINISHED"
    assert run.data.params == {"model.arch": "convnext_micro", "seed": "0"}
    assert run.data.tags["role"] == "alone"
    assert history(paths, "train/total") == [(0, 1.5), (1, 0.5), (2, -0.5)]
    files = MlflowClient(store).list_artifacts(run.info.run_id, "notes")
    assert [file.path for file in files] == ["notes/note.txt"]


def test_a_store_of_another_schema_is_left_alone_and_the_spool_is_kept(paths, tmp_path, caplog):
    file = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("create table alembic_version (version_num text)")
        other.execute("insert into alembic_version values ('451aebb31d03')")  # MLflow 1.0
        other.execute("create table experiments (name text)")
    before = file.read_bytes()
    tracker = start(paths, f"sqlite:///{file}")
    tracker.log(1, {"train/total": 1.0})
    tracker.finish("FINISHED")
    assert file.read_bytes() == before
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and "has schema 451aebb31d03, and MLflow" in said[0], said
    assert "run mlflow db upgrade" in said[0] and str(paths.metrics) in said[0]
    assert [line["step"] for line in metric_lines(paths)] == [1]


def test_what_a_killed_making_left_is_no_obstacle(paths, tmp_path):
    (tmp_path / ".mlflow.db.partial").write_bytes(b"half a store")
    tracker = start(paths, f"sqlite:///{tmp_path / 'mlflow.db'}")
    tracker.log(1, {"train/total": 1.0})
    tracker.finish("FINISHED")
    assert history(paths, "train/total") == [(1, 1.0)]
    assert not (tmp_path / ".mlflow.db.partial").exists()


def test_a_restart_continues_the_same_run(paths, store):
    first = start(paths, store, seed="0", keep_checkpoints="2")
    for step in (1, 2, 3):
        first.log(step, {"train/total": float(step)})
    first.finish("KILLED")
    run_id = link(paths)["run_id"]
    assert run_of(paths).info.status == "KILLED"

    second = Tracker(paths)
    second.rewind(2)
    assert [line["step"] for line in metric_lines(paths)] == [1, 2]
    second = start(paths, store, seed="0", keep_checkpoints="7")  # what may change, may
    second.log(3, {"train/total": 3.0})
    second.log(4, {"train/total": 4.0})
    second.finish("FINISHED")
    assert link(paths)["run_id"] == run_id
    assert sorted(set(history(paths, "train/total"))) == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert run_of(paths).info.status == "FINISHED"
    assert run_of(paths).data.params == {"seed": "0", "keep_checkpoints": "2"}


@pytest.mark.parametrize("status", ["FAILED", "FINISHED"])
def test_an_evaluation_leaves_the_status_alone(paths, store, status):
    tracker = start(paths, store)
    tracker.log(1, {"train/total": 1.0})
    deadline = time.monotonic() + 30
    while not link(paths)["sent_bytes"] and time.monotonic() < deadline:
        time.sleep(0.05)  # a failing run does not wait long for MLflow
    tracker.finish(status)
    with continue_run(paths) as more:
        more.log(1, {"test/d2s/recall_at_1": 0.5})
    assert run_of(paths).info.status == status
    assert history(paths, "test/d2s/recall_at_1") == [(1, 0.5)]


def test_a_dead_server_costs_a_warning_and_lines_arrive_later(paths, store, caplog):
    tracker = start(paths, NO_SERVER, seed="0")
    began = time.monotonic()
    for step in range(50):
        tracker.log(step, {"train/total": 1.0})
    assert time.monotonic() - began < 1
    tracker.finish("FINISHED")
    assert time.monotonic() - began < 15
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len([line for line in warned if "does not answer" in line]) == 1
    assert len(metric_lines(paths)) == 50

    with continue_run(paths) as evaluation:  # no failure here either
        evaluation.log(50, {"test/d2s/ap": 0.5})
    assert len(metric_lines(paths)) == 51 and link(paths)["run_id"] is None

    start(paths, store, seed="0").finish("FINISHED")
    assert history(paths, "train/total") == [(step, 1.0) for step in range(50)]
    assert history(paths, "test/d2s/ap") == [(50, 0.5)]


def test_a_line_cut_short_by_a_kill_is_left_out(paths, store):
    tracker = start(paths, store)
    tracker.log(1, {"train/total": 1.0})
    tracker.finish("FINISHED")
    with paths.metrics.open("a") as spool:
        spool.write('{"step": 2, "time": 17')
    with continue_run(paths) as evaluation:
        evaluation.log(1, {"test/d2s/ap": 0.5})
    assert history(paths, "test/d2s/ap") == [(1, 0.5)]
    assert history(paths, "train/total") == [(1, 1.0)]
    Tracker(paths).rewind(1)
    assert [line["step"] for line in metric_lines(paths)] == [1, 1]


def test_a_damaged_line_that_was_sent_takes_no_other_with_it(paths):
    tracker = start(paths, "spool")
    for step in (1, 2, 3):
        tracker.log(step, {"train/total": 1.0})
    first, second, third = paths.metrics.read_text().splitlines(keepends=True)
    damaged = '{"step": 1, "ti\n'
    paths.metrics.write_text(first + damaged + second + third)
    sent = len(first + damaged + second)
    paths.mlflow.write_text(json.dumps(link(paths) | {"sent_bytes": sent}))
    tracker.rewind(3)
    unsent, _ = read_lines(paths.metrics, start=link(paths)["sent_bytes"])
    assert [line["step"] for line in unsent] == [3]


def test_a_run_that_another_store_knows_nothing_of_is_recorded_there_in_full(
    paths, store, tmp_path
):
    tracker = start(paths, store)
    tracker.log(1, {"train/total": 1.0})
    tracker.finish("FINISHED")
    first = link(paths)["run_id"]
    MlflowClient(store).delete_run(first)
    start(paths, store).finish("FINISHED")
    assert link(paths)["run_id"] != first
    assert history(paths, "train/total") == [(1, 1.0)]


@pytest.mark.parametrize("name", ["recall@1", "recall_at_1%", ""])
def test_a_name_that_mlflow_refuses_is_our_mistake(paths, name):
    with pytest.raises(AssertionError, match="metric name"):
        Tracker(paths).log(1, {name: 0.5})


def test_lines_that_a_full_disk_loses_are_told_once_and_later_ones_are_whole(paths, caplog):
    tracker = Tracker(paths)
    tracker.log(1, {"train/total": 1.0})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (paths.metrics.stat().st_size + 10, limits[1]))
    try:
        tracker.log(2, {"train/total": 1.0})
        tracker.log(3, {"train/total": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    tracker.log(4, {"train/total": 1.0})
    assert caplog.text.count("metrics.jsonl cannot be written") == 1
    assert [entry["step"] for entry in read_lines(paths.metrics)[0]] == [1, 4]


@pytest.mark.parametrize("uri", ["a store", "spool"])
def test_metrics_are_in_a_csv_file_too_each_once(paths, store, uri):
    asked = {"name": "csv", "experiment": "tests", "params": {}, "tags": {}}
    asked["uri"] = store if uri == "a store" else uri
    for last in (3, 5):  # the second attempt resumes behind step 2
        tracker = Tracker(paths)
        tracker.rewind(2)
        tracker.start(csv=last == 3, **asked)
        for step in range(1 if last == 3 else 3, last + 1):
            tracker.log(step, {"train/total": 1 / step, "probe/d2s/ap": float(last)})
        tracker.finish("KILLED")
    with continue_run(paths) as evaluation:
        evaluation.log(5, {"test/d2s/ap": float("nan")})
    table = pandas.read_csv(paths.csv).pivot_table("value", "step", "name", dropna=False)
    assert table["train/total"].tolist() == [1 / step for step in range(1, 6)]
    assert table["probe/d2s/ap"].tolist() == [3, 3, 5, 5, 5]
    assert len(pandas.read_csv(paths.csv)) == 11, "each once"


def test_a_record_that_a_store_refuses_keeps_none_behind_it_waiting(
    paths, store, monkeypatch, caplog
):
    refused = ["bad.txt"]
    send = RunInStore._send_record

    def send_or_refuse(run: RunInStore, **record: str) -> None:
        if Path(record["source"]).name in refused:
            raise MlflowException("too large\nfor us")
        send(run, **record)

    monkeypatch.setattr(RunInStore, "_send_record", send_or_refuse)
    tracker = start(paths, store)
    for name in ("bad.txt", "good.txt"):
        (paths.folder / name).write_text(name)
        tracker.log_artifact(paths.folder / name)
    tracker.log(1, {"train/total": 1.0})
    tracker.finish("FINISHED")
    client, run_id = MlflowClient(store), link(paths)["run_id"]
    assert [file.path for file in client.list_artifacts(run_id)] == ["good.txt"]
    assert run_of(paths).info.status == "FINISHED" and history(paths, "train/total") == [(1, 1.0)]
    assert caplog.text.count("does not take") == 1 and "(too large)" in caplog.text
    refused.clear()
    assert RunInStore(paths).send() == 1 and RunInStore(paths).send() == 0
    assert [file.path for file in client.list_artifacts(run_id)] == ["bad.txt", "good.txt"]


def test_where_runs_are_recorded(paths, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(paths, None) == f"sqlite:///{paths.folder.parent / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    assert tracking_uri(paths, None) == "http://there"
    assert tracking_uri(paths, "http://asked") == "http://asked"


def test_a_run_that_was_never_tracked_can_be_evaluated(paths):
    with continue_run(paths) as tracker:
        tracker.log(1, {"test/d2s/ap": 0.5})
    assert len(metric_lines(paths)) == 1 and not paths.mlflow.exists()
