"""The verdict after training: one JSON beside the weights, and a table for people."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from data_shards.decode import DECODER
from data_shards.errors import DescriptorError
from data_shards.manifest import write_json
from data_shards.shards import ShardSet
from distill.checkpoint import LoadedModel
from evaluation.efficiency import macs, parameters
from evaluation.verdict import Verdict

SCHEMA_VERSION = 1
"""Raised whenever a key changes meaning."""

REPORT_NAME = "evaluation.json"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything needed to read, compare and repeat one evaluation."""

    name: str
    method: str
    role: str
    step: int
    protocol: str
    """Layout whose test protocol was followed."""

    gallery: str
    """Which gallery: `full` keeps the places that nobody asks for."""

    d2s: dict[str, float]
    """Drone to satellite: recall@1/5/10/1% and ap as fractions, number of queries and images."""

    s2d: dict[str, float]
    """Satellite to drone."""

    chance: dict[str, float]
    """Recall@1 of guessing, by direction."""

    parameters: int
    """Of the path that inference runs."""

    macs: int
    """Multiply-accumulates per image at `image_size`; two floating-point operations each."""

    image_size: int
    descriptor_width: int
    checkpoint: str
    checkpoint_sha256: str
    shards: str
    shards_fingerprint: str
    seconds: float
    """Describing and ranking, without loading the model."""

    resampling: str
    decoder: str = DECODER
    flip: bool = False
    """Whether mirrored images were described too."""

    ties: str = "pessimistic"
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Write the report: aside, then renamed.

        Raises:
            DescriptorError: the folder cannot be written to.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, self.to_json())
        except OSError as error:
            raise DescriptorError(
                f"report {path} cannot be written ({error.strerror}); give another file with --out"
            ) from error


def make_report(
    loaded: LoadedModel,
    shards: ShardSet,
    verdicts: dict[str, Verdict],
    *,
    image_size: int,
    seconds: float,
) -> Report:
    """Gather what was measured, on what, and what it costs."""
    return Report(
        name=loaded.name,
        method=loaded.recipe["method"],
        role=loaded.role,
        step=loaded.step,
        protocol=shards.manifest.layout,
        gallery="full",
        d2s=dict(verdicts["d2s"].metrics),
        s2d=dict(verdicts["s2d"].metrics),
        chance={name: verdict.chance for name, verdict in verdicts.items()},
        parameters=parameters(loaded.model, image_size=image_size),
        macs=macs(loaded.model, image_size=image_size),
        image_size=image_size,
        descriptor_width=verdicts["d2s"].query_QD.shape[1],
        checkpoint=str(loaded.path),
        checkpoint_sha256=loaded.sha256,
        shards=shards.source,
        shards_fingerprint=shards.fingerprint,
        seconds=round(seconds, 3),
        resampling=loaded.resampling,
    )


def print_table(report: Report, file: TextIO) -> None:
    """Print both directions, and one line on what was measured."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    title = f"{report.name} on {report.protocol}, full gallery"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    columns = ("recall@1", "recall@5", "recall@10", "recall@1%", "ap")
    table.add_column("direction", no_wrap=True)
    for header in ("recall@1", "@5", "@10", "@1%", "AP", "guessing"):
        table.add_column(header, justify="right", no_wrap=True)
    for title, name, measured in (
        ("drone to satellite", "d2s", report.d2s),
        ("satellite to drone", "s2d", report.s2d),
    ):
        values = [f"{measured[column]:.4f}" for column in columns]
        table.add_row(title, *values, f"{report.chance[name]:.4f}")
    console = Console(file=file, highlight=False)
    console.print(table)
    queries, gallery = report.d2s["num_queries"], report.d2s["num_gallery"]
    console.print(
        f"{queries:,.0f} drone queries, {gallery:,.0f} satellite tiles; "
        f"{report.s2d['num_queries']:,.0f} satellite queries, "
        f"{report.s2d['num_gallery']:,.0f} drone images\n"
        f"{report.parameters / 1e6:.2f} M parameters, {report.macs / 1e6:,.0f} M MACs per image "
        f"at {report.image_size} px; {report.seconds:.1f} s"
    )
