"""What a run has to tell goes into its folder first, then to MLflow: a dead server costs nothing.

Rank 0 alone has a tracker that does anything. Metrics go to `metrics.jsonl`, all else to
`mlflow.jsonl`; threads carry both to MLflow, unless the run spools, and metrics to a CSV file.
"""

import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from typing import Any

from data_shards.manifest import write_json, write_text_aside
from distill.mlflow_runs import SPOOL, RunInStore, begin_run, read_lines, read_link
from distill.mlflow_store import SQLITE, first_line
from distill.run_folder import RunPaths

log = logging.getLogger(__name__)

SECONDS_BETWEEN_BATCHES = 2.0
MOST_SECONDS_BETWEEN_TRIES = 60.0

SECONDS_TO_FINISH = 60.0
SECONDS_TO_ABANDON = 4.0
"""How long the end of a run waits for MLflow: when all is well, and when it stops early or MLflow
does not answer."""

MOST_LETTERS_OF_A_DIGEST = 36

METRIC_NAME = re.compile(r"[\w.\-:/ ]+")
"""What MLflow takes: `recall@1%` is written `recall_at_1_percent`."""


def tracking_uri(paths: RunPaths, uri: str | None, *, sweep: Path | None = None) -> str:
    """Return where runs are recorded: as asked, as their sweep or the environment says, or beside.

    `spool` is no address: then nothing is sent.
    """
    of_sweep = read_link(RunPaths(sweep)).get("uri") if sweep else None
    beside = f"{SQLITE}{(paths.folder.parent / 'mlflow.db').resolve()}"
    return uri or of_sweep or os.environ.get("MLFLOW_TRACKING_URI") or beside


class Tracker:
    """What one run has to tell: written at once, and carried to MLflow by a thread."""

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths
        self._sender: _Sender | None = None
        self._csv: _CsvFile | None = None
        self._has_lost_lines = False

    def rewind(self, step: int) -> None:
        """Forget the lines behind `step`, before `start`: a resumed run writes them again."""
        if not self.paths.metrics.is_file():
            return
        link = read_link(self.paths)

        def lines(start: int) -> list[str]:
            entries, _ = read_lines(self.paths.metrics, start=start)
            return [json.dumps(entry) + "\n" for entry in entries if int(entry["step"]) <= step]

        kept, unsent = lines(0), lines(link.get("sent_bytes", 0))
        write_text_aside(self.paths.metrics, "".join(kept))
        if link:
            sent = len("".join(kept[: len(kept) - len(unsent)]).encode())
            write_json(self.paths.mlflow, link | {"sent_bytes": sent})

    def start(self, *, csv: bool = False, **asked: Any) -> None:
        """Record training as `begin_run` is told: as a new MLflow run, or this folder's.

        With `csv`, in `metrics.csv` too. Returns at once; the thread that sends imports mlflow and
        sets up the store.
        """
        begin_run(self.paths, **asked)
        self.send(is_training=True, csv=csv)

    def send(self, *, is_training: bool, csv: bool = False) -> None:
        """Send new lines from now on; the run's status stays what it is without `is_training`."""
        try:
            _end_last_line(self.paths.metrics)
            _end_last_line(self.paths.records)
        except OSError as error:  # the run is somebody else's
            log.warning("MLflow is told nothing: %s cannot be written", error.filename)
            return
        if csv or self.paths.csv.is_file():
            self._csv = _CsvFile(self.paths)
            self._csv.start()
        if read_link(self.paths)["uri"] != SPOOL:
            self._sender = _Sender(self.paths, is_training=is_training)
            self._sender.start()

    def log(self, step: int, metrics: Mapping[str, float], **facts: str) -> None:
        """Append one line of metrics and facts; where the disk is full, it is lost."""
        bad = [name for name in metrics if not METRIC_NAME.fullmatch(name)]
        assert not bad, f"MLflow takes letters, digits and _-.:/ in a metric name, not {bad}"
        line = {"step": step, "time": time.time(), "metrics": dict(metrics), **facts}
        self._append(self.paths.metrics, line)

    def log_artifact(self, path: Path, *, folder: str = "") -> None:
        """Let the MLflow run have a copy of a file."""
        self._record(kind="file", source=os.path.relpath(path, self.paths.folder), folder=folder)

    def log_dataset(self, name: str, fingerprint: str, source: str, *, context: str) -> None:
        """Name the shards that the run is trained or (`context`) tested on."""
        digest = fingerprint[:MOST_LETTERS_OF_A_DIGEST]
        self._record(kind="dataset", name=name, digest=digest, source=source, context=context)

    def log_model(self, weights: Path, *, width: int, register: str | None) -> None:
        """Let MLflow have a weight file as a model that describes images by so many numbers."""
        source = os.path.relpath(weights, self.paths.folder)  # which may move with it
        self._record(kind="model", source=source, width=width, register=register)

    def _record(self, **facts: object) -> None:
        if self.paths.mlflow.is_file():  # else the run is not tracked
            self._append(self.paths.records, facts)

    def _append(self, file: Path, line: Mapping[str, object]) -> None:
        """Append a line by three calls of the system: in each, the thread that sends may go on."""
        text = json.dumps(line).encode() + b"\n"
        try:
            if self._has_lost_lines:
                _end_last_line(file)
            handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                if os.write(handle, text) < len(text):
                    raise OSError(ENOSPC, os.strerror(ENOSPC))
            finally:
                os.close(handle)
        except OSError as error:
            if not self._has_lost_lines:
                log.warning(
                    "%s cannot be written (%s); free space: until then, its lines are lost",
                    file,
                    error.strerror,
                )
            self._has_lost_lines = True

    def finish(self, status: str | None = None) -> None:
        """Send what is left, and set the run's status (FINISHED, FAILED or KILLED) if one is given.

        Waits for MLflow, but not for long: what could not be sent stays in the spool.
        """
        if self._csv is not None:
            self._csv.stopping.set()
            self._csv.join(SECONDS_TO_ABANDON)
        if self._sender is None:
            return
        self._sender.status = status
        self._sender.stopping.set()
        begun, is_hasty = time.monotonic(), status in ("FAILED", "KILLED")
        while self._sender.is_alive():
            is_hasty = is_hasty or self._sender.is_failing
            most = SECONDS_TO_ABANDON if is_hasty else SECONDS_TO_FINISH
            if time.monotonic() - begun > most:
                break
            self._sender.join(0.05)
        if self._sender.is_alive():
            log.warning(
                "MLflow did not take the end of the run in time; it is in %s: skydistill mlflow "
                "sync %s",
                self.paths.metrics,
                self.paths.folder,
            )


