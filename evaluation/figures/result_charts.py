"""Charts of a report's rows: over altitude, under weather and light, with several views."""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures.canvas import (
    INK,
    LINES,
    PAPER,
    QUIET,
    RUN_COLOURS,
    SMALL,
    TINT,
    VALUE,
    deep,
)
from evaluation.figures.grid import TALL, add_legend, charts, name_axes
from evaluation.report import CLEAN, SINGLE, Result

METRIC_NAMES = {"recall@1": "recall@1", "ap": "AP"}
STEEP, STEEP_POINTS = 6.0, 9.0
"""From this many percent points per altitude on a value stands this many points aside."""

WRITTEN = 14.0
"""Points above and below the lines, for their values."""

BAR_INCHES = 0.16
BAR_LEFT = 0.9
"""Inches left of each chart of bars, for their names."""

TEXT_INSIDE_FROM = 62.0
"""Percent from which on the value of a bar stands in it."""

Bars = Mapping[str, Sequence[float]]
"""Name of a bar to its fractions: several where it is the mean of draws."""


def draw_altitudes(results: Sequence[Result], *, title: str, subtitle: str) -> Figure:
    """Draw recall@1 and AP over the altitude of the drone, a chart per direction.

    Args:
        results: rows with an altitude, any order.
        title: whose they are.
        subtitle: on what.
    """
    titles = list(dict.fromkeys(result.title for result in results))
    figure, all_axes = charts(
        titles, title=title, subtitle=subtitle, legend=list(METRIC_NAMES.values())
    )
    lowest = min(100 * result.metrics[metric] for result in results for metric in METRIC_NAMES)
    room = WRITTEN * max(100 - lowest, 1) / (72 * TALL - 2 * WRITTEN)
    for name, axes in zip(titles, all_axes, strict=True):
        here = [result for result in results if result.title == name]
        here.sort(key=lambda result: result.altitude_m or 0)
        altitudes = [result.altitude_m or 0 for result in here]
        lines = {m: [100 * result.metrics[m] for result in here] for m in METRIC_NAMES}
        looks = zip(METRIC_NAMES.items(), RUN_COLOURS, LINES, "os", strict=False)
        for (metric, label), colour, dashed, marker in looks:
            axes.plot(
                altitudes,
                lines[metric],
                marker=marker,
                linestyle=dashed,
                color=colour,
                linewidth=1.4,
                markersize=3.5,
                label=label,
            )
            ap, recall = (np.array(lines[m]) for m in ("ap", "recall@1"))
            is_above = ap > recall if metric == "ap" else ap <= recall
            _write_values(axes, altitudes, lines[metric], is_above.tolist(), colour)
        axes.set_xticks(altitudes)
        axes.margins(x=0.12)
        axes.set_ylim(lowest - room, 100 + room)
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
        axes.set_ylim(lowest - room, 100 + room)
        name_axes(axes, x="altitude (m)", y="percent")
    add_legend(figure, *all_axes[0].get_legend_handles_labels())
    return figure


def _write_values(
    axes: Axes,
    altitudes: Sequence[int],
    values: Sequence[float],
    is_above: Sequence[bool],
    colour: str,
) -> None:
    """Write each value over or under its point, to the side where a steep line leaves room."""
    slopes = np.gradient(values) if len(values) > 1 else np.zeros(1)
    for x, y, above, slope in zip(altitudes, values, is_above, slopes, strict=True):
        aside = STEEP_POINTS * np.clip(slope / STEEP, -1, 1)
        axes.annotate(
            f"{y:.2f}",
            (x, y),
            xytext=(-aside, 4) if above else (aside, -4),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            fontsize=VALUE,
            color=deep(colour),
        )


def draw_conditions(results: Sequence[Result], *, title: str, subtitle: str) -> Figure:
    """Draw recall@1 under each condition below that of clean images, a chart per search.

    Args:
        results: rows of a report; those with a condition are drawn, beside the clean row of the
            same search.
        title: whose they are.
        subtitle: on what.
    """
    return _draw_bars(condition_bars(results), title=title, subtitle=subtitle)


def condition_bars(results: Sequence[Result]) -> dict[str, Bars]:
    """Gather recall@1 by search, then by condition, clean first."""
    searches = _searches([result for result in results if result.condition != CLEAN])
    return {
        _search(first): {
            CLEAN: _recalls(results, first, condition=CLEAN),
            **{row.condition: _recalls(results, first, condition=row.condition) for row in rows},
        }
        for first, rows in searches
    }


