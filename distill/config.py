"""What a training recipe can say. No torch: a login node checks a recipe in a blink.

One recipe describes a teacher or a student; the same file, given to `skydistill cache`, names the
teacher cache that its student reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data_shards.augment.config import AugmentConfig
from data_shards.config import LOCAL_CACHE_GIB, Resampling, room_bounds, seed_bounds
from data_shards.errors import RecipeError

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class MiningConfig:
    """Hard samples: batches of places that the model still mistakes for each other."""

    neighbours: int = 0
    """Nearest wrong places that are looked up for each training place; 0 draws batches at random.
    16 is a start."""

    from_epoch: int = 1
    """First epoch in mined order, counted from 0."""

    every_epochs: int = 1
    """Epochs that one look serves."""

    drones: int = 6
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

    local_cache_gib: float = LOCAL_CACHE_GIB
    """Most that the local cache may hold, in GiB; what was not used for longest goes first."""

    stage: bool = False
    """Copy the shards of a folder, and the teacher cache, into the local cache before training."""

    image_size: int = 224
    """Width and height of model inputs in pixels."""

    resampling: Resampling = "opencv-linear"
    """How images come to that size."""

    global_batch: int = 64
    """Rows (one satellite, `drones_per_row` drone views, one place) per step over all ranks."""

    drones_per_row: int = 1
    """Drone views beside each satellite tile."""

    altitudes: tuple[float, ...] = ()
    """Train and probe on drone views of these heights only, in metres; all heights if empty."""

    mining: MiningConfig = field(default_factory=MiningConfig)
    """Hard samples."""

    validation_fraction: float = 0.1
    """Part of the training places held out for the probe; a final recipe says 0."""

    validation_seed: int = 0
    """Which places are held out; the same for all seeds of a sweep."""

    threads: int = 0
    """Decode threads per rank; 0 shares the node's processors among its ranks."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network that learns."""

    arch: str = "convnext_tiny"
    """Backbone, one of `distill.models.ARCHS`."""

    weights: str = "timm"
    """Where the backbone starts: `timm` (pretrained, fetched or cached), `none`, or the path of a
    weight file."""

    pool: Literal["gem", "mean"] = "gem"
    """How the last feature map becomes the descriptor: generalized mean (learned power) or mean."""

    bottleneck: int = 512
    """Width between descriptor and class logits; 0 puts the classifier on the descriptor."""

    dropout: float = 0.5
    """Dropout before the classifier."""

    drop_path: float = 0.0
    """Stochastic depth of the backbone."""


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """The model a student learns from; unused by recipes without a distillation objective."""

    run: Path | None = None
    """Run folder or weight file of the teacher."""

    source: Literal["cache", "live"] = "cache"
    """`cache` reads the teacher's outputs from disk, `live` runs it in every step; both train the
    same."""

    cache: Path | None = None
    """Folder of the teacher cache, made by `skydistill cache` from this recipe."""

    cache_dtype: Literal["float16", "float32"] = "float16"
    """How cached outputs are stored."""


@dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig:
    """Class logits of both views against the place."""

    weight: float = 0.0
    """Weight in the total loss; 0 leaves the term out."""

    label_smoothing: float = 0.0
    """Share of the target spread over all places."""


@dataclass(frozen=True, kw_only=True)
class InfoNceConfig:
    """Drone descriptors against all satellites of the global batch, and back."""

    weight: float = 0.0
    """Weight in the total loss; 0 leaves the term out."""

    temperature: float = 0.07
    """Temperature at the start; it is learned."""

    label_smoothing: float = 0.1
    """Share of the target spread over the batch."""


@dataclass(frozen=True, kw_only=True)
class LogitDistillationConfig:
    """Class probabilities of the student towards the teacher's."""

    weight: float = 0.0
    """Weight in the total loss; 0 leaves the term out."""

    temperature: float = 4.0
    """Softens both sides; the term is scaled by its square."""


@dataclass(frozen=True, kw_only=True)
class FeatureDistillationConfig:
    """Descriptor of the student towards the teacher's, by cosine."""

    weight: float = 0.0
    """Weight in the total loss; 0 leaves the term out."""


