"""Pictures of what a model finds, of how it learned, and of how models compare."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures.canvas import (
    INK,
    MARGIN,
    PAPER,
    QUIET,
    RIGHT,
    WRONG,
    Pixels,
    blank,
    box,
    chart,
    colours,
    frame,
    headline,
    image,
    save_figure,
    write,
)

__all__ = [
    "Hit",
    "PanelRow",
    "read_curves",
    "recall_bars",
    "retrieval_panel",
    "save_figure",
    "training_curves",
]

Curve = Sequence[tuple[float, float]]
"""Points (step, value)."""

CELL, GAP, CAPTION, HEADER, FOOTER = 1.35, 0.16, 0.42, 1.05, 0.45
"""Sizes of a retrieval panel in inches."""

NOT_A_TERM = {
    f"train/{name}" for name in ("total", "learning_rate", "grad_norm", "images_per_second")
}
"""Logged beside the terms of the loss; totals of different losses do not compare."""

PANEL_WIDTH, PANEL_HEIGHT = 3.7, 2.5
"""Size of one small chart in inches."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One gallery image that a query found."""

    image: Pixels
    place: str
    similarity: float
    is_right: bool


@dataclass(frozen=True, kw_only=True)
class PanelRow:
    """One query and the gallery images most like it, best first."""

    image: Pixels
    place: str
    note: str
    """A second line under the query: altitude, view, or where its first right image stands."""

    hits: Sequence[Hit]


def retrieval_panel(rows: Sequence[PanelRow], *, title: str, subtitle: str) -> Figure:
    """Draw one line per query: the query, then what it found, green where the place is right."""
    num_hits = max(len(row.hits) for row in rows)
    width = 2 * MARGIN + (1 + num_hits) * (CELL + GAP) + GAP
    height = HEADER + len(rows) * (CELL + CAPTION) + FOOTER
    figure = blank(width, height)
    headline(figure, title, subtitle)
    columns = [MARGIN, *(MARGIN + GAP + (1 + i) * (CELL + GAP) for i in range(num_hits))]
    for number, left in enumerate(columns):
        label = "query" if number == 0 else f"{number}"
        write(figure, left + CELL / 2, height - HEADER + 0.1, label, align="center", colour=QUIET)
    for number, row in enumerate(rows):
        bottom = height - HEADER - number * (CELL + CAPTION) - CELL
        image(figure, row.image, box(figure, columns[0], bottom, CELL, CELL), edge=INK)
        _caption(figure, columns[0], bottom, row.place, row.note)
        for left, hit in zip(columns[1:], row.hits, strict=False):
            edge = RIGHT if hit.is_right else WRONG
            image(figure, hit.image, box(figure, left, bottom, CELL, CELL), edge=edge)
            _caption(figure, left, bottom, hit.place, f"similarity {hit.similarity:.2f}")
    for left, colour, label in (
        (MARGIN, RIGHT, "same place"),
        (MARGIN + 1.3, WRONG, "another place"),
    ):
        frame(figure, box(figure, left, 0.17, 0.13, 0.13), colour=colour, thickness=2)
        write(figure, left + 0.22, 0.175, label, colour=QUIET)
    return figure


def training_curves(
    runs: Mapping[str, Mapping[str, Curve]], *, title: str, subtitle: str
) -> Figure:
    """Draw every run's metrics over steps: the probe's recall both ways, then each loss term.

    Args:
        runs: for each run, its curves by metric name, as `metrics.jsonl` has them.
        title: what was trained.
        subtitle: on what.
    """
    panels = _curve_panels(runs)
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = blank(columns * PANEL_WIDTH + 0.5, lines * PANEL_HEIGHT + 0.85)
    headline(figure, title, subtitle)
    colour_of = dict(zip(runs, colours(len(runs)), strict=True))
    for number, (metric, label) in enumerate(panels.items()):
        line, column = divmod(number, columns)
        left = 0.65 + column * PANEL_WIDTH
        bottom = 0.5 + (lines - 1 - line) * PANEL_HEIGHT
        place = box(figure, left, bottom, PANEL_WIDTH - 0.6, PANEL_HEIGHT - 0.75)
        axes = chart(figure, place, title=label)
        for run, curves in runs.items():
            if curves.get(metric):
                _draw_curve(axes, curves[metric], colour_of[run], is_recall="recall" in metric)
        if "recall" in metric:
            axes.set_ylim(0, 1.02)
        if line == lines - 1 or number + columns >= len(panels):
            axes.set_xlabel("step", fontsize=8, color=QUIET)
    handles = [Line2D([], [], color=colour, linewidth=2.4) for colour in colour_of.values()]
    figure.legend(
        handles,
        list(colour_of),
        loc="upper right",
        ncols=len(colour_of),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        bbox_to_anchor=(1 - 0.15 / figure.get_figwidth(), 1 - 0.12 / figure.get_figheight()),
    )
    return figure


