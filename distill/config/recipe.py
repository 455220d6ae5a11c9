"""One training recipe, whole; contradictions are refused when it is made, all at once.

One recipe describes a teacher or a student; the same file, given to `skydistill cache`, names the
teacher cache that its student reads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from operator import attrgetter
from pathlib import Path
from typing import Literal

from data_shards.augment.config import AugmentConfig
from data_shards.config import bounded, field_problems, seed
from data_shards.errors import RecipeError
from distill.config.data import DataConfig
from distill.config.model import ModelConfig, TeacherConfig
from distill.config.objectives import ObjectivesConfig
from distill.config.optim import OptimizerConfig, PhaseConfig, ScheduleConfig
from distill.config.tracking import TrackingConfig

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """One training run: a teacher, a student alone, or a distilled student."""

    name: str = "run"
    """Name of the run in MLflow and in reports."""

    out: Path | None = None
    """Run folder; by default `outputs/NAME`. A run found there is resumed."""

    method: Literal["pfed", "bicrossnet"] = "pfed"
    """Which method's terms and outputs are meant."""

    role: Literal["teacher", "alone", "distilled"] = "distilled"
    """What the run is in a comparison."""

    seed: int = seed()
    """Seed of initial weights, order of samples and dropout."""

    start: Path | None = None
    """Run folder that this run starts from: its model, and what of its stage heads, projection and
    scale this recipe has too; or a weight file, for its model. A run that was stopped is resumed
    instead."""

    expected_world_size: int | None = bounded(None, at_least=1)
    """Number of processes that must really run; the job fails when it is another."""

    collective_timeout_s: int = bounded(600, at_least=1)
    """Seconds after which a rank that waits for another gives up, and tells in which step."""

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

    phases: tuple[PhaseConfig, ...] = bounded((), methods=("bicrossnet",))
    """Gradual unfreezing: what learns, in order; everything from the first step on if empty."""

    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """MLflow."""

    log_every_steps: int = bounded(10, at_least=1)
    """Steps between metric lines."""

    probe_every_steps: int = bounded(0, at_least=0)
    """Steps between probes on held-out training places; 0 probes at the end only."""

    save_every_steps: int = bounded(500, at_least=1)
    """Steps between checkpoints; the last step is always saved."""

    keep_checkpoints: int = bounded(2, at_least=1)
    """Newest checkpoints that are kept."""

    keep_best: bool = False
    """Save at every probe with a higher recall@1, mean of both directions, than all before; keep
    that checkpoint too, and the weights in `best/` of the run folder."""

    profile_steps: int = bounded(0, at_least=0)
    """Steps behind the first two that are traced into `RUN/profile`, with a table of where they
    went; `skydistill train RECIPE --profile` traces 5."""

    def __post_init__(self) -> None:
        """Refuse contradictions, all at once.

        Raises:
            RecipeError: every problem, with its key and remedy.
        """
        problems = [*field_problems(self), *self.objectives.problems(), *self._problems_of_phases()]
        problems += [sentence for is_wrong, sentence in self._contradictions() if is_wrong]
        if problems:
            raise RecipeError(f"recipe {self.name}: " + "; ".join(problems))

    def _contradictions(self) -> Iterator[tuple[bool, str]]:
        """Yield whether two parts of the recipe contradict each other, and what to do then."""
        is_taught, teacher = self.objectives.needs_teacher, self.teacher
        yield (
            is_taught and teacher.source == "cache" and teacher.cache is None,
            "a distillation objective needs teacher.cache; set it, or teacher.source to live",
        )
        yield (
            is_taught != (self.role == "distilled"),
            f"role is {self.role}, but {'a' if is_taught else 'no'} distillation objective has a "
            "weight; say distilled where one has, and alone or teacher where none has",
        )
        yield (
            teacher.mode == "train" and teacher.source == "cache",
            "teacher.mode is train, and a cache holds eval; set source to live",
        )
        yield (
            self.data.crops_per_decode > self.augment.slots,
            f"data.crops_per_decode ({self.data.crops_per_decode}) needs as many slots; raise "
            f"augment.slots ({self.augment.slots})",
        )
        drops = bool(self.model.dropout or self.model.drop_path)
        yield (
            self.data.micro_batch is not None and drops and not self.model.dropout_by_sample,
            "data.micro_batch describes images twice, which must drop the same; set "
            "model.dropout_by_sample to true, or model.dropout and model.drop_path to 0",
        )
        yield (
            self.optimizer.fused and self.optimizer.rule == "lion",
            "optimizer.fused is true, and lion has no fused kernel; leave it out",
        )
        yield (
            self.model.compile and self.model.anneal_steps > 0,
            "model.compile would compile anew in each of model.anneal_steps; leave one out",
        )
        is_kept = self.model.descriptor_width == "teacher"
        yield (
            is_kept and not self.objectives.feature_distillation.weight,
            "model.descriptor_width is teacher, but nothing teaches the student its space; set "
            "objectives.feature_distillation.weight",
        )
        yield (
            self.keep_best and not (self.probe_every_steps and self.data.validation_fraction),
            "keep_best chooses by probes on held-out places; set probe_every_steps and "
            "data.validation_fraction, or keep_best to false",
        )
        num_steps = self.schedule.num_steps
        for key in ("schedule.warmup_steps", "model.anneal_steps"):  # else it never gets there
            steps = attrgetter(key)(self)
            sentence = f"{key} ({steps}) must be below schedule.num_steps ({num_steps})"
            yield steps >= max(num_steps, 1), sentence

    def _problems_of_phases(self) -> list[str]:
        """Report phases out of order, and such as train nothing."""
        if not self.phases:
            return []
        *earlier, last = self.phases
        trains, order = [phase.trains for phase in self.phases], ["head", "real", "all"]
        problems = []
        if trains != [part for part in order if part in trains]:
            problems.append(f"phases train {', '.join(trains)}; their order is {', '.join(order)}")
        if last.steps is not None or not all(phase.steps for phase in earlier):
            problems.append("every phase but the last has steps; the last reaches to the run's end")
        elif (begins := sum(phase.steps or 0 for phase in earlier)) >= self.schedule.num_steps:
            problems.append(
                f"the last phase begins at step {begins} and trains nothing; raise "
                f"schedule.num_steps ({self.schedule.num_steps})"
            )
        return problems

    def with_width_of(self, teacher: Mapping[str, tuple[int, ...]] | None) -> "DistillConfig":
        """Return this recipe with the number that `model.descriptor_width: teacher` stands for."""
        if teacher is None or self.model.descriptor_width != "teacher":
            return self
        width = prod(teacher["descriptor"])
        return replace(self, model=replace(self.model, descriptor_width=width))

    @property
    def run_folder(self) -> Path:
        """Where the run lives."""
        return self.out or Path("outputs") / self.name
