"""The MLflow run of a run folder or a sweep: made once, fed from what lies in the folder.

`distill/tracking.py` writes there first. What is not in MLflow yet is carried there while training
goes on, or later by `skydistill mlflow sync`. mlflow is imported inside functions.
"""

import json
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from data_shards.lock import hold, hold_if_free
from data_shards.manifest import write_json
from distill.mlflow_store import SQLITE, first_line, open_store
from distill.run_folder import DONE, PREEMPTED, RunPaths, read_exit

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

log = logging.getLogger(__name__)

SPOOL = "spool"
"""Instead of an address: what a run has to tell stays in its folder until `mlflow sync`."""

PAGE = {"mlflow.experimentKind": "custom_model_development"}
"""Opens the experiment's page on training runs, not on language model traces."""

PARENT, COMMIT = "mlflow.parentRunId", "mlflow.source.git.commit"
FOLDER = "skydistill.folder"
"""Tag that finds the run of a folder again, whatever was killed between the two."""

SECONDS_BETWEEN_WATCHES = 10.0
"""After how long a store is asked again that did not take a node's metrics."""

MOST_METRICS, MOST_PARAMS, MOST_LETTERS = 1000, 100, 6000
"""That MLflow takes in one call, and in one parameter."""


class RunInStore:
    """The MLflow run of a folder, made if `store`, or the one that the folder names, has none."""

    def __init__(
        self, paths: RunPaths, *, store: str | None = None, is_training: bool = False
    ) -> None:
        self.paths, link = paths, read_link(paths)
        link["store"] = store or link["store"]
        self.client, experiment = _open_experiment(paths, link)
        from mlflow.entities import Param  # open_store makes it quiet first

        known = sorted({experiment, link["experiment_id"] or experiment})
        ours = f"tags.`{FOLDER}` = '{link['folder_id']}'"
        # None where the run was deleted, or the store is another.
        found = self.client.search_runs(known, ours)
        if found:
            run = found[0]
        else:
            tags = {**link["tags"], FOLDER: link["folder_id"]}
            run = self.client.create_run(experiment, link["began"], tags, link["name"])
            link |= {"sent_bytes": 0, "sent_records": 0, "unsent": []}
        self.run_id, self.experiment_id = run.info.run_id, run.info.experiment_id
        link |= {"run_id": self.run_id, "experiment_id": self.experiment_id}
        write_json(paths.mlflow, link)
        params = [
            Param(key, value[:MOST_LETTERS])
            for key, value in link["params"].items()
            if key not in run.data.params
        ]
        for start in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(self.run_id, params=params[start : start + MOST_PARAMS])
        parent = read_link(RunPaths(paths.folder / link["sweep"])) if link["sweep"] else {}
        if parent.get("run_id") and parent["store"] == link["store"]:
            self.client.set_tag(self.run_id, PARENT, parent["run_id"])
        self.is_new = not found
        self._refused: list[dict[str, Any]] = []
        if is_training:
            self.client.update_run(self.run_id, status="RUNNING")

    def send(self, *, again: bool = False) -> int:
        """Send what the folder has and MLflow has not, metrics first; return how many lines.

        Lines that were sent just before a kill are sent again: MLflow keeps one point of the same
        time, step and value, and one file of a name. A record that a store refuses keeps none
        behind it waiting; it is tried once, and `again`, and by a later attempt or sync.
        """
        from mlflow.entities import Metric

        with _held(self.paths.folder / ".mlflow.lock"):
            link = read_link(self.paths)
            entries, sent_bytes = read_lines(self.paths.metrics, start=link["sent_bytes"])
            metrics = [
                Metric(name, float(value), int(entry["time"] * 1000), int(entry["step"]))
                for entry in entries
                for name, value in entry["metrics"].items()
            ]
            for start in range(0, len(metrics), MOST_METRICS):
                self.client.log_batch(self.run_id, metrics[start : start + MOST_METRICS])
            records, sent_records = read_lines(self.paths.records, start=link["sent_records"])
            left = link.get("unsent", []) + records
            link |= {"sent_bytes": sent_bytes, "sent_records": sent_records, "unsent": left}
            if entries or records:
                write_json(self.paths.mlflow, link)
            num_sent = len(entries)
            for record in [one for one in left if again or one not in self._refused]:
                try:
                    self._send_record(**record)
                except Exception as error:  # noqa: BLE001 - whatever a store raises
                    self.client.get_run(self.run_id)  # raises too, where no store answers
                    if record not in self._refused:
                        self._refused.append(record)
                        log.warning("MLflow does not take %s (%s)", record, first_line(error))
                else:
                    left.remove(record)
                    write_json(self.paths.mlflow, link)
                    num_sent += 1
        return num_sent

    def _send_record(self, *, kind: str, source: str, **facts: Any) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if kind == "dataset":
            where, context = json.dumps({"uri": source}), facts["context"]
            # A run has a data set once: the context is in its name.
            name = f"{facts['name']}-{context}"
            dataset = Dataset(name, facts["digest"], "skydistill shards", where)
            tags = [InputTag("mlflow.data.context", context)]
            self.client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])
        elif not (file := self.paths.folder / source).is_file():
            log.warning("%s is gone, and MLflow does without it", file)
        elif kind == "model":
            self._log_model(str(file), **facts)
        else:
            self.client.log_artifact(self.run_id, str(file), facts["folder"] or None)

    def _log_model(self, weights: str, *, width: int, register: str | None) -> None:
        """Log weights as a model that describes images; one that is whole is left as it is."""
        import numpy as np
        from mlflow import pyfunc
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        ours = f"source_run_id = '{self.run_id}' AND name = 'model'"
        models = self.client.search_logged_models([self.experiment_id], ours)
        made = next((model for model in models if model.status == "READY"), None)
        if made is None:
            made = self.client.create_logged_model(self.experiment_id, "model", self.run_id)
            images = TensorSpec(np.dtype("uint8"), (-1, -1, -1, 3))
            descriptors = TensorSpec(np.dtype("float32"), (-1, width))
            with tempfile.TemporaryDirectory() as folder:
                pyfunc.save_model(
                    f"{folder}/model",
                    loader_module="distill.weights_file",
                    data_path=weights,
                    signature=ModelSignature(Schema([images]), Schema([descriptors])),
                    input_example=np.zeros((1, 8, 8, 3), np.uint8),
                    pip_requirements=["skydistill"],
                )
                self.client.log_model_artifacts(made.model_id, f"{folder}/model")
            self.client.finalize_logged_model(made.model_id, "READY")
        known = self.client.get_run(self.run_id).outputs
        if made.model_id not in [one.model_id for one in (known.model_outputs if known else [])]:
            self.client.log_outputs(self.run_id, [LoggedModelOutput(made.model_id, step=0)])
        if register:
            self._register(made, register)

    def _register(self, model: "LoggedModel", name: str) -> None:
        """Make a model a version of a registered one; the best by its probes is called `best`."""
        from mlflow.exceptions import MlflowException

        with suppress(MlflowException):  # there is one
            self.client.create_registered_model(name)
        if self.client.search_model_versions(f"name='{name}' AND run_id='{self.run_id}'"):
            return
        recall = max((recall for recall, _ in _probes(self.paths)), default=0.0)
        made = self.client.create_model_version(
            name,
            model.artifact_location,
            self.run_id,
            tags={"recall": str(recall)},
            model_id=model.model_id,
        )
        best = self.client.get_registered_model(name).aliases.get("best", made.version)
        if recall >= float(self.client.get_model_version(name, best).tags.get("recall", -1)):
            self.client.set_registered_model_alias(name, "best", made.version)

    def end(self, status: str | None = None) -> str:
        """Record how the run ended, as told or as its folder tells, and return the status.

        `best/` and `final/` are what probes came to, for tables that sort; `checkpoints.json` lists
        those that were kept.
        """
        from mlflow.entities import Metric

        status, probes = status or _status(self.paths), _probes(self.paths)
        if probes:
            last = probes[-1][1]
            best = max(probes, key=lambda probe: probe[0])[1]
            summary = [
                Metric(f"{word}/{name}", float(value), int(last["time"] * 1000), 0)
                for word, look in (("best", best), ("final", last))
                for name, value in {**look["metrics"], "step": look["step"]}.items()
            ]
            self.client.log_batch(self.run_id, summary)
        if status != "RUNNING":
            ended = (read_exit(self.paths.folder) or {}).get("time")
            self.client.set_terminated(self.run_id, status, ended and int(1000 * ended))
        kept = []
        for seal in sorted(self.paths.checkpoints.glob("step-*[0-9]/state.json")):
            meta = json.loads(seal.read_text())
            kept.append({"step": meta["state"]["step"], "path": str(seal.parent.resolve())})
            looks = [look["metrics"] for _, look in probes if look["step"] == kept[-1]["step"]]
            kept[-1] |= {"metrics": looks[-1] if looks else {}, "sha256": meta["sha256"]}
        if kept:
            self.client.log_dict(self.run_id, {"checkpoints": kept}, "checkpoints.json")
        return status


