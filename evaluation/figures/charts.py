"""Charts of a report: rows over altitude, in weather, with several views; similarity of pairs."""

# Shapes: Q = queries, R = queries of one tile, G = gallery images, D = descriptor width,
# P = right pairs, N = bins of similarity.

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from data_shards.shards import ImageTable
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
    name_axes,
    shortened,
    styled,
    write_value,
)
from evaluation.report import CLEAN, SINGLE, Result
from evaluation.retrieval import Retrieval

METRIC_NAMES = {"recall@1": "recall@1", "ap": "AP"}
BAR_INCHES, TALL_BAR_INCHES = 0.16, 0.24
"""Height of a bar with its gap: of a report's rows, and of models."""

TEXT_INSIDE_FROM = 62.0
"""Percent from which on the value of a bar stands in it."""

Bars = Mapping[str, Sequence[float]]
"""Name of a bar to its fractions: several where it is the mean of draws."""

NUM_BINS = 2000
"""Over similarities from -1 to 1."""

LEAST_BARS, MOST_BARS = 16, 70
"""Of a histogram as it is drawn; between them twice the cube root of the right pairs (Rice)."""

TAIL = 5e-4
"""Share of the pairs on either side that may lie outside of a chart."""

KINDS = {"different places": (RUN_COLOURS[1], LINES[1]), "same place": (RUN_COLOURS[0], LINES[0])}
"""Colour and dashes of the two histograms."""

