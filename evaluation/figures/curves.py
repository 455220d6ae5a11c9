"""Curves: of training over steps, of recall over answers looked at, of distances to the truth."""

# Shapes: Q = queries, G = gallery images, K = 1 to G answers looked at.

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from evaluation.figures.style import (
    DASHED,
    QUIET,
    RUN_COLOURS,
    add_legend,
    charts,
    looks,
    name_axes,
    styled,
    tones,
    write_value,
)
from evaluation.ranking import Ranking
from evaluation.retrieval import GUESSED_M, LEAST_M, WITHIN_M, Distances

Curve = Sequence[tuple[float, float]]
"""Points (step, value)."""

NOT_A_TERM = ("train/total", "train/learning_rate", "train/grad_norm", "train/images_per_second")
"""Logged beside the terms of the loss, as names begin; totals of other losses do not compare."""

RECALLS = {
    "probe/d2s/recall_at_1": "drone to satellite, recall@1 (held-out places)",
    "probe/s2d/recall_at_1": "satellite to drone, recall@1 (held-out places)",
}

MOST_POINTS = 240
"""Of a recall curve, evenly spread over the logarithm."""

FEW = 50
"""Gallery images up to which an axis has more ticks than powers of ten."""

MARKED_M = (10, 50, 100, 250)

FOUND, GUESSING = "found", "guessing"
"""Words for a single curve, and for what it is measured against."""


def read_curves(metrics: Path) -> dict[str, list[tuple[float, float]]]:
    """Read a run's `metrics.jsonl` into one curve per metric; a resumed run's later line wins."""
    curves: dict[str, dict[float, float]] = {}
    for line in metrics.read_text().splitlines():
        entry = json.loads(line)
        for name, value in entry["metrics"].items():
            curves.setdefault(name, {})[entry["step"]] = value
    return {name: sorted(curve.items()) for name, curve in curves.items()}


@styled
def training_curves(
    runs: Mapping[str, Mapping[str, Curve]], *, title: str, subtitle: str
) -> Figure:
    """Draw every run's metrics over steps: the probe's recall both ways, then each loss term."""
    names = dict.fromkeys(name for curves in runs.values() for name in curves)
    terms = [name for name in names if name.startswith("train/")]
    losses = {
        name: name.removeprefix("train/") for name in terms if not name.startswith(NOT_A_TERM)
    }
    panels = {name: label for name, label in (RECALLS | losses).items() if name in names}
    figure, all_axes = charts(
        list(panels.values()), title=title, subtitle=subtitle, legend=list(runs)
    )
    for axes, metric in zip(all_axes, panels, strict=True):
        for curves, look in zip(runs.values(), looks(len(runs)), strict=True):
            if curves.get(metric):
                _draw_curve(axes, curves[metric], *look, is_recall=metric in RECALLS)
        if metric in RECALLS:
            axes.set_ylim(-0.03, 1.03)
        name_axes(axes, x="step")
    handles = [
        Line2D([], [], color=colour, linestyle=dashed) for colour, dashed in looks(len(runs))
    ]
    add_legend(figure, handles, list(runs))
    return figure


