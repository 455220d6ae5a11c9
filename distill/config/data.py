"""Which images a recipe trains on, in which order."""

from dataclasses import dataclass, field
from pathlib import Path

from data_shards.config import LOCAL_CACHE_GIB, Aspect, Resampling, bounded, seed


@dataclass(frozen=True, kw_only=True)
class MiningConfig:
    """Hard samples: batches of places that the model still mistakes for each other."""

    neighbours: int = bounded(0, at_least=0)
    """Nearest wrong places that are looked up for each training place; 0 draws batches at random.
    16 is a start."""

    from_epoch: int = bounded(1, at_least=0)
    """First epoch in mined order, counted from 0."""

    every_epochs: int = bounded(1, at_least=1)
    """Epochs that one look serves."""

    drones: int = bounded(6, at_least=0)
    """Drone views of each place that are looked at, spread evenly over its flight; 0 for all."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, in which order."""

    shards: str = "outputs/demo/shards"
    """Shard folder, made by `skydistill shard`, or an address of one (`http://...`,
    `pipe:COMMAND {name}`; docs/datasets.md)."""

    local_cache: Path | None = None
    """Folder on a disk of each node for shards from an address and for `stage`; by default
    $SKYDISTILL_CACHE, else $SLURM_TMPDIR/skydistill, else ~/.cache/skydistill."""

    local_cache_gib: float = bounded(LOCAL_CACHE_GIB, above=0)
    """Most that the local cache may hold, in GiB; what was not used for longest goes first."""

    stage: bool = False
    """Copy the shards of a folder, and the teacher cache, into the local cache before training."""

    image_size: int = bounded(224, at_least=1)
    """Width and height of model inputs in pixels."""

    resampling: Resampling = "opencv-linear"
    """How images come to that size."""

    aspect: Aspect = "squeeze"
    """How images that are not square become so before: squeeze, as the benchmarks do, crop (the
    middle) or pad (black)."""

    global_batch: int = bounded(64, at_least=1)
    """Rows (one satellite, `drones_per_row` drone views, one place) per step over all ranks."""

    micro_batch: int | None = bounded(None, at_least=1)
    """Rows that a rank describes at once, where memory does not hold all of its own: gradients are
    those of the undivided batch, for a second forward pass. null describes all at once."""

    drones_per_row: int = bounded(1, at_least=1)
    """Drone views beside each satellite tile."""

    crops_per_decode: int = bounded(1, at_least=1)
    """Steps that follow each other with the same images, decoded once, each in another augmentation
    slot: where decoding is what a run waits for."""

    altitudes: tuple[float, ...] = ()
    """Train and probe on drone views of these heights only, in metres; all heights if empty."""

    mining: MiningConfig = field(default_factory=MiningConfig)
    """Hard samples."""

    validation_fraction: float = bounded(0.1, at_least=0, below=1)
    """Part of the training places held out for the probe; a final recipe says 0."""

    validation_seed: int = seed()
    """Which places are held out; the same for all seeds of a sweep."""

    threads: int = bounded(0, at_least=0)
    """Decode threads per rank, processes where they are more than four; 0 shares the node's
    processors among its ranks."""
