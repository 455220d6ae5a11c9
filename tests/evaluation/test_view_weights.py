"""PFED's refinement against plain loops written from its formulas, and where those say nothing."""

import math

import numpy as np
import pytest

from evaluation.view_weights import (
    choose_views,
    descriptor_distances,
    fuse,
    information,
    pose_distances,
    random_weights,
    refined_weights,
)

FORMS = ("entropy", "distance", "agreement")


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def views(num_places: int, num_views: int, width: int = 24, seed: int = 0) -> np.ndarray:
    """Views that lie around their place's own direction, as float32 unit vectors."""
    rng = np.random.default_rng(seed)
    around = rng.standard_normal((num_places, 1, width))
    spread = rng.uniform(0.2, 1.5, (num_places, num_views, 1))
    values = around + spread * rng.standard_normal((num_places, num_views, width))
    return unit(values).astype(np.float32)


# The formulas of spec pfed 6.2, one place and one number at a time.


def entropy(view_ND: np.ndarray) -> float:
    columns = view_ND.astype(np.float64).T
    mean_deviation = sum(math.sqrt(np.mean((c - c.mean()) ** 2)) for c in columns) / len(columns)
    mean_range = sum(max(c) - min(c) for c in columns) / len(columns)
    marginal = 0.5 * math.log(2 * math.pi * math.e) + math.log(mean_deviation)
    return (marginal + math.log(mean_range)) / 2


def slow_information(view_ND: np.ndarray, form: str) -> list[float]:
    if form == "entropy":
        whole = entropy(view_ND)
        told = [whole - entropy(np.delete(view_ND, j, axis=0)) for j in range(len(view_ND))]
    else:
        mean = view_ND.astype(np.float64).mean(axis=0)
        sign = {"distance": 1, "agreement": -1}[form]
        told = [sign * math.dist(view, mean) for view in view_ND]
    return [(value - min(told)) / (max(told) - min(told)) for value in told]


def slow_pose(j: int, s: int) -> float:
    """Between views counted from 1."""
    height = [256 - 134.5 / 53 * (view - 1) for view in (j, s)]
    turn = [20 * ((view - 1) % 18) for view in (j, s)]
    apart = abs(turn[0] - turn[1])
    return 2 * abs(height[0] - height[1]) / 150 + min(apart, 360 - apart) / 180


def slow_choice(score: list[float], distance: np.ndarray, k: int) -> list[int]:
    chosen = [score.index(max(score))]
    while len(chosen) < min(k, len(score)):
        gains = {
            j: 0.5 * score[j] + 0.5 * min(distance[j][s] for s in chosen)
            for j in range(len(score))
            if j not in chosen
        }
        chosen.append(max(gains, key=lambda j: gains[j]))
    return chosen


def slow_refinement(view_ND: np.ndarray, distance: np.ndarray, form: str, k: int) -> np.ndarray:
    score = slow_information(view_ND, form)
    chosen = slow_choice(score, distance / distance.max(), k)
    powers = [math.exp(score[j]) for j in chosen]
    fused = sum(
        power / sum(powers) * view_ND[j].astype(np.float64)
        for power, j in zip(powers, chosen, strict=True)
    )
    return fused / math.sqrt(sum(fused**2))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_views", [3, 54])
