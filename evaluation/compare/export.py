"""A comparison for machines: CSV with a line per number, JSON with everything."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from evaluation.compare.published import Source
from evaluation.compare.table import Cell, Column, Row, Table

TESTS = ("dataset", "trained_on")
MANNERS = (
    "flip",
    "resampling",
    "decoder",
    "ties",
    "shards_fingerprint",
    "distractors",
    "rerank",
    "fusion",
    "conditions_version",
)
"""How ours were measured; empty for what was published, of which that is not known."""

FIELDS = (
    *TESTS,
    *MANNERS,
    "label",
    "is_published",
    "gallery",
    "row",
    "metric",
    "low",
    "high",
    "deviation",
    "runs",
    "measured_on",
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
        for row in table.rows:
            known = TESTS if row.is_published else (*TESTS, *MANNERS)
            facts = {name: _plain(table.facts.get(name, "")) for name in known}
            for column, cell in row.numbers(table.columns):
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
                            _cell(column, cell) for column, cell in row.numbers(table.columns)
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
        **_source(row.source),
    }


def _source(source: Source | None) -> dict[str, Any]:
    return {
        "source": source.cite if source else "",
        "is_unverified": source.unverified if source else False,
    }


def _plain(fact: object) -> object:
    """Return a fact as one cell of a table: lists by semicolons."""
    return ";".join(map(str, fact)) if isinstance(fact, list) else fact


def _cell(column: Column, cell: Cell) -> dict[str, Any]:
    told = {} if cell.source is None else _source(cell.source)
    if cell.measured_on:
        told |= {"measured_on": cell.measured_on}
    return told | {
        "row": column.row,
        "metric": column.metric,
        "low": cell.low,
        "high": cell.high,
        "deviation": cell.deviation,
        "runs": cell.count,
        "is_best": cell.is_best,
    }
