"""What the verdict can be told. No torch: a login node reads this in a blink."""

from dataclasses import dataclass
from pathlib import Path

from data_shards.config import LOCAL_CACHE_GIB, at_least, between, refuse_out_of_bounds, room_bounds


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Retrieval in both directions on the test set of a shard folder, full gallery."""

    checkpoint: Path
    """Run folder of a finished training, or a weight file (`.safetensors`)."""

    shards: str
    """Shard folder, made by `skydistill shard`, or an address of one (`http://...`,
    `pipe:COMMAND {name}`; docs/datasets.md)."""

    local_cache: Path | None = None
    """Folder on a disk of this node for shards from an address; by default $SKYDISTILL_CACHE, else
    $SLURM_TMPDIR/skydistill, else ~/.cache/skydistill."""

    local_cache_gib: float = LOCAL_CACHE_GIB
    """Most that the local cache may hold, in GiB; what was not used for longest goes first."""

    out: Path | None = None
    """Report to write, `evaluation.json` beside the weights by default; figures go beside it."""

    image_size: int = 0
    """Width and height of model inputs in pixels; 0 takes the size the model was trained at."""

    batch_size: int = 64
    """Images described at once."""

    threads: int = 0
    """Decode threads; 0 means one per processor."""

    json: bool = False
    """Print the report as one JSON line, and nothing else, on standard output."""

    no_figures: bool = False
    """Leave the retrieval panels out."""

    no_mlflow: bool = False
    """Add nothing to the MLflow run of the checkpoint."""

    dry_run: bool = False
    """Say what would be described and written, and stop."""

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing can be described.

        Raises:
            RecipeError: every such number, as its option.
        """
        refuse_out_of_bounds(
            {
                "--local-cache-gib": room_bounds(self.local_cache_gib),
                "--image-size": between(self.image_size, 0, 4096),
                "--batch-size": at_least(self.batch_size, 1),
                "--threads": between(self.threads, 0, 4096),
            }
        )
