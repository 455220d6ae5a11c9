"""Recall curves, similarities and distances of searches small enough to count by hand."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data_shards.manifest import Manifest
from evaluation.figures import charts as similarity
from evaluation.figures.charts import SimilarityCounts, draw_similarity, similarity_counts
from evaluation.figures.curves import (
    draw_distances,
    draw_recall_curves,
    recall_curve,
)
from evaluation.ranking import Ranking
from evaluation.retrieval import (
    GUESSED_M,
    Distances,
    Retrieval,
    distance_to_truth,
    great_circle_m,
)

MakeRetrieval = Callable[..., Retrieval]
WORDS: dict[str, Any] = {"title": "", "subtitle": ""}


def ranking(ranks: list[list[int]], num_gallery: int) -> Ranking:
    offsets = np.cumsum([0, *map(len, ranks)])
    flat = torch.tensor([rank for of_query in ranks for rank in of_query], dtype=torch.int64)
    return Ranking(ranks_P=flat, offsets=torch.from_numpy(offsets), num_gallery=num_gallery)


def test_recall_is_the_share_of_queries_found_so_far_and_one_without_positives_is_not() -> None:
    curve = recall_curve(ranking([[0], [2, 3], [], [1]], 5), title="d2s", label="")
    np.testing.assert_allclose(curve.recall_K, [0.25, 0.5, 0.75, 0.75, 0.75])


def test_guessing_finds_what_a_random_order_finds() -> None:
    curve = recall_curve(ranking([[0], [2, 3], []], 5), title="d2s", label="")
    # One of 5 within K: K / 5. One of two of 5: 1 - C(3, K) / C(5, K). None: never.
    one, two = np.arange(1, 6) / 5, 1 - np.array([3 / 5, 3 / 10, 1 / 10, 0, 0])
    np.testing.assert_allclose(curve.chance_K, (one + two) / 3)


def test_recall_curves_share_a_chart_per_direction_with_guessing_dashed() -> None:
    found = [
        recall_curve(ranking([[0], [7]], 200), title=way, label=f"{height} m")
        for way in ("drone to satellite", "satellite to drone")
        for height in (150, 200)
    ]
    assert found[0].marked == [1, 3, 5, 10]
    figure = draw_recall_curves(found, **WORDS)
    assert len(figure.axes) == 2
    for axes in figure.axes:
        labels = [str(line.get_label()) for line in axes.lines]
        assert [label for label in labels if label[0] != "_"] == ["150 m", "200 m", "guessing"]
        assert axes.get_xscale() == "log"
        (first, *_) = axes.lines
        assert (first.get_ydata()[0], first.get_ydata()[-1]) == (50, 100)  # type: ignore[index]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["150 m", "200 m", "guessing"]


def images_of(*places: int) -> Any:
    return SimpleNamespace(place=np.array(places))


def test_every_pair_is_counted_once_as_right_or_wrong(retrieval: MakeRetrieval) -> None:
    drawn = np.random.default_rng(0)
    query_places, gallery_places = [1, 2, 3, 4], [1, 1, 2, 5, 6]
    query, gallery = drawn.normal(size=(4, 3)), drawn.normal(size=(5, 3))
    judged = retrieval(query.tolist(), query_places, gallery.tolist(), gallery_places)
    counts = similarity_counts(judged, images_of(*query_places, *gallery_places))
    score_QG = (judged.query_QD @ judged.gallery_GD.T).numpy()
    is_right_QG = np.array(query_places)[:, None] == np.array(gallery_places)
    edges = np.linspace(-1, 1, similarity.NUM_BINS + 1)
    np.testing.assert_array_equal(
        counts.positive_N, np.histogram(score_QG[is_right_QG], bins=edges)[0]
    )
    np.testing.assert_array_equal(
        counts.negative_N, np.histogram(score_QG[~is_right_QG], bins=edges)[0]
    )
    wins = score_QG[is_right_QG][:, None] > score_QG[~is_right_QG]
    assert counts.auc == pytest.approx(wins.mean())


def test_only_wrong_pairs_are_sampled_and_always_the_same(
    retrieval: MakeRetrieval, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similarity, "MOST_NEGATIVES", 30)
    monkeypatch.setattr(similarity, "PAIRS_AT_ONCE", 4)
    drawn = np.random.default_rng(0)
    places = list(range(20))
    rows = drawn.normal(size=(20, 4)).tolist()
    judged = retrieval(rows, places, rows, places)
    counts, again = (similarity_counts(judged, images_of(*places, *places)) for _ in range(2))
    assert counts.positive_N.sum() == counts.positive_N[-1] == 20  # each is its own image
    assert counts.negative_N.sum() == 19  # the negatives of the one query that 30 // 20 allows
    np.testing.assert_array_equal(counts.negative_N, again.negative_N)


def test_histograms_show_all_pairs_and_each_adds_up_to_100_percent() -> None:
    positive, negative = np.zeros(2000, np.int64), np.zeros(2000, np.int64)
    positive[1990:2000], negative[1000:1100] = 3, 7
    (axes,) = draw_similarity(
        {"d2s": SimilarityCounts(positive_N=positive, negative_N=negative)}, **WORDS
    ).axes
    for patch in axes.patches:
        values, edges, _ = patch.get_data()  # type: ignore[attr-defined]
        assert values.sum() == pytest.approx(100)
        assert edges[0] <= 0 and edges[-1] >= 1 - 1e-9
    assert axes.get_xlabel() == "cosine similarity; AUC 1.0000"


def test_a_collapsed_model_is_drawn_too() -> None:
    same = np.zeros(2000, np.int64)
    same[-1] = 5
    counts = SimilarityCounts(positive_N=same, negative_N=same)
    assert counts.auc == 0.5
    (axes,) = draw_similarity({"d2s": counts}, **WORDS).axes
    assert axes.get_xlim()[0] < axes.get_xlim()[1]


def test_without_right_pairs_there_is_no_area_under_a_curve() -> None:
    negative = np.zeros(2000, np.int64)
    negative[1200:1300] = 1
    counts = SimilarityCounts(positive_N=np.zeros(2000, np.int64), negative_N=negative)
    assert np.isnan(counts.auc)
    (axes,) = draw_similarity({"d2s": counts}, **WORDS).axes
    assert axes.get_xlabel() == "cosine similarity"


def test_the_great_circle_is_as_long_as_it_should_be() -> None:
    at = np.array([[0.0, 0.0], [0.0, 179.5], [52.5, 13.4], [90.0, 0.0]])
    to = np.array([[1.0, 0.0], [0.0, -179.5], [48.137, 11.575], [-90.0, 77.0]])
    degree = np.pi * 6_371_008.8 / 180
    expected = [degree, degree, 502_000, 180 * degree]
    np.testing.assert_allclose(great_circle_m(at, to), expected, rtol=3e-3)


def test_distance_is_that_of_the_first_answer_where_both_places_are_known(
    retrieval: MakeRetrieval,
) -> None:
    east, north, both, up = [1.0, 0, 0], [0, 1.0, 0], [0.6, 0.8, 0], [0, 0, 1.0]
    # Query 0 finds its own place, query 1 place 0 one degree away, query 3 b, where it is too;
    # query 2 is of an unknown place, and query 4 finds that one, which is surely wrong.
    judged = retrieval([east, east, up, north, up], [0, 1, 2, 3, 0], [east, both, up], [0, 1, 2])
    known = {"a": (0.0, 0.0), "b": (1.0, 0.0), "d": (1.0, 0.0)}
    manifest = Manifest(
        layout="university1652",
        places=("a", "b", "c", "d"),
        counts={},
        shards=(),
        content_sha256="",
        coordinates=known,
    )
    shards: Any = SimpleNamespace(
        manifest=manifest, places=manifest.places, images=images_of(0, 1, 2, 3, 0, 0, 1, 2)
    )
    found = distance_to_truth(judged, shards)
    assert found is not None
    np.testing.assert_allclose(found.metres_N, [0, 0, 111_195, np.inf], rtol=1e-4)
    numbers = found.numbers()
    assert numbers["within_10m"] == numbers["within_1000m"] == pytest.approx(2 / 4)
    # Each of the four has one of three images at its place, the others a degree off, or unknown.
    assert numbers["guessing_within_10m"] == numbers["guessing_within_1000m"] == 1 / 3
    assert found.guessing_M[-1] == pytest.approx(2 / 3)
    assert numbers["median_m"] == pytest.approx(111_195 / 2, rel=1e-4)
    counts = [numbers[f"num_{what}"] for what in ("known", "unknown", "left_out")]
    assert counts == [3, 1, 1]
    lost = replace(found, metres_N=np.array([0, np.inf, np.inf]))
    assert "median_m" not in lost.numbers()
    shards.manifest = SimpleNamespace(coordinates={})
    assert distance_to_truth(judged, shards) is None


def test_the_curve_of_distances_climbs_from_the_right_answers_to_all() -> None:
    metres = np.array([0.0, 0.0, 30.0, 5000.0, np.inf])
    guessing = np.linspace(0, 1, len(GUESSED_M))
    found = Distances(metres_N=metres, guessing_M=guessing, num_left_out=0)
    (axes,) = draw_distances({("drone to satellite", ""): found}, **WORDS).axes
    steps = axes.lines[0]
    x, y = steps.get_data()
    np.testing.assert_allclose(x, [1, 1, 1, 30, 5000, 5500])
    np.testing.assert_allclose(y, [40, 20, 40, 60, 80, 80])
    assert [text.get_text() for text in axes.texts] == ["40.0", "60.0", "60.0", "60.0"]
    assert axes.get_xlabel().endswith("; 1 of unknown position")
    assert axes.lines[1].get_label() == "guessing"
    lost = replace(found, metres_N=np.array([np.inf]))
    assert draw_distances({("drone to satellite", ""): lost}, **WORDS).axes, "none is known"
