"""What a person watches while the demo runs: a bar per stage, the loss as a small curve."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console

BLOCKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 12
SECONDS_BETWEEN_LINES = 15.0


class DemoView(Protocol):
    """Shows the stages of the demo."""

    def stage(self, number: int) -> AbstractContextManager[None]:
        """Return a context that lasts as long as the stage."""

    def update(self, progress: dict[str, Any]) -> None:
        """Show what a stage says of itself."""


@contextmanager
def open_view(titles: Sequence[str]) -> Iterator[DemoView]:
    """Yield bars on a terminal, and lines in a log."""
    if not sys.stdout.isatty():
        yield LineView(titles)
        return
    view = BarView(titles)
    with view.bars:
        yield view


class LineView:
    """One line when a stage begins and ends, and one now and then between."""

    def __init__(self, titles: Sequence[str]) -> None:
        """Show stages of these titles."""
        self.titles, self.last = titles, 0.0

    @contextmanager
    def stage(self, number: int) -> Iterator[None]:
        """Tell begin and end of a stage."""
        head = f"[{number + 1}/{len(self.titles)}] {self.titles[number]}"
        started = self.last = time.monotonic()
        _line(head)
        yield
        _line(f"{head}: {time.monotonic() - started:.0f} s")

    def update(self, progress: dict[str, Any]) -> None:
        """Tell how far a stage is, not too often."""
        if time.monotonic() - self.last >= SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            facts = "".join(f", {name} {value:.4g}" for name, value in progress["facts"].items())
            _line(f"      {progress['done']}/{progress['total']} {progress['unit']}{facts}")


class BarView:
    """All stages at once: done, running with a bar and facts, and still to come."""

    def __init__(self, titles: Sequence[str], *, console: "Console | None" = None) -> None:
        """Lay out a bar per stage, by default on stdout."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        whole = Column(no_wrap=True)
        rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        self.bars = Progress(
            TextColumn("{task.fields[mark]} {task.description}", table_column=whole),
            BarColumn(bar_width=10),
            TimeElapsedColumn(table_column=whole),
            TextColumn("[dim]{task.fields[facts]}", table_column=rest),
            console=console or Console(file=sys.stdout),
            expand=True,
        )
        self.tasks = [
            self.bars.add_task(title, total=None, start=False, mark="[dim]·[/]", facts="")
            for title in titles
        ]
        self.current, self.losses = 0, list[float]()

    @contextmanager
    def stage(self, number: int) -> Iterator[None]:
        """Light up one stage."""
        self.current, self.losses = number, []
        task = self.tasks[number]
        self.bars.start_task(task)
        self.bars.update(task, mark="[cyan]▸[/]")
        try:
            yield
        except BaseException:
            self.bars.update(task, mark="[red]✗[/]")
            raise
        total = self.bars.tasks[number].total or 1
        self.bars.update(task, mark="[green]✓[/]", total=total, completed=total)
        self.bars.stop_task(task)

    def update(self, progress: dict[str, Any]) -> None:
        """Move the bar, and draw the loss as it fell."""
        facts = dict(progress["facts"])
        shown = f"{progress['done']:,}/{progress['total']:,}"
        if "loss" in facts:
            self.losses.append(facts.pop("loss"))
            shown += f" loss {self.losses[-1]:.2f} {sparkline(self.losses)}"
        shown += "".join(f" {value:.0f} {name}" for name, value in facts.items())
        self.bars.update(
            self.tasks[self.current],
            completed=progress["done"],
            total=progress["total"],
            facts=shown,
        )


def sparkline(values: Sequence[float]) -> str:
    """Draw numbers as a line of blocks, the newest at the right."""
    width = min(len(values), SPARK_WIDTH)
    shrunk = [values[(i + 1) * len(values) // width - 1] for i in range(width)]
    low, high = min(shrunk), max(shrunk)
    span = (high - low) or 1.0
    return "".join(BLOCKS[int((value - low) / span * (len(BLOCKS) - 1))] for value in shrunk)


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
