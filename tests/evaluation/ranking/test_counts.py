"""The ranking against values worked by hand and against the official loop, spelled slowly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evaluation.ranking import Ranking, metrics, rank


def ranked(
    similarity_QG: list[list[float]], query_labels: list[int], gallery_labels: list[int]
) -> Ranking:
    """Rank by given similarities: the queries are unit vectors, the gallery the columns."""
    return rank(
        torch.eye(len(similarity_QG)),
        torch.tensor(similarity_QG).T.contiguous(),
        query_labels_Q=torch.tensor(query_labels),
        gallery_labels_G=torch.tensor(gallery_labels),
    )


def official(
    query: np.ndarray, gallery: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray
) -> dict[str, float]:
    """The evaluation of University-1652: sort the gallery, drop junk, walk over the positives."""
    curve, ap = np.zeros(len(gallery)), 0.0
    for descriptor, label in zip(query, query_labels, strict=True):
        order = np.argsort(-(gallery @ descriptor), kind="stable")
        order = order[gallery_labels[order] != -1]
        rows = np.flatnonzero(gallery_labels[order] == label)
        if label == -1 or not len(rows):
            continue
        curve[rows[0] :] += 1
        for i, row in enumerate(rows):
            before = i / row if row else 1.0
            ap += (before + (i + 1) / (row + 1)) / 2 / len(rows)
    curve = curve / len(query)
    last = {"recall@1": 0, "recall@5": 4, "recall@10": 9, "recall@1%": round(len(gallery) * 0.01)}
    recalls = {name: curve[min(index, len(gallery) - 1)] for name, index in last.items()}
    return {**recalls, "ap": ap / len(query)}


def test_one_positive_at_each_rank() -> None:
    for position in range(4):
        similarity = [0.9, 0.8, 0.7, 0.6]
        labels = [0, 0, 0, 0]
        labels[position] = 7
        result = metrics(ranked([similarity], [7], labels))
        assert result["ap"] == (1.0 if position == 0 else 1 / (2 * (position + 1)))
        assert result["recall@1"] == float(position == 0)
        assert result["recall@5"] == 1.0


def test_two_positives_worked_by_hand() -> None:
    ranking = ranked([[0.9, 0.8, 0.7, 0.6]], [1], [0, 1, 0, 1])
    assert ranking.of_query(0) == [1, 3]
    assert metrics(ranking)["ap"] == pytest.approx(((0 / 1 + 1 / 2) / 2 + (1 / 3 + 2 / 4) / 2) / 2)


def test_the_names_are_the_contract() -> None:
    result = metrics(ranked([[0.5, 0.4]], [0], [0, 1]))
    names = ["recall@1", "recall@5", "recall@10", "recall@1%", "ap", "num_queries", "num_gallery"]
    assert list(result) == names
    assert (result["num_queries"], result["num_gallery"]) == (1, 2)


def test_top_one_percent_reads_index_round_of_a_hundredth() -> None:
    similarity = torch.linspace(1, 0, 200).tolist()
    for position, found in ((2, 1.0), (3, 0.0)):
        labels = [0] * 200
        labels[position] = 1
        assert metrics(ranked([similarity], [1], labels))["recall@1%"] == found


def test_junk_is_dropped_but_counted_in_the_gallery() -> None:
    ranking = ranked([[0.9, 0.8, 0.7]], [1], [-1, 1, 0])
    assert ranking.of_query(0) == [0]
    assert ranking.num_gallery == 3


def test_a_query_without_positives_scores_zero_and_is_divided_by() -> None:
    ranking = ranked([[0.9, 0.1], [0.2, 0.8]], [0, 5], [0, 1])
    result = metrics(ranking)
    assert ranking.of_query(1) == []
    assert (result["recall@1"], result["recall@10"], result["ap"]) == (0.5, 0.5, 0.5)


def test_a_gallery_of_junk_finds_nothing() -> None:
    result = metrics(ranked([[0.9, 0.1]], [0], [-1, -1]))
    assert (result["recall@10"], result["ap"]) == (0.0, 0.0)


def test_ties_are_pessimistic() -> None:
    assert ranked([[0.5, 0.5, 0.5, 0.9]], [1], [0, 1, 0, 1]).of_query(0) == [0, 3]


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_collapsed_model_cannot_score(value: float) -> None:
    labels = torch.arange(60)
    result = metrics(
        rank(
            torch.full((60, 48), value),
            torch.full((60, 48), value),
            query_labels_Q=labels,
            gallery_labels_G=labels,
        )
    )
    assert (result["recall@1"], result["recall@10"], result["recall@1%"]) == (0.0, 0.0, 0.0)
    assert result["ap"] == pytest.approx(1 / 120)


def test_equal_rows_tie_wherever_they_stand() -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(5, 37, generator=generator)
    copies = query.repeat(61, 1)
    labels = torch.full((305,), 9)
    labels[100:105] = torch.arange(5)
    ranking = rank(query, copies, query_labels_Q=torch.arange(5), gallery_labels_G=labels)
    assert all(ranking.of_query(q)[0] >= 60 for q in range(5))


def descriptors(
    seed: int, num_queries: int, num_gallery: int, num_labels: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random descriptors whose labels leave queries without a match and gallery images as junk."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(num_queries, 24, generator=generator, dtype=dtype)
    gallery = torch.randn(num_gallery, 24, generator=generator, dtype=dtype)
    query_labels = torch.randint(0, num_labels + 1, (num_queries,), generator=generator)
    gallery_labels = torch.randint(-1, num_labels, (num_gallery,), generator=generator)
    return query, gallery, query_labels, gallery_labels


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    num_queries=st.integers(1, 12),
    num_gallery=st.integers(1, 260),
    num_labels=st.integers(1, 40),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_agrees_with_the_official_loop(
    seed: int, num_queries: int, num_gallery: int, num_labels: int, dtype: torch.dtype
) -> None:
    query, gallery, query_labels, gallery_labels = descriptors(
        seed, num_queries, num_gallery, num_labels, dtype
    )
    ranking = rank(query, gallery, query_labels_Q=query_labels, gallery_labels_G=gallery_labels)
    exact = (tensor.double().numpy() for tensor in (query, gallery))
    expected = official(*exact, query_labels.numpy(), gallery_labels.numpy())
    result = metrics(ranking)
    assert result["ap"] == pytest.approx(expected.pop("ap"), abs=1e-12)
    assert {name: result[name] for name in expected} == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-7])
def test_no_tile_changes_a_rank(spread: float) -> None:
    query, gallery, query_labels, gallery_labels = descriptors(3, 24, 400, 30, torch.float32)
    query, gallery = 1 + spread * query, 1 + spread * gallery
    first, *others = (
        rank(
            query, gallery, query_labels_Q=query_labels, gallery_labels_G=gallery_labels, tile=tile
        )
        for tile in ((512, 8192), (1, 1024), (7, 57), (24, 31))
    )
    for other in others:
        assert torch.equal(first.ranks_P, other.ranks_P)
        assert torch.equal(first.offsets, other.offsets)


def test_near_ties_are_decided_by_the_exact_score() -> None:
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(30, 512, generator=generator)
    gallery = query.repeat(20, 1) + 1e-7 * torch.randn(600, 512, generator=generator)
    labels = torch.arange(600)
    ranking = rank(query, gallery, query_labels_Q=labels[:30], gallery_labels_G=labels)
    score = query.double() @ gallery.double().T
    expected = [(score[q] > score[q, q]).sum().item() for q in range(30)]
    assert [ranking.of_query(q)[0] for q in range(30)] == expected


BAD: dict[str, tuple[Tensor, Tensor, Tensor, Tensor]] = {
    "D": (torch.ones(1, 2), torch.ones(1, 3), torch.zeros(1), torch.zeros(1)),
    "one label": (torch.ones(1, 2), torch.ones(2, 2), torch.zeros(1), torch.zeros(1)),
    "at least one": (torch.ones(1, 2), torch.ones(0, 2), torch.zeros(1), torch.zeros(0)),
    "finite": (torch.ones(1, 2), torch.full((1, 2), torch.nan), torch.zeros(1), torch.zeros(1)),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_ranked_is_refused(message: str) -> None:
    query, gallery, query_labels, gallery_labels = BAD[message]
    with pytest.raises(ValueError, match=message):
        rank(query, gallery, query_labels_Q=query_labels, gallery_labels_G=gallery_labels)