def begin_run(
    paths: RunPaths,
    *,
    name: str,
    experiment: str,
    uri: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    sweep: Path | None = None,
    promised: Sequence[str] = (),
) -> None:
    """Note in a folder which MLflow run it is to be, or go on being.

    `uri` is a store or `spool`; `sweep` the folder of the sweep that the run is part of, whose
    experiment is also the run's; `promised` the files without which a sweep has not ended well.
    """
    if sweep:
        experiment = read_link(RunPaths(sweep)).get("experiment", experiment)
    source = {"mlflow.source.name": sys.argv[0], "mlflow.source.type": "LOCAL"}
    with suppress(Exception):  # installed without a checkout, or no git here
        from git import Repo

        source[COMMIT] = Repo(Path(__file__).parents[1]).head.commit.hexsha
    link: dict[str, Any] = {"folder_id": uuid4().hex, "began": int(1000 * time.time())}
    link |= {"run_id": None, "experiment_id": None, "sent_bytes": 0, "sent_records": 0}
    link |= {"store": None, **read_link(paths), "uri": uri, "experiment": experiment, "name": name}
    link |= {"params": dict(params), "tags": {**tags, **source}, "promised": promised}
    link["sweep"] = os.path.relpath(sweep, paths.folder) if sweep else None
    write_json(paths.mlflow, link | ({} if uri == SPOOL else {"store": uri}))


