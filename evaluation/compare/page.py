"""A comparison as charts, and as one page without a network (`page.html` beside this file)."""

import base64
import io
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from distill.run_folder import RunPaths
from evaluation.compare.collect import in_words
from evaluation.compare.comparison import kind_of
from evaluation.compare.published import ends, published
from evaluation.compare.tables import BEST, SPEED, Column, Row, Table
from evaluation.figures.bubbles import accuracy_against_cost, accuracy_axis
from evaluation.figures.curves import read_curves, training_curves
from evaluation.figures.style import (
    COLUMN,
    PAPER,
    add_legend,
    charts,
    looks,
    name_axes,
    save_figure,
    styled,
)
from evaluation.output_files import writing
from evaluation.report import Result
from evaluation.tables import short

log = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("page.html")

IN_THE_TITLE = ("trained_official", "zero_shot")
"""Of a measurement: said once is enough."""

PANEL_PIXELS = 640
"""Width of an embedded panel."""

ELSEWHERE = "†"
"""Behind published methods whose gallery is known to be another one."""

PUBLISHED_LINE = "#c3cbd4"

MOST_CURVES = 12
"""Runs in one chart of curves: as many as colours and dashes tell apart."""


def html(table: Table, metric: str, left_out: list[str]) -> str:
    """Return the page; nothing in it is fetched from anywhere.

    Args:
        table: with the runs behind its rows.
        metric: that charts show.
        left_out: lines about what is not in it; gets one for each run whose curves are damaged.
    """
    ours = [row for row in table.rows if row.entries]
    curves = run_curves(ours, left_out)
    by_head = groupby(table.columns, key=lambda column: column.head[:-1])
    heads = [(" ".join(head), list(same)) for head, same in by_head]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text()).render(
        table=table,
        best=BEST,
        ours=ours,
        num_runs=sum(len(row.entries) for row in ours),
        heads=heads,
        firsts=[columns[0] for _, columns in heads],
        legend=[line for line in table.legend() if not line.startswith(BEST)],
        charts=[_picture(figure) for figure in table_charts(table, metric).values()],
        curves=_picture(curves) if curves else None,
        panels={row.label: panels for row in ours if (panels := _panels(row))},
        measured={
            name.replace("_", " "): in_words(value)
            for name, value in asdict(table.measurement).items()
            if name not in IN_THE_TITLE and (value or value is False)
        },
        costs=published().costs if table.sources else (),
        short=short,
        ends=ends,
        left_out=left_out,
    )


def _picture(figure: Figure) -> dict[str, Any]:
    """Draw a figure as an address that holds it."""
    drawn = io.BytesIO()
    with rc_context({"svg.hashsalt": "skydistill"}):
        figure.savefig(drawn, format="svg", facecolor=PAPER, metadata={"Date": None})
    title, *_ = (text.get_text() for text in figure.texts)
    is_wide = figure.get_figwidth() > COLUMN
    return {"source": _address("svg+xml", drawn.getvalue()), "title": title, "is_wide": is_wide}


def _panels(row: Row) -> list[dict[str, str]]:
    """Return the retrieval panels that lie beside the first report of a row, smaller."""
    file = row.entries[0].file
    if file is None:
        return []
    panels = []
    for path in sorted(file.parent.glob("figures/retrieval_*.png")):
        shrunk = io.BytesIO()
        with Image.open(path) as image:
            image.thumbnail((PANEL_PIXELS, 10 * PANEL_PIXELS))
            image.convert("RGB").save(shrunk, format="JPEG", quality=75)
        title = path.stem.removeprefix("retrieval_").upper()
        panels.append({"source": _address("jpeg", shrunk.getvalue()), "title": title})
    return panels


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def draw(table: Table, metric: str, *, folder: Path) -> None:
    """Draw every chart of the table into a folder.

    Raises:
        DescriptorError: the folder cannot be written to.
    """
    how = table.measurement
    kind = re.sub(r"[^\w-]+", "_", how.dataset) + ("_zero_shot" if how.zero_shot else "")
    for name, figure in table_charts(table, metric).items():
        path = folder / f"{kind}_{name}.png"
        with writing(path, option="--figures"):
            log.info("figure: %s", save_figure(figure, path))


def table_charts(table: Table, metric: str) -> dict[str, Figure]:
    """Return the charts of a table by name: for each direction, or each height of the first one.

    Published rows are in them where operations per image are known; images per second are of one
    machine, so never of theirs.
    """
    figures = {}
    searches = [(one.search, one) for one in table.columns if one.search and one.metric == metric]
    first = searches[0][0]
    shown = [(search, one) for search, one in searches if kind_of(search) == kind_of(first)]
    costs = {"ops": ("operations", "OPs per image (MACs + BOPs / 64)", "")}
    for column in table.columns:
        if column.metric == SPEED:
            costs[SPEED] = ("speed", "images per second", f"; {column.measured_on}")
    for search, column in shown:
        if search.altitude_m is not None and search.direction != first.direction:
            continue  # the altitudes have a chart of their own, in both directions
        stem = f"{column.key[0]}_{metric}".replace("/", "_").replace("@", "_at_")
        stem = stem.replace("%", "_percent")
        for cost, (word, what, where) in costs.items():
            models = _models(table, column, cost, gallery=search.gallery)
            if len(models):
                figures[f"{stem}_against_{'ops' if cost == 'ops' else word}"] = (
                    accuracy_against_cost(
                        models,
                        title=f"{' '.join(column.head[:-1])}: accuracy against {word}",
                        subtitle=_subtitle(table, models) + where,
                        metric=column.head[-1],
                        what=what,
                    )
                )
    if len({search.altitude_m for search, _ in shown} - {None}) > 1:
        figures["altitudes"] = _altitude_lines(table, shown)
    return figures