def _draw_curve(axes: Axes, curve: Curve, colour: str, dashed: Any, *, is_recall: bool) -> None:
    """Draw recall as it was measured, a loss faintly and smoothed over a twentieth of the run."""
    steps, values = np.array(curve, dtype=np.float64).T
    if is_recall:
        axes.plot(steps, values, color=colour, linestyle=dashed, marker="o", markersize=2.4)
        return
    span = max(1, len(values) // 20)
    padded = np.pad(values, (span // 2, span - 1 - span // 2), mode="edge")
    smooth = np.convolve(padded, np.ones(span) / span, mode="valid")
    axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.25, zorder=2)
    axes.plot(steps, smooth, color=colour, linestyle=dashed, zorder=3)


@dataclass(frozen=True, kw_only=True)
class RecallCurve:
    """Recall of one search after 1, 2, 3, ... answers, as fractions."""

    title: str
    """Direction in words; curves of one title share a chart."""

    label: str
    """What sets it apart in its chart, the altitude; empty where it is alone."""

    recall_K: npt.NDArray[np.float64]
    chance_K: npt.NDArray[np.float64]
    """The same of a random order."""

    @property
    def marked(self) -> list[int]:
        """The K of recall@1, @5, @10 and @1%, as the field counts them, as far as they exist."""
        num_gallery = len(self.recall_K)
        return sorted({min(k, num_gallery) for k in (1, 5, 10, round(0.01 * num_gallery) + 1)})


def recall_curve(ranking: Ranking, *, title: str, label: str) -> RecallCurve:
    """Count for every K the queries whose best right image stands among the first K.

    In a random order none of P right images of G is among the first K with probability (G-P)/G
    (G-P-1)/(G-1) ..., K factors.
    """
    offsets = ranking.offsets.cpu().numpy()
    num_positives_Q = np.diff(offsets)
    num_queries, num_gallery = len(num_positives_Q), ranking.num_gallery
    first = ranking.ranks_P.cpu().numpy()[offsets[:-1][num_positives_Q > 0]]
    found_K = np.bincount(first, minlength=num_gallery).cumsum()
    chance_K, left_K = np.zeros(num_gallery), num_gallery - np.arange(num_gallery)
    for num_positives, count in zip(*np.unique(num_positives_Q, return_counts=True), strict=True):
        missed_K = np.cumprod(np.clip(left_K - num_positives, 0, None) / left_K)
        chance_K += (1 - missed_K) * count
    return RecallCurve(
        title=title,
        label=label,
        recall_K=found_K / num_queries,
        chance_K=chance_K / num_queries,
    )


@styled
def draw_recall_curves(curves: Sequence[RecallCurve], *, title: str, subtitle: str) -> Figure:
    """Draw recall@K over K on a log axis, a chart per direction, guessing dashed.

    Dots stand at recall@1, @5, @10 and @1%.
    """
    titles = list(dict.fromkeys(curve.title for curve in curves))
    legend = [*dict.fromkeys(curve.label or FOUND for curve in curves), GUESSING]
    figure, all_axes = charts(titles, title=title, subtitle=subtitle, legend=legend)
    for name, axes in zip(titles, all_axes, strict=True):
        here = [curve for curve in curves if curve.title == name]
        for curve, colour in zip(here, tones(len(here)), strict=True):
            marked = np.array(curve.marked)
            _draw_over_k(axes, curve.recall_K, color=colour, label=curve.label or FOUND, zorder=3)
            axes.plot(marked, 100 * curve.recall_K[marked - 1], "o", color=colour, zorder=4)
        most = max((curve.chance_K for curve in here), key=len)
        _draw_over_k(axes, most, color=QUIET, linewidth=1, linestyle=DASHED, label=GUESSING)
        log_axis(axes, is_short=len(most) <= FEW, form="{:,.0f}".format)
        axes.set(ylim=(-3, 103), yticks=range(0, 101, 20))
        name_axes(axes, x="K, answers looked at", y="recall@K (%)")
    fullest = max(all_axes, key=lambda axes: len(axes.lines))
    add_legend(figure, *fullest.get_legend_handles_labels())
    return figure


def _draw_over_k(axes: Axes, share_K: npt.NDArray[np.float64], **look: Any) -> None:
    """Draw as many points as a logarithmic axis shows."""
    k_N = np.unique(np.geomspace(1, len(share_K), MOST_POINTS).round().astype(np.int64))
    axes.plot(k_N, 100 * share_K[k_N - 1], **look)


@styled
def draw_distances(
    curves: Mapping[tuple[str, str], Distances], *, title: str, subtitle: str
) -> Figure:
    """Draw the share of queries whose first answer lies within a distance, a chart per direction.

    What guessing reaches is dashed. Where a chart has a single curve, dots and words tell it at 10,
    50, 100 and 250 m.

    Args:
        curves: by direction in words, and altitude where there are several.
    """
    titles = list(dict.fromkeys(direction for direction, _ in curves))
    legend = [*dict.fromkeys(label or FOUND for _, label in curves), GUESSING]
    figure, all_axes = charts(titles, title=title, subtitle=subtitle, legend=legend)
    known = np.concatenate([found.metres_N for found in curves.values()])
    end_m = 1.1 * max([WITHIN_M[-1], *known[np.isfinite(known)]])
    shown_M = GUESSED_M[(GUESSED_M >= LEAST_M) & (GUESSED_M <= end_m)]
    for name, axes in zip(titles, all_axes, strict=True):
        here = {label: found for (way, label), found in curves.items() if way == name}
        for (label, found), colour in zip(here.items(), tones(len(here)), strict=True):
            metres_N = found.metres_N[np.isfinite(found.metres_N)]
            share_N = np.arange(1, len(metres_N) + 1) / len(found.metres_N)
            least, most = map(found.share_within, (LEAST_M, end_m))
            axes.step(
                np.concatenate([[LEAST_M], metres_N.clip(LEAST_M), [end_m]]),
                100 * np.concatenate([[least], share_N, [most]]),
                where="post",
                color=colour,
                label=label or FOUND,
            )
        guessed_M = 100 * next(iter(here.values())).guessing_M[np.isin(GUESSED_M, shown_M)]
        axes.plot(shown_M, guessed_M, color=QUIET, lw=1, linestyle=DASHED, label=GUESSING)
        # Over and under a single line in turn: the marks are too close for one side.
        for number, metres in enumerate(MARKED_M if len(here) == 1 else ()):
            share, is_above = 100 * found.share_within(metres), number % 2 == 0
            axes.plot(metres, share, "o", color=RUN_COLOURS[0], zorder=4)
            side = "right" if is_above else "left"
            write_value(axes, (metres, share), f"{share:.1f}", is_above=is_above, ha=side)
        log_axis(
            axes, is_short=False, form=lambda m: f"{m / 1000:g} km" if m >= 1000 else f"{m:g} m"
        )
        axes.set(xlim=(LEAST_M, end_m), ylim=(-14, 116), yticks=range(0, 101, 20))
        unknown = sum(found.num_unknown for found in here.values())
        lost = f"; {unknown:,} of unknown position" if unknown else ""
        name_axes(axes, x=f"first answer, from the truth{lost}", y="queries within it (%)")
    fullest = max(all_axes, key=lambda axes: len(axes.lines))
    add_legend(figure, *fullest.get_legend_handles_labels())
    return figure


def log_axis(axes: Axes, *, is_short: bool, form: Any) -> None:
    """Let a chart have a logarithmic axis with few ticks, a short one with more of them."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5) if is_short else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
