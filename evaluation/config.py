"""What evaluate, compare and models can be told. No torch: a login node reads this in a blink."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from data_shards.config import LOCAL_CACHE_GIB, Resampling, bounded, refuse_out_of_bounds
from data_shards.errors import RecipeError

Information = Literal["entropy", "distance", "agreement"]
"""How much a drone view tells about its place, in both forms of spec pfed 6.2, and `distance` with
its sign turned round."""

ViewDistance = Literal["auto", "pose", "descriptor"]
"""How far apart two drone views are; `auto` takes the pose where the data set has the helix."""

ANSWERS = 10
"""Names that a submission gives per query."""

NEEDED_BY = {
    "normalize": "features",
    "gallery_checkpoint": "checkpoint",
    **dict.fromkeys(("information", "view_distance"), "multi_view"),
    **dict.fromkeys(("rerank_top", "rerank_k1", "rerank_k2", "rerank_lambda"), "rerank"),
}
"""Option to the one without which it says nothing."""

Precision = Literal["float32", "bfloat16", "float16"]
"""What convolutions and matrix products compute in; all but float32 by autocast."""

LEAST_IMAGE_SIZE, PAPER_IMAGE_SIZE = 32, 224
"""In pixels; the backbones halve the image five times."""

OF_SPEED = ("batch_size", "threads", "precision", "most_seconds")
"""Options of `models` that say nothing without `measure_speed`."""

TableFormat = Literal["table", "markdown", "latex", "csv", "json"]

SUFFIXES: dict[str, TableFormat] = {
    ".md": "markdown",
    ".tex": "latex",
    ".csv": "csv",
    ".json": "json",
}
"""Suffix of a comparison's `--out` to the format it asks for."""

