"""Lists of the best against a full sort of exact scores, with ties wherever they hide."""

import pytest
import torch
from torch import Tensor

from evaluation.ranking import top_k as module
from evaluation.ranking.screen import exact_scores
from evaluation.ranking.top_k import top_k


def sorted_lists(query: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Sort the whole gallery by the exact score; of equal scores the lower index comes first."""
    row = torch.arange(len(query)).repeat_interleave(len(gallery))
    column = torch.arange(len(gallery)).repeat(len(query))
    score = exact_scores(query, gallery, row, column).view(len(query), -1)
    score, index = score.sort(dim=1, descending=True, stable=True)
    return index[:, :k], score[:, :k]


def random(seed: int, num_queries: int, num_gallery: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(num_queries, width, generator=generator),
        torch.randn(num_gallery, width, generator=generator),
    )


@pytest.mark.parametrize("spread", [1.0, 1e-4, 1e-7, 0.0])
@pytest.mark.parametrize("tile", [(512, 8192), (7, 128), (3, 50)])
def test_agrees_with_a_full_sort_whatever_the_tile_and_the_ties(
    spread: float, tile: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.TILE, "cpu", tile)
    query, gallery = random(0, 11, 300, 33)
    query, gallery = 1 + spread * query, (1 + spread * gallery).repeat(2, 1)
    found = top_k(query, gallery, k=9)
    index, score = sorted_lists(query, gallery, 9)
    assert torch.equal(found.index_QK, index)
    assert torch.equal(found.score_QK, score)


def test_more_copies_than_are_screened_come_in_the_order_of_the_gallery() -> None:
    query, gallery = random(1, 5, 40, 16)
    copies = gallery.repeat_interleave(30, dim=0)
    found = top_k(query, copies, k=4)
    best = (query @ gallery.T).argmax(dim=1)
    assert torch.equal(found.index_QK, best[:, None] * 30 + torch.arange(4))


def test_what_float32_cannot_tell_apart_is_decided_exactly() -> None:
    # In float32 all these scores are equal; in float64 the last of them is the best.
    query = torch.ones(1, 512, dtype=torch.float64)
    gallery = torch.ones(200, 512, dtype=torch.float64)
    gallery[:, 0] += 1e-12 * torch.arange(200)
    assert top_k(query, gallery, k=3).index_QK.tolist() == [[199, 198, 197]]


@pytest.mark.parametrize("k", [6, 7, 100])
def test_a_list_longer_than_the_gallery_is_the_gallery(k: int) -> None:
    query, gallery = random(2, 3, 6, 4)
    found = top_k(query, gallery, k=k)
    index, score = sorted_lists(query, gallery, 6)
    assert torch.equal(found.index_QK, index)
    assert torch.equal(found.score_QK, score)


def test_half_and_double_precision_may_meet() -> None:
    query, gallery = random(3, 4, 50, 8)
    found = top_k(query.half(), gallery.double(), k=5)
    index, _ = sorted_lists(query.half().double(), gallery.double(), 5)
    assert torch.equal(found.index_QK, index)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_scores_that_are_no_numbers_are_refused(value: float) -> None:
    query, gallery = random(4, 2, 5, 3)
    gallery[3, 1] = value
    query[1, 1] = 1e10
    with pytest.raises(ValueError, match="finite"):
        top_k(query, gallery, k=2)


@pytest.mark.parametrize(("of_query", "of_gallery"), [(1e-54, 1e12), (1e-170, 1.0), (1e-20, 1e60)])
def test_what_float32_would_lose_is_refused_instead_of_listed(
    of_query: float, of_gallery: float
) -> None:
    query, gallery = (part.double() for part in random(5, 2, 40, 3))
    with pytest.raises(ValueError, match="neither so long nor so short"):
        top_k(of_query * query, of_gallery * gallery, k=2)
