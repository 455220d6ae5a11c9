"""A wide table on several pages: the columns of one search stay together."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from evaluation.compare.table import Cell, Column, Row, Table

WIDTH = 120
"""Characters that a table may take."""

GAP = 2
"""Characters between columns."""

MOST_LABEL = 30
"""Characters of a label on one line; longer ones go on below."""

BEST, PLUS_MINUS = "*", "±"


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some columns of a table, and the rows that have anything in them."""

    columns: tuple[int, ...]
    """By number in the table."""

    rows: tuple[Row, ...]
    is_stacked: bool
    """Whether deviations stand below their means instead of behind them."""


def pages_of(table: Table, *, width: int = WIDTH, may_stack: bool = True) -> list[Page]:
    """Split a table into pages that fit: between blocks if possible, else between searches.

    Args:
        table: of any width.
        width: characters that a page may take.
        may_stack: whether deviations may stand below their means where blocks are too wide.
    """
    room = width - _left_width(table)
    is_wide = any(_width(table, block, is_stacked=False) > room for block in _blocks(table))
    is_stacked = may_stack and is_wide
    pages: list[list[int]] = []
    for unit in _units(table, room, is_stacked=is_stacked):
        joined = [*pages[-1], *unit] if pages else unit
        if pages and _width(table, joined, is_stacked=is_stacked) <= room:
            pages[-1] = joined
        else:
            pages.append(unit)
    return [
        Page(
            columns=tuple(page),
            rows=tuple(row for row in table.rows if any(row.cells[number] for number in page)),
            is_stacked=is_stacked,
        )
        for page in pages
    ]


def left_columns(table: Table) -> dict[str, Callable[[Row], str]]:
    """Return what stands left of the numbers: heads, and how to fill them."""
    columns: dict[str, Callable[[Row], str]] = {"": lambda row: _label(table, row)}
    if any(len(row.seeds) > 1 for row in table.rows):
        columns["runs"] = lambda row: str(len(row.seeds) or "")
    if any(row.is_published and row.gallery for row in table.rows):
        columns["gallery"] = lambda row: row.gallery
    return columns


def written(cell: Cell | None, row: Row, *, is_stacked: bool = False) -> str:
    """Return a cell as a terminal shows it."""
    if cell is None:
        return ""
    text = cell.text + (BEST if cell.is_best else "")
    # Fewer runs than the row has are said: not all of them were evaluated in the same detail.
    if cell.count is not None and cell.count < len(row.seeds):
        text += f" ({cell.count})"
    if not cell.spread:
        return text
    return text + ("\n" if is_stacked else " ") + PLUS_MINUS + cell.spread


def aligned(column: Column, rows: Sequence[Row], number: int, *, is_stacked: bool) -> list[str]:
    """Return a column of numbers, all of one width, whose digits stand below each other.

    What stands behind a number has its own place: a unit, a mark, a deviation, the end of a range.
    """
    lines = [written(row.cells[number], row, is_stacked=is_stacked).split("\n") for row in rows]
    heads = [re.match(r"[\d.]*", first[0]) for first in lines]
    lengths = [head.end() if head else 0 for head in heads]
    before = max(lengths)
    behind = max(len(first[0]) - length for first, length in zip(lines, lengths, strict=True))
    width = max(before + behind, *map(len, column.head))
    texts = []
    for first, length in zip(lines, lengths, strict=True):
        parts = [first[0].ljust(len(first[0]) + behind - (len(first[0]) - length))]
        parts += [deviation.ljust(len(deviation) + behind) for deviation in first[1:]]
        texts.append("\n".join(part.rjust(width) for part in parts))
    return texts


def _label(table: Table, row: Row) -> str:
    return f"{row.label} {table.mark(row.source)}".rstrip()


def _left_width(table: Table) -> int:
    """Return the characters left of the numbers, with the gap before them."""
    width = 0
    for head, fill in left_columns(table).items():
        longest = max((len(fill(row)) for row in table.rows), default=0)
        width += max(len(head), min(longest, MOST_LABEL)) + GAP
    return width


def _blocks(table: Table) -> list[list[int]]:
    """Return the columns of each block."""
    numbered = enumerate(table.columns)
    return [
        [number for number, _ in block]
        for _, block in groupby(numbered, key=_of(lambda c: c.block))
    ]


def _units(table: Table, room: int, *, is_stacked: bool) -> Iterable[list[int]]:
    """Yield the columns that stay together: a block, or single searches where it is too wide."""
    for block in _blocks(table):
        if _width(table, block, is_stacked=is_stacked) <= room:
            yield block
        else:
            numbered = [(number, table.columns[number]) for number in block]
            for _, search in groupby(numbered, key=_of(lambda column: column.row)):
                yield [number for number, _ in search]


def _of(key: Callable[[Column], str]) -> Callable[[tuple[int, Column]], str]:
    return lambda numbered: key(numbered[1])


def _width(table: Table, columns: Sequence[int], *, is_stacked: bool) -> int:
    """Return the characters that columns take, with the gaps between them."""
    firsts = [
        aligned(table.columns[number], table.rows, number, is_stacked=is_stacked)[0]
        for number in columns
    ]
    return sum(len(one.partition("\n")[0]) for one in firsts) + GAP * (len(firsts) - 1)
