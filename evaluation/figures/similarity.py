"""How similar right pairs are, and wrong ones: the less the two overlap, the better the search."""

# Shapes: Q = queries, R = queries of one tile, G = gallery images, D = descriptor width,
# P = right pairs, N = bins of similarity.

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from data_shards.shards import ImageTable
from evaluation.figures.style import (
    LINES,
    RUN_COLOURS,
    add_legend,
    charts,
    name_axes,
    styled,
)
from evaluation.retrieval import Retrieval

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
        title: whose they are.
        subtitle: on what.
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