def watch_node(paths: RunPaths, *, node: str) -> threading.Thread:
    """Have MLflow tell of this machine's processors, memory, disk, network and GPUs.

    As `system/NODE/...` of the run in a folder, from when it is in its store until it has ended.
    The thread ends with the process.
    """

    def watch() -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        while not (link := read_link(paths)).get("run_id"):
            if link.get("uri") == SPOOL:
                return
            time.sleep(1.0)
        run_id, store = link["run_id"], link["store"]
        client, is_over = open_store(store), False
        while not is_over:
            with suppress(Exception):  # a store that does not answer is asked again
                SystemMetricsMonitor(
                    run_id, resume_logging=True, node_id=node, tracking_uri=store
                ).monitor()
                is_over = client.get_run(run_id).info.status != "RUNNING"
            time.sleep(0 if is_over else SECONDS_BETWEEN_WATCHES)

    thread = threading.Thread(target=watch, name="mlflow system metrics", daemon=True)
    thread.start()
    return thread


def _status(paths: RunPaths) -> str:
    """Return the status of a run as its folder tells it; one that was killed -9 tells nothing."""
    if ended := read_exit(paths.folder):
        return {DONE: "FINISHED", PREEMPTED: "KILLED"}.get(ended["code"], "FAILED")
    with suppress(OSError):
        if (lock := hold_if_free(paths.lock)) is not None:
            lock.release()
            return "KILLED"
    return "RUNNING"


def _open_experiment(paths: RunPaths, link: Mapping[str, Any]) -> "tuple[MlflowClient, str]":
    """Return a client of a folder's store, and the experiment in it, both made where missing."""
    uri, name = link["store"], link["experiment"]
    store = Path(uri.removeprefix(SQLITE)).parent if uri.startswith(SQLITE) else None
    lock = (store or paths.folder.parent) / ".mlflow.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _held(lock):  # processes that create one SQLite store together destroy it
        client = open_store(uri)
        if known := client.get_experiment_by_name(name):
            return client, known.experiment_id
        # Files lie beside a SQLite store; a server has a place of its own.
        beside = (store / "mlartifacts").resolve().as_uri() if store else None
        return client, client.create_experiment(name, beside, tags=PAGE)


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Hold a lock while a block runs; on a file system without locks, nothing is held."""
    with ExitStack() as held:
        with suppress(OSError):
            held.enter_context(hold(lock))
        yield


def _probes(paths: RunPaths) -> list[tuple[float, dict[str, Any]]]:
    """Return the looks at held-out places in a spool, each with its mean recall@1."""
    looks = []
    for entry in read_lines(paths.metrics)[0]:
        names = {name.removeprefix("probe/"): value for name, value in entry["metrics"].items()}
        if len(names) and names.keys().isdisjoint(entry["metrics"]):
            recalls = [value for name, value in names.items() if name.endswith("/recall_at_1")]
            looks.append((mean(recalls or [0.0]), entry | {"metrics": names}))
    return looks


def read_lines(file: Path, *, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of a spool from byte `start` on, and where the last whole one ends."""
    if not file.is_file():
        return [], start
    with file.open("rb") as spool:
        spool.seek(start)
        text = spool.read()
    whole = text[: text.rfind(b"\n") + 1]
    entries = []
    for line in whole.splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:  # a kill cut it short, and a later attempt ended it
            log.warning("a line of %s is damaged and left out", file)
    return entries, start + len(whole)


def read_link(paths: RunPaths) -> dict[str, Any]:
    """Return which MLflow run a folder belongs to; empty when it was never tracked."""
    return dict(json.loads(paths.mlflow.read_text())) if paths.mlflow.is_file() else {}
