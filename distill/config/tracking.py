"""What a recipe says of MLflow."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where MLflow records the run; metrics reach `metrics.jsonl` in the run folder first."""

    uri: str | None = None
    """Tracking store or server; by default that of the sweep, MLFLOW_TRACKING_URI, else `mlflow.db`
    beside the run folder. With `spool` nothing is sent before `skydistill mlflow sync`."""

    csv: bool = False
    """Write metrics to `metrics.csv` in the run folder too: a row of step, time, name and value
    each."""

    experiment: str = "skydistill"
    """MLflow experiment."""

    sweep: Path | None = None
    """Folder of the sweep that the run is part of: its MLflow run is the parent."""

    system_metrics: bool = False
    """Let MLflow tell of processors, memory, disk, network and GPUs of every node; not spooled."""

    register: str | None = None
    """Registered model that the trained model is made a version of; the best by its probes is
    called `best`."""
