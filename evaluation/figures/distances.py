"""How far from the truth the first answer lies, where it is known where places are."""

# Shapes: Q = queries, N = queries of which the distance is known.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data_shards.shards import ShardSet
from evaluation.figures.curves import log_axis
from evaluation.figures.style import (
    INK,
    RUN_COLOURS,
    VALUE,
    add_legend,
    charts,
    name_axes,
    styled,
    tones,
)
from evaluation.retrieval import Retrieval

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of WGS 84; a sphere of it is off by less than 0.6 %."""

WITHIN_M = (10, 50, 100, 250, 500, 1000)
MARKED_M = (10, 50, 100, 250)
LEAST_M = 1.0
"""Where the axis begins: right answers, at distance 0, are counted from there on."""


@dataclass(frozen=True, kw_only=True)
class Distances:
    """How far the place of the first answer lies from that of the query."""

    metres_N: npt.NDArray[np.float64]
    """Over the great circle, ascending; 0 where the place is right."""

    num_unknown: int
    """Queries left out: it is not known where they, or their first answers, lie."""

    def share_within(self, metres: float) -> float:
        """Return the share of the known queries that lie no further."""
        return float(np.searchsorted(self.metres_N, metres, side="right")) / len(self.metres_N)

    def numbers(self) -> dict[str, float]:
        """Return what a report keeps: shares as fractions, the median, and the counts."""
        shares = {f"within_{metres}m": self.share_within(metres) for metres in WITHIN_M}
        counts = {"num_known": len(self.metres_N), "num_unknown": self.num_unknown}
        return {**shares, "median_m": float(np.median(self.metres_N)), **counts}


@dataclass(frozen=True, kw_only=True)
class DistanceCurve:
    """The distances of one search; curves of one title share a chart."""

    title: str
    """Direction in words."""

    label: str
    """What sets it apart in its chart, the altitude; empty where it is alone."""

    distances: Distances


def distance_to_truth(retrieval: Retrieval, shards: ShardSet) -> Distances | None:
    """Measure from each query's place to that of its first answer; None if no pair is known."""
    known = shards.manifest.coordinates
    if not known:
        return None
    nowhere = (np.nan, np.nan)
    degrees = np.array([known.get(place, nowhere) for place in shards.places], dtype=np.float64)
    place = shards.images.place
    truth_Q = degrees[place[retrieval.query_rows]]
    answer_Q = degrees[place[retrieval.gallery_rows[retrieval.first_answers.numpy()]]]
    metres_Q = great_circle_m(truth_Q, answer_Q)
    is_known_Q = np.isfinite(metres_Q)
    if not is_known_Q.any():
        return None
    return Distances(metres_N=np.sort(metres_Q[is_known_Q]), num_unknown=int((~is_known_Q).sum()))


def great_circle_m(
    from_N2: npt.NDArray[np.float64], to_N2: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return metres between pairs of (latitude, longitude) in degrees, by the haversine formula."""
    latitude_from, longitude_from = np.radians(from_N2).T
    latitude_to, longitude_to = np.radians(to_N2).T
    north = np.sin((latitude_to - latitude_from) / 2) ** 2
    east = np.sin((longitude_to - longitude_from) / 2) ** 2
    chord = north + np.cos(latitude_from) * np.cos(latitude_to) * east
    metres: npt.NDArray[np.float64] = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(chord, 0, 1)))
    return metres


@styled
def draw_distances(curves: Sequence[DistanceCurve], *, title: str, subtitle: str) -> Figure:
    """Draw the share of queries whose first answer lies within a distance, a chart per direction.

    Where a chart has a single curve, dots and words tell it at 10, 50, 100 and 250 m.
    """
    titles = list(dict.fromkeys(curve.title for curve in curves))
    legend = list(dict.fromkeys(curve.label for curve in curves if curve.label))
    figure, all_axes = charts(titles, title=title, subtitle=subtitle, legend=legend)
    farthest = max(float(curve.distances.metres_N[-1]) for curve in curves)
    end_m = 1.1 * max(farthest, WITHIN_M[-1])
    for name, axes in zip(titles, all_axes, strict=True):
        here = [curve for curve in curves if curve.title == name]
        for curve, colour in zip(here, tones(len(here)), strict=True):
            metres_N = curve.distances.metres_N
            share_N = np.arange(1, len(metres_N) + 1) / len(metres_N)
            axes.step(
                np.concatenate([[LEAST_M], metres_N.clip(LEAST_M), [end_m]]),
                100 * np.concatenate([[curve.distances.share_within(LEAST_M)], share_N, [1.0]]),
                where="post",
                color=colour,
                label=curve.label,
            )
        if len(here) == 1:
            _write_shares(axes, here[0].distances)
        log_axis(
            axes, is_short=False, form=lambda m: f"{m / 1000:g} km" if m >= 1000 else f"{m:g} m"
        )
        axes.set(xlim=(LEAST_M, end_m), ylim=(-14, 116), yticks=range(0, 101, 20))
        name_axes(axes, x="distance of the first answer from the truth", y="queries within it (%)")
    if legend:
        fullest = max(all_axes, key=lambda axes: len(axes.lines))
        add_legend(figure, *fullest.get_legend_handles_labels())
    return figure


def _write_shares(axes: Axes, distances: Distances) -> None:
    """Write shares over and under the line in turn: marks are too close for one side."""
    for number, metres in enumerate(MARKED_M):
        share = 100 * distances.share_within(metres)
        is_above = number % 2 == 0
        axes.plot(metres, share, "o", color=RUN_COLOURS[0], zorder=4)
        axes.annotate(
            f"{share:.1f}",
            (metres, share),
            xytext=(0, 4 if is_above else -4),
            textcoords="offset points",
            ha="right" if is_above else "left",
            va="bottom" if is_above else "top",
            fontsize=VALUE,
            color=INK,
        )