def test_information_is_that_of_the_formula(form, num_views):
    view_PND = views(11, num_views)
    expected = [slow_information(view_ND, form) for view_ND in view_PND]
    np.testing.assert_allclose(information(view_PND, form=form), expected, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_two_views_tell_alike_because_each_leaves_the_other_alone(form):
    assert (information(views(11, 2), form=form) == 0).all()


def test_a_highest_value_that_two_views_share_survives_the_loss_of_one():
    view_1ND = np.array([[[0.9, 0.1], [0.9, 0.4], [0.2, 0.7], [0.5, 0.7]]], dtype=np.float32)
    expected = slow_information(view_1ND[0], "entropy")
    np.testing.assert_allclose(information(view_1ND, form="entropy")[0], expected, atol=1e-6)


def test_poses_of_the_helix():
    distance_NN = pose_distances()
    slow = np.array([[slow_pose(j, s) for s in range(1, 55)] for j in range(1, 55)])
    np.testing.assert_allclose(distance_NN, slow / slow.max(), rtol=1e-12, atol=1e-12)
    # Views 1 and 18 are neighbours on the ring: 20 degrees apart, and 43 m in height.
    assert slow_pose(1, 18) == pytest.approx(2 * 17 * 134.5 / 53 / 150 + 20 / 180)
    assert distance_NN.max() == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("k", [1, 10, 54, 60])
def test_refinement_by_pose_is_that_of_the_formula(form, k):
    view_PND = views(9, 54)
    slow = np.array([[slow_pose(j, s) for s in range(1, 55)] for j in range(1, 55)])
    expected = [slow_refinement(view_ND, slow, form, k) for view_ND in view_PND]
    distance_PNN = np.broadcast_to(pose_distances(), (9, 54, 54))
    weight_PN = refined_weights(view_PND, distance_PNN, k=k, form=form)
    assert ((weight_PN > 0).sum(axis=1) == min(k, 54)).all()
    np.testing.assert_allclose(fuse(view_PND, weight_PN[:, None])[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_refinement_by_descriptor_is_that_of_the_formula(form):
    view_PND = views(9, 17)
    expected = []
    for view_ND in view_PND:
        distance = np.array([[math.dist(a, b) for b in view_ND] for a in view_ND])
        expected.append(slow_refinement(view_ND, distance, form, 5))
    weight_PN = refined_weights(view_PND, k=5, form=form)
    np.testing.assert_allclose(fuse(view_PND, weight_PN[:, None])[:, 0], expected, atol=1e-6)


def test_what_is_fused_does_not_depend_on_the_other_places():
    view_PND = views(40, 12)
    together = refined_weights(view_PND, k=4, form="entropy")
    alone = [refined_weights(view_PND[[place]], k=4, form="entropy")[0] for place in range(40)]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("num_views", "k"), [(1, 10), (2, 1), (6, 3), (6, 10)])
def test_equal_views_weigh_alike_and_the_first_are_chosen(form, num_views, k):
    view_PND = np.repeat(views(3, 1), num_views, axis=1)
    assert (information(view_PND, form=form) == 0).all()
    assert (descriptor_distances(view_PND) == 0).all()
    weight_PN = refined_weights(view_PND, k=k, form=form)
    kept = min(k, num_views)
    expected = np.r_[np.full(kept, 1 / kept), np.zeros(num_views - kept)]
    np.testing.assert_allclose(weight_PN, np.tile(expected, (3, 1)))
    np.testing.assert_allclose(fuse(view_PND, weight_PN[:, None])[:, 0], view_PND[:, 0], atol=1e-6)


def test_the_view_that_differs_is_chosen_among_copies():
    same, other = views(2, 1, seed=3)[:, 0]
    view_1ND = np.stack([same, same, other, same])[None]
    distance_1NN = descriptor_distances(view_1ND)
    for form in ("entropy", "distance"):
        score_1N = information(view_1ND, form=form)
        assert choose_views(score_1N, distance_1NN, k=2).tolist() == [[2, 0]]
    # A second copy agrees (0.5) as much as the other view differs (0.5): the first of them wins.
    score_1N = information(view_1ND, form="agreement")
    assert choose_views(score_1N, distance_1NN, k=2).tolist() == [[0, 1]]


def test_the_mean_is_the_sum_of_all_views_at_unit_length():
    view_PND = views(5, 7)
    fused_PMD = fuse(view_PND, np.full((5, 1, 7), 1 / 7))
    np.testing.assert_allclose(fused_PMD[:, 0], unit(view_PND.sum(axis=1)), atol=1e-6)


def test_random_views_are_those_of_the_smallest_draws():
    draw_PN = np.array([[7, 2, 9, 2], [1, 8, 8, 0]], dtype=np.uint64)
    half, nothing = 0.5, 0.0
    expected = [[nothing, half, nothing, half], [half, nothing, nothing, half]]
    assert random_weights(draw_PN, k=2).tolist() == expected
    assert random_weights(draw_PN, k=9).tolist() == [[0.25] * 4] * 2


def test_views_that_cancel_out_give_zeros_and_no_nan():
    view_1ND = np.array([[[1.0, 0.0], [-1.0, 0.0]]], dtype=np.float32)
    assert fuse(view_1ND, np.full((1, 1, 2), 0.5)).tolist() == [[[0.0, 0.0]]]
