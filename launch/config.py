"""What the demo can be told. No torch."""

from dataclasses import dataclass
from pathlib import Path

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
