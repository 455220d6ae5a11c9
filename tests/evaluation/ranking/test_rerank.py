"""Re-ranking on lists against the paper's formulas on whole matrices, spelled slowly."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from evaluation.ranking import JUNK, Ranking, metrics, rank
from evaluation.ranking.rerank import RerankSettings, rank_again, reorder

WORLD = {"num_places": 5, "per_place": 6, "num_queries": 7, "width": 6}


def rerank(
    query: Tensor,
    gallery: Tensor,
    *,
    query_labels_Q: Tensor,
    gallery_labels_G: Tensor,
    **numbers: float,
) -> Ranking:
    """Rank the gallery, and the best of it again."""
    labels = {"query_labels_Q": query_labels_Q, "gallery_labels_G": gallery_labels_G}
    lists = reorder(query, gallery[gallery_labels_G != JUNK], RerankSettings(**numbers))  # type: ignore[arg-type]
    return rank_again(rank(query, gallery, **labels), lists, **labels)


def world(
    seed: int, *, num_places: int, per_place: int, num_queries: int, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit vectors around one centre per place, and their labels: query, gallery."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(num_places, width, generator=generator, dtype=torch.float64)
    gallery_labels = torch.arange(num_places).repeat(per_place)
    query_labels = torch.arange(num_queries) % num_places
    query, gallery = (
        normalize(
            centre[labels]
            + 0.8 * torch.randn(len(labels), width, generator=generator, dtype=torch.float64),
            dim=1,
        )
        for labels in (query_labels, gallery_labels)
    )
    return query, gallery, query_labels, gallery_labels


def dense_sets(distance: np.ndarray, *, k1: int, k2: int) -> np.ndarray:
    """V of every image, a dense row each: eq. (3), (4), (7) and (11), image by image."""
    order = np.argsort(distance, axis=1, kind="stable").tolist()

    def nearest(i: int, k: int) -> list[int]:
        return [i, *[j for j in order[i] if j != i][:k]]

    @functools.cache
    def mutual(i: int, k: int) -> frozenset[int]:
        return frozenset(j for j in nearest(i, k) if i in nearest(j, k))

    weight = np.zeros_like(distance)
    for i in range(len(distance)):
        members = set(own := mutual(i, k1))
        for theirs in (mutual(j, max(1, round(k1 / 2))) for j in own):
            if 3 * len(own & theirs) >= 2 * len(theirs):
                members |= theirs
        for j in members:
            weight[i, j] = math.exp(-distance[i, j])
    return np.array([weight[nearest(i, k2 - 1)].mean(axis=0) for i in range(len(distance))])


def dense_distances(
    query: Tensor, gallery: Tensor, *, k1: int, k2: int, lambda_: float
) -> np.ndarray:
    """The final distance of every query to every gallery image: eq. (10) and (12)."""
    image = torch.cat([query, gallery]).numpy()
    distance = 1 - image @ image.T
    sets = dense_sets(distance, k1=k1, k2=k2)
    final = distance[: len(query), len(query) :].copy()
    for q, g in np.ndindex(final.shape):
        ours, theirs = sets[q], sets[len(query) + g]
        jaccard = 1 - np.minimum(ours, theirs).sum() / np.maximum(ours, theirs).sum()
        final[q, g] = (1 - lambda_) * jaccard + lambda_ * final[q, g]
    return final


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    k1=st.integers(1, 40),
    k2=st.integers(1, 9),
    lambda_=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_agrees_with_the_dense_formulas(seed: int, k1: int, k2: int, lambda_: float) -> None:
    query, gallery, query_labels, gallery_labels = world(seed, **WORLD)
    expected = dense_distances(query, gallery, k1=k1, k2=k2, lambda_=lambda_)
    lists = reorder(query, gallery, RerankSettings(top=999, k1=k1, k2=k2, lambda_=lambda_))
    found = np.zeros_like(expected)
    np.put_along_axis(found, lists.index_QK.numpy(), -lists.score_QK.numpy(), axis=1)
    assert found == pytest.approx(expected, abs=1e-12)
    assert (lists.score_QK.diff(dim=1) <= 0).all()

    ranking = rerank(
        query,
        gallery,
        query_labels_Q=query_labels,
        gallery_labels_G=gallery_labels,
        top=999,
        k1=k1,
        k2=k2,
        lambda_=lambda_,
    )
    for q, label in enumerate(query_labels):
        is_right = (gallery_labels == label).numpy()
        new = sorted(found[q, is_right])
        ranks = [int((found[q, ~is_right] <= d).sum()) + i for i, d in enumerate(new)]
        assert ranking.of_query(q) == ranks


def test_images_behind_the_list_keep_their_original_ranks() -> None:
    query, gallery, query_labels, gallery_labels = world(3, **WORLD)
    gallery_labels[::7] = JUNK
    labels = {"query_labels_Q": query_labels, "gallery_labels_G": gallery_labels}
    before = rank(query, gallery, **labels)
    after = rerank(query, gallery, **labels, top=8, k1=4, k2=2, lambda_=0.3)
    moved = 0
    for q in range(len(query)):
        old, new = before.of_query(q), after.of_query(q)
        listed = sum(r < 8 for r in old)
        assert new == sorted(new)
        assert new[listed:] == old[listed:]
        assert all(r < 8 for r in new[:listed])
        moved += new[:listed] != old[:listed]
    assert moved
    assert after.num_gallery == len(gallery)


def test_lambda_of_one_is_the_original_order() -> None:
    query, gallery, query_labels, gallery_labels = world(4, **WORLD)
    labels = {"query_labels_Q": query_labels, "gallery_labels_G": gallery_labels}
    before = rank(query, gallery, **labels)
    after = rerank(query, gallery, **labels, top=12, k1=4, k2=2, lambda_=1.0)
    assert torch.equal(before.ranks_P, after.ranks_P)


def test_neighbours_that_know_each_other_help() -> None:
    sizes = {"num_places": 60, "per_place": 12, "num_queries": 60, "width": 16}
    query, gallery, query_labels, gallery_labels = world(5, **sizes)
    labels = {"query_labels_Q": query_labels, "gallery_labels_G": gallery_labels}
    before = metrics(rank(query, gallery, **labels))
    after = metrics(rerank(query, gallery, **labels, top=100, k1=12, k2=4, lambda_=0.3))
    assert after["ap"] > before["ap"] + 0.05


def test_copies_and_a_collapsed_model_cannot_score() -> None:
    query = normalize(torch.ones(9, 4), dim=1)
    labels = torch.arange(9)
    ranking = rerank(
        query,
        query.repeat(5, 1),
        query_labels_Q=labels,
        gallery_labels_G=torch.cat([labels, torch.full((36,), 77)]),
        top=20,
        k1=6,
        k2=3,
        lambda_=0.3,
    )
    assert metrics(ranking)["recall@1"] == 0.0


def test_only_unit_vectors_have_distances() -> None:
    query, gallery, *_ = world(7, **WORLD)
    with pytest.raises(ValueError, match="gallery descriptors must be unit vectors"):
        reorder(query, 2 * gallery, RerankSettings())


def test_the_settings_are_told_in_words() -> None:
    assert RerankSettings().words == "k-reciprocal, top 100, k1 20, k2 6, lambda 0.3"
