"""Metrics to a file first and to MLflow in batches: a dead tracking server costs nothing.

The only file that imports mlflow. Rank 0 alone has a tracker that does anything.
"""

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_shards.manifest import write_json
from distill.run_folder import RunPaths

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

SECONDS_BETWEEN_BATCHES = 2.0
MOST_METRICS_PER_CALL = 1000
SECONDS_TO_WAIT_AT_EXIT = 20.0

QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Defaults for unreachable servers and machines without a network; the user's own settings win."""


def tracking_uri(paths: RunPaths, uri: str | None) -> str:
    """Return where runs are recorded: as asked, as the environment says, else beside the run."""
    beside = f"sqlite:///{(paths.folder.parent / 'mlflow.db').resolve()}"
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or beside


class Tracker:
    """One run's metrics: `log` appends to `metrics.jsonl`; a thread carries new lines to MLflow."""

    def __init__(self, paths: RunPaths) -> None:
        """Open the spool; nothing is sent before `start`."""
        self.paths = paths
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._sent = 0
        self._wake, self._stop = threading.Event(), False
        self._sender: threading.Thread | None = None

    def start(
        self,
        *,
        name: str,
        experiment: str,
        uri: str,
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        """Create the MLflow run, or continue the one that this folder belongs to."""
        try:
            self._client, self._run_id, is_new = _open_run(self.paths, name, experiment, uri, tags)
            if is_new:
                _log_params(self._client, self._run_id, params)
        except Exception as error:  # noqa: BLE001 - logging must never stop training, whatever the store raises
            self._client = None
            log.warning(
                "MLflow at %s cannot be reached (%s); metrics are kept in %s and sent when "
                "the run is started again",
                uri,
                str(error).splitlines()[0][:200] if str(error) else type(error).__name__,
                self.paths.metrics,
            )
            return
        self._sent = _read_link(self.paths).get("sent_lines", 0)
        self._sender = threading.Thread(target=self._send_forever, name="mlflow", daemon=True)
        self._sender.start()

    def rewind(self, step: int) -> None:
        """Forget the lines behind `step`: a resumed run will write them again."""
        if not self.paths.metrics.is_file():
            return
        lines = _whole_lines(self.paths)
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        aside = self.paths.metrics.with_name(self.paths.metrics.name + ".partial")
        aside.write_text("".join(line + "\n" for line in kept))
        aside.replace(self.paths.metrics)
        if link := _read_link(self.paths):
            write_json(self.paths.mlflow, link | {"sent_lines": min(link["sent_lines"], len(kept))})

    @property
    def run_id(self) -> str:
        """Identifier of the MLflow run, or an empty string when there is none."""
        return self._run_id if self._client else ""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line of metrics; NaN is written as MLflow and JSON readers know it."""
        line = json.dumps({"step": step, "time": time.time(), "metrics": dict(metrics)})
        with self.paths.metrics.open("a") as spool:
            spool.write(line + "\n")
        self._wake.set()

    def log_artifact(self, path: Path, *, folder: str = "") -> None:
        """Copy one file to the MLflow run; a failure warns and no more."""
        if self._client is None:
            return
        try:
            self._client.log_artifact(self._run_id, str(path), folder or None)
        except Exception as error:  # noqa: BLE001 - logging must never stop training, whatever the store raises
            log.warning(
                "MLflow did not take %s (%s); it stays in the run folder", path, str(error)[:200]
            )

    def finish(self, status: str) -> None:
        """Send what is left, and set the run's status: FINISHED, FAILED or KILLED."""
        if self._client is None or self._sender is None:
            return
        self._stop = True
        self._wake.set()
        self._sender.join(SECONDS_TO_WAIT_AT_EXIT)
        try:
            self._client.set_terminated(self._run_id, status)
        except Exception as error:  # noqa: BLE001 - logging must never stop training, whatever the store raises
            log.warning(
                "MLflow did not take the end of the run (%s); metrics are in %s",
                str(error)[:200],
                self.paths.metrics,
            )

    def _send_forever(self) -> None:
        warned = False
        while True:
            stopping = self._stop
            try:
                self._send_new_lines()
            except Exception as error:  # noqa: BLE001 - logging must never stop training, whatever the store raises
                if not warned:
                    log.warning(
                        "MLflow stopped answering (%s); metrics are kept in %s and sent when "
                        "it does",
                        str(error)[:200],
                        self.paths.metrics,
                    )
                warned = True
            if stopping:
                return
            self._wake.wait(SECONDS_BETWEEN_BATCHES)
            self._wake.clear()
            if not self._stop:
                time.sleep(SECONDS_BETWEEN_BATCHES)

    def _send_new_lines(self) -> None:
        """Send the lines of the spool that MLflow has not seen, in as few calls as it allows."""
        from mlflow.entities import Metric

        assert self._client is not None, "only a started tracker sends"
        lines = _whole_lines(self.paths)
        metrics = [
            Metric(name, float(value), int(entry["time"] * 1000), int(entry["step"]))
            for entry in map(json.loads, lines[self._sent :])
            for name, value in entry["metrics"].items()
        ]
        for start in range(0, len(metrics), MOST_METRICS_PER_CALL):
            self._client.log_batch(
                self._run_id, metrics=metrics[start : start + MOST_METRICS_PER_CALL]
            )
        if len(lines) > self._sent:
            self._sent = len(lines)
            write_json(self.paths.mlflow, _read_link(self.paths) | {"sent_lines": self._sent})


@contextmanager
def continue_run(paths: RunPaths) -> Iterator[Tracker]:
    """Yield the tracker of a finished run, to add an evaluation to it."""
    tracker, link = Tracker(paths), _read_link(paths)
    if link:
        tracker.start(
            name=paths.folder.name,
            experiment=link["experiment"],
            uri=link["uri"],
            params={},
            tags={},
        )
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    finally:
        tracker.finish(status)


def _whole_lines(paths: RunPaths) -> list[str]:
    """Return the lines of the spool; one that a kill cut short is left out."""
    text = paths.metrics.read_text() if paths.metrics.is_file() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def _read_link(paths: RunPaths) -> dict[str, Any]:
    """Return which MLflow run a folder belongs to; empty when none."""
    return dict(json.loads(paths.mlflow.read_text())) if paths.mlflow.is_file() else {}


def _open_run(
    paths: RunPaths, name: str, experiment: str, uri: str, tags: Mapping[str, str]
) -> tuple["MlflowClient", str, bool]:
    """Return client, run id and whether the run is new; stores are set up one at a time."""
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient
    from mlflow.entities import RunStatus

    link = _read_link(paths)
    with _only_one_process(paths.folder.parent):
        client = MlflowClient(uri)
        known = client.get_experiment_by_name(experiment)
        artifacts = (
            (paths.folder.parent / "mlartifacts").resolve().as_uri()
            if uri.startswith("sqlite:")
            else None
        )
        experiment_id = (
            known.experiment_id if known else client.create_experiment(experiment, artifacts)
        )
    if link.get("uri") == uri:
        client.update_run(link["run_id"], status=RunStatus.to_string(RunStatus.RUNNING))
        return client, link["run_id"], False
    run = client.create_run(experiment_id, run_name=name, tags=dict(tags))
    write_json(
        paths.mlflow,
        {
            "uri": uri,
            "experiment": experiment,
            "experiment_id": experiment_id,
            "run_id": run.info.run_id,
            "sent_lines": 0,
        },
    )
    return client, run.info.run_id, True


def _log_params(client: "MlflowClient", run_id: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    client.log_batch(run_id, params=[Param(key, value[:6000]) for key, value in params.items()])


@contextmanager
def _only_one_process(folder: Path) -> Iterator[None]:
    """Hold a lock file: processes that create one SQLite store together destroy it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
