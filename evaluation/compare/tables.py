"""A comparison as rows and columns, and how it is written: terminal, Markdown, LaTeX, CSV, JSON."""

import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from evaluation.compare.collect import Entry
from evaluation.compare.published import Source
from evaluation.config import TableFormat
from evaluation.report import Measurement, Result
from evaluation.tables import SHRUNK, SMALL, escape, plain, short

WIDTH, LATEX_WIDTH = 120, 100
"""Characters that a table may take in a terminal and in LaTeX; a wider one is split."""

MOST_LABEL = 30
"""Characters of a label on one line of a terminal; longer ones go on below."""

BEST = "*"

OF_THE_TEST = "dataset protocol is_official trained_on trained_official zero_shot".split()
"""What is known of published numbers too; how they were measured is not."""

Key = tuple[str, str]
"""Of a column: the name of a row of reports, `d2s/150m`, empty for a cost; and the metric."""

SPEED = "images_per_second"

COSTS: dict[str, tuple[Callable[[float], str], Callable[[list[float]], float] | None]] = {
    "px": ("{:.0f}".format, None),
    "parameters": (short, min),
    "ops": (short, min),
    SPEED: (lambda value: f"{value:.0f}" if value >= 100 else f"{value:.3g}", max),
}
"""How a cost is written, and which is best; metrics are percent with two decimals."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number of every row."""

    head: tuple[str, ...]
    """What stands above it: the search in words and then the metric."""

    metric: str
    """`recall@1`, `ap`, `parameters`, `ops`, ..."""

    search: Result | None = None
    """A result of this search; None for what a model costs."""

    measured_on: str = ""
    """Of a speed: device, precision, threads of a CPU, batch size."""

    @property
    def key(self) -> Key:
        return row_name(self.search) if self.search else "", self.metric

    def form(self, value: float) -> str:
        return f"{value:.2f}" if self.search else COSTS[self.metric][0](value)


@dataclass(frozen=True, kw_only=True)
class Number:
    """In the unit of its column."""

    low: float
    high: float
    """Above `low` where sources differ."""

    deviation: float | None = None
    """Sample standard deviation over runs."""

    runs: int | None = None
    """That have it; None for what was published."""

    source: Source | None = None
    """Where it was published, if not where the others of its row were."""

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


@dataclass(frozen=True, kw_only=True)
class Row:
    """One experiment of ours, or one published method."""

    label: str
    cells: Mapping[Key, Number]
    """In the order of the columns."""

    gallery: str
    """Who stayed in the gallery: `full`, `no-distractors`, `unstated`; empty where columns say."""

    entries: tuple[Entry, ...] = ()
    """Runs that differ in the seed alone; none for published rows."""

    source: Source | None = None
    """None for rows of ours."""

    note: str = ""

    @property
    def seeds(self) -> list[int]:
        """Of the runs; one that was trained twice stands here twice."""
        return sorted(entry.report.seed for entry in self.entries)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows that may stand below each other."""

    title: str
    measurement: Measurement
    """Of our rows."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str]
    """What a reader must know, a sentence each."""

    @cached_property
    def sources(self) -> list[Source]:
        """Of the published rows, then of single numbers in them; numbered from 1 in this order."""
        found = [row.source for row in self.rows]
        found += [cell.source for row in self.rows for cell in row.cells.values()]
        return list(dict.fromkeys(source for source in found if source is not None))

    @cached_property
    def best(self) -> dict[Key, str]:
        """How the best number of our runs reads, in each column where two compete."""
        found = {}
        for column in self.columns:
            ours = [row.cells.get(column.key) for row in self.rows if not row.source]
            lows = [cell.low for cell in ours if cell]
            best = COSTS[column.metric][1] if column.metric in COSTS else max
            if best and len(lows) > 1:
                found[column.key] = column.form(best(lows))
        return found

    def is_best(self, row: Row, column: Column) -> bool:
        """Whether nothing of ours reads better in a column; equal ones are equally good."""
        cell = None if row.source else row.cells.get(column.key)
        return cell is not None and column.form(cell.low) == self.best.get(column.key)

    def mark(self, source: Source | None) -> str:
        """Return the number of a source: `[2]`; nothing for rows of ours."""
        return "" if source is None else f"[{self.sources.index(source) + 1}]"

    def lead(self, row: Row) -> dict[str, str]:
        """Return what stands left of the numbers of a row, by its head."""
        words = {"": f"{row.label} {self.mark(row.source)}".rstrip()}
        if any(len(one.entries) > 1 for one in self.rows):
            words["runs"] = str(len(row.entries) or "")
        if any(one.source and one.gallery for one in self.rows):
            words["gallery"] = row.gallery
        return words

    def written(self, row: Row, column: Column, *, between: str = " ") -> str:
        """Write a number: with its deviation, and its runs where they are fewer than the row's.

        Of a published accuracy both ends are written where sources differ.
        """
        cell = row.cells.get(column.key)
        if cell is None:
            return ""
        ends = (cell.low, cell.high) if column.search else (cell.middle,)
        text = "-".join(dict.fromkeys(map(column.form, ends)))
        text += BEST if self.is_best(row, column) else ""
        if cell.runs is not None and cell.runs < len(row.entries):
            text += f" ({cell.runs})"
        if cell.deviation is not None and column.search:
            text += f"{between}±{cell.deviation:.2f}"
        return text

    def legend(self) -> list[str]:
        """Return the lines below: how it was measured, what marks mean, who published."""
        notes = list(self.notes)
        if self.best:
            notes.append(f"{BEST}: the best of our runs")
        if any(row.source and row.gallery for row in self.rows):
            notes.append(
                "published rows: gallery full as the official evaluators have it, no-distractors "
                "where the method's own code drops places that nobody asks for"
            )
        cells = [cell for row in self.rows for cell in row.cells.values()]
        if marks := {self.mark(cell.source) for cell in cells} - {""}:
            notes.append(f"published px, parameters and OPs: {' and '.join(sorted(marks))}")
        return notes + [f"{self.mark(one)} {one.cite} ({one.trust})" for one in self.sources]


