"""Charts of a report's rows: over altitude, in weather and light, with several views; of models."""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.figures.style import (
    DASHED,
    INK,
    LINES,
    PAPER,
    QUIET,
    RUN_COLOURS,
    SMALL,
    TALL,
    TINT,
    VALUE,
    add_legend,
    charts,
    colours,
    name_axes,
    shortened,
    styled,
)
from evaluation.report import CLEAN, SINGLE, Result

METRIC_NAMES = {"recall@1": "recall@1", "ap": "AP"}
BAR_INCHES, TALL_BAR_INCHES = 0.16, 0.24
"""Height of a bar with its gap: of a report's rows, and of models."""

TEXT_INSIDE_FROM = 62.0
"""Percent from which on the value of a bar stands in it."""

Bars = Mapping[str, Sequence[float]]
"""Name of a bar to its fractions: several where it is the mean of draws."""


@styled
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
    names = [shortened(name, 1.5, size=SMALL) for name in models]
    titles = [f"{direction}, recall@1" for direction in chance]
    tall = TALL_BAR_INCHES * max(len(names), 2)
    figure, all_axes = charts(titles, title=title, subtitle=subtitle, tall=tall)
    for axes, (direction, guess) in zip(all_axes, chance.items(), strict=True):
        values = [recall[direction] for recall in models.values()]
        axes.barh(range(len(values)), values, color=colours(len(models)), height=0.66)
        for position, value in enumerate(values):
            at_end = max(value, guess) + 0.02, position
            axes.text(*at_end, f"{value:.3f}", va="center", fontsize=VALUE, color=INK)
        axes.axvline(guess, color=QUIET, linewidth=1, linestyle=DASHED)
        axes.grid(visible=False, axis="y")
        axes.set(xlim=(0, 1.2), xticks=np.linspace(0, 1, 6))
        axes.set_yticks(range(len(values)), names, color=INK)
        axes.invert_yaxis()
        name_axes(axes, x=f"dashed: guessing reaches {guess:.3f}")
    return figure


@styled
def draw_altitudes(results: Sequence[Result], *, title: str, subtitle: str) -> Figure:
    """Draw recall@1 and AP over the altitude of the drone, a chart per direction.

    Args:
        results: rows with an altitude, any order.
        title: whose they are.
        subtitle: on what.
    """
    titles = list(dict.fromkeys(result.title for result in results))
    legend = list(METRIC_NAMES.values())
    figure, all_axes = charts(titles, title=title, subtitle=subtitle, legend=legend)
    lowest = min(100 * result.metrics[metric] for result in results for metric in METRIC_NAMES)
    room = 0.2 * max(100 - lowest, 1) / TALL  # for the values above and below the lines
    for name, axes in zip(titles, all_axes, strict=True):
        here = [result for result in results if result.title == name]
        here.sort(key=lambda result: result.altitude_m or 0)
        altitudes = [result.altitude_m or 0 for result in here]
        lines = {m: [100 * result.metrics[m] for result in here] for m in METRIC_NAMES}
        looks = zip(METRIC_NAMES.items(), RUN_COLOURS, LINES, "os", strict=False)
        for (metric, label), colour, dashed, marker in looks:
            look = {"color": colour, "linestyle": dashed, "marker": marker}
            axes.plot(altitudes, lines[metric], **look, label=label)
            other = lines["recall@1" if metric == "ap" else "ap"]
            for x, y, against in zip(altitudes, lines[metric], other, strict=True):
                is_above = y > against or (y == against and metric == "ap")
                axes.annotate(
                    f"{y:.2f}",
                    (x, y),
                    xytext=(0, 4 if is_above else -4),
                    textcoords="offset points",
                    ha="center",
                    va="bottom" if is_above else "top",
                    fontsize=VALUE,
                    color=colour,
                )
        axes.set_xticks(altitudes)
        axes.margins(x=0.12)
        ticks = MaxNLocator(6).tick_values(lowest, 100)
        axes.set_yticks([tick for tick in ticks if lowest - room <= tick <= 100])
        axes.set_ylim(lowest - room, 100 + room)
        name_axes(axes, x="altitude (m)", y="percent")
    add_legend(figure, *all_axes[0].get_legend_handles_labels())
    return figure


def condition_bars(results: Sequence[Result]) -> dict[str, Bars]:
    """Gather recall@1 by search, then by condition, clean first."""
    rows = [row for row in results if row.views == SINGLE]
    return _gathered([(row, row.condition) for row in rows], measure=CLEAN)


def multi_view_bars(results: Sequence[Result]) -> dict[str, Bars]:
    """Gather recall@1 by search, then by views, the single view first."""
    rows = [row for row in results if row.condition == CLEAN]
    names = {row.views: row.views.replace("-", " ") for row in rows} | {SINGLE: "single view"}
    return _gathered([(row, names[row.views]) for row in rows], measure=names[SINGLE])


def _gathered(rows: Sequence[tuple[Result, str]], *, measure: str) -> dict[str, Bars]:
    """Gather recall@1 of the full gallery by search and bar; only searches with other bars too."""
    found: dict[str, dict[str, list[float]]] = {}
    for row, name in rows:
        if row.gallery == "full" and not row.rerank:
            at = "" if row.altitude_m is None else f", {row.altitude_m} m"
            bars = found.setdefault(f"{row.title}{at}", {measure: []})
            bars.setdefault(name, []).append(row.metrics["recall@1"])
    return {search: bars for search, bars in found.items() if len(bars) > 1}


@styled
def draw_bars(searches: Mapping[str, Bars], *, title: str, subtitle: str) -> Figure:
    """Draw bars of recall@1 from zero, a chart per search, the first bar as the others' measure.

    Draws become their mean with their standard deviation.
    """
    tall = BAR_INCHES * max(len(bars) for bars in searches.values())
    figure, all_axes = charts(list(searches), title=title, subtitle=subtitle, tall=tall)
    for axes, bars in zip(all_axes, searches.values(), strict=True):
        _draw_chart(axes, bars)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 100)
        axes.invert_yaxis()
        axes.tick_params(axis="y", labelcolor=INK)
        name_axes(axes, x="recall@1 (%)")
    return figure


def _draw_chart(axes: Axes, bars: Bars) -> None:
    """Draw the bars that have a value; without the measure there is no change to write."""
    measure = next(iter(bars))
    means = {name: 100 * statistics.fmean(values) for name, values in bars.items() if values}
    tones = [RUN_COLOURS[0] if name == measure else TINT for name in means]
    axes.barh(list(means), list(means.values()), color=tones, height=0.72, zorder=2)
    whole = means.get(measure)
    if whole is not None:
        axes.axvline(whole, color=RUN_COLOURS[0], linewidth=0.8, linestyle=DASHED, zorder=1)
    for position, (name, value) in enumerate(means.items()):
        off = 100 * statistics.stdev(bars[name]) if len(bars[name]) > 1 else 0.0
        text = f"{value:.2f} ± {off:.2f}" if off else f"{value:.2f}"
        if off:
            axes.errorbar(value, position, xerr=off, color=INK, linewidth=0.8, capsize=1.5)
        if name != measure and whole is not None:
            text += f"  ({value - whole:+.2f})".replace("-", "\N{MINUS SIGN}")
        is_long = value > TEXT_INSIDE_FROM
        axes.text(
            value - 2 - off if is_long else value + 2 + off,
            position,
            text,
            va="center",
            ha="right" if is_long else "left",
            fontsize=VALUE,
            color=(PAPER if name == measure else INK) if is_long else QUIET,
            bbox=None if is_long else {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6},
        )
