"""Accuracy against operations and against speed, for the first search of a comparison."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from data_shards.errors import DescriptorError
from evaluation.compare.columns import OPS, PARAMETERS, SPEED
from evaluation.compare.speeds import may_compare, speeds_of, where_all
from evaluation.compare.table import Column, Table
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
    for comparison, kind in zip(comparisons, _kinds(comparisons), strict=True):
        for name, figure in _figures(comparison, metric):
            path = folder / f"{kind}_{name}.png"
            try:
                paths.append(save_figure(figure, path))
            except OSError as error:
                raise DescriptorError(
                    f"figure {path} cannot be written ({error.strerror}); give another place with "
                    "--figures"
                ) from error
    return paths


def _kinds(comparisons: Sequence[Comparison]) -> list[str]:
    """Return how the names of the pictures of each comparison begin; numbered where several do."""
    kinds: list[str] = []
    counted: Counter[str] = Counter()
    for manner in [comparison.manner for comparison in comparisons]:
        kind = f"{manner.dataset}{'_zero_shot' if manner.is_zero_shot else ''}"
        counted[kind] += 1
        kinds.append(kind if counted[kind] == 1 else f"{kind}_{counted[kind]}")
    return kinds


def _figures(comparison: Comparison, metric: str) -> Iterator[tuple[str, Figure]]:
    table = comparison.table
    first = table.columns[0].block
    for column in table.columns:
        if column.block != first or column.metric != metric:
            continue
        search = " ".join(column.head[:-1])
        stem = f"{column.row}_{metric}".replace("/", "_").replace("@", "_at_")
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
        speeds = speeds_of(comparison.groups)
        if may_compare(speeds) and (points := _points(table, column, SPEED)):
            yield (
                f"{stem}_against_speed",
                accuracy_against_speed(
                    points,
                    title=f"{search}: accuracy against speed",
                    subtitle=f"{_subtitle(table, points)}; {where_all(speeds)}",
                    metric=column.head[-1],
                ),
            )


def _subtitle(table: Table, points: Sequence[Point]) -> str:
    """Say what was tested, and what the marks of the points mean, if there are any."""
    words = [table.title]
    if any(point.is_published for point in points):
        words.append("grey: as published")
    if any(point.label.endswith(ELSEWHERE) for point in points if point.is_published):
        words.append(f"{ELSEWHERE} another gallery")
    if any(point.deviation for point in points):
        words.append("bars: ± standard deviation over seeds")
    return "; ".join(words)


def _points(table: Table, accuracy: Column, cost: Column) -> list[Point]:
    """Return the rows that have an accuracy, a cost and a number of parameters."""
    points = []
    for row in table.rows:
        numbers = dict(row.numbers(table.columns))
        if not {accuracy, cost, PARAMETERS} <= numbers.keys():
            continue
        points.append(
            Point(
                label=row.label if accuracy.compares(row) else f"{row.label}{ELSEWHERE}",
                x=numbers[cost].middle,
                accuracy=numbers[accuracy].middle / 100,
                parameters=numbers[PARAMETERS].middle,
                is_published=row.is_published,
                source=row.source.cite if row.source else "",
                deviation=(numbers[accuracy].deviation or 0.0) / 100,
            )
        )
    return points
