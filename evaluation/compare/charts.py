"""Charts of a comparison: accuracy against operations and speed, over altitude, over training."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from data_shards.errors import DescriptorError
from distill.run_folder import RunPaths
from evaluation.compare.comparison import OPS, PARAMETERS, SPEED, Comparison, kind_of
from evaluation.compare.table import Column, Table
from evaluation.figures.bubbles import Point, accuracy_against_cost
from evaluation.figures.curves import read_curves, training_curves
from evaluation.figures.style import (
    add_legend,
    charts,
    colours,
    dashes,
    name_axes,
    save_figure,
    styled,
)

ELSEWHERE = "†"
"""Behind published methods whose gallery is known to be another one."""

PUBLISHED_LINE = "#c3cbd4"

MOST_CURVES = 12
"""Runs in one chart of curves: as many as colours and dashes tell apart."""


def draw(comparison: Comparison, metric: str, *, folder: Path) -> Iterator[Path]:
    """Draw every chart of the table into a folder.

    Raises:
        DescriptorError: the folder cannot be written to.
    """
    one = comparison.measurement
    kind = one.dataset_word + ("_zero_shot" if one.zero_shot else "")
    for name, figure in table_charts(comparison.table, metric).items():
        path = folder / f"{kind}_{name}.png"
        try:
            yield save_figure(figure, path)
        except OSError as error:
            raise DescriptorError(
                f"figure {path} cannot be written ({error.strerror}); give another place with "
                "--figures"
            ) from error


def table_charts(table: Table, metric: str) -> dict[str, Figure]:
    """Return the charts of a table by name: for each direction, or each height of the first one.

    Published rows are in them where operations per image are known; images per second are of one
    machine, so never of theirs.
    """
    figures = {}
    first = table.columns[0].search
    for column in table.columns:
        search = column.search
        if column.metric != metric or not search or not first or kind_of(search) != kind_of(first):
            continue
        if search.altitude_m is not None and search.direction != first.direction:
            continue  # the altitudes have a chart of their own, in both directions
        words = " ".join(column.head[:-1])
        stem = f"{column.row}_{metric}".replace("/", "_").replace("@", "_at_")
        stem = stem.replace("%", "_percent")
        if points := _points(table, column, OPS.metric):
            figures[f"{stem}_against_ops"] = accuracy_against_cost(
                points,
                title=f"{words}: accuracy against operations",
                subtitle=_subtitle(table, points),
                metric=column.head[-1],
            )
        if points := _points(table, column, SPEED):
            where = table.columns[-1].measured_on
            figures[f"{stem}_against_speed"] = accuracy_against_cost(
                points,
                title=f"{words}: accuracy against speed",
                subtitle=f"{_subtitle(table, points)}; {where}",
                metric=column.head[-1],
                what="images per second",
            )
    if figure := _altitude_lines(table, metric):
        figures["altitudes"] = figure
    return figures


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


def _points(table: Table, accuracy: Column, cost: str) -> list[Point]:
    """Return the rows that have an accuracy, a cost and a number of parameters."""
    points = []
    for row in table.rows:
        cells = dict(zip([(one.row, one.metric) for one in table.columns], row.cells, strict=True))
        found, x = cells[accuracy.row, accuracy.metric], cells.get(("", cost))
        size = cells["", PARAMETERS.metric]
        if found is None or x is None or size is None:
            continue
        is_elsewhere = row.source and row.gallery not in ("unstated", accuracy.gallery)
        points.append(
            Point(
                label=f"{row.label}{ELSEWHERE}" if is_elsewhere else row.label,
                x=x.middle,
                accuracy=found.middle / 100,
                parameters=size.middle,
                is_published=row.source is not None,
                source=row.source.cite if row.source else "",
                deviation=(found.deviation or 0.0) / 100,
            )
        )
    return points


@styled
def _altitude_lines(table: Table, metric: str) -> Figure | None:
    """Draw the accuracy of every row over the height of the drone, a chart per direction.

    Published rows are grey. None where fewer than two heights are compared.
    """
    of_heights = [
        (column.search, number)
        for number, column in enumerate(table.columns)
        if column.search and column.search.altitude_m and column.metric == metric
    ]
    kinds = [kind_of(search) for search, _ in of_heights]
    shown = [one for one, kind in zip(of_heights, kinds, strict=True) if kind == kinds[0]]
    heights = sorted({search.altitude_m or 0 for search, _ in shown})
    if len(heights) < 2:
        return None
    ours = [row for row in table.rows if row.source is None]
    looks = list(zip(colours(len(ours)), dashes(len(ours)), strict=True))
    is_beside = len(ours) < len(table.rows)
    names = [*(row.label for row in ours), *(["as published"] if is_beside else [])]
    titles = list(dict.fromkeys(search.title for search, _ in shown))
    figure, all_axes = charts(
        titles, title="Accuracy over altitude", subtitle=table.title, legend=names
    )
    for title, axes in zip(titles, all_axes, strict=True):
        here = sorted(
            (search.altitude_m or 0, number) for search, number in shown if search.title == title
        )
        for row in table.rows:
            known = [(height, cell) for height, n in here if (cell := row.cells[n]) is not None]
            x, y = [height for height, _ in known], [cell.middle for _, cell in known]
            if row.source is not None:
                axes.plot(x, y, color=PUBLISHED_LINE, linewidth=1, marker="o", markersize=2)
                continue
            colour, dashed = looks[ours.index(row)]
            spread = [cell.deviation or 0.0 for _, cell in known]
            bars = axes.errorbar(x, y, yerr=spread, color=colour, marker="o", zorder=3)
            bars.lines[0].set(linestyle=dashed, linewidth=1.5, markersize=3.5)
        axes.set_xticks(heights)
        name_axes(axes, x="altitude (m)", y=f"{table.columns[shown[0][1]].head[-1]} (%)")
    keys = [*looks, (PUBLISHED_LINE, "-")][: len(names)]
    handles = [Line2D([], [], color=colour, linestyle=dashed) for colour, dashed in keys]
    add_legend(figure, handles, names)
    return figure


def run_curves(comparison: Comparison, left_out: list[str]) -> Figure | None:
    """Draw how the first run of each row learned, where its folder is at hand.

    Args:
        comparison: its groups have files beside which `metrics.jsonl` lies.
        left_out: gets a line where one cannot be read.
    """
    curves = {}
    for group in comparison.groups:
        folders = [entry.file.parent for entry in group.entries if entry.file]
        files = [path for folder in folders if (path := RunPaths(folder).metrics).is_file()]
        for file in files[:1]:
            try:
                curves[group.label] = read_curves(file)
            except (ValueError, KeyError, OSError) as error:
                left_out.append(f"curves of {group.label}: {file} cannot be read ({error})")
    shown = dict(list(curves.items())[:MOST_CURVES])
    if not any(name.startswith(("train/", "probe/")) for one in shown.values() for name in one):
        return None
    return training_curves(
        shown,
        title="How the models learned",
        subtitle="recall on held-out training places, and the terms of the loss",
    )
