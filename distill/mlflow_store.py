"""MLflow stores: opened quietly, made whole, never changed where MLflow does not know them."""

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from data_shards.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
"""Begins the address of a store that is a file."""

QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the thread that sends tries again itself
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Defaults for unreachable servers and machines without a network; the user's own settings win."""


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


def first_line(error: Exception) -> str:
    """Return what an error of MLflow says, at most 200 characters of it; ours are whole."""
    if isinstance(error, TrackingError):
        return str(error)
    lines = str(error).splitlines()
    return shorten(lines[0], 200, placeholder=" ...") if lines else type(error).__name__
