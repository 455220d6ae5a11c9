"""Where the demo puts things: every path in one class."""

from dataclasses import dataclass
from pathlib import Path

EVALUATION = Path("evaluations/test")
"""Below a run folder, what the evaluation of its model writes."""

EVALUATED = EVALUATION / "report.json"
"""There once it is whole."""


@dataclass(frozen=True)
class DemoPaths:
    """Names of everything the demo makes."""

    out: Path

    @property
    def raw(self) -> Path:
        """Synthetic world in University-1652 folders."""
        return self.out / "raw"

    @property
    def shards(self) -> Path:
        """Tars, indexes and manifest."""
        return self.out / "shards"

    def cache(self, teacher: str) -> Path:
        """Return where the outputs of a teacher go."""
        return self.out / f"{teacher}_cache"

    @property
    def runs(self) -> Path:
        """Run folders and the MLflow store."""
        return self.out / "runs"

    @property
    def summary(self) -> Path:
        """What came of it, for machines."""
        return self.out / "summary.json"

    @property
    def figures(self) -> Path:
        """Pictures that compare the runs."""
        return self.out / "figures"

    @property
    def comparison(self) -> Path:
        """The page that puts the runs side by side; a table of that name lies beside it."""
        return self.out / "comparison.html"

    @property
    def map(self) -> Path:
        """A map of the world, photographs, where they were taken, and the index."""
        return self.out / "map"

    @property
    def places(self) -> Path:
        """The page of where the photographs were found."""
        return self.out / "places.html"

    @property
    def seconds(self) -> Path:
        """Time spent in every stage, over all attempts."""
        return self.out / "seconds.json"

    def log(self, stage: str) -> Path:
        """Return where a stage's output goes."""
        return self.out / "logs" / f"{stage}.log"
