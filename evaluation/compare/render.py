"""A comparison for people: on the terminal, in Markdown, in LaTeX."""

import io
from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from evaluation.compare.pages import (
    BEST,
    GAP,
    MOST_LABEL,
    WIDTH,
    Page,
    aligned,
    left_columns,
    pages_of,
    written,
)
from evaluation.compare.table import Cell, Row, Table
from evaluation.figures.tables import SHRUNK, SMALL, escape

LATEX_WIDTH = 100
"""Characters that a table may take in LaTeX; a little more than a page has of that size."""


def terminal(tables: Sequence[Table], *, console: Console | None = None) -> str:
    """Write tables to a console, or return them as plain text of at most `WIDTH` characters."""
    plain = io.StringIO()
    console = console or Console(file=plain, width=WIDTH)
    for number, table in enumerate(tables):
        if number:
            console.print()
        console.print(Text(table.title, style="bold"))
        for page in pages_of(table):
            console.print(_rich_table(table, page), crop=False)
            console.print()
        for line in notes_of(table):
            console.print(Text(line, style="dim"))
    return plain.getvalue()


def markdown(tables: Sequence[Table]) -> str:
    """Return tables as Markdown; best numbers are bold, published rows in italics."""
    blocks = []
    for table in tables:
        blocks.append(f"**{_plain(table.title)}**")
        for page in pages_of(table):
            blocks.append("\n".join(_markdown_lines(table, page)))
        blocks.append("\n".join(f"- {_plain(line)}" for line in notes_of(table, best="bold")))
    return "\n\n".join(blocks) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """Return tables as LaTeX; best numbers bold, published rows grey, none wider than the text."""
    lines = [r"% needs \usepackage{booktabs}, \usepackage{graphicx} and \usepackage{xcolor}"]
    for table in tables:
        for number, page in enumerate(pages_of(table, width=LATEX_WIDTH, may_stack=False)):
            notes = "; ".join(notes_of(table, best="bold")) if number == 0 else "continued"
            lines += [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{escape(f'{table.title}: {notes}.')}}}",
                SMALL,
                rf"{SHRUNK}{{%",
                *_tabular(table, page),
                "}",
                r"\end{table}",
            ]
    return "\n".join(lines) + "\n"


def notes_of(table: Table, *, best: str = BEST) -> list[str]:
    """Return the lines below a table: what the marks mean, how it was measured, who published."""
    notes = list(table.notes)
    if any(cell and cell.is_best for row in table.rows for cell in row.cells):
        whose = (
            "all rows but those of another gallery" if _is_a_published_best(table) else "our runs"
        )
        notes.append(f"{best}: the best of {whose}")
    if any(row.is_published and row.gallery for row in table.rows):
        notes.append(
            "published rows: gallery full as the official evaluators have it, no-distractors "
            "where the method's own code drops places that nobody asks for"
        )
    costs = dict.fromkeys(cell.source for row in table.rows for cell in row.cells if cell)
    if marks := [table.mark(source) for source in costs if source is not None]:
        notes.append(f"published px, parameters and OPs: {' and '.join(sorted(marks))}")
    return notes + [
        f"[{number}] {source.cite} ({source.trust})"
        for number, source in enumerate(table.sources, start=1)
    ]


def _is_a_published_best(table: Table) -> bool:
    return any(
        cell and cell.is_best for row in table.rows if row.is_published for cell in row.cells
    )


def _rich_table(table: Table, page: Page) -> RichTable:
    shown = RichTable(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, GAP - 1, 0, 0), show_edge=False
    )
    left = left_columns(table)
    for head in left:
        shown.add_column(
            head, max_width=None if head else MOST_LABEL, vertical="top", overflow="fold"
        )
    for number in page.columns:
        head = "\n".join(table.columns[number].head)
        shown.add_column(Text(head, justify="right"), no_wrap=True)
    numbers = [
        aligned(table.columns[number], page.rows, number, is_stacked=page.is_stacked)
        for number in page.columns
    ]
    for line, row in enumerate(page.rows):
        style = "dim" if row.is_published else ""
        words = [Text(fill(row), style=style) for fill in left.values()]
        cells = [
            Text(texts[line], style="bold" if cell and cell.is_best else style)
            for texts, cell in zip(numbers, (row.cells[n] for n in page.columns), strict=True)
        ]
        shown.add_row(*words, *cells)
    return shown


def _markdown_lines(table: Table, page: Page) -> list[str]:
    left = left_columns(table)
    heads = [*left, *(" ".join(table.columns[number].head) for number in page.columns)]
    lines = [
        f"| {' | '.join(map(_plain, heads))} |",
        "|---" * len(left) + "|---:" * len(page.columns) + "|",
    ]
    for row in page.rows:
        words = [_plain(fill(row)) for fill in left.values()]
        numbers = [_inline(row.cells[number], row, bold="**{}**") for number in page.columns]
        cells = [f"*{cell}*" if row.is_published and cell else cell for cell in [*words, *numbers]]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _tabular(table: Table, page: Page) -> list[str]:
    left = left_columns(table)
    skip = " & " * len(left)
    columns = [table.columns[number] for number in page.columns]
    searches = [
        (" ".join(head), len(list(same)))
        for head, same in groupby(columns, key=lambda c: c.head[:-1])
    ]
    over = " & ".join(
        rf"\multicolumn{{{width}}}{{c}}{{{escape(what)}}}" for what, width in searches
    )
    metrics = " & ".join(escape(column.head[-1]) for column in columns)
    names = " & ".join(escape(head) for head in left)
    lines = [
        rf"\begin{{tabular}}{{{'l' * len(left)}{'r' * len(columns)}}}",
        r"\toprule",
        rf"{skip}{over} \\",
        rf"{names} & {metrics} \\",
        r"\midrule",
    ]
    for row in page.rows:
        words = [escape(fill(row)) for fill in left.values()]
        numbers = [
            _inline(row.cells[number], row, bold=r"\textbf{{{}}}") for number in page.columns
        ]
        signs = (number.replace("-", "--").replace("±", r"$\pm$") for number in numbers)
        cells = [*words, *signs]
        if row.is_published:
            cells = [rf"\textcolor{{gray}}{{{cell}}}" if cell else "" for cell in cells]
        lines.append(" & ".join(cells) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _inline(cell: Cell | None, row: Row, *, bold: str) -> str:
    """Return a cell on one line, bold if it is the best."""
    text = written(cell, row).replace(BEST, "")
    return bold.format(text) if cell and cell.is_best else text


def _plain(text: str) -> str:
    """Return text that Markdown shows as it stands."""
    return text.replace("|", r"\|").replace("*", r"\*").replace("_", r"\_")
