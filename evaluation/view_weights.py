"""How much each drone view of a place weighs: PFED's refinement, and its controls.

The refinement (MRM, later MSRM, of PFED, arXiv 2510.22582) as reconstructed in spec pfed 6.2: every
view gets an information score, few views are chosen greedily that tell much and differ, and those
are added, weighted by a softmax of their scores. The controls weigh all views alike, or k random
ones. All are weights [places, views], so that one product fuses them all. Numbers are float64, and
equal ones go to the view of lowest position.
"""

# Shapes: P = places, N = views of each, K = chosen views, M = ways to weigh, D = descriptor width.

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from data_shards.layouts.university1652 import NUM_ORBIT_VIEWS, orbit_altitude_m
from evaluation.config import Information

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Views: TypeAlias = npt.NDArray[np.floating]
"""Unit descriptors, float32 as models give them; sums over them are float64."""

LAMBDA = 0.5
"""Share of the information score in the choice of the next view; the rest is distance."""

TAU = 1.0
"""Factor of the scores within the softmax."""

VIEWS_PER_RING, DEGREES_PER_VIEW, HALF_TURN_DEG = 18, 20.0, 180.0
HEIGHT_WEIGHT, HEIGHT_SCALE_M = 2.0, 150.0

LEAST_SPREAD = 1e-6
"""Spread of a coordinate below which views count as equal: float32 unit vectors tell no less."""

PLACES_AT_ONCE = 8

DECIMALS = 9
"""Of values that are compared; what comes after is the order of additions."""


def information(view_PND: Views, *, form: Information) -> Floats:
    """Score how much each view tells about its place, scaled to 0..1 within the place [P, N].

    `entropy`: by how much the entropy of the set falls without the view. `distance`: how far it
    lies from the mean. `agreement`: how near to it, the sign of `distance` turned round. Views that
    all tell alike score 0.
    """
    if view_PND.shape[1] == 1:
        return np.zeros(view_PND.shape[:2])
    score_PN = np.round(_in_parts(SCORES[form])(view_PND), DECIMALS)
    low_P1 = score_PN.min(axis=1, keepdims=True)
    range_P1 = score_PN.max(axis=1, keepdims=True) - low_P1
    scaled_PN: Floats = (score_PN - low_P1) / np.where(range_P1 > 0, range_P1, 1.0)
    return scaled_PN


def pose_distances() -> Floats:
    """Return the distances of the 54 poses of University-1652's helix, scaled to 0..1 [N, N].

    Twice the difference in height over 150 m, plus the turn over 180 degrees (spec pfed 6.2).
    """
    height_N = np.array([orbit_altitude_m(view + 1) for view in range(NUM_ORBIT_VIEWS)])
    turn_N = DEGREES_PER_VIEW * (np.arange(NUM_ORBIT_VIEWS) % VIEWS_PER_RING)
    apart_NN = np.abs(turn_N[:, None] - turn_N)
    turn_NN = np.minimum(apart_NN, 2 * HALF_TURN_DEG - apart_NN) / HALF_TURN_DEG
    climb_NN = np.abs(height_N[:, None] - height_N) / HEIGHT_SCALE_M
    distance_NN = HEIGHT_WEIGHT * climb_NN + turn_NN
    scaled_NN: Floats = distance_NN / distance_NN.max()
    return scaled_NN


def _in_parts(of: Callable[..., Floats]) -> Callable[..., Floats]:
    """Compute place by place what knows no other places, a few at once, to stay in the cache."""

    def in_parts(*arrays_P: Views) -> Floats:
        starts = range(0, len(arrays_P[0]), PLACES_AT_ONCE)
        parts = (slice(start, start + PLACES_AT_ONCE) for start in starts)
        return np.concatenate([of(*(array_P[part] for array_P in arrays_P)) for part in parts])

    return in_parts


