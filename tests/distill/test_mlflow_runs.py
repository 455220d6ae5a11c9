"""Trainings as MLflow tells of them, and a trained model as a user of MLflow loads it."""

import threading
import time
from contextlib import nullcontext
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from data_shards.decode import resize
from data_shards.errors import DivergedError
from data_shards.shards import ShardSet
from distill import attempt, mlflow_runs
from distill.attempt import one_rank_tells, train_once
from distill.mlflow_runs import read_link, watch_node
from distill.models.preprocess import normalize
from distill.run_folder import RunPaths
from distill.tracking import Tracker
from distill.weights_file import load_student
from launch.tracking import sync
from tests.distill.conftest import MakeConfig, save_newborn


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SQLite store, set up by the first run that is brought to it."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.mark.parametrize(
    ("learning_rate", "is_stopped", "status"),
    [(1e-3, False, "FINISHED"), (1e-3, True, "KILLED"), (1e9, False, "FAILED")],
)
def test_a_training_tells_how_it_ended(
    make_config: MakeConfig, store: str, learning_rate: float, is_stopped: bool, status: str
) -> None:
    config = make_config(
        tracking={"uri": store}, optimizer={"learning_rate": learning_rate}, save_every_steps=2
    )
    paths = RunPaths(config.run_folder)
    paths.folder.mkdir()
    if is_stopped:
        paths.stop.touch()
    diverges = pytest.raises(DivergedError) if status == "FAILED" else nullcontext()
    with diverges, one_rank_tells(config):
        code = train_once(config, recipe="tiny.yaml", make_probes=lambda *_: [])
        assert code == (75 if is_stopped else 0)
    assert len(list(sync(paths.folder))) == 1, "what stops early does not wait long for MLflow"
    client = MlflowClient(store)
    run = client.get_run(read_link(paths)["run_id"])
    assert run.info.status == status
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"recipe.yaml", "environment.json"} <= files
    assert ("checkpoints.json" in files) == (status != "FAILED")
    assert (len(run.outputs.model_outputs) == 1) == (status == "FINISHED")
    (trained_on,) = run.inputs.dataset_inputs
    assert trained_on.dataset.digest == ShardSet.open(config.data.shards).fingerprint[:36]


def test_mlflow_tells_of_every_node_until_the_run_has_ended(
    make_config: MakeConfig, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(attempt, "watch_node", lambda paths, node: asked.append((paths, node)))
    config = make_config(tracking={"uri": store, "system_metrics": True})
    paths = RunPaths(config.run_folder)
    train_once(config, recipe="tiny.yaml", make_probes=lambda *_: [])
    assert asked == [(paths, "node0")]

    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    monkeypatch.setattr(mlflow_runs, "SECONDS_BETWEEN_WATCHES", 0.2)
    answer, failures = MlflowClient.get_run, [1, 2]

    def get_run(client: MlflowClient, run_id: str) -> Run:
        if failures and "system metrics" in threading.current_thread().name:
            raise MlflowException(f"busy {failures.pop()}")
        return answer(client, run_id)

    monkeypatch.setattr(MlflowClient, "get_run", get_run)
    client, run_id = MlflowClient(store), read_link(paths)["run_id"]
    client.update_run(run_id, status="RUNNING")
    watching = [watch_node(paths, node=node) for node in ("node0", "node1")]
    wanted = {f"system/node{number}/cpu_utilization_percentage" for number in (0, 1)}
    deadline = time.monotonic() + 60
    while missing := wanted - client.get_run(run_id).data.metrics.keys():
        assert time.monotonic() < deadline, missing
        time.sleep(0.1)
    assert not failures, "a store that fails for a moment is asked again"
    client.set_terminated(run_id)
    for thread in watching:
        thread.join(timeout=60)
        assert not thread.is_alive()


def test_a_student_is_loaded_from_mlflow_and_describes_images(
    tmp_path: Path, store: str, tiny_shards: ShardSet
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 32, 3), np.uint8)
    for number, recall in enumerate((0.5, 0.25)):
        trained = save_newborn(tmp_path / f"trained-{number}", tiny_shards, seed=number)
        loaded = load_student(trained)
        paths = RunPaths(tmp_path / f"model-{number}")
        paths.folder.mkdir()
        tracker = Tracker(paths)
        asked = {"name": "model", "experiment": "models", "uri": store, "params": {}, "tags": {}}
        tracker.start(**asked)
        tracker.log(1, {"probe/d2s/recall_at_1": recall})
        weights = RunPaths(trained).weights
        for register in (None, "tiny student"):  # a later attempt does it again
            tracker.log_model(weights, width=loaded.model.width, register=register)
        tracker.finish("FINISHED")
        assert read_link(paths)["unsent"] == []
        run_id = read_link(paths)["run_id"]
        mlflow.set_tracking_uri(store)
        try:
            model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
            best = mlflow.pyfunc.load_model("models:/tiny student@best")
        finally:
            mlflow.set_tracking_uri(None)
        resized = np.stack(
            [resize(image, size=32, resampling=loaded.resampling) for image in images]
        )
        with torch.no_grad():
            expected = loaded.model.describe(normalize(torch.from_numpy(resized))).numpy()
        np.testing.assert_array_equal(model.predict(images), expected)
        np.testing.assert_array_equal(best.predict(images) == expected, number == 0)
        assert model.metadata.signature.outputs.inputs[0].shape == (-1, loaded.model.width)
        with pytest.raises(mlflow.exceptions.MlflowException, match="uint8"):
            model.predict(images.astype(np.float64))
    beside = Path(store.removeprefix("sqlite:///")).parent / "mlartifacts"
    logged = [file.name for file in beside.rglob("*") if file.is_file()]
    assert logged.count("model.safetensors") >= 2 and ".pkl" not in str(logged)