def _subtitle(table: Table, models: pd.DataFrame) -> str:
    """Say what was tested, and what the marks of the bubbles mean, if there are any."""
    published = models[models.source != ""]
    words = {
        table.title: True,
        "grey: as published": len(published) > 0,
        f"{ELSEWHERE} another gallery": published.label.str.endswith(ELSEWHERE).any(),
        "bars: ± standard deviation over seeds": models.deviation.any(),
    }
    return "; ".join(word for word, is_told in words.items() if is_told)


def _models(table: Table, accuracy: Column, cost: str, *, gallery: str) -> pd.DataFrame:
    """Return the rows that have an accuracy, a cost and a number of parameters, as bubbles."""
    models = []
    for row in table.rows:
        keys = (accuracy.key, ("", cost), ("", "parameters"))
        if set(keys) <= row.cells.keys():
            found, x, size = (row.cells[key] for key in keys)
            is_elsewhere = row.source and row.gallery not in ("unstated", gallery)
            label = f"{row.label}{ELSEWHERE}" if is_elsewhere else row.label
            source, deviation = row.source.cite if row.source else "", found.deviation or 0.0
            models.append((label, x.middle, found.middle, deviation, size.middle, source))
    names = ["label", "x", "accuracy", "deviation", "parameters", "source"]
    return pd.DataFrame(models, columns=names)


@styled
def _altitude_lines(table: Table, shown: Sequence[tuple[Result, Column]]) -> Figure:
    """Draw the accuracy of every row over the height of the drone, a chart per direction.

    Published rows are grey.
    """
    ours = [row for row in table.rows if row.source is None]
    drawn = {row.label: look for row, look in zip(ours, looks(len(ours)), strict=True)}
    if len(ours) < len(table.rows):
        drawn["as published"] = PUBLISHED_LINE, "-"
    titles = list(dict.fromkeys(search.title for search, _ in shown))
    figure, all_axes = charts(
        titles, title="Accuracy over altitude", subtitle=table.title, legend=list(drawn)
    )
    points = [
        (number, search.title, search.altitude_m, cell.middle, cell.deviation or 0.0)
        for number, row in enumerate(table.rows)
        for search, column in shown
        if (cell := row.cells.get(column.key))
    ]
    frame = pd.DataFrame(points, columns=["row", "title", "height", "middle", "spread"])
    ends = [*(frame.middle - frame.spread), *(frame.middle + frame.spread)]
    for axes, title in zip(all_axes, titles, strict=True):
        for number, line in frame[frame.title == title].sort_values("height").groupby("row"):
            row = table.rows[number]
            is_ours = row.source is None
            colour, dashed = drawn[row.label if is_ours else "as published"]
            spread = line.spread if is_ours else None
            bars = axes.errorbar(line.height, line.middle, spread, color=colour, marker="o")
            bars.lines[0].set(linestyle=dashed, linewidth=1 + is_ours / 2, zorder=2 + is_ours)
            bars.lines[0].set_markersize(2 + 1.5 * is_ours)
        axes.set_xticks(sorted({search.altitude_m or 0 for search, _ in shown}))
        name_axes(axes, x="altitude (m)", y=accuracy_axis(axes, shown[0][1].head[-1], ends))
    handles = [Line2D([], [], color=colour, linestyle=dashed) for colour, dashed in drawn.values()]
    add_legend(figure, handles, list(drawn))
    return figure


def run_curves(rows: Sequence[Row], left_out: list[str]) -> Figure | None:
    """Draw how the first run of each row learned, where its folder is at hand.

    Args:
        rows: with the run folders in which `metrics.jsonl` lies.
        left_out: gets a line where one cannot be read.
    """
    curves = {}
    for row in rows:
        folders = [entry.run for entry in row.entries if entry.run]
        files = [path for folder in folders if (path := RunPaths(folder).metrics).is_file()]
        for file in files[:1]:
            try:
                curves[row.label] = read_curves(file)
            except (ValueError, KeyError, OSError) as error:
                left_out.append(f"curves of {row.label}: {file} cannot be read ({error})")
    shown = dict(list(curves.items())[:MOST_CURVES])
    if not any(name.startswith(("train/", "probe/")) for one in shown.values() for name in one):
        return None
    return training_curves(
        shown,
        title="How the models learned",
        subtitle="recall on held-out training places, and the terms of the loss",
    )