@dataclass(frozen=True, kw_only=True)
class ObjectivesConfig:
    """The named terms of the loss; the total is their weighted sum."""

    cross_entropy: CrossEntropyConfig = field(default_factory=CrossEntropyConfig)
    """Hard labels."""

    info_nce: InfoNceConfig = field(default_factory=InfoNceConfig)
    """Contrast over all ranks."""

    logit_distillation: LogitDistillationConfig = field(default_factory=LogitDistillationConfig)
    """Soft labels of the teacher."""

    feature_distillation: FeatureDistillationConfig = field(
        default_factory=FeatureDistillationConfig
    )
    """Descriptor of the teacher."""

    @property
    def weights(self) -> dict[str, float]:
        """Name to weight of every term that is computed."""
        return {name: part.weight for name, part in vars(self).items() if part.weight}

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares with a teacher."""
        return bool(self.logit_distillation.weight or self.feature_distillation.weight)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW; biases, norms and scales are not decayed."""

    learning_rate: float = 1e-3
    """Peak learning rate."""

    weight_decay: float = 0.01
    """Decoupled weight decay."""

    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Linear warm-up, then cosine to a fraction of the peak."""

    num_steps: int = 1000
    """Optimizer steps of the whole run."""

    warmup_steps: int = 100
    """Steps until the peak learning rate."""

    final_fraction: float = 0.0
    """What the cosine falls to right behind the last step, as a fraction of the peak."""


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where MLflow records the run; metrics reach `metrics.jsonl` in the run folder first."""

    uri: str | None = None
    """Tracking store or server; by default MLFLOW_TRACKING_URI, else `mlflow.db` beside the run
    folder."""

    experiment: str = "skydistill"
    """MLflow experiment."""


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """One training run: a teacher, a student alone, or a distilled student."""

    name: str = "run"
    """Name of the run in MLflow and in reports."""

    out: Path | None = None
    """Run folder; by default `outputs/NAME`. A run found there is resumed."""

    method: Literal["pfed"] = "pfed"
    """Which method's terms and outputs are meant."""

    role: Literal["teacher", "alone", "distilled"] = "distilled"
    """What the run is in a comparison."""

    seed: int = 0
    """Seed of initial weights, order of samples and dropout."""

    expected_world_size: int | None = None
    """Number of processes that must really run; the job fails when it is another."""

    precision: Precision = "fp32"
    """Of forward and backward passes; bf16 and fp16 are mixed with float32."""

    data: DataConfig = field(default_factory=DataConfig)
    """Images and batches."""

    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How training images are varied."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The network that learns."""

    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """The model it learns from."""

    objectives: ObjectivesConfig = field(default_factory=ObjectivesConfig)
    """Loss terms."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimizer."""

    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Length and learning rate."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """MLflow."""

    log_every_steps: int = 10
    """Steps between metric lines."""

    probe_every_steps: int = 0
    """Steps between probes on held-out training places; 0 probes at the end only."""

    save_every_steps: int = 500
    """Steps between checkpoints; the last step is always saved."""

    keep_checkpoints: int = 2
    """Newest checkpoints that are kept."""

    def __post_init__(self) -> None:
        """Refuse contradictions, all at once.

        Raises:
            RecipeError: every problem, with its key and remedy.
        """
        if problems := list(self._problems()):
            raise RecipeError(f"recipe {self.name}: " + "; ".join(problems))

    @property
    def run_folder(self) -> Path:
        """Where the run lives."""
        return self.out or Path("outputs") / self.name

    def _problems(self) -> Iterator[str]:
        if not self.objectives.weights:
            yield "no objective has a weight, so nothing is trained; set objectives.info_nce.weight"
        yield from self._teacher_problems()
        if self.schedule.warmup_steps >= self.schedule.num_steps:
            yield (
                f"schedule.warmup_steps ({self.schedule.warmup_steps}) must be below "
                f"schedule.num_steps ({self.schedule.num_steps})"
            )
        for key, (value, is_right, range_in_words) in self._ranges().items():
            if not is_right:
                yield f"{key} ({value}) must be {range_in_words}"

    def _ranges(self) -> dict[str, tuple[float | None, bool, str]]:
        """Return every bounded number: key to value, whether it is allowed, and what is.

        Those of `augment` look after themselves.
        """
        data, terms = self.data, self.objectives
        at_least_1 = {
            "data.image_size": data.image_size,
            "data.global_batch": data.global_batch,
            "data.drones_per_row": data.drones_per_row,
            "data.mining.every_epochs": data.mining.every_epochs,
            "schedule.num_steps": self.schedule.num_steps,
            "log_every_steps": self.log_every_steps,
            "save_every_steps": self.save_every_steps,
            "keep_checkpoints": self.keep_checkpoints,
        }
        not_negative = {
            "data.threads": data.threads,
            "data.mining.neighbours": data.mining.neighbours,
            "data.mining.from_epoch": data.mining.from_epoch,
            "data.mining.drones": data.mining.drones,
            "model.bottleneck": self.model.bottleneck,
            "optimizer.weight_decay": self.optimizer.weight_decay,
            "schedule.warmup_steps": self.schedule.warmup_steps,
            "probe_every_steps": self.probe_every_steps,
            **{f"objectives.{name}.weight": part.weight for name, part in vars(terms).items()},
        }
        shares = {
            "data.validation_fraction": data.validation_fraction,
            "model.dropout": self.model.dropout,
            "model.drop_path": self.model.drop_path,
            "objectives.cross_entropy.label_smoothing": terms.cross_entropy.label_smoothing,
            "objectives.info_nce.label_smoothing": terms.info_nce.label_smoothing,
        }
        world = self.expected_world_size
        cold, warm = terms.info_nce.temperature, terms.logit_distillation.temperature
        rate, norm = self.optimizer.learning_rate, self.optimizer.max_grad_norm
        return {
            **{key: (value, value >= 1, "at least 1") for key, value in at_least_1.items()},
            **{key: (value, value >= 0, "0 or more") for key, value in not_negative.items()},
            **{key: (value, 0 <= value < 1, "in [0, 1)") for key, value in shares.items()},
            "seed": seed_bounds(self.seed),
            "data.validation_seed": seed_bounds(data.validation_seed),
            "objectives.info_nce.temperature": (cold, cold >= 0.01, "at least 0.01"),
            "objectives.logit_distillation.temperature": (warm, warm > 0, "above 0"),
            "optimizer.learning_rate": (rate, rate > 0, "above 0"),
            "optimizer.max_grad_norm": (norm, norm > 0, "above 0"),
            "data.local_cache_gib": room_bounds(data.local_cache_gib),
            "expected_world_size": (world, world is None or world >= 1, "at least 1"),
        }

    def _teacher_problems(self) -> Iterator[str]:
        needs, teacher = self.objectives.needs_teacher, self.teacher
        if needs and teacher.run is None:
            yield "a distillation objective needs teacher.run, the teacher's run folder"
        if needs and teacher.source == "cache" and teacher.cache is None:
            yield "a distillation objective needs teacher.cache; set it, or teacher.source to live"
        if self.role == "distilled" and not needs:
            yield (
                "role is distilled, but no distillation objective has a weight; "
                "set one, or set role to alone or teacher"
            )
        if self.role != "distilled" and needs:
            yield f"role is {self.role}, but a distillation term has a weight; say distilled"
