"""Charts of rows draw each search once, beside the row that it is measured against."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from evaluation.figures.charts import (
    condition_bars,
    draw_altitudes,
    draw_bars,
    multi_view_bars,
)
from evaluation.report import Result

MakeResult = Callable[..., Result]
WORDS: dict[str, Any] = {"title": "", "subtitle": ""}


def test_altitudes_are_lines_of_recall_and_ap_in_each_direction(result: MakeResult) -> None:
    recalls = {300: 0.9787, 150: 0.7985, 200: 0.911}
    rows = [result(r, way, altitude_m=h) for way in ("d2s", "s2d") for h, r in recalls.items()]
    figure = draw_altitudes(rows, **WORDS)
    assert len(figure.axes) == 2
    for axes in figure.axes:
        lines = {line.get_label(): line for line in axes.lines}
        assert set(lines) == {"recall@1", "AP"}
        np.testing.assert_allclose(lines["recall@1"].get_xdata(), [150, 200, 300])
        np.testing.assert_allclose(lines["recall@1"].get_ydata(), [79.85, 91.1, 97.87])
        np.testing.assert_allclose(lines["AP"].get_ydata(), [80.85, 92.1, 98.87])
        assert {"79.85", "98.87"} <= {text.get_text() for text in axes.texts}


def test_values_near_zero_stand_above_the_names_of_the_altitudes(result: MakeResult) -> None:
    rows = [result(0.01, altitude_m=height) for height in (150, 300)]
    figure = draw_altitudes(rows, **WORDS)
    (axes,) = figure.axes
    floor = axes.get_window_extent().y0
    assert all(text.get_window_extent().y0 >= floor for text in axes.texts)
    assert min(axes.get_yticks()) == 0


def test_values_of_100_stand_below_the_title_of_their_chart(result: MakeResult) -> None:
    rows = [result(recall, altitude_m=h) for h, recall in ((150, 0.0), (300, 0.99))]
    (axes,) = draw_altitudes(rows, **WORDS).axes
    ceiling = axes.get_window_extent().y1
    assert all(text.get_window_extent().y1 <= ceiling for text in axes.texts)


def test_without_the_clean_row_no_change_is_written(result: MakeResult) -> None:
    (axes,) = draw_bars(condition_bars([result(0.92, condition="fog")]), **WORDS).axes
    assert [text.get_text() for text in axes.texts] == ["92.00"]


def test_values_of_equal_lines_stand_on_both_sides(result: MakeResult) -> None:
    row = result(0.5, altitude_m=150)
    level = Result(**vars(row) | {"metrics": {**row.metrics, "ap": 0.5}})
    (axes,) = draw_altitudes([level], **WORDS).axes
    assert sorted(text.get_va() for text in axes.texts) == ["bottom", "top"]


def test_conditions_stand_beside_clean_of_the_same_search(result: MakeResult) -> None:
    rows = [
        result(0.94),
        result(0.95, "s2d"),
        result(0.96, gallery="no-distractors"),
        result(0.92, condition="fog"),
        result(0.97, rerank="k-reciprocal"),
        result(0.90, condition="dark"),
    ]
    assert condition_bars(rows) == {
        "drone to satellite": {"clean": [0.94], "fog": [0.92], "dark": [0.90]}
    }
    (axes,) = draw_bars(condition_bars(rows), **WORDS).axes
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [94, 92, 90])
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["94.00", "92.00  (−2.00)", "90.00  (−4.00)"]


def test_several_views_stand_beside_the_single_one_at_each_altitude(result: MakeResult) -> None:
    rows = [
        row
        for height in (150, 300)
        for row in (
            result(0.8, altitude_m=height),
            result(0.85, altitude_m=height, views="mean"),
            *(result(0.82 + s / 100, altitude_m=height, views="random-3", seed=s) for s in (0, 2)),
            result(0.9, altitude_m=height, views="refined-3"),
        )
    ]
    bars = multi_view_bars(rows)
    assert list(bars) == ["drone to satellite, 150 m", "drone to satellite, 300 m"]
    assert bars["drone to satellite, 150 m"]["single view"] == [0.8]
    assert bars["drone to satellite, 150 m"]["random 3"] == pytest.approx([0.82, 0.84])
    figure = draw_bars(bars, **WORDS)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[2] == "83.00 ± 1.41  (+3.00)"


def test_without_such_rows_there_is_nothing_to_draw(result: MakeResult) -> None:
    rows = [result(0.9), result(0.91, gallery="no-distractors")]
    assert condition_bars(rows) == multi_view_bars(rows) == {}
