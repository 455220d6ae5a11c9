"""What the demo and a sweep can be told. No torch."""

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
class SweepRow:
    """One row of a sweep: a run of a recipe, or the teacher cache of one."""

    name: str
    """Its name in tables; the run folder is RUNS/NAME-SEED."""

    recipe: Path
    """What it does, below the options of the sweep and its own."""

    verb: Literal["train", "cache"] = "train"
    """`train`, with an evaluation behind it, or `cache`."""

    options: dict[str, Any] = field(default_factory=dict)
    """Keys of the recipe to values; `{runs}` and `{seed}` in a text stand for those of the row."""

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
    """Ranks that train together."""

    options: dict[str, Any] = field(default_factory=dict)
    """Keys of every row's recipe to values."""
