"""A comparison for machines: CSV with a line per number, JSON with everything."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from evaluation.compare.table import Cell, Column, Row, Table

FIELDS = (
    "dataset",
    "trained_on",
    "label",
    "is_published",
    "gallery",
    "row",
    "metric",
    "low",
    "high",
    "deviation",
    "runs",
    "is_best",
    "source",
    "is_unverified",
)


def to_csv(tables: Sequence[Table]) -> str:
    """Return a line per number: metrics in percent, costs in units."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        facts = {name: table.facts.get(name, "") for name in ("dataset", "trained_on")}
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                if cell is not None:
                    writer.writerow({**facts, **_row(row), **_cell(column, cell)})
    return text.getvalue()


def to_json(tables: Sequence[Table], *, left_out: Sequence[str]) -> str:
    """Return everything as one line: metrics in percent, costs in units."""
    values = {
        "unit": "percent",
        "tables": [
            {
                "title": table.title,
                **table.facts,
                "notes": list(table.notes),
                "rows": [
                    {
                        **_row(row),
                        "seeds": list(row.seeds),
                        "note": row.note,
                        "numbers": [
                            _cell(column, cell)
                            for column, cell in zip(table.columns, row.cells, strict=True)
                            if cell is not None
                        ],
                    }
                    for row in table.rows
                ],
            }
            for table in tables
        ],
        "left_out": list(left_out),
    }
    return json.dumps(values) + "\n"


def _row(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "is_published": row.is_published,
        "gallery": row.gallery,
        "source": row.source.cite if row.source else "",
        "is_unverified": row.source.unverified if row.source else False,
    }


def _cell(column: Column, cell: Cell) -> dict[str, Any]:
    return {
        "row": column.row,
        "metric": column.metric,
        "low": cell.low,
        "high": cell.high,
        "deviation": cell.deviation,
        "runs": cell.count,
        "is_best": cell.is_best,
    }
