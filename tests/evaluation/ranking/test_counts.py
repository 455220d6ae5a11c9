"""The ranking against values worked by hand and against the official loop, spelled slowly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evaluation.ranking import InMemory, Ranking, counts, metrics, rank, rank_gallery
from evaluation.ranking.counts import Tiles
from evaluation.ranking.screen import BFLOAT16, PLAIN, Screen


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


TILES = (
    Tiles(),
    Tiles(queries=1, block=1024, first_block=1024),
    Tiles(queries=7, block=57, first_block=9),
    Tiles(queries=24, block=400, first_block=1),
)


@pytest.mark.parametrize("at_once", [0, counts.CANDIDATES_AT_ONCE])
@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-7])
def test_no_tile_changes_a_rank(
    spread: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "CANDIDATES_AT_ONCE", at_once)
    query, gallery, query_labels, gallery_labels = descriptors(3, 24, 400, 30, torch.float32)
    query, gallery = 1 + spread * query, 1 + spread * gallery
    first, *others = (
        rank_gallery(
            query, InMemory(gallery, gallery_labels), query_labels_Q=query_labels, tiles=tiles
        )
        for tiles in TILES
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


def places(
    clearness: float, *, width: int = 64, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """40 queries and 900 images of 60 places, some images junk; one query's place has none."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 60, (900,), generator=generator)
    labels[labels == 7] = 8
    centre = torch.randn(60, width, generator=generator)
    gallery = clearness * centre[labels.clamp(min=0)]
    gallery = gallery + torch.randn(900, width, generator=generator)
    query = clearness * centre[:40] + torch.randn(40, width, generator=generator)
    rows = [(part / part.norm(dim=1, keepdim=True)).to(dtype) for part in (query, gallery)]
    return rows[0], rows[1], torch.arange(40), labels


def exact_ranks(
    query: Tensor, gallery: Tensor, query_labels: Tensor, gallery_labels: Tensor
) -> list[list[int]]:
    """Ranks by the definition: per positive, the negatives that score at least as high."""
    score = (query.double()[:, None] * gallery.double()).sum(dim=2)
    ranks = []
    for row, label in zip(score, query_labels, strict=True):
        positive = row[gallery_labels == label]
        negative = row[(gallery_labels != label) & (gallery_labels != -1)]
        beaten = sorted(int((negative >= value).sum()) for value in positive)
        ranks.append([number + before for before, number in enumerate(beaten)])
    return ranks


@pytest.mark.parametrize("screen", [PLAIN, BFLOAT16], ids=lambda screen: str(screen.kind))
@pytest.mark.parametrize("clearness", [3.0, 0.8, 0.0])
def test_no_screen_and_no_level_changes_a_rank(clearness: float, screen: Screen) -> None:
    query, gallery, query_labels, gallery_labels = places(clearness)
    ranking = rank_gallery(
        query, InMemory(gallery, gallery_labels), query_labels_Q=query_labels, screen=screen
    )
    expected = exact_ranks(query, gallery, query_labels, gallery_labels)
    assert [ranking.of_query(number) for number in range(40)] == expected
    assert expected[7] == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_other_kinds_of_numbers_are_ranked_as_they_are(dtype: torch.dtype, scale: float) -> None:
    query, gallery, query_labels, gallery_labels = places(0.8, dtype=dtype)
    query, gallery = query * scale, gallery * scale
    ranking = rank(query, gallery, query_labels_Q=query_labels, gallery_labels_G=gallery_labels)
    expected = exact_ranks(query, gallery, query_labels, gallery_labels)
    assert [ranking.of_query(number) for number in range(40)] == expected


@pytest.mark.parametrize("scale", [1e-30, 1e-16, 1e16, 1e30])
def test_lengths_that_float32_cannot_multiply_are_ranked(scale: float) -> None:
    query, gallery, query_labels, gallery_labels = places(0.8)
    query[::2] *= scale
    gallery[::3] *= scale
    ranking = rank(query, gallery, query_labels_Q=query_labels, gallery_labels_G=gallery_labels)
    expected = exact_ranks(query, gallery, query_labels, gallery_labels)
    assert [ranking.of_query(number) for number in range(40)] == expected


def test_lengths_whose_squares_leave_float64_are_ranked() -> None:
    query, gallery, query_labels, gallery_labels = places(0.8, dtype=torch.float64)
    ranking = rank(
        query * 1e-170, gallery * 1e30, query_labels_Q=query_labels, gallery_labels_G=gallery_labels
    )
    expected = exact_ranks(query * 1e-170, gallery * 1e30, query_labels, gallery_labels)
    assert [ranking.of_query(number) for number in range(40)] == expected


def test_the_bound_holds_where_half_precision_tells_lengths_to_few_bits() -> None:
    query, gallery = torch.full((1, 2), 1 + 2.0**-8).half(), torch.full((2, 2), 2.0**-24).half()
    ranking = rank_gallery(
        query,
        InMemory(gallery, torch.tensor([0, 1])),
        query_labels_Q=torch.tensor([0]),
        screen=BFLOAT16,
    )
    assert ranking.of_query(0) == [1]