def row_name(result: Result) -> str:
    """Return the name of a result, the same for all draws of one kind."""
    return replace(result, seed=None).name


def written(table: Table, form: TableFormat, *, left_out: Sequence[str], is_styled: bool) -> str:
    """Return a table in a format; JSON says what was left out too."""
    if form == "json":
        return to_json(table, left_out=left_out)
    if form != "table":
        return {"markdown": markdown, "latex": latex, "csv": to_csv}[form](table)
    text, wide = io.StringIO(), max(Console(file=sys.stdout).width, WIDTH)
    print_table(table, Console(file=text, width=wide, force_terminal=is_styled))
    return text.getvalue()


def print_table(table: Table, console: Console) -> None:
    """Write a table to a terminal, in parts that fit."""
    console.print(Text(table.title, style="bold"))
    for columns, rows in _parts(table, WIDTH):
        shown = RichTable(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        for head in table.lead(table.rows[0]):
            width = None if head else MOST_LABEL
            shown.add_column(head, max_width=width, vertical="top", overflow="fold")
        for column in columns:
            shown.add_column("\n".join(column.head), justify="right", no_wrap=True)
        for row in rows:
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
    lead = table.lead(table.rows[0])
    heads = [*lead, *(" ".join(column.head) for column in table.columns)]
    lines = [f"**{plain(table.title)}**", "", f"| {' | '.join(heads)} |"]
    lines.append("|---" * len(lead) + "|---:" * len(table.columns) + "|")
    for row in table.rows:
        cells = [plain(word) for word in table.lead(row).values()]
        for column in table.columns:
            text = table.written(row, column)
            cells.append(f"**{text.replace(BEST, '')}**" if BEST in text else text)
        shown = [f"*{cell}*" if row.source and cell else cell for cell in cells]
        lines.append(f"| {' | '.join(shown)} |")
    notes = [plain(line).replace(rf"\{BEST}: ", "bold: ") for line in table.legend()]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def latex(table: Table) -> str:
    """Return a table as LaTeX, in parts that fit; best numbers are bold, published rows grey."""

    def cell(text: str, row: Row) -> str:
        shown = escape(text.replace(BEST, ""))
        shown = rf"\textbf{{{shown}}}" if BEST in text else shown
        return rf"\textcolor{{gray}}{{{shown}}}" if row.source and shown else shown

    lines = [r"% needs \usepackage{booktabs}, \usepackage{graphicx} and \usepackage{xcolor}"]
    caption = "; ".join(table.legend()).replace(f"{BEST}: ", "bold: ")
    for columns, rows in _parts(table, LATEX_WIDTH):
        heads = [("", escape(head)) for head in table.lead(table.rows[0])]
        layout = "l" * len(heads) + "r" * len(columns)
        heads += [(escape(" ".join(one.head[:-1])), escape(one.head[-1])) for one in columns]
        cells = [
            [cell(word, row) for word in table.lead(row).values()]
            + [cell(table.written(row, one).replace("-", "--"), row) for one in columns]
            for row in rows
        ]
        frame = pd.DataFrame(cells, columns=pd.MultiIndex.from_tuples(heads))
        tabular = frame.to_latex(index=False, column_format=layout, multicolumn_format="c")
        caption = escape(f"{table.title}: {caption}.")
        lines += [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", SMALL]
        lines += [rf"{SHRUNK}{{%", tabular.strip(), "}", r"\end{table}"]
        caption = "continued"
    return "\n".join(lines) + "\n"


def to_csv(table: Table) -> str:
    """Return a line per number: metrics in percent, costs in units."""
    how = asdict(table.measurement)
    facts = {k: ";".join(v) if isinstance(v, tuple) else v for k, v in how.items()}
    of_published = {name: facts[name] if name in OF_THE_TEST else "" for name in facts}
    lines = [
        {**(of_published if row["is_published"] else facts), **row, "measured_on": "", **number}
        for row in _plain_rows(table)
        for number in row["numbers"]
    ]
    frame = pd.DataFrame(lines, dtype=object).drop(columns=["seeds", "note", "numbers"])
    return str(frame.to_csv(index=False, lineterminator="\n"))


def to_json(table: Table, *, left_out: Sequence[str]) -> str:
    """Return everything as one line: metrics in percent, costs in units."""
    said = {"unit": "percent", "title": table.title, **asdict(table.measurement)}
    said |= {"notes": table.notes, "rows": _plain_rows(table), "left_out": left_out}
    return json.dumps(said) + "\n"


def _plain_rows(table: Table) -> list[dict[str, Any]]:
    """Return the rows as plain values, their numbers with what is their own."""

    def cited(source: Source | None) -> dict[str, Any]:
        return {"source": source.cite, "is_unverified": source.unverified} if source else {}

    rows = []
    for row in table.rows:
        told = {"label": row.label, "is_published": bool(row.source), "gallery": row.gallery}
        told |= {"source": "", "is_unverified": False} | cited(row.source)
        numbers = []
        for column in table.columns:
            if cell := row.cells.get(column.key):
                where = {"measured_on": column.measured_on} if column.measured_on else {}
                own = cited(cell.source) | where | {"row": column.key[0], "metric": column.metric}
                own |= {"low": cell.low, "high": cell.high, "deviation": cell.deviation}
                numbers.append(own | {"runs": cell.runs, "is_best": table.is_best(row, column)})
        rows.append(told | {"seeds": row.seeds, "note": row.note, "numbers": numbers})
    return rows


def _parts(table: Table, width: int) -> Iterator[tuple[list[Column], list[Row]]]:
    """Split the columns into parts that fit: by direction if they must be, then by search.

    Each comes with the rows that have a number in it.
    """

    def needed(columns: Iterable[Column]) -> int:
        total = 0
        for one in columns:
            texts = [*one.head, *(table.written(row, one, between="\n ") for row in table.rows)]
            total += 3 + max(map(len, "\n".join(texts).split("\n")))
        return total

    leads = pd.DataFrame([table.lead(row) for row in table.rows])
    widths = (min(leads[head].str.len().max(), MOST_LABEL) for head in leads)
    room = width - sum(2 + max(len(head), w) for head, w in zip(leads, widths, strict=True))
    parts: list[list[Column]] = [[]]
    directions = groupby(table.columns, key=lambda one: one.search and one.search.direction)
    for block in [list(columns) for _, columns in directions]:
        searches = [list(same) for _, same in groupby(block, key=lambda one: one.key[0])]
        for unit in [block] if needed(block) <= room else searches:
            if parts[-1] and needed([*parts[-1], *unit]) > room:
                parts.append([])
            parts[-1] += unit
    for columns in parts:
        keys = {column.key for column in columns}
        yield columns, [row for row in table.rows if keys & row.cells.keys()]
