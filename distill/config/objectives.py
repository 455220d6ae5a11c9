"""The named terms of the loss, each with its weight."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from data_shards.config import bounded


@dataclass(frozen=True, kw_only=True)
class TermConfig:
    """A term of every method."""

    weight: float = bounded(0.0, at_least=0)
    """Weight in the total loss; 0 leaves the term out."""


@dataclass(frozen=True, kw_only=True)
class PfedTermConfig(TermConfig):
    """A term of pfed alone."""

    weight: float = bounded(0.0, at_least=0, methods=("pfed",))
    """As of every term."""


@dataclass(frozen=True, kw_only=True)
class TaughtTermConfig(TermConfig):
    """A term that compares with a teacher."""

    weight: float = bounded(0.0, at_least=0, needs=("teacher.run",))
    """As of every term; a weight needs `teacher.run`."""


@dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig(TermConfig):
    """Class logits of both views against the place."""

    label_smoothing: float = bounded(0.0, at_least=0, below=1)
    """Share of the target spread over all places."""


@dataclass(frozen=True, kw_only=True)
class DeepSupervisionConfig(PfedTermConfig):
    """Class logits of the earlier stages against the place (spec pfed 4.1)."""

    stage_weights: tuple[float, ...] = bounded((0.1, 0.2, 0.3), at_least=0)
    """Weight of each stage before the last, the shallowest first."""


@dataclass(frozen=True, kw_only=True)
class SelfDistillationConfig(DeepSupervisionConfig):
    """Class probabilities of the stages towards each other (spec pfed 4.2)."""

    weight: float = bounded(
        0.0, at_least=0, needs=("objectives.deep_supervision.weight",), methods=("pfed",)
    )
    """As of every term; the stages then need class logits of their own."""

    temperature: float = bounded(4.0, above=0)
    """Softens both sides; the term is scaled by its square."""

    direction: Literal["inverse", "ordinary"] = "inverse"
    """`inverse`: earlier stages teach the last; `ordinary`: the last teaches them (the control)."""

    chain: bool = False
    """Whether each stage and its neighbour are compared, not each stage and the last."""

    detach: bool = True
    """Whether the side that teaches gets no gradient."""


@dataclass(frozen=True, kw_only=True)
class TripletConfig(TermConfig):
    """Descriptors of each view against the hardest of the other over all ranks (spec pfed 4.3)."""

    margin: float = bounded(0.3, above=0)
    """Distance by which a wrong place must be farther than the right one."""


@dataclass(frozen=True, kw_only=True)
class ProxyAnchorConfig(PfedTermConfig):
    """Descriptors against a learned proxy of each place (Kim et al. 2020; spec pfed 10)."""

    scale: float = bounded(32.0, above=0)
    """Sharpness of the soft maximum."""

    margin: float = bounded(0.1, at_least=0)
    """Cosine by which positives exceed, and negatives fall short of, the decision."""


@dataclass(frozen=True, kw_only=True)
class UapaConfig(PfedTermConfig):
    """Class probabilities of drone views towards those of their tile (spec pfed 4.4)."""

    temperature: float = bounded(4.0, above=0)
    """Temperature where drone views are much surer than tiles; twice that in the opposite case."""


@dataclass(frozen=True, kw_only=True)
class InfoNceConfig(PfedTermConfig):
    """Drone descriptors against all satellites of the global batch, and back."""

    temperature: float = bounded(0.07, at_least=0.01)
    """Temperature at the start; it is learned."""

    label_smoothing: float = bounded(0.1, at_least=0, below=1)
    """Share of the target spread over the batch."""


@dataclass(frozen=True, kw_only=True)
class LogitDistillationConfig(TaughtTermConfig):
    """Class probabilities of the student towards the teacher's."""

    temperature: float = bounded(4.0, above=0, methods=("pfed",))
    """Softens both sides; the term is scaled by its square. bicrossnet compares the logits as they
    are, by their mean squared difference."""


@dataclass(frozen=True, kw_only=True)
class FeatureDistillationConfig(TaughtTermConfig):
    """Descriptor of the student towards the teacher's.

    pfed compares by cosine, bicrossnet by the mean squared difference of the parts.
    """

    behind_dropout: bool = bounded(False, methods=("bicrossnet",))
    """Whether the student is compared behind its dropout, as in the released code."""


@dataclass(frozen=True, kw_only=True)
class CrossViewConfig(TermConfig):
    """Class probabilities of both views, branch by branch (spec bicrossnet 4.1)."""

    weight: float = bounded(0.0, at_least=0, methods=("bicrossnet",))
    """As of every term."""


@dataclass(frozen=True, kw_only=True)
class ObjectivesConfig:
    """The named terms of the loss; the total is their weighted sum."""

    cross_entropy: CrossEntropyConfig = field(default_factory=CrossEntropyConfig)
    """Hard labels."""

    info_nce: InfoNceConfig = field(default_factory=InfoNceConfig)
    """Contrast over all ranks."""

    triplet: TripletConfig = field(default_factory=TripletConfig)
    """Hardest wrong place over all ranks."""

    proxy_anchor: ProxyAnchorConfig = field(default_factory=ProxyAnchorConfig)
    """Contrast with learned proxies, over all ranks."""

    deep_supervision: DeepSupervisionConfig = field(default_factory=DeepSupervisionConfig)
    """Hard labels for the earlier stages."""

    self_distillation: SelfDistillationConfig = field(default_factory=SelfDistillationConfig)
    """Soft labels between stages."""

    uapa: UapaConfig = field(default_factory=UapaConfig)
    """Soft labels of the other view."""

    logit_distillation: LogitDistillationConfig = field(default_factory=LogitDistillationConfig)
    """Soft labels of the teacher."""

    feature_distillation: FeatureDistillationConfig = field(
        default_factory=FeatureDistillationConfig
    )
    """Descriptor of the teacher."""

    cross_view: CrossViewConfig = field(default_factory=CrossViewConfig)
    """Divergence of the two views' class probabilities."""

    @property
    def weights(self) -> dict[str, float]:
        """Name to weight of every term that is computed."""
        return {name: part.weight for name, part in vars(self).items() if part.weight}

    def problems(self) -> Iterator[str]:
        """Report terms that together train nothing, or no descriptor."""
        if not self.weights:
            yield "no objective has a weight, so nothing is trained; set objectives.triplet.weight"
        elif not self.weights.keys() - {"deep_supervision", "self_distillation"}:
            yield "only stages before the last are trained; set objectives.triplet.weight"

    @property
    def needs_teacher(self) -> bool:
        """Whether any term that is computed compares with a teacher."""
        terms = vars(self).values()
        return any(isinstance(term, TaughtTermConfig) and term.weight for term in terms)
