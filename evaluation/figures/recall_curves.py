"""Recall over the number of answers that are looked at, beside what guessing finds."""

# Shapes: Q = queries, G = gallery images, K = 1 to G answers looked at.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from evaluation.figures.canvas import QUIET, tones
from evaluation.figures.grid import add_legend, charts, name_axes
from evaluation.ranking import Ranking

MOST_POINTS = 240
"""Of a curve, evenly spread over the logarithm."""

FEW = 50
"""Gallery images up to which an axis has more ticks than powers of ten."""

FOUND, GUESSING = "found", "guessing"
"""Words for a single curve, and for what it is measured against."""


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
    """Count for every K the queries whose best right image stands among the first K."""
    offsets = ranking.offsets.cpu().numpy()
    num_positives_Q = np.diff(offsets)
    num_queries, num_gallery = len(num_positives_Q), ranking.num_gallery
    first = ranking.ranks_P.cpu().numpy()[offsets[:-1][num_positives_Q > 0]]
    found_K = np.bincount(first, minlength=num_gallery).cumsum()
    return RecallCurve(
        title=title,
        label=label,
        recall_K=found_K / num_queries,
        chance_K=_chance(num_positives_Q, num_gallery),
    )


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
            k_N = _thinned(len(curve.recall_K))
            marked = np.array(curve.marked)
            axes.plot(
                k_N,
                100 * curve.recall_K[k_N - 1],
                color=colour,
                linewidth=1.6,
                zorder=3,
                label=curve.label or FOUND,
            )
            axes.plot(
                marked, 100 * curve.recall_K[marked - 1], "o", color=colour, markersize=3, zorder=4
            )
        most = max(here, key=lambda curve: len(curve.chance_K))
        k_N = _thinned(len(most.chance_K))
        axes.plot(
            k_N,
            100 * most.chance_K[k_N - 1],
            color=QUIET,
            linewidth=1,
            linestyle=(0, (3, 2)),
            zorder=2,
            label=GUESSING,
        )
        axes.set_xscale("log")
        steps = (1, 2, 5) if len(most.chance_K) <= FEW else (1,)
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=steps))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.tick_params(which="minor", length=0)
        axes.set_ylim(-3, 103)
        axes.set_yticks(range(0, 101, 20))
        name_axes(axes, x="K, answers looked at", y="recall@K (%)")
    fullest = max(all_axes, key=lambda axes: len(axes.lines))
    add_legend(figure, *fullest.get_legend_handles_labels())
    return figure


def _thinned(most: int) -> npt.NDArray[np.int64]:
    """Return 1 to `most`, so many that a logarithmic axis misses none."""
    return np.unique(np.geomspace(1, most, MOST_POINTS).round().astype(np.int64))


def _chance(num_positives_Q: npt.NDArray[np.int64], num_gallery: int) -> npt.NDArray[np.float64]:
    """Return how likely one right image at least is among the first K of a random order [K].

    With P right images of G none is with probability (G-P)/G (G-P-1)/(G-1) ..., K factors.
    """
    chance_K = np.zeros(num_gallery)
    left_K = num_gallery - np.arange(num_gallery)
    for num_positives, count in zip(*np.unique(num_positives_Q, return_counts=True), strict=True):
        missed_K = np.cumprod(np.clip(left_K - num_positives, 0, None) / left_K)
        chance_K += (1 - missed_K) * count
    return chance_K / len(num_positives_Q)
