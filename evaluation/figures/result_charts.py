"""Charts of a report's rows: over altitude, under weather and light, with several views."""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures.canvas import INK, PAPER, QUIET, RUN_COLOURS, TINT
from evaluation.figures.grid import add_legend, charts, name_axes
from evaluation.result import CLEAN, SINGLE, Result

METRIC_NAMES = {"recall@1": "recall@1", "ap": "AP"}
STEEP, STEEP_POINTS = 6.0, 9.0
"""From this many percent points per altitude on a value stands this many points aside."""

BAR_INCHES = 0.23
BAR_LEFT = 1.25
"""Inches left of the first chart of bars, for their names."""

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
    figure, all_axes = charts(titles, title=title, subtitle=subtitle)
    lowest = min(100 * result.metrics[metric] for result in results for metric in METRIC_NAMES)
    for name, axes in zip(titles, all_axes, strict=True):
        here = [result for result in results if result.title == name]
        here.sort(key=lambda result: result.altitude_m or 0)
        altitudes = [result.altitude_m or 0 for result in here]
        lines = {m: [100 * result.metrics[m] for result in here] for m in METRIC_NAMES}
        for (metric, label), colour in zip(METRIC_NAMES.items(), RUN_COLOURS, strict=False):
            axes.plot(
                altitudes, lines[metric], "o-", color=colour, linewidth=2, markersize=5, label=label
            )
            ap, recall = (np.array(lines[m]) for m in ("ap", "recall@1"))
            is_above = ap > recall if metric == "ap" else ap <= recall
            _write_values(axes, altitudes, lines[metric], is_above.tolist(), colour)
        axes.set_xticks(altitudes)
        axes.margins(x=0.12)
        axes.set_ylim(lowest - 12, 106)
        axes.set_yticks([tick for tick in axes.get_yticks() if max(0, lowest - 12) <= tick <= 100])
        name_axes(axes, x="altitude (m)", y="percent" if axes is all_axes[0] else "")
    add_legend(figure, all_axes[0])
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
            xytext=(-aside, 6) if above else (aside, -6),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            fontsize=7.5,
            color=colour,
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
        below=0.28,
    )
    for axes, bars in zip(all_axes, searches.values(), strict=True):
        means = {name: 100 * statistics.fmean(values) for name, values in bars.items() if values}
        spread = [
            100 * statistics.stdev(bars[name]) if len(bars[name]) > 1 else 0.0 for name in means
        ]
        tones = [RUN_COLOURS[0], *[TINT] * (len(means) - 1)]
        axes.barh(list(means), list(means.values()), color=tones, height=0.68, zorder=2)
        whole = next(iter(means.values()))
        axes.axvline(whole, color=RUN_COLOURS[0], linewidth=1, linestyle=(0, (3, 2)), zorder=1)
        for position, (value, off) in enumerate(zip(means.values(), spread, strict=True)):
            if off:
                axes.errorbar(value, position, xerr=off, color=INK, linewidth=1, capsize=2)
            _write_bar(axes, position, value, value - whole if position else None, off)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 100)
        axes.invert_yaxis()
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_title("recall@1 (%)", fontsize=8, color=QUIET, loc="right", pad=6)
    return figure


def _write_bar(
    axes: Axes, position: int, value: float, change: float | None, deviation: float
) -> None:
    """Write the value of a bar, and by how much it differs from the first, where there is room."""
    text = f"{value:.2f}"
    if deviation:
        text += f" ± {deviation:.2f}"
    if change is not None:
        text += f"  ({change:+.2f})".replace("-", "\N{MINUS SIGN}")
    is_long = value > 55
    axes.text(
        value - 1.5 - deviation if is_long else value + 1.5 + deviation,
        position,
        text,
        va="center",
        ha="right" if is_long else "left",
        fontsize=7.5,
        color=(PAPER if position == 0 else INK) if is_long else QUIET,
        bbox=None if is_long else {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6},
    )
