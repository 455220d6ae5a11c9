"""What the demo, a sweep and a cluster can be told. No torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data_shards.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The whole journey on a synthetic world: shards, teacher, cache, students, retrieval, figures.

    Every stage is a command that can be typed alone (--dry-run lists them). A demo that was stopped
    goes on where it was.
    """

    out: Path = Path("outputs/demo")
    """Folder for everything the demo makes."""

    seed: int = 0
    """Seed of the world and of all three trainings."""

    processes: int = 2
    """Ranks that train together."""

    dry_run: bool = False
    """Print the commands, and stop."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            RecipeError: the number of processes or the seed makes no sense.
        """
        if self.processes < 1:
            raise RecipeError(f"--processes ({self.processes}) must be at least 1")
        if not 0 <= self.seed < 2**32:
            raise RecipeError(f"--seed ({self.seed}) must be at least 0 and below 2^32")


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Whether this machine can train: one line per thing, each with its remedy.

    Exit code 0 also when optional things are absent, 2 when something that a run needs is wrong.
    """

    out: Path = Path("outputs")
    """Folder that runs are written to: its disk and its MLflow store are looked at."""

    weights: Path = Path("data/weights")
    """Folder of pretrained weights."""

    json: bool = False
    """Print the findings as JSON."""


Kind = Literal["teachers", "caches", "students", "evaluations", "comparison"]


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """One row of a sweep: a run of a recipe, or the teacher cache of one."""

    name: str
    """Its name in tables; the run folder is RUNS/NAME-SEED."""

    recipe: Path
    """What it does, below the options of the sweep and its own."""

    verb: Literal["train", "cache"] = "train"
    """`train`, with an evaluation behind it, or `cache`."""

    options: dict[str, Any] = field(default_factory=dict)
    """Keys of the recipe to values; `{runs}`, `{weights}` and `{seed}` in a text stand for those of
    the row."""

    evaluate: bool = True
    """Whether the trained model is evaluated on the test set."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Rows that are done one after another, for every seed: later ones build on earlier ones."""

    out: Path
    """Folder of the runs, their logs and their MLflow store."""

    shards: Path
    """Shards of all rows."""

    rows: tuple[SweepRow, ...]
    """What is done, in this order."""

    seeds: tuple[int, ...] = (0,)
    """Seeds that every row is done with."""

    accelerate: Path = Path("configs/accelerate/cpu.yaml")
    """How ranks are launched."""

    processes: int = 2
    """Ranks that train together; on a cluster one per GPU of all nodes of a row."""

    weights: Path = Path("data/weights")
    """Folder of pretrained weights, `{weights}` in the options."""

    options: dict[str, Any] = field(default_factory=dict)
    """Keys of every row's recipe to values."""

    only: Kind | None = None
    """The one kind of rows that is done; what these build on must be there, or in the queue."""


@dataclass(frozen=True, kw_only=True)
class SiteConfig:
    """What `slurm/site.env` says of a cluster: SITE_PARTITION is `partition`, and so on."""

    partition: str | None = None
    """Partition of all jobs; by default the cluster's own."""

    account: str | None = None
    """Account that pays."""

    nodes: int = 1
    """Nodes that a row trains on together."""

    gpus_per_node: int = 1
    """GPUs of each of them, one rank each; 0 asks for none and starts one rank."""

    cpus_per_node: int = 8
    """Processor cores of each of them, shared by its ranks."""

    time: str = "24:00:00"
    """Limit of one attempt; a run that meets it saves, is queued again, and goes on."""

    throttle: int = 8
    """Rows of one array that run at once, at most."""

    container: str | None = None
    """Words before every command of a row, such as `apptainer exec --nv IMAGE`; inside are the
    checkout, its environment and the folders of data, under the same paths."""

    shards: str | None = None
    """Shards, instead of the sweep's."""

    weights: str | None = None
    """Folder of pretrained weights, instead of the sweep's."""

    out: str | None = None
    """Folder of runs and logs that all nodes see, instead of the sweep's."""

    tracking_uri: str | None = None
    """MLFLOW_TRACKING_URI; without, jobs spool and the last one fills `OUT/mlflow.db`."""

    @property
    def ranks(self) -> int:
        """Ranks that train a row together."""
        return self.nodes * max(1, self.gpus_per_node)


@dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """Bring runs to MLflow that spooled, or whose server did not answer; again adds nothing."""

    folders: tuple[Path, ...]
    """Folders of runs, or of sweeps with all their runs."""

    tracking_uri: str | None = None
    """Store or server; by default that of the run, where it only spooled MLFLOW_TRACKING_URI, else
    `mlflow.db` in the folder of its sweep, or beside its own."""
