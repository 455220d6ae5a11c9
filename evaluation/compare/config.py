"""What a comparison can be told. No torch: a login node reads this in a blink."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_shards.errors import RecipeError

Format = Literal["table", "markdown", "latex", "csv", "json"]

SUFFIXES: dict[str, Format] = {
    ".md": "markdown",
    ".tex": "latex",
    ".csv": "csv",
    ".json": "json",
}
"""Suffix of `--out` to the format it asks for."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Finished runs side by side and beside published numbers, mean and deviation over seeds."""

    reports: tuple[Path, ...] = ()
    """Report files of `skydistill evaluate`, run folders, or folders of run folders."""

    tracking_uri: str | None = None
    """MLflow store or server to read runs from; where no reports are given by default
    MLFLOW_TRACKING_URI, else `outputs/mlflow.db`."""

    experiment: str | None = None
    """MLflow experiment that holds the runs, `skydistill` by default."""

    dataset: tuple[str, ...] = ()
    """Only reports on these data sets, by layout: university1652, sues200; all by default."""

    results: tuple[str, ...] = ()
    """Rows of the reports to compare, such as d2s, s2d/150m, d2s/no-distractors, d2s/refined-10 or
    d2s/fog, or `all`; d2s and s2d in the full gallery, at every height, by default."""

    metrics: tuple[str, ...] = ("recall@1", "ap")
    """Of recall@1, recall@5, recall@10, recall@1% and ap."""

    no_published: bool = False
    """Leave the published numbers out."""

    format: Format | None = None
    """How to write; by default what the suffix of `--out` says, else a table for the terminal."""

    json: bool = False
    """The same as `--format json`."""

    out: Path | None = None
    """File to write, instead of standard output."""

    html: Path | None = None
    """File for one page that needs no network: sortable table, charts, curves, panels, sources."""

    figures: Path | None = None
    """Folder for accuracy against operations and, where it was measured, against speed."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            RecipeError: what contradicts what.
        """
        if self.json and self.format not in (None, "json"):
            raise RecipeError(f"--json and --format {self.format} exclude each other; give one")
        if self.experiment and self.reports and not self.tracking_uri:
            raise RecipeError("--experiment is about MLflow; give --tracking-uri, or no reports")

    @property
    def chosen_format(self) -> Format:
        """What to write."""
        if self.json:
            return "json"
        suffix = self.out.suffix.lower() if self.out else ""
        return self.format or SUFFIXES.get(suffix, "table")
