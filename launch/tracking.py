"""A sweep in MLflow: one run above those of its rows, and what jobs spooled, brought there."""

import base64
import json
import os
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from data_shards.errors import TrackingError
from launch.config import SweepConfig
from launch.demo import Stage
from launch.demo_paths import EVALUATED

if TYPE_CHECKING:
    from distill.mlflow_runs import RunInStore

SECONDS_FOR_A_SERVER = "60"
"""How long a sync waits for an answer: a training waits less, and leaves large files to it."""

PARAMETERS = ("method", "role", "model.arch", "data.altitudes", "seed")
PROBES = ("best/d2s/recall_at_1", "best/s2d/recall_at_1")
COSTS = ("cost/parameters", "cost/ops", "train/images_per_second")
"""Columns of a sweep: method and height, accuracy, cost; accuracy on test sets comes behind."""

WIDTHS = {"params": 90, "metrics": 150}
"""Of such columns, in pixels."""


def begin_sweep(
    config: SweepConfig, stages: Sequence[Stage], *, name: str, uri: str | None = None
) -> None:
    """Make store, experiment and the parent run of all rows; where none can be made, say so.

    It is where the first recipe says, else at `uri`, and with its rows in the experiment of that
    recipe.
    """
    from distill.mlflow_runs import SPOOL, RunInStore, begin_run
    from distill.run_folder import RunPaths
    from distill.tracking import tracking_uri

    config.out.mkdir(parents=True, exist_ok=True)
    paths = RunPaths(config.out)
    tracking = next(stage.tracking for stage in stages if stage.tracking)
    uri = tracking_uri(RunPaths(config.out / name), tracking.uri or uri)
    made = [
        stage.makes / RunPaths(stage.makes).weights.name
        if stage.run and stage.makes
        else stage.makes or stage.uses[0] / EVALUATED
        for stage in stages
        if stage.makes or stage.uses
    ]
    begin_run(
        paths,
        name=name,
        experiment=tracking.experiment,
        uri=uri,
        params={},
        tags={"role": "sweep"},
        promised=[os.path.relpath(file, config.out) for file in made],
    )
    try:
        if uri != SPOOL:
            with _told(uri):
                RunInStore(paths, is_training=True)
    except TrackingError as error:
        sys.stdout.write(f"the sweep goes on: {error}\n")


def sync(folder: Path, uri: str | None = None) -> Iterator[str]:
    """Bring a run, or a sweep and its runs, to their store; yield a line about each.

    What was spooled goes to `uri`, else where MLFLOW_TRACKING_URI says, else to `mlflow.db` in the
    sweep's folder or beside the run's.

    Raises:
        TrackingError: the folder was never tracked, or the store does not answer.
    """
    from distill.mlflow_runs import SPOOL, RunInStore, read_link
    from distill.mlflow_store import SQLITE
    from distill.run_folder import RunPaths

    rows = [RunPaths(file.parent) for file in sorted(folder.glob("runs/*/mlflow.json"))]
    own = [RunPaths(folder)] if RunPaths(folder).mlflow.is_file() else []
    is_sweep = bool(own) and read_link(own[0])["tags"].get("role") == "sweep"
    if not own + rows:
        raise TrackingError(
            f"{folder} has no mlflow.json; give the folder of a run that was tracked, or of a sweep"
        )
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", SECONDS_FOR_A_SERVER)
    statuses: list[str] = []
    for paths in own + rows:
        link = read_link(paths)
        home = (
            paths.folder / link["sweep"]
            if link["sweep"]
            else folder
            if rows or is_sweep
            else folder.parent
        )
        asked = (uri, link["store"], os.environ.get("MLFLOW_TRACKING_URI"))
        known = [one for one in asked if one and one != SPOOL]
        store = known[0] if known else f"{SQLITE}{(home / 'mlflow.db').resolve()}"
        with _told(store):
            run = RunInStore(paths, store=store)
            num_sent = run.send()
            if paths in rows or not is_sweep:
                statuses.append(run.end())
        yield f"{paths.folder}: {num_sent} lines sent to {store}"
    if is_sweep:
        promised = read_link(own[0]).get("promised", [])
        is_whole = {*statuses} == {"FINISHED"} and all(
            (folder / file).exists() for file in promised
        )
        with _told(store):
            sweep = RunInStore(own[0])
            for page in folder.glob("comparison.*"):
                sweep.client.log_artifact(sweep.run_id, str(page))
            if statuses and "RUNNING" not in statuses:
                sweep.end("FINISHED" if is_whole else "FAILED")
            view = _share_view(sweep, name=read_link(own[0])["name"])
        opens = "" if store.startswith("http") else f"mlflow ui --backend-store-uri {store}: "
        yield f"view: {opens}{store if not opens else 'http://127.0.0.1:5000'}/#{view}"


def _share_view(sweep: "RunInStore", *, name: str) -> str:
    """Save the columns that compare rows as a shared view of the experiment; return its place."""
    ours = f"tags.`mlflow.parentRunId` = '{sweep.run_id}'"
    runs = sweep.client.search_runs([sweep.experiment_id], ours)
    measured = {key for run in runs for key in run.data.metrics}
    accuracy = sorted(key for key in measured if re.fullmatch(r"test/\w+(/\d+m)?/recall_at_1", key))
    numbers = [key for key in (*PROBES, *COSTS, *accuracy) if key in measured]
    best = next((key for key in numbers if key.endswith("/recall_at_1")), None)
    columns = [f"params.`{key}`" for key in PARAMETERS] + [f"metrics.`{key}`" for key in numbers]
    view: dict[str, Any] = {"searchFilter": ours, "selectedColumns": columns}
    view |= {
        "columnOrder": columns,
        "columnWidths": {column: WIDTHS[column.partition(".")[0]] for column in columns},
    }
    if best:
        view |= {"orderByKey": f"metrics.`{best}`", "orderByAsc": False}
    packed = base64.b64encode(zlib.compress(json.dumps(view).encode())).decode()
    tag = f"mlflow.sharedViewState.{name}"
    sweep.client.set_experiment_tag(sweep.experiment_id, tag, f"deflate;{packed}")
    # A browser that is new to MLflow opens what says nothing else as that of language models.
    page = f"/experiments/{sweep.experiment_id}/runs?workflowType=machine_learning"
    return f"{page}&viewStateShareKey={quote(name)}"


@contextmanager
def _told(store: str) -> Iterator[None]:
    """Tell in one sentence what MLflow says.

    Raises:
        TrackingError: whatever was raised.
    """
    from distill.mlflow_store import first_line

    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(
            f"MLflow at {store} does not answer ({first_line(error)}); start it, or give another "
            "store with --tracking-uri, and run skydistill mlflow sync: it goes on where it was"
        ) from error
