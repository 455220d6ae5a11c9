"""A comparison as one page without a network: the template is `page.html` beside this file."""

import base64
import io
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from evaluation.compare.charts import run_curves, table_charts
from evaluation.compare.collect import Group, in_words
from evaluation.compare.comparison import Comparison
from evaluation.compare.published import PublishedCost, published
from evaluation.compare.table import BEST, Row, Table
from evaluation.figures.style import COLUMN, PAPER
from evaluation.tables import short

TEMPLATE = Path(__file__).with_name("page.html")

PANEL_PIXELS = 640
"""Width of an embedded panel."""


def html(comparison: Comparison, metric: str, left_out: list[str]) -> str:
    """Return the page; nothing in it is fetched from anywhere.

    Args:
        comparison: the table, and the runs behind it.
        metric: that charts show.
        left_out: lines about what is not in it; gets one for each run whose curves are damaged.
    """
    table = comparison.table
    charts = list(table_charts(table, metric).values())
    curves = run_curves(comparison, left_out)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text()).render(
        title=table.title,
        num_runs=sum(len(group.entries) for group in comparison.groups),
        heads=[
            (" ".join(head), len(list(same)))
            for head, same in groupby(table.columns, key=lambda column: column.head[:-1])
        ],
        columns=[
            (column, number == 0 or column.head[:-1] != table.columns[number - 1].head[:-1])
            for number, column in enumerate(table.columns)
        ],
        rows=[_row(table, row) for row in table.rows],
        legend=[line for line in table.legend() if not line.startswith(BEST)],
        charts=[_picture(figure) for figure in charts],
        curves=_picture(curves) if curves else None,
        panels={group.label: panels for group in comparison.groups if (panels := _panels(group))},
        measured={
            name.replace("_", " "): in_words(tuple(value) if isinstance(value, list) else value)
            for name, value in table.facts.items()
            if value or value is False
        },
        groups=comparison.groups,
        costs=[_cost(cost) for cost in published().costs] if table.sources else [],
        left_out=left_out,
    )


def _row(table: Table, row: Row) -> dict[str, Any]:
    cells = []
    for column, cell in zip(table.columns, row.cells, strict=True):
        text, _, spread = table.written(row, column, between="\n").partition("\n")
        cells.append(
            {
                "text": text.replace(BEST, ""),
                "spread": spread,
                "value": "" if cell is None else cell.middle,
                "is_best": cell is not None and cell.is_best,
            }
        )
    lead = table.lead(row)
    about = [f"{lead['runs']} runs"] if lead.get("runs") else []
    about += [f"{row.gallery} gallery"] if row.gallery else []
    return {
        "label": lead[""],
        "about": ", ".join([*about, *([row.note] if row.note else [])]),
        "cells": cells,
        "is_published": row.source is not None,
    }


def _picture(figure: Figure) -> dict[str, Any]:
    """Draw a figure as an address that holds it."""
    drawn = io.BytesIO()
    with rc_context({"svg.hashsalt": "skydistill"}):
        figure.savefig(drawn, format="svg", facecolor=PAPER, metadata={"Date": None})
    title, *_ = (text.get_text() for text in figure.texts)
    is_wide = figure.get_figwidth() > COLUMN
    return {"source": _address("svg+xml", drawn.getvalue()), "title": title, "is_wide": is_wide}


def _panels(group: Group) -> list[dict[str, str]]:
    """Return the retrieval panels that lie beside the first report of a row, smaller."""
    file = group.entries[0].file
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


def _cost(cost: PublishedCost) -> dict[str, Any]:
    """Return what was charted for a method, as the columns of the page have it."""
    counts = (
        cost.parameters and sum(cost.parameters) / 2,
        cost.operations,
        cost.images,
        cost.image_size,
        cost.operations_per_image,
    )
    cells = [("", "") if count is None else (count, short(count)) for count in counts]
    speed = cost.per_second
    return {
        "method": cost.method,
        "about": f"{cost.source.cite} ({cost.source.trust})",
        "cells": [*cells, ("", "") if speed is None else (speed, f"{speed:g}")],
        "device": cost.device,
    }