class _CsvFile(threading.Thread):
    """Writes `metrics.csv` anew, and keeps it up with the spool."""

    def __init__(self, paths: RunPaths) -> None:
        super().__init__(name="metrics.csv", daemon=True)
        self.paths, self.stopping = paths, threading.Event()

    def run(self) -> None:
        end, is_last = 0, False
        try:
            with self.paths.csv.open("w") as file:
                file.write("step,time,name,value\n")
                while not is_last:
                    is_last = self.stopping.wait(SECONDS_BETWEEN_BATCHES)
                    lines, end = read_lines(self.paths.metrics, start=end)
                    for line in lines:
                        for name, value in line["metrics"].items():
                            file.write(f"{line['step']},{line['time']},{name},{value}\n")
                    file.flush()
        except OSError as error:
            log.warning("%s ends here (%s); a next attempt writes it anew", self.paths.csv, error)


class _Sender(threading.Thread):
    """Opens the MLflow run and feeds it from the spool, so that training never waits for it."""

    def __init__(self, paths: RunPaths, *, is_training: bool) -> None:
        super().__init__(name="mlflow", daemon=True)
        self.paths, self.is_training = paths, is_training
        self.is_failing = False
        self._has_warned = False
        self.status: str | None = None
        self.stopping = threading.Event()
        self._run: RunInStore | None = None

    def run(self) -> None:
        pause = SECONDS_BETWEEN_BATCHES
        is_last = False
        while not is_last:
            is_last = self.stopping.wait(pause if self._run or self.is_failing else 0)
            try:
                self._run = self._run or RunInStore(self.paths, is_training=self.is_training)
                try:
                    self._run.send(again=is_last)
                finally:  # what one file keeps from being sent does not keep the run open
                    if is_last and (self.status or self._run.is_new):
                        self._run.end(self.status)
                self.is_failing, pause = False, SECONDS_BETWEEN_BATCHES
            except Exception as error:  # noqa: BLE001 - logging must never stop training, whatever the store raises
                self.is_failing, pause = True, min(2 * pause, MOST_SECONDS_BETWEEN_TRIES)
                if not self._has_warned:
                    log.warning(
                        "MLflow at %s does not answer (%s); metrics are kept in %s and sent when "
                        "it does, in this run, by a later one or an evaluation, or by skydistill "
                        "mlflow sync %s",
                        read_link(self.paths)["store"],
                        first_line(error),
                        self.paths.metrics,
                        self.paths.folder,
                    )
                self._has_warned = True


@contextmanager
def continue_run(paths: RunPaths) -> Iterator[Tracker]:
    """Yield a tracker that adds an evaluation to the MLflow run which trained the model."""
    tracker = Tracker(paths)
    if read_link(paths):
        tracker.send(is_training=False)
    else:
        log.info(
            "%s was not tracked by MLflow; metrics go to %s alone", paths.folder, paths.metrics
        )
    try:
        yield tracker
    finally:
        tracker.finish()


def _end_last_line(file: Path) -> None:
    """End a line that a kill cut short, so that the next one does not grow onto it."""
    if file.is_file() and file.stat().st_size:
        with file.open("rb+") as spool:
            spool.seek(-1, os.SEEK_END)
            if spool.read(1) != b"\n":
                spool.write(b"\n")
