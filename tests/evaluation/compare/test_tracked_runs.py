"""Finished runs read back from a real MLflow store, and what is said where there is none."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from data_shards.errors import TrackingError
from distill.run_folder import RunPaths
from distill.tracking import Tracker
from evaluation.compare.collect import read_runs
from tests.distill.conftest import NO_SERVER


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two runs as training and evaluation record them: one evaluated twice, one never."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    for name, files in (("student", ("university1652", "sues200")), ("teacher", ())):
        paths = RunPaths(folder / name)
        paths.folder.mkdir()
        tracker = Tracker(paths)
        params = {"seed": "3", "model.arch": "convnext_tiny"}
        tracker.start(name=name, experiment="E", uri=uri, params=params, tags={"role": "alone"})
        tracker.log(7, {"test/d2s/recall_at_1": 0.25})
        for file in files:
            path = paths.folder / file / "report.json"
            path.parent.mkdir()
            path.write_text(json.dumps({"from": file}))
            tracker.log_artifact(path, folder=f"evaluations/{file}")
        figure = paths.folder / "figure.png"
        figure.write_bytes(b"no JSON")
        tracker.log_artifact(figure, folder="evaluations/sues200" if files else "")
        tracker.finish("FINISHED")
    return uri


def test_runs_come_with_recipe_metrics_tags_and_every_evaluation(store: str) -> None:
    (student, evaluations), (teacher, none) = read_runs(store, experiment="E")
    assert (student.info.run_name, teacher.info.run_name) == ("student", "teacher")
    assert student.data.params == {"seed": "3", "model.arch": "convnext_tiny"}
    assert student.info.status == "FINISHED"
    assert evaluations == {
        "university1652": {"from": "university1652"},
        "sues200": {"from": "sues200"},
    }
    assert none == {}


def names_in(store: str) -> list[str]:
    return [run.info.run_name for run, _ in read_runs(store, experiment="E")]


def test_deleted_runs_are_left_out_and_a_second_page_is_read(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = MlflowClient.search_runs
    monkeypatch.setattr(
        MlflowClient, "search_runs", lambda *args, **asked: search(*args, **asked, max_results=1)
    )
    assert names_in(store) == ["student", "teacher"]
    client = MlflowClient(store)
    (newest,) = client.search_runs([client.get_experiment_by_name("E").experiment_id])
    client.delete_run(newest.info.run_id)
    try:
        assert names_in(store) == ["student"]
    finally:
        client.restore_run(newest.info.run_id)


def test_an_experiment_that_is_not_there_names_the_nearest(store: str) -> None:
    MlflowClient(store).create_experiment("skydistill")
    with pytest.raises(TrackingError, match=r"'skydistil' is unknown \(did you mean 'skydistill'"):
        read_runs(store, experiment="skydistil")


def test_a_store_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="does not exist; give another with --tracking-uri"):
        read_runs(f"sqlite:///{tmp_path / 'mlflow.db'}", experiment="E")
    assert not list(tmp_path.iterdir())
    for uri in (str(tmp_path / "folder"), "nosuch://store"):
        with pytest.raises(TrackingError, match=f"MLflow at {uri} cannot be read"):
            read_runs(uri, experiment="E")
    assert not list(tmp_path.iterdir())


def test_a_store_without_its_scheme_is_told_how_to_write_it(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"")
    with pytest.raises(TrackingError, match=f"give it as an address, sqlite:///{path}"):
        read_runs(str(path), experiment="E")


def test_a_server_that_does_not_answer_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with pytest.raises(TrackingError, match=f"MLflow at {NO_SERVER} cannot be read .*report files"):
        read_runs(NO_SERVER, experiment="E")
    assert not caplog.records, "no line for every try"
