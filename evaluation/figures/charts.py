"""Pictures of what a model finds, of how it learned, and of how models compare."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures.canvas import (
    COLUMN,
    EDGE,
    INK,
    QUIET,
    RIGHT,
    SMALL,
    VALUE,
    WRONG,
    Headline,
    Pixels,
    blank,
    box,
    colours,
    dashes,
    frame,
    image,
    save_figure,
    write,
)
from evaluation.figures.grid import add_legend, charts, name_axes
from evaluation.figures.lettering import shortened, text_width, wrapped

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

CELL, GAP, ASIDE, CAPTION, NUMBERS, FOOTER = 1.0, 0.12, 0.3, 0.36, 0.16, 0.2
"""Sizes of a retrieval panel in inches: with five hits it is as wide as the text of a paper."""

NOT_A_TERM = ("train/total", "train/learning_rate", "train/grad_norm", "train/images_per_second")
"""Logged beside the terms of the loss, as names begin; totals of other losses do not compare."""

BAR_INCHES, TALL_BAR_INCHES, NAME_INCHES = 0.2, 0.28, 1.5
"""Height of a bar with its gap, where names have one line or more, and the width of a line."""

SAYS = {True: "\N{CHECK MARK} ", False: "\N{BALLOT X} "}
"""Before the place of a hit: whether it is right, for eyes and print without colours."""


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
    """Draw one line per query: the query, then what it found, right ones green and ticked."""
    num_hits = max(len(row.hits) for row in rows)
    width = max(2 * EDGE + (1 + num_hits) * (CELL + GAP) - GAP + ASIDE, COLUMN)
    head = Headline(title=title, subtitle=subtitle, width=width)
    top = head.height + NUMBERS
    height = top + len(rows) * (CELL + CAPTION) + FOOTER
    figure = blank(width, height)
    head.write(figure)
    columns = [EDGE, *(EDGE + ASIDE + (1 + i) * (CELL + GAP) for i in range(num_hits))]
    for number, left in enumerate(columns):
        label = "query" if number == 0 else f"{number}"
        at = left + CELL / 2, height - top + 0.06
        write(figure, *at, label, align="center", colour=QUIET, size=SMALL)
    for number, row in enumerate(rows):
        bottom = height - top - number * (CELL + CAPTION) - CELL
        image(figure, row.image, box(figure, columns[0], bottom, CELL, CELL), edge=INK)
        _caption(figure, columns[0], bottom, row.place, row.note, room=CELL + ASIDE)
        for left, hit in zip(columns[1:], row.hits, strict=False):
            edge = RIGHT if hit.is_right else WRONG
            image(figure, hit.image, box(figure, left, bottom, CELL, CELL), edge=edge)
            place = SAYS[hit.is_right] + hit.place
            _caption(figure, left, bottom, place, f"similarity {hit.similarity:.2f}")
    for left, colour, label in (
        (EDGE, RIGHT, f"{SAYS[True]}same place"),
        (EDGE + 1.1, WRONG, f"{SAYS[False]}another place"),
    ):
        frame(figure, box(figure, left, EDGE, 0.1, 0.1), colour=colour, thickness=1.6)
        write(figure, left + 0.16, EDGE + 0.01, label, colour=QUIET, size=SMALL)
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
    figure, all_axes = charts(
        list(panels.values()), title=title, subtitle=subtitle, legend=list(runs)
    )
    looks = dict(zip(runs, zip(colours(len(runs)), dashes(len(runs)), strict=True), strict=True))
    for axes, metric in zip(all_axes, panels, strict=True):
        for run, curves in runs.items():
            if curves.get(metric):
                _draw_curve(axes, curves[metric], *looks[run], is_recall="recall" in metric)
        if "recall" in metric:
            axes.set_ylim(-0.03, 1.03)
        name_axes(axes, x="step")
    handles = [
        Line2D([], [], color=colour, linestyle=dashed, linewidth=1.6)
        for colour, dashed in looks.values()
    ]
    add_legend(figure, handles, list(looks))
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
    names = ["\n".join(wrapped(name, NAME_INCHES, size=SMALL)) for name in models]
    lines = [line for name in names for line in name.split("\n")]
    figure, all_axes = charts(
        [f"{direction}, recall@1" for direction in chance],
        title=title,
        subtitle=subtitle,
        tall=(BAR_INCHES if len(lines) == len(names) else TALL_BAR_INCHES) * max(len(names), 2),
        left=2 * EDGE + max(text_width(line, size=SMALL) for line in lines),
    )
    for axes, (direction, guess) in zip(all_axes, chance.items(), strict=True):
        axes.grid(visible=False, axis="y")
        values = [recall[direction] for recall in models.values()]
        at = range(len(values))
        axes.barh(at, values, color=colours(len(models)), height=0.66, zorder=2)
        for position, value in enumerate(values):
            at_end = max(value, guess) + 0.02, position
            axes.text(*at_end, f"{value:.3f}", va="center", fontsize=VALUE, color=INK)
        axes.axvline(guess, color=QUIET, linewidth=1, linestyle=(0, (3, 2)), zorder=3)
        axes.set_xlim(0, 1.2)
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.set_yticks(at, names, color=INK)
        axes.invert_yaxis()
        name_axes(axes, x=f"dashed: guessing reaches {guess:.3f}")
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
    terms = [
        name for name in names if name.startswith("train/") and not name.startswith(NOT_A_TERM)
    ]
    losses = {name: name.removeprefix("train/") for name in terms}
    return {name: label for name, label in {**recalls, **losses}.items() if name in names}


def _draw_curve(axes: Axes, curve: Curve, colour: str, dashed: Any, *, is_recall: bool) -> None:
    """Draw recall as it was measured, a loss faintly and smoothed over a twentieth of the run."""
    steps, values = np.array(curve, dtype=np.float64).T
    if is_recall:
        axes.plot(
            steps, values, color=colour, linestyle=dashed, linewidth=1.4, marker="o", markersize=2.4
        )
        return
    span = max(1, len(values) // 20)
    padded = np.pad(values, (span // 2, span - 1 - span // 2), mode="edge")
    smooth = np.convolve(padded, np.ones(span) / span, mode="valid")
    axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.25, zorder=2)
    axes.plot(steps, smooth, color=colour, linestyle=dashed, linewidth=1.4, zorder=3)


def _caption(
    figure: Figure, left: float, bottom: float, first: str, second: str, *, room: float = CELL
) -> None:
    write(figure, left, bottom - 0.13, shortened(first, room, size=SMALL), size=SMALL)
    second = shortened(second, room, size=VALUE)
    write(figure, left, bottom - 0.24, second, colour=QUIET, size=VALUE)
