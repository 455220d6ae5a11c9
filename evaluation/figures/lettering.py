"""How wide words are, and how they come into the room there is for them."""

import re
from functools import cache, lru_cache

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MEASURED_AT = 300
"""Dots per inch."""


@lru_cache(maxsize=4096)
def text_width(text: str, *, size: float, weight: str = "normal") -> float:
    """Return how wide a line of text is, in inches."""
    paper = _paper()
    line = paper.text(0, 0, text, fontsize=size, fontweight=weight)
    width = float(line.get_window_extent().width) / MEASURED_AT
    line.remove()
    return width


def wrapped(text: str, width: float, *, size: float, weight: str = "normal") -> list[str]:
    """Break a text into lines of at most `width` inches: at spaces, and within words that must."""
    lines: list[str] = []
    line = ""
    for word in re.findall(r"\S+\s*", text):
        if text_width((line + word).rstrip(), size=size, weight=weight) > width and line:
            lines.append(line.rstrip())
            line = ""
        line += word
        while len(line) > 1 and text_width(line.rstrip(), size=size, weight=weight) > width:
            end = _longest(line, width, size=size, weight=weight)
            lines.append(line[:end])
            line = line[end:]
    return [*lines, line.rstrip()] if line or not lines else lines


def shortened(text: str, width: float, *, size: float) -> str:
    """Return a text that is at most `width` inches wide: the middle of a longer one is left out."""
    if text_width(text, size=size) <= width:
        return text
    kept = len(text)
    while kept > 2 and text_width(_without_middle(text, kept), size=size) > width:
        kept -= 1
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"


def _longest(line: str, width: float, *, size: float, weight: str) -> int:
    """Return where to break a word: behind the last sign between its parts that leaves it short."""
    end = len(line) - 1
    while end > 1 and text_width(line[:end], size=size, weight=weight) > width:
        end -= 1
    parts = [match.end() for match in re.finditer(r"[_\-/.]", line[:end])]
    return parts[-1] if parts and parts[-1] > end // 2 else end


@cache
def _paper() -> Figure:
    figure = Figure(figsize=(1, 1), dpi=MEASURED_AT)
    FigureCanvasAgg(figure)
    return figure
