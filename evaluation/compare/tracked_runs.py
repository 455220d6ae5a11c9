"""Finished runs, read back from MLflow: recipe, and what was evaluated of them."""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_shards.errors import TrackingError, require_known
from distill.mlflow_store import SQLITE, first_line, open_store
from evaluation.report import EVALUATIONS, REPORT_NAME


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """One run as MLflow has it."""

    name: str
    status: str
    """`FINISHED`, `RUNNING`, `KILLED`, `FAILED`."""

    params: Mapping[str, str]
    """The resolved recipe, by dotted key."""

    evaluations: Mapping[str, Any]
    """Values of the reports among its artifacts, by the name of their folder; None of a damaged
    one."""


def read_runs(uri: str, *, experiment: str) -> list[TrackedRun]:
    """Read all runs of an experiment, oldest first, without deleted ones and parents of sweeps.

    Raises:
        TrackingError: the store is missing, where opening it would make one, or does not answer, or
            has no such experiment; the sentence names the nearest one.
    """
    if Path(uri).is_file():
        raise TrackingError(f"{uri} is a file; give it as an address, sqlite:///{uri}")
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file():
        raise TrackingError(f"MLflow store {uri} does not exist; give another with --tracking-uri")
    try:
        client = open_store(uri)
        known = {one.name: one.experiment_id for one in _all_pages(client.search_experiments)}
        require_known(experiment, known, what="MLflow experiment", error=TrackingError)
        runs = _all_pages(
            client.search_runs,
            experiment_ids=[known[experiment]],
            order_by=["attributes.start_time ASC"],
        )
        return [_read_run(client, run) for run in runs if run.data.tags.get("role") != "sweep"]
    except TrackingError:
        raise
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"MLflow at {uri} needs the Python package {error.name}, which is not installed"
        ) from error
    except Exception as error:
        raise TrackingError(
            f"MLflow at {uri} cannot be read ({first_line(error)}); start its server, give another "
            "store with --tracking-uri, or report files or run folders"
        ) from error


def _read_run(client: Any, run: Any) -> TrackedRun:
    """Read one run, whose evaluations lie among its files."""
    evaluations: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for place in client.list_artifacts(run.info.run_id, EVALUATIONS):
            for file in client.list_artifacts(run.info.run_id, place.path):
                if file.path.endswith(f"/{REPORT_NAME}"):
                    local = client.download_artifacts(run.info.run_id, file.path, folder)
                    name, text = Path(place.path).name, Path(local).read_text()
                    try:
                        evaluations[name] = json.loads(text)
                    except ValueError:
                        evaluations[name] = None
    return TrackedRun(
        name=run.info.run_name,
        status=run.info.status,
        params=run.data.params,
        evaluations=evaluations,
    )


def _all_pages(search: Callable[..., Any], **asked: Any) -> list[Any]:
    """Return everything that a search of MLflow finds."""
    found = list(page := search(**asked))
    while page.token:
        found += (page := search(**asked, page_token=page.token))
    return found