@_in_parts
def descriptor_distances(view_PND: Views) -> Floats:
    """Return the Euclidean distances between the views of each place, scaled to 0..1 [P, N, N]."""
    centred_PND = _centred(view_PND)
    product_PNN = centred_PND @ centred_PND.transpose(0, 2, 1)
    square_PN = np.diagonal(product_PNN, axis1=1, axis2=2)
    square_PNN = square_PN[:, :, None] + square_PN[:, None, :] - 2 * product_PNN
    square_PNN[square_PNN < LEAST_SPREAD**2] = 0.0
    distance_PNN: Floats = np.sqrt(square_PNN)
    most_P11 = distance_PNN.max(axis=(1, 2), keepdims=True)
    return distance_PNN / np.where(most_P11 > 0, most_P11, 1.0)


def choose_views(score_PN: Floats, distance_PNN: Floats, *, k: int) -> Integers:
    """Choose k views of each place, in the order of their choice [P, K]; all where there are no k.

    First the view of the highest score; then, again and again, the one with the most of
    `LAMBDA` times its score plus 1 - `LAMBDA` times its distance from the nearest chosen view.
    """
    num_places, num_views = score_PN.shape
    if num_views <= k:
        return np.tile(np.arange(num_views), (num_places, 1))
    place_P = np.arange(num_places)
    chosen_PK = np.empty((num_places, k), dtype=np.int64)
    chosen_PK[:, 0] = _best(score_PN)
    nearest_PN = distance_PNN[place_P, chosen_PK[:, 0]]
    is_chosen_PN = np.zeros(score_PN.shape, dtype=bool)
    for turn in range(1, k):
        is_chosen_PN[place_P, chosen_PK[:, turn - 1]] = True
        gain_PN = LAMBDA * score_PN + (1 - LAMBDA) * nearest_PN
        chosen_PK[:, turn] = _best(np.where(is_chosen_PN, -np.inf, gain_PN))
        nearest_PN = np.minimum(nearest_PN, distance_PNN[place_P, chosen_PK[:, turn]])
    return chosen_PK


def refined_weights(
    view_PND: Views, distance_PNN: Floats | None = None, *, k: int, form: Information
) -> Floats:
    """Weigh k chosen views by a softmax of `TAU` times their scores, all others by 0 [P, N].

    Without `distance_PNN` (scaled to 0..1) views differ by their descriptors.
    """
    score_PN = information(view_PND, form=form)
    if distance_PNN is None:
        distance_PNN = descriptor_distances(view_PND)
    chosen_PK = choose_views(score_PN, distance_PNN, k=k)
    power_PK = np.exp(TAU * np.take_along_axis(score_PN, chosen_PK, axis=1))
    return _spread(power_PK / power_PK.sum(axis=1, keepdims=True), chosen_PK, score_PN.shape[1])


def random_weights(draw_PN: npt.NDArray[np.uint64], *, k: int) -> Floats:
    """Weigh alike the k views with the smallest draws, all others by 0 [P, N]."""
    k = min(k, draw_PN.shape[1])
    chosen_PK = draw_PN.argsort(axis=1, kind="stable")[:, :k]
    return _spread(np.full(chosen_PK.shape, 1 / k), chosen_PK, draw_PN.shape[1])


@_in_parts
def fuse(view_PND: Views, weight_PMN: Floats) -> Floats:
    """Add the weighted views of each place, once per way to weigh, to unit length [P, M, D].

    Views that cancel each other out give zeros, which no caller may take for a description.
    """
    fused_PMD = weight_PMN @ view_PND
    length_PM1 = np.linalg.norm(fused_PMD, axis=2, keepdims=True)
    is_something_PM1 = length_PM1 > LEAST_SPREAD
    return np.where(is_something_PM1, fused_PMD / np.where(is_something_PM1, length_PM1, 1.0), 0.0)


