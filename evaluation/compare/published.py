"""The published numbers, as data with their source (`published.yaml`), and whose tests compare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from data_shards.layouts.published import PUBLISHED
from data_shards.layouts.published import Published as TestSet
from data_shards.manifest import PLACES
from data_shards.schema import Role
from evaluation.report import CLEAN, SINGLE, Report, Result

FILE = Path(__file__).with_name("published.yaml")

Trust = Literal["paper", "leaderboard", "transcribed", "decoded", "digitised", "recalled"]
"""How a number came here, the surest way first."""

VIEWS = {"d": "drone", "s": "satellite", "street": "street"}
"""Beginning and end of a direction to the view: `d2s` looks for satellite tiles."""

Span = tuple[float, float]
"""A published number, twice; two where sources differ or a figure was read with a margin."""


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
class Published:
    """Everything in the file."""

    sources: Mapping[str, Source]
    results: tuple[PublishedRow, ...]
    costs: tuple[PublishedCost, ...]

    def cost_of(self, method: str, metric: str) -> tuple[Span, Source] | None:
        """Return the `px`, `parameters` or `ops` of a method per image, and who says so.

        Pixels and operations are of one chart: of the first that tells the operations per image.
        """
        costs = [cost for cost in self.costs if cost.method == method]
        if metric == "parameters":
            known = [(cost.parameters, cost.source) for cost in costs if cost.parameters]
            return next(iter(known), None)
        charted = [cost for cost in costs if cost.operations_per_image is not None] or costs
        for cost in charted[:1]:
            value = {"px": cost.image_size, "ops": cost.operations_per_image}.get(metric)
            return None if value is None else ((value, value), cost.source)
        return None


@cache
def published() -> Published:
    """Read the numbers that ship with this program; a mistake in them is ours."""
    content = yaml.safe_load(FILE.read_text())
    assert content["unit"] == "percent"
    sources = {tag: Source(tag=tag, **facts) for tag, facts in content["sources"].items()}
    assert all(source.trust in get_args(Trust) for source in sources.values())
    return Published(
        sources=sources,
        results=tuple(_row(sources, **facts) for facts in content["results"]),
        costs=tuple(_cost(sources, **facts) for facts in content["efficiency"]),
    )


def _row(
    sources: Mapping[str, Source], *, source: str, values: dict[str, Any], **facts: Any
) -> PublishedRow:
    spans = {
        result: {metric: _span(value) for metric, value in metrics.items()}
        for result, metrics in values.items()
    }
    return PublishedRow(values=spans, source=sources[source], **facts)


def _cost(
    sources: Mapping[str, Source],
    *,
    source: str,
    accuracy: dict[str, Any],
    parameters_m: Any,
    giga_operations: float | None,
    **facts: Any,
) -> PublishedCost:
    return PublishedCost(
        accuracy={metric: _span(value) for metric, value in accuracy.items()},
        parameters=None if parameters_m is None else _span(parameters_m, times=1e6),
        operations=None if giga_operations is None else giga_operations * 1e9,
        source=sources[source],
        **facts,
    )


def _span(value: float | list[float], *, times: float = 1.0) -> Span:
    low, high = value if isinstance(value, list) else (value, value)
    assert low <= high, f"{FILE.name}: {value}"
    return low * times, high * times


def published_name(search: Result) -> str:
    """Return the name of a search among the published ones: of any gallery, `refined` of any K."""
    views = "refined" if search.views.startswith("refined-") else search.views
    return replace(search, gallery="full", views=views, seed=None).name


def published_value(
    row: PublishedRow, search: Result, metric: str, others: Sequence[Result]
) -> Span | None:
    """Return a published number; once where both galleries are compared and it is known whose.

    Args:
        row: of one method.
        search: one of those that are compared; nothing published has our weather and light.
        metric: `recall@1` or `ap`.
        others: all searches that are compared.
    """
    name = published_name(search)
    galleries = {other.gallery for other in others if published_name(other) == name}
    is_elsewhere = search.gallery != row.gallery and row.gallery in galleries
    if is_elsewhere or search.condition != CLEAN:
        return None
    return row.values.get(name, {}).get(metric)


def why_not_beside(reports: Sequence[Report]) -> str:
    """Say why published numbers do not belong beside those of reports; empty if they do."""
    how = reports[0].measurement
    known = [row for row in published().results if row.dataset == how.protocol]
    names = {name for row in known for name in row.values}
    if how.zero_shot is None:
        return "it is not known what these models were trained on"
    if not any(row.trained_on == how.trained_official for row in known):
        return f"there are none for training on {how.trained_on}"
    comparable = [
        (report, [r for r in report.results if published_name(r) in names and r.condition == CLEAN])
        for report in reports
    ]
    if not any(results for _, results in comparable):
        return "there are none that compare with these rows"
    said = [one for report in comparable for one in unofficial(*report)]
    if not how.is_official:
        said.append(f"{how.dataset} is not the official test set")
    return next(iter(said), "")


def unofficial(report: Report, results: Sequence[Result]) -> list[str]:
    """Say in how far a test set is not the public one, image for image; empty if it is."""
    how = report.measurement
    test_set = PUBLISHED.get(how.protocol)
    if test_set is None:
        return [f"nothing is published on {how.dataset}"]
    told = ["further distractors joined the galleries"] if how.distractors else []
    for result in results:
        queries, gallery = official_counts(test_set, result)
        found = int(result.metrics["num_queries"]), int(result.metrics["num_gallery"])
        if found[0] not in queries or found[1] not in gallery:
            told.append(
                f"{result.name} has {found[0]:,} queries and {found[1]:,} images, and "
                f"{test_set.title} {_in_words(queries)} and {_in_words(gallery)}"
            )
    return told


def official_counts(test_set: TestSet, result: Result) -> tuple[tuple[int, ...], ...]:
    """Return the numbers of queries and of gallery images that a row has on the public test set.

    Each may be one of two: as published, where University-1652 has a stray drone image among its
    queries and its gallery, and without that image.
    """
    found: list[tuple[int, ...]] = []
    pool = Role.GALLERY if result.gallery == "full" else Role.QUERY
    for side, role in zip(result.direction.split("2"), (Role.QUERY, pool), strict=True):
        view, counts = VIEWS.get(side, side), test_set.counts[role]
        if view != "drone":
            found.append((counts.get(view, 0),))
        elif result.views != SINGLE:
            found.append((counts[PLACES],))
        else:
            count = counts[view] // (len(test_set.altitudes_m) or 1)
            found.append(tuple(dict.fromkeys((count + test_set.stray, count))))
    return tuple(found)


def _in_words(counts: Sequence[int]) -> str:
    """Return `951`, or `37,855 (37,854 without its stray image)`."""
    count, *without = counts
    return f"{count:,}" + "".join(f" ({one:,} without its stray image)" for one in without)