OF_ONE_NETWORK = ("conditions", "multi_view", "rerank", "descriptors", "submission")
"""Options that are not combined with `gallery_checkpoint`."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Retrieval on the test set of a shard folder, every direction and altitude; or of a file."""

    checkpoint: Path | None = None
    """Run folder of a finished training, or a weight file (`.safetensors`)."""

    gallery_checkpoint: Path | None = None
    """Run folder or weight file of the teacher in whose space `--checkpoint` describes: also search
    its gallery, by its own queries and by those of `--checkpoint`."""

    shards: str = ""
    """Shard folder, made by `skydistill shard`, or an address of one (`http://...`,
    `pipe:COMMAND {name}`; docs/datasets.md)."""

    features: Path | None = None
    """Instead of checkpoint and shards: `.npz` or `.mat` with `query_f` [Q, D], `query_label` [Q],
    `gallery_f` [G, D], `gallery_label` [G]; label -1 is junk."""

    normalize: bool = False
    """Scale the descriptors of `--features` to unit length; without it they are compared by dot
    product as they are."""

    local_cache: Path | None = None
    """Folder on a disk of this node for shards from an address; by default $SKYDISTILL_CACHE, else
    $SLURM_TMPDIR/skydistill, else ~/.cache/skydistill."""

    local_cache_gib: float = bounded(LOCAL_CACHE_GIB, above=0)
    """Most that the local cache may hold, in GiB; what was not used for longest goes first."""

    out: Path | None = None
    """Folder to write, with report, tables, figures and what else is asked for; by default
    `evaluations/DATASET` beside the weights (`evaluations/DATASET_flip` with `--flip`, and so on:
    docs/evaluation.md). With `--features` nothing is written unless this is given."""

    overwrite: bool = False
    """Replace that folder, whole, where it is there already; without it nothing is described
    then."""

    image_size: int = bounded(0, at_least=0, at_most=4096)
    """Width and height of model inputs in pixels; 0 takes the size the model was trained at, as
    the network of `--gallery-checkpoint` always does."""

    resampling: Resampling | None = None
    """How images come to that size; by default as in training."""

    flip: bool = False
    """Describe the mirrored image too, and add both before scaling to unit length."""

    distractors: tuple[str, ...] = ()
    """Further shard folders, all of whose satellite and drone images join the galleries as places
    that nobody asks for."""

    multi_view: int = bounded(0, at_least=0)
    """Also describe each place by this many of its drone views, chosen and fused (PFED's
    refinement), beside its controls; 0 leaves it out, the paper's number is 10."""

    information: Information = "entropy"
    """What makes a drone view worth choosing: that the views vary less without it (`entropy`), that
    it lies far from their mean (`distance`), or near it (`agreement`)."""

    view_distance: ViewDistance = "auto"
    """What makes two drone views different."""

    conditions: tuple[str, ...] = ()
    """Weather and light laid over the drone queries, each reported beside the clean ones: `all`, or
    some of fog, rain, snow, fog-rain, fog-snow, rain-snow, dark, over-exposure, wind."""

    rerank: bool = False
    """Also rank again by k-reciprocal neighbours, as labelled rows."""

    rerank_top: int = bounded(100, at_least=1)
    """Neighbours of each image that re-ranking looks at."""

    rerank_k1: int = bounded(20, at_least=1)
    """Neighbours that must know each other."""

    rerank_k2: int = bounded(6, at_least=1)
    """Neighbours whose sets are averaged."""

    rerank_lambda: float = bounded(0.3, at_least=0, at_most=1)
    """Share of the original distance in the new one."""

    descriptors: bool = False
    """Also write one official `.mat` per direction, as `--features` and others' tools read it."""

    submission: bool = False
    """Also write `submission.txt`: the names of the ten most similar satellite tiles of each drone
    query, a line per query in query order."""

    measure_speed: bool = False
    """Also measure latency, images per second and peak memory, at batch 1 and `--batch-size`."""

    batch_size: int = bounded(64, at_least=1)
    """Images described at once."""

    threads: int = bounded(0, at_least=0, at_most=4096)
    """Decode threads; 0 means one per processor."""

    json: bool = False
    """Print the report as one JSON line, and nothing else, on standard output."""

    no_figures: bool = False
    """Leave the figures out."""

    no_mlflow: bool = False
    """Add nothing to the MLflow run of the checkpoint."""

    dry_run: bool = False
    """Say what would be described and written, and stop."""

    @property
    def fusion(self) -> str:
        """How drone views are chosen for the `refined` rows, in words; empty without any."""
        return f"{self.information}, {self.view_distance}" if self.multi_view else ""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, and numbers with which nothing can be described.

        Raises:
            RecipeError: what is wrong, by its option.
        """
        asked = [f"--{name.replace('_', '-')}" for name in OF_ONE_NETWORK if getattr(self, name)]
        is_exported = self.descriptors or self.submission
        contradictions = {
            "give either --checkpoint and --shards, or --features": (
                (self.features is None) == (self.checkpoint is None)
            ),
            "--checkpoint needs --shards, and --features needs none": (
                (self.checkpoint is None) != (not self.shards)
            ),
            "--descriptors and --submission are written into a folder; give one with --out": (
                is_exported and self.features is not None and self.out is None
            ),
            "--submission names tiles of --shards alone, and --distractors puts others among them "
            "that its benchmark does not know; leave one of the two out": (
                self.submission and bool(self.distractors)
            ),
            "--gallery-checkpoint is about two networks and does not combine with "
            f"{' or '.join(asked)}; leave one of them out": bool(self.gallery_checkpoint and asked),
            f"--submission takes {ANSWERS} names per query and --rerank-top is {self.rerank_top}; "
            "raise it": self.rerank and self.submission and self.rerank_top < ANSWERS,
        }
        for sentence, is_so in contradictions.items():
            if is_so:
                raise RecipeError(sentence)
        refuse_idle_options(self, NEEDED_BY)
        refuse_out_of_bounds(self)


def refuse_idle_options(config: Any, needed_by: Mapping[str, str]) -> None:
    """Refuse an option of a verb's config that says nothing without another one.

    Raises:
        RecipeError: which option needs which.
    """
    for field in fields(config):
        needed = needed_by.get(field.name)
        if needed and getattr(config, field.name) != field.default and not getattr(config, needed):
            option, other = (name.replace("_", "-") for name in (field.name, needed))
            raise RecipeError(f"--{option} says nothing without --{other}; give that too")


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
    """Only reports on data sets of these names; all by default."""

    results: tuple[str, ...] = ()
    """Rows of the reports to compare, such as d2s, s2d/150m, d2s/no-distractors, d2s/refined-10 or
    d2s/fog, or `all`; d2s and s2d in the full gallery, at every height, by default."""

    metrics: tuple[str, ...] = ("recall@1", "ap")
    """Of recall@1, recall@5, recall@10, recall@1% and ap."""

    no_published: bool = False
    """Leave the published numbers out."""

    format: TableFormat | None = None
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
    def chosen_format(self) -> TableFormat:
        """What to write."""
        if self.json:
            return "json"
        suffix = self.out.suffix.lower() if self.out else ""
        return self.format or SUFFIXES.get(suffix, "table")


@dataclass(frozen=True, kw_only=True)
class ModelsConfig:
    """Every model that a recipe can name as `model.arch`, and what describing an image costs."""

    names: tuple[str, ...] = ()
    """Models to list, in this order; by default all of them, the smallest first."""

    method: Literal["pfed", "bicrossnet"] = "pfed"
    """Whose head stands on the backbone; that of a recipe's `method`."""

    image_size: int = bounded(PAPER_IMAGE_SIZE, at_least=LEAST_IMAGE_SIZE, at_most=4096)
    """Width and height of model inputs in pixels."""

    measure_speed: bool = False
    """Also measure latency, images per second and peak memory, with fresh weights."""

    batch_size: int = bounded(1, at_least=1)
    """Images described at once, when measured."""

    threads: int = bounded(0, at_least=0, at_most=4096)
    """Threads that describe on a CPU, when measured; 0 means one per processor."""

    precision: Precision = "float32"
    """What to measure in."""

    most_seconds: float = bounded(60.0, at_least=0, at_most=86400)
    """Longest measurement of one model; as many batches as fit, at most 200."""

    json: bool = False
    """Print one JSON line, and nothing else, on standard output."""

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing can be counted or measured, and what says nothing.

        Raises:
            RecipeError: every such number, as its option, or the option that needs another one.
        """
        refuse_out_of_bounds(self)
        refuse_idle_options(self, dict.fromkeys(OF_SPEED, "measure_speed"))