def test_the_bound_holds_where_a_score_is_half_way_between_two_that_can_be_written() -> None:
    ranking = rank_gallery(
        torch.tensor([[129.0]]),  # 129 x 255 = 32,895; bfloat16 knows 32,768 and 33,024
        InMemory(torch.tensor([[255.0], [255.0]]), torch.tensor([0, 1])),
        query_labels_Q=torch.tensor([0]),
        screen=BFLOAT16,
    )
    assert ranking.of_query(0) == [1]


def test_one_of_each_is_enough() -> None:
    found = rank(
        torch.ones(1, 1),
        torch.ones(1, 1),
        query_labels_Q=torch.tensor([2**62]),
        gallery_labels_G=torch.tensor([2**62]),
    )
    assert found.of_query(0) == [0]
    assert metrics(found) == pytest.approx(metrics(found) | {"ap": 1.0, "recall@10": 1.0})


def test_a_query_labelled_as_junk_finds_nothing() -> None:
    assert ranked([[0.9, 0.1]], [-1], [-1, 0]).of_query(0) == []


@pytest.mark.parametrize("screen", [PLAIN, BFLOAT16], ids=lambda screen: str(screen.kind))
@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_scores_on_either_side_of_zero(shift: float, screen: Screen) -> None:
    query, gallery, query_labels, gallery_labels = (
        part.repeat_interleave(2, 0) for part in places(0.8)
    )
    gallery[:, 0], query[:, 0] = 1.0, shift
    ranking = rank_gallery(
        query,
        InMemory(gallery, gallery_labels),
        query_labels_Q=query_labels,
        tiles=Tiles(block=1000, first_block=330),
        screen=screen,
    )
    expected = exact_ranks(query, gallery, query_labels, gallery_labels)
    assert [ranking.of_query(number) for number in range(80)] == expected


@pytest.mark.parametrize("screen", [PLAIN, BFLOAT16], ids=lambda screen: str(screen.kind))
def test_written_scores_keep_to_their_bounds(screen: Screen) -> None:
    generator = torch.Generator().manual_seed(0)
    score = torch.randn(100_000, generator=generator) * torch.logspace(-9, 3, 100_000)
    written, no_margin = score.to(screen.kind).double(), torch.zeros(100_000).double()
    exact = score.double()
    assert bool((written >= screen.floor(exact, no_margin).double()).all())
    assert bool(((written - exact).abs() <= screen.reach(written, no_margin)).all())
    margin = 0.01 * exact.abs()
    higher = (exact - margin).to(screen.kind)
    assert bool((higher >= screen.floor(exact, margin)).all())


def test_a_score_beyond_its_bound_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    query, gallery, query_labels, gallery_labels = places(3.0)
    monkeypatch.setattr(counts, "margins", lambda query, *_: torch.full_like(query.norm_R, 1e-12))
    with pytest.raises(AssertionError, match="further from the exact one"):
        rank_gallery(
            query, InMemory(gallery, gallery_labels), query_labels_Q=query_labels, screen=PLAIN
        )


@pytest.mark.parametrize("screen", [PLAIN, BFLOAT16], ids=lambda screen: str(screen.kind))
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 3, 0, 1]])
def test_a_positive_further_down_than_float32_counts_no_positive(
    screen: Screen, order: list[int]
) -> None:
    gallery = torch.tensor([[1.0, 0], [0.5, 0], [-1e37, 0], [-1e37, 1]])[order]
    found = rank_gallery(
        torch.tensor([[1e3, 1.0]]),
        InMemory(gallery, torch.tensor([7, 1, 7, 1])[order]),
        query_labels_Q=torch.tensor([7]),
        tiles=Tiles(block=2, first_block=2),
        screen=screen,
    )
    assert found.of_query(0) == [0, 3]


ONE, NONE = torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
BAD: dict[str, tuple[Tensor, Tensor, Tensor, Tensor]] = {
    "D": (torch.ones(1, 2), torch.ones(1, 3), ONE, ONE),
    "one label": (torch.ones(1, 2), torch.ones(2, 2), ONE, ONE),
    "at least one": (torch.ones(1, 2), torch.ones(0, 2), ONE, NONE),
    "finite": (torch.ones(1, 2), torch.full((1, 2), torch.nan), ONE, ONE),
    "must be finite": (torch.ones(1, 2), torch.full((1, 2), torch.nan), ONE, ONE + 1),
    "finite, and": (torch.full((1, 2), torch.inf), torch.ones(1, 2), ONE, ONE + 1),
    "must be integers; they are torch.float32": (torch.ones(1, 2), torch.ones(1, 2), ONE, ONE / 2),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_ranked_is_refused(message: str) -> None:
    query, gallery, query_labels, gallery_labels = BAD[message]
    with pytest.raises(ValueError, match=message):
        rank(query, gallery, query_labels_Q=query_labels, gallery_labels_G=gallery_labels)


def test_labels_of_any_integers_are_compared() -> None:
    found = rank(
        torch.ones(1, 1),
        torch.ones(2, 1),
        query_labels_Q=torch.tensor([3], dtype=torch.uint8),
        gallery_labels_G=torch.tensor([-1, 3], dtype=torch.int16),
    )
    assert found.of_query(0) == [0]