def _entropy_told(view_PND: Views) -> Floats:
    """Return H(F) - H(F without the view) [P, N], H the mean of two entropies of a set.

    The marginal one is `log(2 pi e) / 2 + log(mean_d sigma_d)` with the population's deviation, the
    dynamic-range one `log(mean_d (max_d - min_d))`; the constant cancels out.
    """
    whole_P1, without_PN = _deviations(view_PND)
    marginal_PN = _log_ratio(whole_P1, without_PN)
    # Only the view that holds the highest or lowest value alone narrows a range by leaving.
    highest_PD, excess_PN = _excess(view_PND)
    lowest_PD, deficit_PN = _excess(-view_PND)
    whole_P1 = (highest_PD + lowest_PD).mean(axis=1, keepdims=True)
    without_PN = whole_P1 - (excess_PN + deficit_PN) / view_PND.shape[2]
    return (marginal_PN + _log_ratio(whole_P1, without_PN)) / 2


def _log_ratio(whole_P1: Floats, without_PN: Floats) -> Floats:
    whole_P1, without_PN = (np.maximum(one, LEAST_SPREAD) for one in (whole_P1, without_PN))
    return np.asarray(np.log(whole_P1) - np.log(without_PN))


def _deviations(view_PND: Views) -> tuple[Floats, Floats]:
    """Return the mean deviation of a coordinate over all views, and without each view."""
    num_views = view_PND.shape[1]
    square_PND = _centred(view_PND)
    square_PND *= square_PND
    total_P1D = square_PND.sum(axis=1, keepdims=True)
    whole_P1 = np.sqrt(total_P1D / num_views).mean(axis=2)
    # Without view j the mean moves by -x_j / (N - 1), and the sum of squares falls by
    # x_j^2 N / (N - 1), x being centred on the mean of all.
    without_PND = square_PND
    without_PND *= -num_views / (num_views - 1)
    without_PND += total_P1D
    np.maximum(without_PND, 0.0, out=without_PND)
    np.sqrt(without_PND, out=without_PND)
    return whole_P1, without_PND.mean(axis=2) / np.sqrt(num_views - 1)


def _excess(view_PND: Views) -> tuple[Floats, Floats]:
    """Return the highest value of each coordinate, and by how much each view leads, summed.

    Where two views are highest, nobody leads.
    """
    first_PD = np.full_like(view_PND[:, 0], -np.inf)
    second_PD = first_PD
    for number in range(view_PND.shape[1]):
        lower_PD = np.minimum(first_PD, view_PND[:, number])
        second_PD = np.maximum(second_PD, lower_PD)
        first_PD = np.maximum(first_PD, view_PND[:, number])
    lead_PD1 = (first_PD.astype(np.float64) - second_PD)[:, :, None]
    is_first_PND = (view_PND == first_PD[:, None]).astype(np.float64)
    return first_PD.astype(np.float64), (is_first_PND @ lead_PD1)[:, :, 0]


def _distance_from_mean(view_PND: Views) -> Floats:
    centred_PND = _centred(view_PND)
    distance_PN: Floats = np.sqrt(np.einsum("pnd,pnd->pn", centred_PND, centred_PND))
    return distance_PN


def _centred(view_PND: Views) -> Floats:
    """Return the views as float64 without their place's mean; equal views become exact zeros."""
    centred_PND = view_PND.astype(np.float64)
    centred_PND -= centred_PND.mean(axis=1, keepdims=True)
    return centred_PND


def _best(value_PN: Floats) -> Integers:
    """Return the view of the highest value, the first of equal ones [P]."""
    best_P: Integers = np.round(value_PN, DECIMALS).argmax(axis=1)
    return best_P


def _spread(weight_PK: Floats, chosen_PK: Integers, num_views: int) -> Floats:
    weight_PN = np.zeros((len(weight_PK), num_views))
    np.put_along_axis(weight_PN, chosen_PK, weight_PK, axis=1)
    return weight_PN


SCORES: dict[Information, Callable[[Views], Floats]] = {
    "entropy": _entropy_told,
    "distance": _distance_from_mean,
    "agreement": lambda view_PND: -_distance_from_mean(view_PND),
}
