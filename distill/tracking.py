"""Metrics to a file first and to MLflow in batches: a dead tracking server costs nothing.

The only file that imports mlflow, in the thread that sends and for who reads runs back
(`evaluation/compare`). Rank 0 alone has a tracker that does anything.
"""

import json
import logging
import os
import re
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from data_shards.errors import TrackingError
from data_shards.lock import hold
from data_shards.manifest import write_json, write_text_aside
from distill.run_folder import RunPaths

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

SECONDS_BETWEEN_BATCHES = 2.0
MOST_SECONDS_BETWEEN_TRIES = 60.0
MOST_METRICS_PER_CALL = 1000

SECONDS_TO_FINISH = 60.0
SECONDS_TO_ABANDON = 5.0
"""How long the end of a run waits for MLflow: when all is well, and when it stops early or MLflow
does not answer."""

SQLITE = "sqlite:///"
"""Begins the address of a store that is a file."""

METRIC_NAME = re.compile(r"[\w.\-:/ ]+")
"""What MLflow takes: `recall@1%` is written `recall_at_1_percent`."""

QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Defaults for unreachable servers and machines without a network; the user's own settings win."""


PAGE = {"mlflow.experimentKind": "custom_model_development"}
"""Opens the experiment's page on training runs, not on language model traces."""


def tracking_uri(paths: RunPaths, uri: str | None) -> str:
    """Return where runs are recorded: as asked, as the environment says, else beside the run."""
    beside = f"sqlite:///{(paths.folder.parent / 'mlflow.db').resolve()}"
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or beside


