"""The published numbers, as data with their source: `published.yaml` beside this file."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

FILE = Path(__file__).with_name("published.yaml")

Trust = Literal["paper", "leaderboard", "transcribed", "decoded", "digitised", "recalled"]
"""How a number came here, the surest way first."""


@dataclass(frozen=True)
class Span:
    """A published number; two where sources differ or a figure was read with a margin."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """Of both ends, for charts."""
        return (self.low + self.high) / 2


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where numbers were printed."""

    tag: str
    cite: str
    trust: Trust
    unverified: bool = False
    """Whether nobody compared them with the source."""


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """What one method reached on one test set."""

    method: str
    dataset: str
    """Layout, as in reports: `university1652`, `sues200`."""

    trained_on: str
    gallery: Literal["full", "no-distractors", "unstated"]
    values: Mapping[str, Mapping[str, Span]]
    """Name of a row of our reports, such as `d2s/150m`, then `recall@1` or `ap`, in percent."""

    source: Source
    note: str = ""

    @property
    def is_zero_shot(self) -> bool:
        """Whether the model never saw the data set it was tested on."""
        return self.trained_on != self.dataset


@dataclass(frozen=True, kw_only=True)
class PublishedCost:
    """What inference of one method costs, with the accuracy it was charted with."""

    method: str
    accuracy: Mapping[str, Span]
    """Drone to satellite on University-1652, in percent."""

    parameters: Span | None
    operations: float | None
    """As printed: MACs, or OPs = BOPs / 64 + MACs, of `images` images."""

    images: int | None
    """Images that `operations` are for; None where it is not stated or derivable."""

    image_size: int | None
    """Width and height in pixels."""

    per_second: float | None
    """Images."""

    device: str = ""
    """That `per_second` was measured on; empty where it is not stated."""

    source: Source

    @property
    def operations_per_image(self) -> float | None:
        """None where the number of images is not known."""
        if self.operations is None or self.images is None:
            return None
        return self.operations / self.images


@dataclass(frozen=True, kw_only=True)
class PublishedClassifier:
    """A binary backbone on ImageNet."""

    model: str
    top1: float
    """Percent."""

    operations: float
    """BOPs / 64 + MACs of an image at 224 px, real convolutions counted at 8 bits."""

    binary_share: float
    """Percent of the operations that are binary."""

    deploy_mib: float
    source: Source


@dataclass(frozen=True, kw_only=True)
class Published:
    """Everything in the file."""

    sources: Mapping[str, Source]
    results: tuple[PublishedRow, ...]
    costs: tuple[PublishedCost, ...]
    classifiers: tuple[PublishedClassifier, ...]


@cache
def published() -> Published:
    """Read the numbers that ship with this program; a mistake in them is ours."""
    content = yaml.safe_load(FILE.read_text())
    assert content["unit"] == "percent"
    sources = {
        tag: Source(tag=tag, **_known(Source, facts)) for tag, facts in content["sources"].items()
    }
    assert all(source.trust in get_args(Trust) for source in sources.values())
    return Published(
        sources=sources,
        results=tuple(_row(facts, sources) for facts in content["results"]),
        costs=tuple(_cost(facts, sources) for facts in content["efficiency"]),
        classifiers=tuple(_classifier(facts, sources) for facts in content["imagenet"]),
    )


def _row(facts: dict[str, Any], sources: Mapping[str, Source]) -> PublishedRow:
    values = {
        result: {metric: _span(value) for metric, value in metrics.items()}
        for result, metrics in facts["values"].items()
    }
    return PublishedRow(
        **_known(PublishedRow, facts) | {"values": values, "source": sources[facts["source"]]}
    )


def _cost(facts: dict[str, Any], sources: Mapping[str, Source]) -> PublishedCost:
    parameters, operations = facts.pop("parameters_m"), facts.pop("giga_operations")
    return PublishedCost(
        **_known(PublishedCost, facts)
        | {
            "accuracy": {metric: _span(value) for metric, value in facts["accuracy"].items()},
            "source": sources[facts["source"]],
        },
        parameters=None if parameters is None else _span(parameters, times=1e6),
        operations=None if operations is None else operations * 1e9,
    )


def _classifier(facts: dict[str, Any], sources: Mapping[str, Source]) -> PublishedClassifier:
    operations = facts.pop("giga_operations") * 1e9
    return PublishedClassifier(
        **_known(PublishedClassifier, facts) | {"source": sources[facts["source"]]},
        operations=operations,
    )


def _known(cls: type[Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of one entry, all of which its class must know."""
    strange = facts.keys() - cls.__dataclass_fields__.keys()
    assert not strange, f"{FILE.name}: {sorted(strange)} of {facts}"
    return facts


def _span(value: float | list[float], *, times: float = 1.0) -> Span:
    low, high = value if isinstance(value, list) else (value, value)
    assert low <= high, f"{FILE.name}: {value}"
    return Span(low * times, high * times)
