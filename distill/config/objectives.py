"""The named terms of the loss, each with its weight."""

from dataclasses import dataclass, field, fields

from distill.config.fields import bounded


@dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig:
    """Class logits of both views against the place."""

    weight: float = bounded(0.0, at_least=0)
    """Weight in the total loss; 0 leaves the term out."""

    label_smoothing: float = bounded(0.0, at_least=0, below=1)
    """Share of the target spread over all places."""


@dataclass(frozen=True, kw_only=True)
class InfoNceConfig:
    """Drone descriptors against all satellites of the global batch, and back."""

    weight: float = bounded(0.0, at_least=0)
    """Weight in the total loss; 0 leaves the term out."""

    temperature: float = bounded(0.07, at_least=0.01)
    """Temperature at the start; it is learned."""

    label_smoothing: float = bounded(0.1, at_least=0, below=1)
    """Share of the target spread over the batch."""


@dataclass(frozen=True, kw_only=True)
class LogitDistillationConfig:
    """Class probabilities of the student towards the teacher's."""

    weight: float = bounded(0.0, at_least=0, needs=("teacher.run",))
    """Weight in the total loss; 0 leaves the term out."""

    temperature: float = bounded(4.0, above=0)
    """Softens both sides; the term is scaled by its square."""


@dataclass(frozen=True, kw_only=True)
class FeatureDistillationConfig:
    """Descriptor of the student towards the teacher's, by cosine."""

    weight: float = bounded(0.0, at_least=0, needs=("teacher.run",))
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
        """Whether any term that is computed compares with a teacher."""
        return any(
            part.weight and "teacher.run" in weight.metadata["needs"]
            for part in vars(self).values()
            for weight in fields(part)
            if weight.name == "weight"
        )
