"""Bubbles stand where they belong, as large as they should, and their labels hide nothing."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from evaluation.figures.bubbles import accuracy_against_cost
from evaluation.figures.style import COLUMN, TEXT

PRINTED = "the leaderboard"


def point(label: str, x: float, accuracy: float, parameters: float, **more: object) -> dict:
    usual = {"source": "", "deviation": 0.0}
    return {"label": label, "x": x, "accuracy": accuracy, "parameters": parameters, **usual, **more}


def drawn(points: list[dict]) -> Figure:
    return accuracy_against_cost(pd.DataFrame(points), title="", subtitle="")


POINTS = [
    point("ours", 4.45e9, 93.0, 28e6, deviation=0.2),
    point("MEAN", 26.18e9, 93.55, 36.5e6, source=PRINTED),
    point("DAC", 90.24e9, 94.67, 96.5e6, source=PRINTED),
    point("Sample4Geo", 90.24e9, 92.65, 87.6e6, source=PRINTED),
]


def bubbles_of(axes: Axes) -> PathCollection:
    (found,) = [part for part in axes.collections if isinstance(part, PathCollection)]
    return found


def test_a_bubble_per_point_its_area_the_parameters() -> None:
    axes = drawn(POINTS).axes[0]
    bubbles = bubbles_of(axes)
    at = dict(zip(map(tuple, bubbles.get_offsets()), bubbles.get_sizes(), strict=True))
    assert set(at) == {(p["x"], p["accuracy"]) for p in POINTS}
    per_parameter = [at[p["x"], p["accuracy"]] / p["parameters"] for p in POINTS]
    np.testing.assert_allclose(per_parameter, per_parameter[0])
    assert axes.get_xscale() == "log"


def test_no_bubble_hides_a_smaller_one_and_none_its_deviation() -> None:
    points = [point("small", 1e10, 90, 3e7, source=PRINTED)]
    points.append(point("large", 1e10, 90, 9e7, deviation=0.1))
    axes = drawn(points).axes[0]
    before, behind = bubbles_of(axes).get_sizes()
    assert before > behind, "drawn in this order"
    (bars,) = [part for part in axes.collections if isinstance(part, LineCollection)]
    assert bars.get_zorder() > bubbles_of(axes).get_zorder()


def test_published_points_are_grey_and_their_source_is_named() -> None:
    figure = drawn(POINTS)
    labels = {text.get_text(): text for text in figure.axes[0].texts}
    assert set(labels) == {p["label"] for p in POINTS}
    assert labels["ours"].get_color() != labels["MEAN"].get_color()
    assert f"grey: published, {PRINTED}" in figure.axes[0].get_xlabel().splitlines()


def test_several_sources_are_numbered() -> None:
    figure = drawn([*POINTS, point("LPN", 1e10, 77, 62e6, source="the paper")])
    labels = {text.get_text() for text in figure.axes[0].texts}
    assert {"ours", "MEAN [1]", "LPN [2]"} <= labels
    notes = figure.axes[0].get_xlabel().splitlines()
    assert {f"[1]: published, {PRINTED}", "[2]: published, the paper"} <= set(notes)


def test_one_point_alone_is_drawn() -> None:
    low, high = drawn([point("only", 1e9, 100, 1e6)]).axes[0].get_ylim()
    assert low < 100 < high


@pytest.mark.parametrize(
    ("accuracies", "name", "begin"),
    [((6, 12), "R@1 (%)", 0), ((40, 95), "R@1 (%)", 0), ((76.4, 97), "R@1 (%), axis from 73", 73)],
    ids=["low", "wide", "high"],
)
def test_the_axis_of_accuracy_begins_at_0_or_says_where(accuracies, name, begin) -> None:
    models = pd.DataFrame([point(f"{y}", 1e9, y, 1e6) for y in accuracies])
    axes = accuracy_against_cost(models, title="", subtitle="", metric="R@1").axes[0]
    assert axes.get_ylabel() == name and axes.get_ylim()[0] == begin


def test_few_models_fit_one_column_and_more_do_not() -> None:
    assert drawn(POINTS).get_figwidth() == COLUMN
    crowd = [point(f"{'long_' * 6}{n}", 4e9 * 1.05**n, 90 + n / 10, 28e6) for n in range(12)]
    assert drawn(crowd).get_figwidth() == TEXT


@pytest.mark.parametrize(("low", "high"), [(0, 100), (6, 12), (0.4, 3)])
def test_nothing_is_cut_off_at_0_and_at_the_top(low, high) -> None:
    axes = drawn([point("student", 1e9, low, 1e5), point("teacher", 1e10, high, 3e8)]).axes[0]
    room, bubbles = axes.get_window_extent(), bubbles_of(axes)
    at = axes.transData.transform(bubbles.get_offsets())
    radius = np.sqrt(bubbles.get_sizes()) / 2 * axes.figure.dpi / 72
    assert (room.y0 <= at[:, 1] - radius).all() and (at[:, 1] + radius <= room.y1).all()
    assert min(axes.get_yticks()) == 0 and max(axes.get_yticks()) <= 100


def test_a_long_source_is_broken_into_lines_that_fit() -> None:
    source = (
        "A. Author et al., A Network with a Long Name for Cross-View Geo-Localization, 2025, II"
    )
    figure = drawn([point("ours", 1e9, 90, 1e7), point("p", 2e9, 80, 1e7, source=source)])
    label = figure.axes[0].xaxis.label
    assert f"grey: published, {source}" in " ".join(label.get_text().splitlines())
    assert label.get_window_extent().width <= figure.bbox.width


@pytest.mark.parametrize("seed", range(3))
def test_labels_in_a_crowd_overlap_neither_each_other_nor_the_edge(seed: int) -> None:
    at = 0.2 + 0.6 * np.random.default_rng(seed).random((14, 2)) ** 2
    figure = drawn(
        [point(f"model {n}", 10 ** (9 + x), 100 * y, 1e7) for n, (x, y) in enumerate(at)]
    )
    (axes,) = figure.axes
    figure.draw_without_rendering()
    boxes = [np.array(Text.get_window_extent(text).extents) for text in axes.texts]
    room = np.array(axes.get_window_extent().extents)
    assert all((b[:2] >= room[:2] - 1).all() and (b[2:] <= room[2:] + 1).all() for b in boxes)
    for one, other in itertools.combinations(boxes, 2):
        shared = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
        assert not (shared > 0).all()
