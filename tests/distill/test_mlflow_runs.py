"""A trained model as a user of MLflow loads it."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from data_shards.decode import resize
from data_shards.shards import ShardSet
from distill.mlflow_runs import read_link
from distill.models.preprocess import normalize
from distill.run_folder import RunPaths
from distill.tracking import Tracker
from distill.weights_file import load_student
from tests.distill.conftest import save_newborn


def test_a_student_is_loaded_from_mlflow_and_describes_images(
    tmp_path: Path, tiny_shards: ShardSet
) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
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
        tracker.log_model(weights, width=loaded.model.width, register="tiny student")
        tracker.finish("FINISHED")
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
    logged = [file.name for file in (tmp_path / "mlartifacts").rglob("*") if file.is_file()]
    assert logged.count("model.safetensors") == 2 and ".pkl" not in str(logged)
