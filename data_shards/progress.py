"""How long work tells what it has done: a bar on a terminal, JSON for a parent, lines in a log."""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger(__name__)

PROGRESS_VARIABLE = "SKYDISTILL_PROGRESS"
"""Set to `json` by a parent process that draws the progress of its children itself."""

SECONDS_BETWEEN_LINES = {"json": 0.2, "lines": 10.0}


class Progress(Protocol):
    """Called as often as is convenient, with facts worth showing beside the count."""

    def __call__(self, done: int, total: int, **facts: float) -> None:
        """Tell that `done` of `total` items are done."""


class Tally:
    """What several threads have done together, told to a `Progress` in units of `per`.

    The last unit counts when all is done, however small it is.
    """

    def __init__(self, progress: Progress, total: int, *, per: int = 1, done: int = 0) -> None:
        self.progress, self.total, self.per, self.done = progress, total, per, done
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count more, or fewer where something must be done again."""
        with self._lock:
            before, self.done = self.done // self.per, self.done + count
            is_all = self.done >= self.total
            if is_all or before != self.done // self.per:
                units = -(-max(self.done, self.total) // self.per)
                self.progress(units if is_all else self.done // self.per, units)


@contextmanager
def show_progress(title: str, *, unit: str = "", enabled: bool = True) -> Iterator[Progress]:
    """Yield the `Progress` that fits where stderr goes; other ranks ask for a silent one."""
    if not enabled:
        yield lambda done, total, **facts: None
    elif os.environ.get(PROGRESS_VARIABLE) == "json":
        yield _Lines(title, unit, style="json")
    elif not sys.stderr.isatty():
        yield _Lines(title, unit, style="lines")
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit + " [dim]{task.fields[facts]}"),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=None, facts="")

            def update(done: int, total: int, **facts: float) -> None:
                shown = "  ".join(f"{name} {value:.4g}" for name, value in facts.items())
                bar.update(task, completed=done, total=total, facts=shown)

            yield update


class _Lines:
    """At most one line per interval, and always the last one."""

    def __init__(self, title: str, unit: str, *, style: str) -> None:
        self.title, self.unit, self.style = title, unit, style
        self.interval, self.last = SECONDS_BETWEEN_LINES[style], float("-inf")

    def __call__(self, done: int, total: int, **facts: float) -> None:
        now = time.monotonic()
        if done < total and now - self.last < self.interval:
            return
        self.last = now
        if self.style == "json":
            line = {"progress": self.title, "unit": self.unit, "done": done, "total": total}
            sys.stderr.write(json.dumps(line | {"facts": facts}) + "\n")
            sys.stderr.flush()
        else:
            shown = "".join(f" {name}={value:.4g}" for name, value in facts.items())
            log.info("%s %d/%d %s%s", self.title, done, total, self.unit, shown)
