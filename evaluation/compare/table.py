"""A comparison as rows and columns, and how it is written: terminal, Markdown, LaTeX, CSV, JSON."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from evaluation.compare.published import Source
from evaluation.report import Report, Result
from evaluation.tables import SHRUNK, SMALL, escape

WIDTH, LATEX_WIDTH = 120, 100
"""Characters that a table may take in a terminal and in LaTeX; a wider one is split."""

MOST_LABEL = 30
"""Characters of a label on one line of a terminal; longer ones go on below."""

BEST = "*"

OF_THE_TEST = (
    *("dataset", "protocol", "is_official", "trained_on", "trained_official", "zero_shot"),
)
"""What is known of published numbers too; how they were measured is not."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number of every row."""

    head: tuple[str, ...]
    """What stands above it: the search in words and then the metric."""

    metric: str
    """`recall@1`, `ap`, `parameters`, `ops`, ..."""

    value: Callable[[Report], float | None]
    """Finds it in a report, in percent or units."""

    form: Callable[[float], str]
    """Writes it."""

    search: Result | None = None
    """A result of this search; None for what a model costs."""

    best: Literal["high", "low", "none"] = "high"

    measured_on: str = ""
    """Of a speed: device, precision, threads of a CPU, batch size."""

    @property
    def row(self) -> str:
        """Name of the rows of reports: `d2s/150m`; empty for what a model costs."""
        return replace(self.search, seed=None).name if self.search else ""

    @property
    def gallery(self) -> str:
        """That was searched; empty for what a model costs."""
        return self.search.gallery if self.search else ""

    def text(self, cell: "Cell") -> str:
        """Write a number; both ends of a published accuracy where sources differ."""
        if self.search is None:
            return self.form(cell.middle)
        return "-".join(dict.fromkeys((self.form(cell.low), self.form(cell.high))))


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number, in the unit of its column."""

    low: float
    high: float
    """Above `low` where sources differ."""

    deviation: float | None = None
    """Sample standard deviation over runs."""

    count: int | None = None
    """Runs that have it; None for what was published."""

    source: Source | None = None
    """Where the number was published, if not where the others of its row were."""

    is_best: bool = False

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


@dataclass(frozen=True, kw_only=True)
class Row:
    """One experiment of ours, or one published method."""

    label: str
    cells: tuple[Cell | None, ...]
    gallery: str
    """Who stayed in the gallery: `full`, `no-distractors`, `unstated`; empty where columns say."""

    seeds: tuple[int, ...] = ()
    """Of the runs; empty for published rows."""

    source: Source | None = None
    """None for rows of ours."""

    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows that may stand below each other."""

    title: str
    facts: Mapping[str, Any]
    """How the numbers of our rows were measured."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    """What a reader must know, a sentence each."""

    @property
    def sources(self) -> list[Source]:
        """Of the published rows, then of single numbers in them; numbered from 1 in this order."""
        found = [row.source for row in self.rows]
        found += [cell.source for row in self.rows for cell in row.cells if cell]
        return list(dict.fromkeys(source for source in found if source is not None))

    def mark(self, source: Source | None) -> str:
        """Return the number of a source: `[2]`; nothing for rows of ours."""
        return "" if source is None else f"[{self.sources.index(source) + 1}]"

    def lead(self, row: Row) -> dict[str, str]:
        """Return what stands left of the numbers of a row, by its head."""
        words = {"": f"{row.label} {self.mark(row.source)}".rstrip()}
        if any(len(one.seeds) > 1 for one in self.rows):
            words["runs"] = str(len(row.seeds) or "")
        if any(one.source and one.gallery for one in self.rows):
            words["gallery"] = row.gallery
        return words

    def written(self, row: Row, column: Column, *, between: str = " ") -> str:
        """Write the number of a row: with its deviation, and its runs where they are fewer."""
        cell = row.cells[self.columns.index(column)]
        if cell is None:
            return ""
        text = column.text(cell) + (BEST if cell.is_best else "")
        if cell.count is not None and cell.count < len(row.seeds):
            text += f" ({cell.count})"
        if cell.deviation is not None and column.search:
            text += f"{between}±{cell.deviation:.2f}"
        return text

    def legend(self) -> list[str]:
        """Return the lines below: how it was measured, what marks mean, who published."""
        notes = list(self.notes)
        if any(cell and cell.is_best for row in self.rows for cell in row.cells):
            notes.append(f"{BEST}: the best of our runs")
        if any(row.source and row.gallery for row in self.rows):
            notes.append(
                "published rows: gallery full as the official evaluators have it, no-distractors "
                "where the method's own code drops places that nobody asks for"
            )
        marks = {self.mark(cell.source) for row in self.rows for cell in row.cells if cell} - {""}
        if marks:
            notes.append(f"published px, parameters and OPs: {' and '.join(sorted(marks))}")
        return notes + [f"{self.mark(one)} {one.cite} ({one.trust})" for one in self.sources]


def mark_best(columns: Sequence[Column], rows: Sequence[Row]) -> list[Row]:
    """Mark the best number of every column, and those that are written the same, if two compete."""
    best: list[str | None] = []
    for number, column in enumerate(columns):
        lows = [cell.low for row in rows if (cell := row.cells[number]) is not None]
        choose = {"high": max, "low": min}.get(column.best)
        best.append(column.form(choose(lows)) if choose and len(lows) > 1 else None)
    return [
        replace(
            row,
            cells=tuple(
                cell and replace(cell, is_best=column.form(cell.low) == text)
                for column, cell, text in zip(columns, row.cells, best, strict=True)
            ),
        )
        for row in rows
    ]


def print_table(table: Table, console: Console) -> None:
    """Write a table to a terminal, in parts that fit."""
    console.print(Text(table.title, style="bold"))
    for columns in _parts(table, WIDTH):
        shown = RichTable(
            box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0)
        )
        for head in table.lead(table.rows[0]):
            width = None if head else MOST_LABEL
            shown.add_column(head, max_width=width, vertical="top", overflow="fold")
        for column in columns:
            shown.add_column("\n".join(column.head), justify="right", no_wrap=True)
        for row in _rows_with(table, columns):
            style = "dim" if row.source else ""
            cells = [Text(word, style=style) for word in table.lead(row).values()]
            for column in columns:
                lines = table.written(row, column, between="\n").split("\n")
                # Digits stand below each other, with a mark behind them or without.
                aligned = "\n".join(line if BEST in line else f"{line} " for line in lines)
                cells.append(Text(aligned, style="bold" if BEST in aligned else style))
            shown.add_row(*cells)
        console.print(shown, crop=False)
        console.print()
    for line in table.legend():
        console.print(Text(line, style="dim"))


def markdown(table: Table) -> str:
    """Return a table as Markdown; best numbers are bold, published rows in italics."""
    heads = [*table.lead(table.rows[0]), *(" ".join(column.head) for column in table.columns)]
    lines = [f"**{_plain(table.title)}**", "", f"| {' | '.join(heads)} |"]
    lines.append("|---" * (len(heads) - len(table.columns)) + "|---:" * len(table.columns) + "|")
    for row in table.rows:
        cells = [_plain(word) for word in table.lead(row).values()]
        for column in table.columns:
            text = table.written(row, column)
            cells.append(f"**{text.replace(BEST, '')}**" if BEST in text else text)
        shown = [f"*{cell}*" if row.source and cell else cell for cell in cells]
        lines.append(f"| {' | '.join(shown)} |")
    notes = [_plain(line).replace(rf"\{BEST}: ", "bold: ") for line in table.legend()]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def latex(table: Table) -> str:
    """Return a table as LaTeX, in parts that fit; best numbers are bold, published rows grey."""
    lines = [r"% needs \usepackage{booktabs}, \usepackage{graphicx} and \usepackage{xcolor}"]
    for number, columns in enumerate(_parts(table, LATEX_WIDTH)):
        legend = "; ".join(table.legend()).replace(f"{BEST}: ", "bold: ")
        caption = escape(f"{table.title}: {'continued' if number else legend}.")
        lead = list(table.lead(table.rows[0]))
        cells = [
            [_latex_cell(text, row) for text in table.lead(row).values()]
            + [
                _latex_cell(table.written(row, column).replace("-", "--"), row)
                for column in columns
            ]
            for row in _rows_with(table, columns)
        ]
        heads = [("", escape(head)) for head in lead]
        heads += [(escape(" ".join(one.head[:-1])), escape(one.head[-1])) for one in columns]
        frame = pd.DataFrame(cells, columns=pd.MultiIndex.from_tuples(heads))
        layout = "l" * len(lead) + "r" * len(columns)
        tabular = frame.to_latex(index=False, column_format=layout, multicolumn_format="c")
        lines += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            SMALL,
            rf"{SHRUNK}{{%",
            tabular.strip(),
            "}",
            r"\end{table}",
        ]
    return "\n".join(lines) + "\n"


def to_csv(table: Table) -> str:
    """Return a line per number: metrics in percent, costs in units."""
    lines = []
    for row in table.rows:
        known = OF_THE_TEST if row.source else table.facts
        told = {name: table.facts[name] if name in known else "" for name in table.facts}
        plain = {k: ";".join(v) if isinstance(v, list) else v for k, v in told.items()}
        for number in _numbers(table, row):
            lines.append({**plain, **_row(row), "measured_on": "", **number})
    frame = pd.DataFrame(lines, dtype=object)
    return str(frame.to_csv(index=False, lineterminator="\n"))


def to_json(table: Table, *, left_out: Sequence[str]) -> str:
    """Return everything as one line: metrics in percent, costs in units."""
    rows = [
        {**_row(row), "seeds": row.seeds, "note": row.note, "numbers": [*_numbers(table, row)]}
        for row in table.rows
    ]
    said = {"unit": "percent", "title": table.title, **table.facts, "notes": table.notes}
    return json.dumps({**said, "rows": rows, "left_out": left_out}) + "\n"


def _row(row: Row) -> dict[str, Any]:
    told = {"label": row.label, "is_published": row.source is not None, "gallery": row.gallery}
    return told | _source(row.source)


def _source(source: Source | None) -> dict[str, Any]:
    cite, is_unverified = (source.cite, source.unverified) if source else ("", False)
    return {"source": cite, "is_unverified": is_unverified}


def _numbers(table: Table, row: Row) -> Iterator[dict[str, Any]]:
    """Yield the numbers of a row as plain values, each with what is its own."""
    for column, cell in zip(table.columns, row.cells, strict=True):
        if cell is not None:
            yield {
                **(_source(cell.source) if cell.source else {}),
                **({"measured_on": column.measured_on} if column.measured_on else {}),
                "row": column.row,
                "metric": column.metric,
                "low": cell.low,
                "high": cell.high,
                "deviation": cell.deviation,
                "runs": cell.count,
                "is_best": cell.is_best,
            }


def _parts(table: Table, width: int) -> list[list[Column]]:
    """Split the columns into parts that fit: by direction if they must be, then by search."""

    def needed(columns: Iterable[Column]) -> int:
        texts = {
            one.metric + one.row: [
                line
                for text in (
                    *one.head,
                    *(table.written(row, one, between="\n ") for row in table.rows),
                )
                for line in text.split("\n")
            ]
            for one in columns
        }
        return sum(3 + max(map(len, lines)) for lines in texts.values())

    leads = [table.lead(row) for row in table.rows]
    room = width - sum(
        2 + max(len(head), min(max(len(lead[head]) for lead in leads), MOST_LABEL))
        for head in leads[0]
    )
    parts: list[list[Column]] = [[]]
    for _, of_direction in groupby(
        table.columns, key=lambda one: one.search and one.search.direction
    ):
        block = list(of_direction)
        searches = [list(same) for _, same in groupby(block, key=lambda column: column.row)]
        for unit in [block] if needed(block) <= room else searches:
            if parts[-1] and needed([*parts[-1], *unit]) > room:
                parts.append([])
            parts[-1] += unit
    return parts


def _rows_with(table: Table, columns: Sequence[Column]) -> list[Row]:
    """Return the rows that have a number in one of the columns."""
    return [row for row in table.rows if any(table.written(row, column) for column in columns)]


def _latex_cell(text: str, row: Row) -> str:
    shown = escape(text.replace(BEST, ""))
    shown = rf"\textbf{{{shown}}}" if BEST in text else shown
    return rf"\textcolor{{gray}}{{{shown}}}" if row.source and shown else shown


def _plain(text: str) -> str:
    """Return text that Markdown shows as it stands."""
    return text.replace("|", r"\|").replace("*", r"\*").replace("_", r"\_")
