"""Accuracy against operations and against speed, for the first search of a comparison."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from data_shards.errors import DescriptorError
from evaluation.compare.columns import OPS, PARAMETERS, SPEED, machines
from evaluation.compare.table import Cell, Column, Row, Table
from evaluation.compare.tables import Comparison
from evaluation.figures.bubbles import Point, accuracy_against_ops, accuracy_against_speed
from evaluation.figures.canvas import save_figure

ELSEWHERE = "†"
"""Behind published methods whose gallery is known to be another one."""


def draw(comparisons: Sequence[Comparison], metric: str, *, folder: Path) -> list[Path]:
    """Draw both pictures for every height of the first direction of each comparison.

    Published rows are in the first picture where operations per image are known; images per
    second are drawn for one device alone, so never for published rows.

    Raises:
        DescriptorError: the folder cannot be written to.
    """
    paths: list[Path] = []
    for comparison in comparisons:
        for name, figure in _figures(comparison, metric):
            path = folder / f"{name}.png"
            while path in paths:
                path = path.with_stem(f"{path.stem}_also")
            try:
                paths.append(save_figure(figure, path))
            except OSError as error:
                raise DescriptorError(
                    f"figure {path} cannot be written ({error.strerror}); give another place with "
                    "--figures"
                ) from error
    return paths


def _figures(comparison: Comparison, metric: str) -> Iterator[tuple[str, Figure]]:
    table, manner = comparison.table, comparison.manner
    first = table.columns[0].block
    for column in table.columns:
        if column.block != first or column.metric != metric:
            continue
        search = " ".join(column.head[:-1])
        kind = f"{manner.dataset}{'_zero_shot' if manner.is_zero_shot else ''}"
        stem = f"{kind}_{column.row}_{metric}".replace("/", "_").replace("@", "_at_")
        stem = stem.replace("%", "_percent")
        if points := _points(table, column, OPS):
            yield (
                f"{stem}_against_ops",
                accuracy_against_ops(
                    points,
                    title=f"{search}: accuracy against operations",
                    subtitle=_subtitle(table, points),
                    metric=column.head[-1],
                ),
            )
        on = machines(comparison.groups)
        if len(on) == 1 and (points := _points(table, column, SPEED)):
            yield (
                f"{stem}_against_speed",
                accuracy_against_speed(
                    points,
                    title=f"{search}: accuracy against speed",
                    subtitle=_subtitle(table, points),
                    metric=column.head[-1],
                    what=f"images per second ({on[0]})",
                ),
            )


def _subtitle(table: Table, points: Sequence[Point]) -> str:
    """Say what was tested, and what the marks of published points mean, if there are any."""
    words = [table.title]
    if any(point.is_published for point in points):
        words.append("grey: as published")
    if any(point.label.endswith(ELSEWHERE) for point in points if point.is_published):
        words.append(f"{ELSEWHERE} another gallery")
    return "; ".join(words)


def _points(table: Table, accuracy: Column, cost: Column) -> list[Point]:
    """Return the rows that have an accuracy, a cost and a number of parameters."""
    points = []
    for row in table.rows:
        found = _cell(table, row, accuracy)
        spent, size = _cell(table, row, cost), _cell(table, row, PARAMETERS)
        if found is None or spent is None or size is None:
            continue
        points.append(
            Point(
                label=row.label if accuracy.compares(row) else f"{row.label}{ELSEWHERE}",
                x=_middle(spent),
                accuracy=_middle(found) / 100,
                parameters=_middle(size),
                is_published=row.is_published,
                source=row.source.cite if row.source else "",
                deviation=(found.deviation or 0.0) / 100,
            )
        )
    return points


def _cell(table: Table, row: Row, column: Column) -> Cell | None:
    return row.cells[table.columns.index(column)] if column in table.columns else None


def _middle(cell: Cell) -> float:
    return (cell.low + cell.high) / 2
