"""Bubbles stand where they belong, as large as they should, and their labels hide nothing."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.text import Text

from evaluation.figures.bubbles import Point, accuracy_against_cost
from evaluation.figures.style import COLUMN, TEXT

PRINTED = "the leaderboard"


def point(label: str, x: float, accuracy: float, parameters: float, **more: object) -> Point:
    usual = {"is_published": False, "source": ""}
    return Point(
        label=label,
        x=x,
        accuracy=accuracy,
        parameters=parameters,
        **usual | more,  # type: ignore[arg-type]
    )


POINTS = [
    point("ours", 4.45e9, 0.93, 28e6, deviation=0.002),
    point("MEAN", 26.18e9, 0.9355, 36.5e6, is_published=True, source=PRINTED),
    point("DAC", 90.24e9, 0.9467, 96.5e6, is_published=True, source=PRINTED),
    point("Sample4Geo", 90.24e9, 0.9265, 87.6e6, is_published=True, source=PRINTED),
]


def test_a_bubble_per_point_its_area_the_parameters() -> None:
    axes = accuracy_against_cost(POINTS, title="", subtitle="").axes[0]
    drawn = [part for part in axes.collections if isinstance(part, PathCollection)]
    at = {tuple(part.get_offsets()[0]): float(part.get_sizes()[0]) for part in drawn}
    assert set(at) == {(p.x, 100 * p.accuracy) for p in POINTS}
    per_parameter = [at[p.x, 100 * p.accuracy] / p.parameters for p in POINTS]
    np.testing.assert_allclose(per_parameter, per_parameter[0])
    assert axes.get_xscale() == "log"


def test_no_bubble_hides_a_smaller_one_and_none_its_deviation() -> None:
    points = [point("large", 1e10, 0.9, 9e7, deviation=0.001), point("p", 1e10, 0.9, 3e7)]
    points[1] = replace(points[1], is_published=True, source=PRINTED)
    axes = accuracy_against_cost(points, title="", subtitle="").axes[0]
    bubbles = [part for part in axes.collections if isinstance(part, PathCollection)]
    assert [float(part.get_sizes()[0]) for part in bubbles] == sorted(
        (float(part.get_sizes()[0]) for part in bubbles), reverse=True
    )
    (bars,) = [part for part in axes.collections if isinstance(part, LineCollection)]
    layers = {part.get_zorder() for part in bubbles}
    assert len(layers) == 1 and bars.get_zorder() > layers.pop()


def test_published_points_are_grey_and_their_source_is_named() -> None:
    figure = accuracy_against_cost(POINTS, title="", subtitle="")
    labels = {text.get_text(): text for text in figure.axes[0].texts}
    assert set(labels) == {p.label for p in POINTS}
    assert labels["ours"].get_color() != labels["MEAN"].get_color()
    assert f"grey: published, {PRINTED}" in figure.axes[0].get_xlabel().splitlines()


def test_several_sources_are_numbered() -> None:
    points = [*POINTS, point("LPN", 1e10, 0.77, 62e6, is_published=True, source="the paper")]
    figure = accuracy_against_cost(points, title="", subtitle="")
    labels = {text.get_text() for text in figure.axes[0].texts}
    assert {"ours", "MEAN [1]", "LPN [2]"} <= labels
    notes = figure.axes[0].get_xlabel().splitlines()
    assert {f"[1]: published, {PRINTED}", "[2]: published, the paper"} <= set(notes)


def test_one_point_alone_is_drawn() -> None:
    axes = accuracy_against_cost([point("only", 1e9, 1.0, 1e6)], title="", subtitle="").axes[0]
    low, high = axes.get_ylim()
    assert low < 100 < high


def test_few_models_fit_one_column_and_more_do_not() -> None:
    assert accuracy_against_cost(POINTS, title="", subtitle="").get_figwidth() == COLUMN
    crowd = [point(f"{'long_' * 6}{n}", 4e9 * 1.05**n, 0.9 + n / 1000, 28e6) for n in range(12)]
    assert accuracy_against_cost(crowd, title="", subtitle="").get_figwidth() == TEXT


def test_nothing_is_cut_off_at_0_and_at_100_percent() -> None:
    points = [point("collapsed", 1e9, 0.0, 1e5), point("perfect", 1e10, 1.0, 3e8)]
    axes = accuracy_against_cost(points, title="", subtitle="").axes[0]
    room = axes.get_window_extent()
    for bubble in axes.collections:
        assert isinstance(bubble, PathCollection)
        _, y = axes.transData.transform(bubble.get_offsets()[0])
        radius = np.sqrt(bubble.get_sizes()[0]) / 2 * axes.figure.dpi / 72
        assert room.y0 <= y - radius and y + radius <= room.y1
    assert min(axes.get_yticks()) == 0 and max(axes.get_yticks()) == 100


def test_a_long_source_is_broken_into_lines_that_fit() -> None:
    source = (
        "A. Author et al., A Network with a Long Name for Cross-View Geo-Localization, 2025, II"
    )
    points = [point("ours", 1e9, 0.9, 1e7), point("p", 2e9, 0.8, 1e7, is_published=True)]
    points[1] = replace(points[1], source=source)
    figure = accuracy_against_cost(points, title="", subtitle="")
    label = figure.axes[0].xaxis.label
    assert f"grey: published, {source}" in " ".join(label.get_text().splitlines())
    assert label.get_window_extent().width <= figure.bbox.width


@pytest.mark.parametrize("seed", range(3))
def test_labels_in_a_crowd_overlap_neither_each_other_nor_the_edge(seed: int) -> None:
    drawn = np.random.default_rng(seed)
    at = 0.2 + 0.6 * drawn.random((14, 2)) ** 2
    points = [point(f"model {n}", 10 ** (9 + x), y, 1e7) for n, (x, y) in enumerate(at)]
    figure = accuracy_against_cost(points, title="", subtitle="")
    (axes,) = figure.axes
    figure.draw_without_rendering()
    boxes = [np.array(Text.get_window_extent(text).extents) for text in axes.texts]
    room = np.array(axes.get_window_extent().extents)
    assert all((b[:2] >= room[:2] - 1).all() and (b[2:] <= room[2:] + 1).all() for b in boxes)
    for one, other in itertools.combinations(boxes, 2):
        shared = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
        assert not (shared > 0).all()
