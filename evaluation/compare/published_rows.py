"""Published numbers as rows of a table, under the names of the columns that ours have."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from evaluation.compare.columns import OPS, PARAMETERS, PX
from evaluation.compare.published import Published, PublishedCost, PublishedRow, Span
from evaluation.compare.table import Cell, Column, Row, percent_cell
from evaluation.figures.units import short

IN_PRINT = re.compile(r"/no-distractors|(?<=/refined)-\d+")
"""What the names of our rows have more than those of published ones: the gallery is said apart."""


def published_rows(
    known: Published,
    columns: Sequence[Column],
    *,
    dataset: str,
    trained_on: str,
    without: Collection[str] = (),
) -> list[Row]:
    """Return what was published on a data set, in the order of the file; nothing without a number.

    Args:
        known: all that is known.
        columns: of the table.
        dataset: that was tested on.
        trained_on: the same data set, or another: zero-shot.
        without: rows of reports that nothing published compares with.
    """
    rows = []
    for row in known.results:
        searches = [
            _search_cell(row, column, columns) if column.row not in without else None
            for column in columns
            if column.row
        ]
        if (row.dataset, row.trained_on) != (dataset, trained_on) or not any(searches):
            continue
        costs = [_cost_cell(known, row.method, column) for column in columns if not column.row]
        rows.append(
            Row(
                label=f"{row.method} (unverified)" if row.source.unverified else row.method,
                cells=(*searches, *costs),
                gallery=row.gallery,
                source=row.source,
                note=row.note,
            )
        )
    return rows


def name_in_print(row: str) -> str:
    """Return the name that a row has among the published ones: `d2s/refined` of any number."""
    return IN_PRINT.sub("", row)


def cost_of(known: Published, method: str) -> PublishedCost | None:
    """Return what a method costs per image, where that can be said; else its parameters."""
    costs = [cost for cost in known.costs if cost.method == method]
    per_image = [cost for cost in costs if cost.operations_per_image is not None]
    return next(iter(per_image or costs), None)


def span_cell(span: Span) -> Cell:
    """Return a published number or range, in percent."""
    return percent_cell(span.low, span.high)


def _search_cell(row: PublishedRow, column: Column, columns: Sequence[Column]) -> Cell | None:
    """Return a published number, once where both galleries have columns and it is known whose."""
    search = name_in_print(column.row)
    galleries = {other.gallery for other in columns if name_in_print(other.row) == search}
    if column.gallery != row.gallery and row.gallery in galleries:
        return None
    span = row.values.get(search, {}).get(column.metric)
    return None if span is None else span_cell(span)


def _cost_cell(known: Published, method: str, column: Column) -> Cell | None:
    cost = cost_of(known, method)
    if cost is None:
        return None
    if column == PARAMETERS:
        for one in known.costs:
            if one.method == method and one.parameters:
                size = one.parameters
                return replace(count_cell(size.low, size.high), source=one.source)
        return None
    value = {PX: cost.image_size, OPS: cost.operations_per_image}.get(column)
    return None if value is None else replace(count_cell(value, value), source=cost.source)


def count_cell(low: float, high: float) -> Cell:
    """Return a number of parameters, operations or pixels; of a range its middle is written."""
    return Cell(text=short((low + high) / 2), low=low, high=high)
