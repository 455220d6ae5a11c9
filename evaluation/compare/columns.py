"""The columns of a comparison: which searches, which metrics, and what a model costs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from data_shards.errors import RecipeError
from data_shards.nearest import choose
from evaluation.compare.gather import Entry
from evaluation.compare.groups import Group, metric_of, row_name
from evaluation.compare.speeds import (
    is_measured_apart,
    may_compare,
    speed_of,
    speeds_of,
    written,
)
from evaluation.compare.table import DASH, METRIC_WORDS, Cell, Column, percent_cell
from evaluation.figures.units import short
from evaluation.report import Report
from evaluation.result import Result

ALL = "all"

USUAL = ("d2s", "s2d")
"""Directions that are compared unless others are named: rows from the street are for who asks."""

PX = Column(row="", metric="px", head=("model", "px"), block="cost", best="none")
PARAMETERS = Column(
    row="", metric="parameters", head=("model", "parameters"), block="cost", best="low"
)
OPS = Column(row="", metric="ops", head=("per image", "OPs"), block="cost", best="low")
SPEED = Column(row="", metric="images_per_second", head=("measured", "images/s"), block="cost")


def chosen_rows(entries: Sequence[Entry], asked: Sequence[str]) -> list[str]:
    """Return the names of the rows to compare, those of one direction together.

    Raises:
        RecipeError: no report has any row, or one of that name; the nearest is named.
    """
    known: dict[str, Result] = {}
    for entry in entries:
        for result in entry.report.results:
            known.setdefault(row_name(result), result)
    if not known:
        raise RecipeError("the reports hold no results; evaluate again")
    names = [choose(name, [*known, ALL], what="row", error=RecipeError) for name in asked]
    if ALL in names:
        names = list(known)
    elif not names:
        headlines = [name for name, result in known.items() if result.is_headline]
        names = [name for name in headlines if _direction(name) in USUAL] or headlines
    return in_order(names)


def in_order(rows: Iterable[str]) -> list[str]:
    """Sort rows by kind (clean, without distractors, fog), then by direction, as they came."""
    unique = list(dict.fromkeys(rows))
    kinds = list(dict.fromkeys(_kind(row) for row in unique))
    directions = list(dict.fromkeys(_direction(row) for row in unique))
    return sorted(
        unique, key=lambda row: (kinds.index(_kind(row)), directions.index(_direction(row)))
    )


def search_columns(rows: Sequence[str], metrics: Sequence[str]) -> list[Column]:
    """Return a column for each metric of each row."""
    return [
        Column(
            row=row,
            metric=metric,
            head=(*head_of(row), METRIC_WORDS[metric]),
            block=f"{_direction(row)} {_kind(row)}",
        )
        for row in rows
        for metric in metrics
    ]


def head_of(row: str) -> tuple[str, ...]:
    """Return a row in words: `D2S`, `150 m` of `d2s/150m`."""
    direction, *rest = row.split("/")
    return (direction.upper(), *(f"{part[:-1]} m" if _is_height(part) else part for part in rest))


def cost_columns(groups: Sequence[Group]) -> list[Column]:
    """Return the columns of what models cost; the speed only where one was measured."""
    if not any(report.speed for group in groups for report in group.reports):
        return [PX, PARAMETERS, OPS]
    is_fair = may_compare(speeds_of(groups))
    return [PX, PARAMETERS, OPS, SPEED if is_fair else replace(SPEED, best="none")]


def group_cell(group: Group, column: Column) -> Cell | None:
    """Return what a group has in a column; None where it has nothing."""
    if column.row:
        found = group.measured(lambda report: metric_of(report, column.row, column.metric))
        if found is None:
            return None
        deviation = None if found.deviation is None else 100 * found.deviation
        mean = 100 * found.mean
        return percent_cell(mean, mean, deviation=deviation, count=found.count)
    if column.metric == SPEED.metric:
        return _speed_cell(group)
    found = group.measured(COSTS[column.metric])
    if found is None:
        return None
    text = f"{found.mean:.0f}" if column.metric == PX.metric else short(found.mean)
    return Cell(text=text, low=found.mean, high=found.mean, count=found.count)


def _speed_cell(group: Group) -> Cell | None:
    """Return the images per second of a group; no number where its runs were not measured alike."""
    speed = speed_of(group)
    if speed is None:
        return Cell(text=DASH, low=None, high=None) if is_measured_apart(group) else None
    found = speed.measured
    return Cell(
        text=written(found.mean),
        low=found.mean,
        high=found.mean,
        deviation=found.deviation,
        count=found.count,
        measured_on=str(speed.setup),
    )


COSTS: dict[str, Callable[[Report], float | None]] = {
    PX.metric: lambda report: report.image_size,
    PARAMETERS.metric: lambda report: report.cost.parameters,
    OPS.metric: lambda report: report.cost.ops,
}
"""Column to where a report says it."""


def _direction(row: str) -> str:
    return row.partition("/")[0]


def _kind(row: str) -> str:
    """Return what a row is besides its direction and height."""
    return "/".join(part for part in row.split("/")[1:] if not _is_height(part))


def _is_height(part: str) -> bool:
    return part.endswith("m") and part[:-1].isdigit()