MOST_NEGATIVES = 10_000_000
TILE = 512
PAIRS_AT_ONCE = 16_384
SEED = 0


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
    """
    names = [shortened(name, 1.5, size=SMALL) for name in models]
    titles = [f"{direction}, recall@1" for direction in chance]
    tall = TALL_BAR_INCHES * max(len(names), 2)
    figure, all_axes = charts(titles, title=title, subtitle=subtitle, tall=tall)
    for axes, (direction, guess) in zip(all_axes, chance.items(), strict=True):
        values = [recall[direction] for recall in models.values()]
        axes.barh(range(len(values)), values, color=RUN_COLOURS, height=0.66)
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
    """Draw recall@1 and AP over the altitude of the drone, which all results have."""
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
                write_value(axes, (x, y), f"{y:.2f}", is_above=is_above, color=colour)
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
        measure = next(iter(bars))
        means = {name: 100 * statistics.fmean(values) for name, values in bars.items() if values}
        tones = [RUN_COLOURS[0] if name == measure else TINT for name in means]
        axes.barh(list(means), list(means.values()), color=tones, height=0.72, zorder=2)
        whole = means.get(measure)  # without it there is no change to write
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
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 100)
        axes.invert_yaxis()
        axes.tick_params(axis="y", labelcolor=INK)
        name_axes(axes, x="recall@1 (%)")
    return figure


@dataclass(frozen=True, kw_only=True)
class SimilarityCounts:
    """How many pairs of a query and a gallery image fall into each bin of cosine similarity."""

    positive_N: npt.NDArray[np.int64]
    """Of all pairs of one place."""

    negative_N: npt.NDArray[np.int64]
    """Of pairs of different places: all of a sample of the queries."""

    @property
    def auc(self) -> float:
        """How often a right pair is more similar than a wrong one: 1 where a threshold tells them.

        Pairs of one bin count half; NaN where either kind is missing.
        """
        if not self.positive_N.any() or not self.negative_N.any():
            return math.nan
        positive_N, negative_N = _shares(self.positive_N), _shares(self.negative_N)
        below_N = negative_N.cumsum() - negative_N / 2
        return float((positive_N * below_N).sum())


def similarity_counts(retrieval: Retrieval, images: ImageTable) -> SimilarityCounts:
    """Count all positive pairs, and the negative ones of so many queries as make about ten million.

    The sample of queries is that of a fixed seed. Memory is one tile of queries x gallery.
    """
    query_label_Q = torch.from_numpy(images.place[retrieval.query_rows])
    gallery_label_G = torch.from_numpy(images.place[retrieval.gallery_rows])
    positive = _counted(_positives(retrieval, query_label_Q, gallery_label_G))
    num_queries, num_gallery = len(query_label_Q), len(gallery_label_G)
    most = min(num_queries, max(1, MOST_NEGATIVES // num_gallery))
    chosen = np.random.default_rng(SEED).choice(num_queries, size=most, replace=False)
    negative = torch.zeros(NUM_BINS, dtype=torch.int64)
    for part in torch.from_numpy(np.sort(chosen)).split(TILE):
        for begin in range(0, num_gallery, PAIRS_AT_ONCE):
            tile = slice(begin, begin + PAIRS_AT_ONCE)
            score_RG = retrieval.query_QD[part] @ retrieval.gallery_GD[tile].T
            is_positive_RG = query_label_Q[part][:, None] == gallery_label_G[tile][None]
            negative += _counted(score_RG) - _counted(score_RG[is_positive_RG])
    return SimilarityCounts(positive_N=positive.numpy(), negative_N=negative.numpy())


@styled
def draw_similarity(
    searches: Mapping[str, SimilarityCounts], *, title: str, subtitle: str, columns: int = 2
) -> Figure:
    """Draw both histograms of each search over each other, and the area under its ROC curve.

    Args:
        searches: title of a chart to its counts; each histogram adds up to 100 %.
        columns: charts beside each other.
    """
    figure, all_axes = charts(
        list(searches), title=title, subtitle=subtitle, columns=columns, legend=list(KINDS)
    )
    for axes, counts in zip(all_axes, searches.values(), strict=True):
        edges, positive, negative = _bars(counts)
        for share, label in zip((negative, positive), KINDS, strict=True):
            colour, dashed = KINDS[label]
            axes.stairs(100 * share, edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(100 * share, edges, color=colour, linestyle=dashed, label=label)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        area = "" if math.isnan(counts.auc) else f"; AUC {counts.auc:.4f}"
        name_axes(axes, x=f"cosine similarity{area}", y="share of pairs (%)")
    add_legend(figure, *all_axes[0].get_legend_handles_labels())
    return figure


def _positives(retrieval: Retrieval, query_label_Q: Tensor, gallery_label_G: Tensor) -> Tensor:
    """Return the similarity of every pair of one place [P]."""
    sorted_label, by_label = gallery_label_G.sort(stable=True)
    begin_Q = torch.searchsorted(sorted_label, query_label_Q)
    num_Q = torch.searchsorted(sorted_label, query_label_Q, right=True) - begin_Q
    query_P = torch.arange(len(num_Q)).repeat_interleave(num_Q)
    within_P = torch.arange(len(query_P)) - (num_Q.cumsum(0) - num_Q)[query_P]
    gallery_P = by_label[begin_Q[query_P] + within_P]
    parts = zip(query_P.split(PAIRS_AT_ONCE), gallery_P.split(PAIRS_AT_ONCE), strict=True)
    scores = [(retrieval.query_QD[q] * retrieval.gallery_GD[g]).sum(dim=1) for q, g in parts]
    return torch.cat([retrieval.query_QD.new_empty(0), *scores])


def _counted(score: Tensor) -> Tensor:
    """Count similarities by bin; rounding may carry one a little beyond 1."""
    return torch.histc(score.float().clamp(-1, 1), bins=NUM_BINS, min=-1, max=1).long()


def _shares(count_N: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    shares: npt.NDArray[np.float64] = count_N / max(1, int(count_N.sum()))
    return shares


def _bars(
    counts: SimilarityCounts,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return edges and shares of the bars: only where there are pairs, and not too many."""
    both = [_shares(counts.positive_N), _shares(counts.negative_N)]
    summed = [share.cumsum() for share in both if share.any()]
    low = min(int(np.searchsorted(total, TAIL)) for total in summed)
    high = max(int(np.searchsorted(total, 1 - TAIL)) for total in summed) + 1
    most = min(max(LEAST_BARS, round(2 * counts.positive_N.sum() ** (1 / 3))), MOST_BARS)
    wide = math.ceil((high - low) / most)
    # From a multiple of the width on, and as many whole bars as it takes, beyond 1 if need be.
    low -= low % wide
    num_bars = math.ceil((high - low) / wide)
    edges = -1 + (low + wide * np.arange(num_bars + 1)) * 2 / NUM_BINS
    ends = low + wide * num_bars
    positive, negative = (
        np.pad(share, (0, wide))[low:ends].reshape(num_bars, wide).sum(axis=1) for share in both
    )
    return edges, positive, negative
