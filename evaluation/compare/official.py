"""Whether a test set is the public one, image for image: else published numbers tell nothing."""

from collections.abc import Sequence

from data_shards.layouts.published import PLACES, PUBLISHED, Published
from data_shards.schema import Role
from evaluation.compare.manner import title_of
from evaluation.report import Report
from evaluation.result import SINGLE, Result

VIEWS = {"d": "drone", "s": "satellite", "street": "street"}
"""Beginning and end of a direction to the view: `d2s` looks for satellite tiles."""


def unofficial(report: Report, results: Sequence[Result]) -> list[str]:
    """Say in how far a test set is not the public one; empty if its numbers are comparable."""
    published = PUBLISHED.get(report.dataset)
    if published is None:
        return [f"nothing is published on {report.dataset}"]
    told = []
    if report.distractors:
        told.append("further distractors joined the galleries")
    for result in results:
        queries, gallery = official_counts(published, result)
        found = int(result.metrics["num_queries"]), int(result.metrics["num_gallery"])
        if found[0] not in queries or found[1] not in gallery:
            told.append(
                f"{result.name} has {found[0]:,} queries and {found[1]:,} images, and "
                f"{title_of(report.dataset)} {_in_words(queries)} and {_in_words(gallery)}"
            )
    return told


def official_counts(published: Published, result: Result) -> tuple[tuple[int, ...], ...]:
    """Return the numbers of queries and of gallery images that a row has on the public test set.

    Each may be one of two: as published, where University-1652 has a stray drone image among its
    queries and its gallery, and without that image.
    """
    query, gallery = result.direction.split("2")
    pool = Role.GALLERY if result.gallery == "full" else Role.QUERY
    return _count(published, result, query, Role.QUERY), _count(published, result, gallery, pool)


def _count(published: Published, result: Result, side: str, role: Role) -> tuple[int, ...]:
    view = VIEWS.get(side, side)
    counts = published.counts[role]
    if view == "drone":
        if result.views != SINGLE:
            return (counts[PLACES],)
        count = counts[view] // (len(published.altitudes_m) or 1)
        return tuple(dict.fromkeys((count + published.stray, count)))
    return (counts.get(view, 0),)


def _in_words(counts: Sequence[int]) -> str:
    """Return `951`, or `37,855 (37,854 without its stray image)`."""
    published, *without = counts
    return f"{published:,}" + "".join(f" ({count:,} without its stray image)" for count in without)