class Tracker:
    """One run's metrics: `log` appends to `metrics.jsonl`; a thread carries new lines to MLflow."""

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths
        self._sender: _Sender | None = None
        self._has_lost_lines = False

    def rewind(self, step: int) -> None:
        """Forget the lines behind `step`, before `start`: a resumed run writes them again."""
        if not self.paths.metrics.is_file():
            return
        text = "".join(
            json.dumps(entry) + "\n"
            for entry in _read_spool(self.paths)[0]
            if int(entry["step"]) <= step
        )
        write_text_aside(self.paths.metrics, text)
        if link := _read_link(self.paths):
            sent = min(int(link["sent_bytes"]), len(text.encode()))
            write_json(self.paths.mlflow, link | {"sent_bytes": sent})

    def start(
        self,
        *,
        name: str,
        experiment: str,
        uri: str,
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        """Record training: create the MLflow run, or continue the one this folder belongs to.

        Returns at once; the thread that sends imports mlflow and sets up the store.
        """
        asked: dict[str, Any] = {"uri": uri, "experiment": experiment, "name": name}
        asked |= {"params": dict(params), "tags": dict(tags)}
        fresh: dict[str, Any] = {"run_id": None, "sent_bytes": 0, "has_params": False}
        write_json(self.paths.mlflow, fresh | _read_link(self.paths) | asked)
        self.send(is_training=True)

    def send(self, *, is_training: bool) -> None:
        """Send new lines from now on; the run's status stays what it is without `is_training`."""
        _end_last_line(self.paths)
        self._sender = _Sender(self.paths, is_training=is_training)
        self._sender.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line of metrics; where the disk is full, it is lost and the run goes on."""
        bad = [name for name in metrics if not METRIC_NAME.fullmatch(name)]
        assert not bad, f"MLflow takes letters, digits and _-.:/ in a metric name, not {bad}"
        line = json.dumps({"step": step, "time": time.time(), "metrics": dict(metrics)})
        try:
            if self._has_lost_lines:
                _end_last_line(self.paths)
            with self.paths.metrics.open("a") as spool:
                spool.write(line + "\n")
        except OSError as error:
            if not self._has_lost_lines:
                log.warning(
                    "%s cannot be written (%s); free space: until then, its lines are lost",
                    self.paths.metrics,
                    error.strerror,
                )
            self._has_lost_lines = True

    def log_artifact(self, path: Path, *, folder: str = "") -> None:
        """Copy one file to the MLflow run, as soon as there is one; a failure warns and no more."""
        if self._sender is not None:
            self._sender.artifacts.append((path, folder))

    def finish(self, status: str | None = None) -> None:
        """Send what is left, and set the run's status (FINISHED, FAILED or KILLED) if one is given.

        Waits for MLflow, but not for long: what could not be sent stays in the spool.
        """
        if self._sender is None:
            return
        self._sender.status = status
        self._sender.stopping.set()
        is_hasty = self._sender.is_failing or status in ("FAILED", "KILLED")
        self._sender.join(SECONDS_TO_ABANDON if is_hasty else SECONDS_TO_FINISH)
        if self._sender.is_alive():
            log.warning(
                "MLflow did not take the end of the run in time; what it lacks is in %s and is "
                "sent when the run is started or evaluated again",
                self.paths.metrics,
            )


class _Sender(threading.Thread):
    """Opens the MLflow run and feeds it from the spool, so that training never waits for it."""

    def __init__(self, paths: RunPaths, *, is_training: bool) -> None:
        super().__init__(name="mlflow", daemon=True)
        self.paths, self.is_training = paths, is_training
        self.artifacts: deque[tuple[Path, str]] = deque()
        self.is_failing = False
        self._has_warned = False
        self.status: str | None = None
        self.stopping = threading.Event()
        self._client: MlflowClient | None = None
        self._run_id = ""

    def run(self) -> None:
        pause = SECONDS_BETWEEN_BATCHES
        is_last = False
        while not is_last:
            is_last = self.stopping.wait(pause if self._client or self.is_failing else 0)
            try:
                self._send()
                if is_last and self.status and self._client:
                    self._client.set_terminated(self._run_id, self.status)
                self.is_failing, pause = False, SECONDS_BETWEEN_BATCHES
            except Exception as error:  # noqa: BLE001 - logging must never stop training, whatever the store raises
                self.is_failing, pause = True, min(2 * pause, MOST_SECONDS_BETWEEN_TRIES)
                if not self._has_warned:
                    log.warning(
                        "MLflow at %s does not answer (%s); metrics are kept in %s and sent when "
                        "it does, in this run or when the run is started or evaluated again",
                        _read_link(self.paths).get("uri"),
                        first_line(error),
                        self.paths.metrics,
                    )
                self._has_warned = True

    def _send(self) -> None:
        """Bring MLflow up to date."""
        if self._client is None:
            self._client, self._run_id = self._open_run()
        self._send_new_lines(self._client)
        while self.artifacts:
            path, folder = self.artifacts.popleft()
            try:
                self._client.log_artifact(self._run_id, str(path), folder or None)
            except Exception as error:  # noqa: BLE001 - logging must never stop training, whatever the store raises
                log.warning("MLflow did not take %s (%s); it stays there", path, first_line(error))

    def _open_run(self) -> tuple["MlflowClient", str]:
        """Return a client and the id of this folder's run, created if the store has none."""
        link = _read_link(self.paths)
        uri, experiment = link["uri"], link["experiment"]
        store = Path(uri.removeprefix(SQLITE)).parent if uri.startswith(SQLITE) else None
        lock = (store or self.paths.folder.parent) / ".mlflow.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with hold(lock):  # processes that create one SQLite store together destroy it
            client = open_store(uri)
            known = client.get_experiment_by_name(experiment)
            # Files lie beside a SQLite store; a server has a place of its own.
            beside = (store / "mlartifacts").resolve().as_uri() if store else None
            experiment_id = (
                known.experiment_id
                if known
                else client.create_experiment(experiment, beside, tags=PAGE)
            )
        same = f"attributes.run_id = '{link['run_id']}'"
        # None where the run was deleted, or the store is another.
        if link["run_id"] and client.search_runs([link["experiment_id"]], same):
            if self.is_training:
                client.update_run(link["run_id"], status="RUNNING")
        else:
            run = client.create_run(experiment_id, run_name=link["name"], tags=link["tags"])
            link |= {"experiment_id": experiment_id, "run_id": run.info.run_id}
            link |= {"has_params": False, "sent_bytes": 0}
            write_json(self.paths.mlflow, link)
            if not self.is_training:
                client.set_terminated(link["run_id"])
        if not link["has_params"]:
            from mlflow.entities import Param

            params = [Param(key, value[:6000]) for key, value in link["params"].items()]
            client.log_batch(link["run_id"], params=params)
            write_json(self.paths.mlflow, link | {"has_params": True})
        return client, link["run_id"]

    def _send_new_lines(self, client: "MlflowClient") -> None:
        """Send the lines of the spool that MLflow has not seen, in as few calls as it allows."""
        from mlflow.entities import Metric

        link = _read_link(self.paths)
        entries, end = _read_spool(self.paths, start=link["sent_bytes"])
        metrics = [
            Metric(name, float(value), int(entry["time"] * 1000), int(entry["step"]))
            for entry in entries
            for name, value in entry["metrics"].items()
        ]
        for start in range(0, len(metrics), MOST_METRICS_PER_CALL):
            client.log_batch(self._run_id, metrics=metrics[start : start + MOST_METRICS_PER_CALL])
        if end > link["sent_bytes"]:
            write_json(self.paths.mlflow, link | {"sent_bytes": end})


@contextmanager
def continue_run(paths: RunPaths) -> Iterator[Tracker]:
    """Yield a tracker that adds an evaluation to the MLflow run which trained the model."""
    tracker = Tracker(paths)
    if _read_link(paths):
        tracker.send(is_training=False)
    else:
        log.info(
            "%s was not tracked by MLflow; metrics go to %s alone", paths.folder, paths.metrics
        )
    try:
        yield tracker
    finally:
        tracker.finish()


def open_store(uri: str) -> "MlflowClient":
    """Return a client of an MLflow store, quiet, and quick where a server does not answer.

    A SQLite store that is not there is made, aside first; call it under a lock then.

    Raises:
        TrackingError: the file of the store is one that MLflow would change, not knowing it.
    """
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    if uri.startswith(SQLITE):
        file = Path(uri.removeprefix(SQLITE))
        if file.is_file():
            _refuse_other_schema(file)
        else:
            aside = file.with_name(f".{file.name}.partial")  # what a kill leaves is begun anew
            aside.unlink(missing_ok=True)
            MlflowClient(f"{SQLITE}{aside}").search_experiments()
            aside.replace(file)
    return MlflowClient(uri)


def _refuse_other_schema(file: Path) -> None:
    """Refuse what opening would change: MLflow adds its tables to any file that lacks some."""
    import mlflow
    from alembic.script import ScriptDirectory

    try:
        address = f"{file.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as store:
            (found,) = store.execute("select version_num from alembic_version").fetchone()
            store.execute("select count(*) from experiments")
    except (sqlite3.Error, TypeError) as error:
        why = f"cannot be read ({error})"
        if isinstance(error, TypeError) or "no such table" in str(error):
            why = "is no MLflow store, or one whose making was interrupted"
        raise TrackingError(
            f"{file} {why}; it is left as it is: wait where it is locked, else move it away"
        ) from error
    script = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    if found != script.get_current_head():
        is_older = any(one.revision == found for one in script.walk_revisions())
        remedy = "install the MLflow that wrote it"
        if is_older:
            remedy = f"run mlflow db upgrade {SQLITE}{file}"
        raise TrackingError(
            f"{file} has schema {found}, and MLflow {mlflow.__version__} expects "
            f"{script.get_current_head()}; it is left as it is: back it up and {remedy}"
        )


def _read_spool(paths: RunPaths, *, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of the spool from byte `start` on, and where the last whole one ends."""
    if not paths.metrics.is_file():
        return [], start
    with paths.metrics.open("rb") as spool:
        spool.seek(start)
        text = spool.read()
    whole = text[: text.rfind(b"\n") + 1]
    entries = []
    for line in whole.splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:  # a kill cut it short, and a later attempt ended it
            log.warning("a line of %s is damaged and left out", paths.metrics)
    return entries, start + len(whole)


def _end_last_line(paths: RunPaths) -> None:
    """End a line that a kill cut short, so that the next one does not grow onto it."""
    if paths.metrics.is_file() and paths.metrics.stat().st_size:
        with paths.metrics.open("rb+") as spool:
            spool.seek(-1, os.SEEK_END)
            if spool.read(1) != b"\n":
                spool.write(b"\n")


def _read_link(paths: RunPaths) -> dict[str, Any]:
    """Return which MLflow run a folder belongs to; empty when it was never tracked."""
    return dict(json.loads(paths.mlflow.read_text())) if paths.mlflow.is_file() else {}


def first_line(error: Exception) -> str:
    """Return what an error of MLflow says, at most 200 characters of it; ours are whole."""
    if isinstance(error, TrackingError):
        return str(error)
    lines = str(error).splitlines()
    return shorten(lines[0], 200, placeholder=" ...") if lines else type(error).__name__