def recall_bars(
    models: Mapping[str, Mapping[str, float]],
    *,
    chance: Mapping[str, float],
    title: str,
    subtitle: str,
) -> Figure:
    """Draw recall@1 of every model, a chart per direction, with the level that guessing reaches.

    Args:
        models: for each model, recall@1 by direction.
        chance: recall@1 of guessing, by direction.
        title: what is compared.
        subtitle: on what.
    """
    height = 0.42 * len(models)
    figure = blank(2 * 4.2 + 1.3, height + 1.75)
    headline(figure, title, subtitle)
    for number, (direction, guess) in enumerate(chance.items()):
        place = box(figure, 1.5 + number * 4.2, 0.55, 3.6, height)
        axes = chart(figure, place, title=f"{direction}, recall@1")
        axes.grid(visible=False, axis="y")
        values = [recall[direction] for recall in models.values()]
        axes.barh(list(models), values, color=colours(len(models)), height=0.62, zorder=2)
        for position, value in enumerate(values):
            is_long = value > 0.85
            axes.text(
                value - 0.015 if is_long else value + 0.015,
                position,
                f"{value:.3f}",
                va="center",
                ha="right" if is_long else "left",
                fontsize=8.5,
                color=PAPER if is_long else INK,
            )
        axes.axvline(guess, color=QUIET, linewidth=1.2, linestyle=(0, (3, 2)), zorder=3)
        axes.set_xlim(0, 1)
        axes.invert_yaxis()
        axes.set_xlabel(f"dashed: guessing reaches {guess:.3f}", fontsize=8, color=QUIET)
        axes.tick_params(axis="y", labelleft=number == 0, labelsize=9, labelcolor=INK)
    return figure


def read_curves(metrics: Path) -> dict[str, list[tuple[float, float]]]:
    """Read a run's `metrics.jsonl` into one curve per metric; a resumed run's later line wins."""
    curves: dict[str, dict[float, float]] = {}
    for line in metrics.read_text().splitlines():
        entry = json.loads(line)
        for name, value in entry["metrics"].items():
            curves.setdefault(name, {})[entry["step"]] = value
    return {name: sorted(curve.items()) for name, curve in curves.items()}


def _curve_panels(runs: Mapping[str, Mapping[str, Curve]]) -> dict[str, str]:
    """Choose what to draw: metric name to the words above its chart."""
    names = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    recalls = {
        "probe/d2s/recall_at_1": "drone to satellite, recall@1 (held-out places)",
        "probe/s2d/recall_at_1": "satellite to drone, recall@1 (held-out places)",
    }
    terms = [name for name in names if name.startswith("train/") and name not in NOT_A_TERM]
    losses = {name: name.removeprefix("train/") for name in terms}
    return {name: label for name, label in {**recalls, **losses}.items() if name in names}


def _draw_curve(axes: Axes, curve: Curve, colour: str, *, is_recall: bool) -> None:
    """Draw recall as it was measured, a loss faintly and smoothed over a twentieth of the run."""
    steps, values = np.array(curve, dtype=np.float64).T
    if is_recall:
        axes.plot(steps, values, color=colour, linewidth=2, marker="o", markersize=3.2, zorder=3)
        return
    span = max(1, len(values) // 20)
    padded = np.pad(values, (span // 2, span - 1 - span // 2), mode="edge")
    smooth = np.convolve(padded, np.ones(span) / span, mode="valid")
    axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.25, zorder=2)
    axes.plot(steps, smooth, color=colour, linewidth=1.8, zorder=3)


def _caption(figure: Figure, left: float, bottom: float, first: str, second: str) -> None:
    write(figure, left, bottom - 0.17, first, size=8)
    write(figure, left, bottom - 0.31, second, colour=QUIET, size=7.2)
