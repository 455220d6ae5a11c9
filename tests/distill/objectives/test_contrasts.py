import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from distill.objectives import info_nce as contrast
from distill.objectives import triplet as hardest
from distill.objectives.info_nce import info_nce
from distill.objectives.proxy_anchor import proxy_anchor
from distill.objectives.triplet import triplet
from tests.distill.objectives.conftest import dot, softmax


def random_units(numbers: torch.Generator, rows: int, dtype=torch.float32) -> Tensor:
    return F.normalize(torch.randn(rows, 4, generator=numbers, dtype=dtype), dim=1)


def test_info_nce_by_hand():
    query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    place = torch.tensor([5])
    loss = info_nce(query, gallery, place, torch.tensor([5, 3]), scale=2.0).item()
    assert loss == pytest.approx(math.log(1 + math.exp(-2)))
    both = info_nce(query, gallery, place, torch.tensor([5, 5]), scale=2.0).item()
    assert both == pytest.approx(math.log(1 + math.exp(-2)) + 1)  # mean of log p at 2 and at 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_info_nce_by_a_slow_loop(numbers: torch.Generator, smoothing: float):
    query, gallery = random_units(numbers, 3), random_units(numbers, 6)
    expected, place, places = 0.0, [7, 8, 9], [8, 8, 9, 9, 7, 8]
    for row, own_place in zip(query.tolist(), place, strict=True):
        own = [at for at, other in enumerate(places) if other == own_place]
        similar = [10 * dot(row, image) for image in gallery.tolist()]
        for at, probability in enumerate(softmax(similar)):
            wanted = smoothing / 6 + ((1 - smoothing) / len(own) if at in own else 0.0)
            expected -= wanted * math.log(probability) / 3
    both = torch.tensor(place), torch.tensor(places)
    loss = info_nce(query, gallery, *both, scale=10.0, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_info_nce_of_one_positive_is_cross_entropy_of_its_index(
    numbers: torch.Generator, smoothing: float
):
    query, gallery = random_units(numbers, 3), random_units(numbers, 6)
    target = torch.tensor([4, 0, 2])
    loss = info_nce(query, gallery, target, torch.arange(6), scale=10.0, label_smoothing=smoothing)
    by_index = F.cross_entropy(10 * query @ gallery.T, target, label_smoothing=smoothing)
    assert torch.allclose(loss, by_index, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_info_nce_in_chunks_has_the_gradients_of_one_product(
    numbers: torch.Generator, monkeypatch, smoothing: float, dtype, error: float
):
    units = random_units(numbers, 23, dtype), random_units(numbers, 40, dtype)
    places = torch.arange(23) % 9, torch.arange(40) % 10
    seen = []
    for most in (contrast.MOST_AT_ONCE, 0):
        monkeypatch.setattr(contrast, "MOST_AT_ONCE", most)
        monkeypatch.setattr(contrast, "CHUNK", 5)  # the last chunk has three
        parts = [part.clone().requires_grad_() for part in (*units, torch.tensor(9.0, dtype=dtype))]
        loss = info_nce(*parts[:2], *places, scale=parts[2], label_smoothing=smoothing)
        (3 * loss).backward()
        seen.append([loss.detach(), *(part.grad for part in parts)])
    for dense, chunked in zip(*seen, strict=True):
        assert chunked.dtype == dtype
        assert (chunked - dense).abs().max() <= error * dense.abs().max()


def test_triplets_in_chunks_are_those_of_one_product(numbers: torch.Generator, monkeypatch):
    anchor, other = (random_units(numbers, n, torch.float64) for n in (23, 40))
    places = torch.arange(23) % 9, torch.arange(40) % 8
    whole = triplet(anchor, other, *places, margin=0.3)
    monkeypatch.setattr(hardest, "CHUNK", 5)
    assert torch.allclose(triplet(anchor, other, *places, margin=0.3), whole, rtol=1e-12)
    assert 0 < (whole > 0).sum() < len(whole)


def test_triplet_by_hand():
    # Distances from (1, 0): sqrt(2) to (0, 1), 2 to (-1, 0), 0 to itself.
    other = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
    anchor = torch.tensor([[1.0, 0.0]])
    hinge = partial(triplet, anchor, other, torch.tensor([7]))
    assert hinge(torch.tensor([7, 8, 7]), margin=0.3).item() == 0  # sqrt(2) - 2 + 0.3 < 0
    near = hinge(torch.tensor([7, 8, 7]), margin=1.0).item()
    assert near == pytest.approx(math.sqrt(2) - 2 + 1)
    assert hinge(torch.tensor([8, 7, 9]), margin=0.3).item() == pytest.approx(2 - 0 + 0.3)


def test_triplet_by_a_slow_loop(numbers: torch.Generator):
    anchor, other = random_units(numbers, 6), random_units(numbers, 10)
    place, other_place = [0, 1, 2, 3, 4, 0], [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    expected = []
    for row, own in zip(anchor.tolist(), place, strict=True):
        distances = [math.dist(row, image) for image in other.tolist()]
        farthest = max(d for d, p in zip(distances, other_place, strict=True) if p == own)
        nearest = min(d for d, p in zip(distances, other_place, strict=True) if p != own)
        expected.append(max(0.0, farthest - nearest + 0.3))
    assert max(expected) > 0
    places = torch.tensor(place), torch.tensor(other_place)
    hinge = triplet(anchor, other, *places, margin=0.3)
    assert hinge.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_triplet_gradient_is_that_of_the_hardest_pair(numbers: torch.Generator):
    anchor, other = (random_units(numbers, n, torch.float64).requires_grad_() for n in (3, 6))
    places = torch.arange(3), torch.arange(6) % 3
    assert gradcheck(partial(triplet, margin=2.0), (anchor, other, *places))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_triplet_of_identical_vectors_is_the_margin_with_a_finite_gradient(dtype):
    anchor = F.normalize(torch.ones(2, 5, dtype=dtype), dim=1).requires_grad_()
    other = F.normalize(torch.ones(4, 5, dtype=dtype), dim=1).requires_grad_()
    places = torch.tensor([0, 1]), torch.tensor([0, 1, 0, 1])
    hinge = triplet(anchor, other, *places, margin=0.3)
    hinge.sum().backward()
    assert hinge.tolist() == pytest.approx([0.3, 0.3])
    assert anchor.grad.abs().max() == 0 and other.grad.abs().max() == 0


@pytest.mark.parametrize("other_place", [7, 8], ids=["no negative", "no positive"])
def test_triplet_of_an_anchor_without_a_pair_is_zero(numbers: torch.Generator, other_place: int):
    anchor, other = (random_units(numbers, n).requires_grad_() for n in (2, 3))
    places = torch.tensor([7, 7]), torch.full((3,), other_place)
    hinge = triplet(anchor, other, *places, margin=5.0)
    hinge.sum().backward()
    assert hinge.tolist() == [0, 0]
    assert anchor.grad.abs().max() == 0 and other.grad.abs().max() == 0


def test_proxy_anchor_by_hand():
    # One image on its own proxy and at a right angle to the other; alpha 2, delta 0.5.
    image, proxies = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 0.2]])
    loss = proxy_anchor(image, proxies, torch.tensor([0]), scale=2.0, margin=0.5).item()
    pull = math.log(1 + math.exp(-2 * (1 - 0.5)))
    push = math.log(1 + math.exp(2 * (0 + 0.5)))
    assert loss == pytest.approx(pull / 1 + push / 2)


