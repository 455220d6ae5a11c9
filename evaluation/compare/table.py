"""What a comparison shows, before anything is written: rows, columns, cells, marks of the best."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from evaluation.compare.published import Source

METRIC_WORDS = {
    "recall@1": "R@1",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "recall@1%": "R@1%",
    "ap": "AP",
}
"""As columns of papers are headed."""

DASH = "-"
"""In place of a number that would tell nothing; a note says why."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number of every row."""

    row: str
    """Name of the row of a report, such as `d2s/150m`; empty for what a model costs."""

    metric: str
    """`recall@1`, `ap`, `parameters`, `ops`, ..."""

    head: tuple[str, ...]
    """What stands above it: the search in words and then the metric."""

    block: str
    """Columns of one block stay together where a table is wide."""

    best: Literal["high", "low", "none"] = "high"

    @property
    def gallery(self) -> str:
        """That was searched; empty for what a model costs."""
        if not self.row:
            return ""
        return "no-distractors" if "no-distractors" in self.row.split("/") else "full"

    def compares(self, row: "Row") -> bool:
        """Whether a row's number was found in this gallery, as far as that is known."""
        return not self.gallery or row.gallery in ("", "unstated", self.gallery)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number, and how it is written."""

    text: str
    low: float | None
    """In the unit of the column: percent, or a count; None where a dash stands for it."""

    high: float | None
    """Above `low` where sources differ."""

    deviation: float | None = None
    """Sample standard deviation over runs."""

    spread: str = ""
    """The deviation, written."""

    count: int | None = None
    """Runs that have it; None for what was published."""

    measured_on: str = ""
    """Of a speed of ours: device, precision, threads of a CPU, batch size."""

    source: Source | None = None
    """Where the number was printed, if not where the others of its row were."""

    is_best: bool = False

    @property
    def middle(self) -> float:
        """Of both ends, for charts."""
        assert self.low is not None and self.high is not None, "there is a number"
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

    @property
    def is_published(self) -> bool:
        """Whether the numbers come from print."""
        return self.source is not None

    def numbers(self, columns: Sequence[Column]) -> Iterator[tuple[Column, Cell]]:
        """Yield every number of the row, and the column it stands in."""
        for column, cell in zip(columns, self.cells, strict=True):
            if cell is not None and cell.low is not None:
                yield column, cell


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows that may stand below each other."""

    title: str
    facts: Mapping[str, object]
    """How the numbers were measured, for machines."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    """What a reader must know, a sentence each."""

    sources: tuple[Source, ...] = field(init=False)
    """Of the published rows, then of single numbers in them; numbered from 1 in this order."""

    def __post_init__(self) -> None:
        """Number the sources."""
        found = [row.source for row in self.rows]
        found += [cell.source for row in self.rows for cell in row.cells if cell]
        sources = dict.fromkeys(source for source in found if source is not None)
        object.__setattr__(self, "sources", tuple(sources))

    def mark(self, source: Source | None) -> str:
        """Return the number of a source: `[2]`; nothing for rows of ours."""
        return "" if source is None else f"[{self.sources.index(source) + 1}]"


def percent_cell(
    low: float, high: float, *, deviation: float | None = None, count: int | None = None
) -> Cell:
    """Return a cell in percent with two decimals, as papers have it."""
    return Cell(
        text=f"{low:.2f}" if low == high else f"{low:.2f}-{high:.2f}",
        low=low,
        high=high,
        deviation=deviation,
        spread="" if deviation is None else f"{deviation:.2f}",
        count=count,
    )


def mark_best(
    columns: Sequence[Column], rows: Sequence[Row], *, with_published: bool
) -> tuple[Row, ...]:
    """Mark the best number of every column, and those that are written the same; two must compete.

    Published rows compete with their lower end, only if asked, and not with another gallery's.
    """

    def competes(row: Row, column: Column) -> bool:
        return not row.is_published or (with_published and column.compares(row))

    best: list[str | None] = []
    for number, column in enumerate(columns):
        competing = [row for row in rows if competes(row, column)]
        cells = [cell for row in competing if (cell := row.cells[number]) is not None]
        ends = {_written(cell): cell.low for cell in cells if cell.low is not None}
        if column.best == "none" or sum(cell.low is not None for cell in cells) < 2:
            best.append(None)
        else:
            best.append((max if column.best == "high" else min)(ends, key=lambda text: ends[text]))
    return tuple(
        replace(
            row,
            cells=tuple(
                replace(cell, is_best=_written(cell) == text)
                if cell is not None and competes(row, column)
                else cell
                for column, cell, text in zip(columns, row.cells, best, strict=True)
            ),
        )
        for row in rows
    )


def _written(cell: Cell) -> str:
    """Return the lower end as it is written: what reads the same is equally good."""
    return cell.text.partition("-")[0]
