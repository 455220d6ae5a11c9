"""The published numbers, as data with their source (`published.yaml`), and where they belong."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import yaml

from evaluation.report import CLEAN, Measurement, Result

FILE = Path(__file__).with_name("published.yaml")

Trust = Literal["paper", "leaderboard", "transcribed", "decoded", "digitised", "recalled"]
"""How a number came here, the surest way first."""

Printed = float | Sequence[float]
"""A number, or both ends where sources differ or a figure was read with a margin."""


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
    """Layout of the public data set: `university1652`, `sues200`."""

    trained_on: str
    gallery: Literal["full", "no-distractors", "unstated"]
    values: Mapping[str, Mapping[str, Printed]]
    """Name of a row of our reports, such as `d2s/150m`, then `recall@1` or `ap`, in percent."""

    source: Source
    note: str = ""

    def value(self, search: Result, metric: str, others: Iterable[Result]) -> Printed | None:
        """Return a number; once where both galleries are compared and it is known whose it is.

        Args:
            search: one of those that are compared; nothing published has our weather and light.
            metric: `recall@1` or `ap`.
            others: all searches that are compared.
        """
        name = published_name(search)
        galleries = {other.gallery for other in others if published_name(other) == name}
        is_elsewhere = search.gallery != self.gallery and self.gallery in galleries
        if is_elsewhere or search.condition != CLEAN:
            return None
        return self.values.get(name, {}).get(metric)


@dataclass(frozen=True, kw_only=True)
class PublishedCost:
    """What inference of one method costs, with the accuracy it was charted with."""

    method: str
    accuracy: Mapping[str, Printed]
    """Drone to satellite on University-1652, in percent."""

    parameters: Printed | None
    operations: float | None
    """As printed: MACs, or OPs = BOPs / 64 + MACs, of `images` images."""

    images: int | None
    """Images that the operations are for; None where it is not stated or derivable."""

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
        return self.operations / self.images if self.operations and self.images else None


@dataclass(frozen=True, kw_only=True)
class Published:
    """Everything in the file."""

    results: tuple[PublishedRow, ...]
    costs: tuple[PublishedCost, ...]

    def cost_of(self, method: str, metric: str) -> tuple[Printed, Source] | None:
        """Return the `px`, `parameters` or `ops` of a method per image, and who says so.

        Pixels and operations are of one chart: of the first that tells the operations per image.
        """
        costs = [cost for cost in self.costs if cost.method == method]
        if metric == "parameters":
            return next(((one.parameters, one.source) for one in costs if one.parameters), None)
        charted = [cost for cost in costs if cost.operations_per_image is not None] or costs
        for cost in charted[:1]:
            value = {"px": cost.image_size, "ops": cost.operations_per_image}.get(metric)
            return None if value is None else (value, cost.source)
        return None


@cache
def published() -> Published:
    """Read the numbers that ship with this program; a mistake in them is ours."""
    content = yaml.safe_load(FILE.read_text())
    assert content["unit"] == "percent"
    sources = {tag: Source(tag=tag, **facts) for tag, facts in content["sources"].items()}
    assert all(source.trust in get_args(Trust) for source in sources.values())
    rows, costs = (
        [facts | {"source": sources[facts["source"]]} for facts in content[part]]
        for part in ("results", "efficiency")
    )
    return Published(
        results=tuple(PublishedRow(**facts) for facts in rows),
        costs=tuple(PublishedCost(**facts) for facts in costs),
    )


def ends(number: Printed) -> tuple[float, float]:
    """Return both ends of a number; the same twice where there is one."""
    low, high = (number, number) if isinstance(number, float | int) else number
    return low, high


def published_name(search: Result) -> str:
    """Return the name of a search among the published ones: of any gallery, `refined` of any K."""
    views = "refined" if search.views.startswith("refined-") else search.views
    return replace(search, gallery="full", views=views, seed=None).name


def why_not_beside(how: Measurement, searches: Iterable[Result]) -> str:
    """Say why published numbers do not belong beside what was measured; empty if they do."""
    known = [row for row in published().results if row.dataset == how.protocol]
    names = {name for row in known for name in row.values}
    reasons = {
        f"{how.dataset} is not the official test set": not how.is_official,
        "it is not known what these models were trained on": how.zero_shot is None,
        f"there are none for training on {how.trained_on}": (
            all(row.trained_on != how.trained_official for row in known)
        ),
        "there are none that compare with these rows": not any(
            search.condition == CLEAN and published_name(search) in names for search in searches
        ),
        "further distractors joined the galleries": bool(how.distractors),
    }
    return next((reason for reason, is_so in reasons.items() if is_so), "")