def test_proxy_anchor_by_a_slow_loop(numbers: torch.Generator):
    images, proxies = random_units(numbers, 7), torch.randn(5, 4, generator=numbers)
    place = [0, 3, 3, 1, 0, 3, 1]  # nobody shows places 2 and 4
    expected = 0.0
    for at, proxy in enumerate(F.normalize(proxies, dim=1).tolist()):
        pull = push = 0.0
        for image, own in zip(images.tolist(), place, strict=True):
            if own == at:
                pull += math.exp(-32 * (dot(image, proxy) - 0.1))
            else:
                push += math.exp(32 * (dot(image, proxy) + 0.1))
        expected += math.log(1 + pull) / 3 + math.log(1 + push) / 5
    loss = proxy_anchor(images, proxies, torch.tensor(place))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_proxy_anchor_gradient_reaches_images_and_proxies(numbers: torch.Generator):
    images = random_units(numbers, 5, torch.float64).requires_grad_()
    proxies = torch.randn(4, 4, generator=numbers, dtype=torch.float64).requires_grad_()
    assert gradcheck(proxy_anchor, (images, proxies, torch.tensor([0, 1, 1, 3, 0])))


@pytest.mark.parametrize("scale", [32.0, 1000.0])
def test_proxy_anchor_of_a_collapsed_batch_is_finite(scale: float):
    images = F.normalize(torch.ones(6, 4), dim=1).requires_grad_()
    proxies = torch.ones(3, 4).requires_grad_()
    loss = proxy_anchor(images, proxies, torch.zeros(6, dtype=torch.long), scale=scale)
    loss.backward()
    # Two proxies push all six images, whose cosine is 1; the pull is all but nothing.
    assert loss.item() == pytest.approx(2 / 3 * (scale * 1.1 + math.log(6)), rel=1e-5)
    assert images.grad.isfinite().all() and proxies.grad.isfinite().all()