def draw_multi_view(results: Sequence[Result], *, title: str, subtitle: str) -> Figure:
    """Draw recall@1 with several drone views per place beside its controls, a chart per search.

    Args:
        results: rows of a report; those with several views are drawn, beside the single-view row of
            the same search. Draws become their mean with their standard deviation.
        title: whose they are.
        subtitle: on what.
    """
    return _draw_bars(multi_view_bars(results), title=title, subtitle=subtitle)


def multi_view_bars(results: Sequence[Result]) -> dict[str, Bars]:
    """Gather recall@1 by search, then by views, the single view first."""
    searches = _searches([result for result in results if result.views != SINGLE])
    return {
        _search(first): {
            "single view": _recalls(results, first, views=SINGLE),
            **{
                row.views.replace("-", " "): _recalls(results, first, views=row.views)
                for row in rows
            },
        }
        for first, rows in searches
    }


def _searches(results: Sequence[Result]) -> list[tuple[Result, list[Result]]]:
    """Bring together the rows of one direction and altitude; full gallery, no re-ranking."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.gallery == "full" and not result.rerank:
            found.setdefault(_search(result), []).append(result)
    return [(rows[0], rows) for rows in found.values()]


def _search(result: Result) -> str:
    at = "" if result.altitude_m is None else f", {result.altitude_m} m"
    return f"{result.title}{at}"


def _recalls(
    results: Sequence[Result], like: Result, *, condition: str = CLEAN, views: str = SINGLE
) -> list[float]:
    """Return recall@1 of the rows of the same search with this condition and these views."""
    return [
        result.metrics["recall@1"]
        for result in results
        if _search(result) == _search(like)
        and (result.condition, result.views) == (condition, views)
        and result.gallery == "full"
        and not result.rerank
    ]


def _draw_bars(searches: Mapping[str, Bars], *, title: str, subtitle: str) -> Figure:
    """Draw bars from zero, the first of each chart as the measure of the others."""
    most = max(len(bars) for bars in searches.values())
    figure, all_axes = charts(
        list(searches),
        title=title,
        subtitle=subtitle,
        tall=BAR_INCHES * most,
        left=BAR_LEFT,
        between=BAR_LEFT,
        below=0.24,
    )
    for axes, bars in zip(all_axes, searches.values(), strict=True):
        _draw_chart(axes, bars)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 100)
        axes.invert_yaxis()
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_title("recall@1 (%)", fontsize=SMALL, color=QUIET, loc="right", pad=5)
    return figure


def _draw_chart(axes: Axes, bars: Bars) -> None:
    """Draw the bars that have a value; without the measure there is no change to write."""
    measure = next(iter(bars))
    means = {name: 100 * statistics.fmean(values) for name, values in bars.items() if values}
    tones = [RUN_COLOURS[0] if name == measure else TINT for name in means]
    axes.barh(list(means), list(means.values()), color=tones, height=0.72, zorder=2)
    whole = means.get(measure)
    if whole is not None:
        axes.axvline(whole, color=RUN_COLOURS[0], linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
    for position, (name, value) in enumerate(means.items()):
        off = 100 * statistics.stdev(bars[name]) if len(bars[name]) > 1 else 0.0
        if off:
            axes.errorbar(value, position, xerr=off, color=INK, linewidth=0.8, capsize=1.5)
        change = None if name == measure or whole is None else value - whole
        _write_bar(axes, position, value, change, off, is_measure=name == measure)


def _write_bar(
    axes: Axes,
    position: int,
    value: float,
    change: float | None,
    deviation: float,
    *,
    is_measure: bool,
) -> None:
    """Write the value of a bar, and by how much it differs from the first, where there is room."""
    text = f"{value:.2f}"
    if deviation:
        text += f" ± {deviation:.2f}"
    if change is not None:
        text += f"  ({change:+.2f})".replace("-", "\N{MINUS SIGN}")
    is_long = value > TEXT_INSIDE_FROM
    axes.text(
        value - 2 - deviation if is_long else value + 2 + deviation,
        position,
        text,
        va="center",
        ha="right" if is_long else "left",
        fontsize=VALUE,
        color=(PAPER if is_measure else INK) if is_long else QUIET,
        bbox=None if is_long else {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6},
    )
