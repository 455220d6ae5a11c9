"""Rows of a report in which every place has one description, fused from its drone views.

A protocol of its own (spec pfed 6.1 and 6.3): drone to satellite asks once per place instead of
once per image; satellite to drone searches one item per place, distractor places included. The
refinement always stands beside its controls: the mean of all views, and of k random ones.
"""

# Shapes: P = places, N = views of each, M = ways to weigh, D = descriptor width.

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from data_shards.draws import mix
from data_shards.errors import DescriptorError
from data_shards.layouts.university1652 import NUM_ORBIT_VIEWS, orbit_altitude_m
from data_shards.schema import View
from data_shards.shards import ImageTable, RowNumbers, hash_text
from evaluation.config import EvaluateConfig
from evaluation.protocols import Search
from evaluation.ranking import rank
from evaluation.report import Result
from evaluation.retrieval import Retrieval, result_of
from evaluation.view_weights import Integers, fuse, pose_distances, random_weights, refined_weights

RANDOM_SEEDS = range(5)

HELIX_POSITIONS = np.arange(1, NUM_ORBIT_VIEWS + 1)
HELIX_ALTITUDES_M = np.array([orbit_altitude_m(position) for position in HELIX_POSITIONS.tolist()])
CLOSE_M = 0.01
"""Heights that differ by less are one: shards keep them as float32."""


@dataclass(frozen=True, kw_only=True)
class EquallySeen:
    """Places with equally many drone views."""

    place_P: Integers
    at_PN: Integers
    """Where the views stand among the rows, by position."""

    has_helix: bool
    """Whether each place's views are the 54 poses of University-1652, in order, as positions and
    heights say."""


def multi_view_results(
    search: Search,
    found: Retrieval,
    images: ImageTable,
    *,
    layout: str,
    config: EvaluateConfig,
) -> list[Result]:
    """Return the rows `mean`, `random-K` for five seeds, and `refined-K`, where drones look.

    Raises:
        DescriptorError: views cancel each other out.
    """
    is_asked_by_drone = search.protocol.query is View.DRONE
    sides = [(found.query_QD, found.query_rows), (found.gallery_GD, found.gallery_rows)]
    (drone_ND, rows), (single_ND, single_rows) = sides if is_asked_by_drone else sides[::-1]
    groups, k = equally_seen(images, rows, layout=layout), config.multi_view
    fused_places_P, fused_PMD = fuse_places(drone_ND, rows, images, groups=groups, config=config)
    place_P = torch.from_numpy(fused_places_P)
    single = single_ND, torch.from_numpy(images.place[single_rows])
    num_few = sum(len(group.place_P) for group in groups if group.at_PN.shape[1] <= k)
    few = {"num_places": len(place_P), "num_few_views": num_few}
    ways = [
        ("mean", None),
        *((f"random-{k}", seed) for seed in RANDOM_SEEDS),
        (f"refined-{k}", None),
    ]
    results = []
    for number, (way, seed) in enumerate(ways):
        fused = fused_PMD[:, number].contiguous(), place_P
        both = (fused, single) if is_asked_by_drone else (single, fused)
        (query, query_labels), (gallery, gallery_labels) = both
        ranking = rank(query, gallery, query_labels_Q=query_labels, gallery_labels_G=gallery_labels)
        result = result_of(search, ranking)
        measured = {**result.metrics, **({} if way == "mean" else few)}
        results.append(replace(result, views=way, seed=seed, metrics=measured))
    return results


def equally_seen(images: ImageTable, rows: RowNumbers, *, layout: str) -> list[EquallySeen]:
    """Sort places by how many of `rows` are theirs, and the views of each by position.

    Places of University-1652 that nobody asks for flew the helix too; distractors of other shards,
    whose positions count something else, are told from them by the heights of their images.
    """
    order = np.lexsort((images.position[rows], images.place[rows]))
    place_N, first_N, count_N = np.unique(
        images.place[rows][order], return_index=True, return_counts=True
    )
    groups = []
    for num_views in np.unique(count_N).tolist():
        chosen = count_N == num_views
        at_PN = order[first_N[chosen][:, None] + np.arange(num_views)]
        has_poses_P = np.zeros(len(at_PN), dtype=bool)
        if layout == "university1652" and num_views == NUM_ORBIT_VIEWS:
            row_PN = rows[at_PN]
            is_there_PN = images.position[row_PN] == HELIX_POSITIONS
            is_there_PN &= np.abs(images.altitude_m[row_PN] - HELIX_ALTITUDES_M) < CLOSE_M
            has_poses_P = is_there_PN.all(axis=1)
        groups += [
            EquallySeen(place_P=place_N[chosen][part], at_PN=at_PN[part], has_helix=has_helix)
            for has_helix, part in ((True, has_poses_P), (False, ~has_poses_P))
            if part.any()
        ]
    return groups


def fuse_places(
    descriptor_ND: Tensor,
    rows: RowNumbers,
    images: ImageTable,
    *,
    groups: list[EquallySeen],
    config: EvaluateConfig,
) -> tuple[Integers, Tensor]:
    """Fuse the drone views of every place in all ways: mean, random, refined.

    Returns:
        the places, ascending [P], and their descriptors [P, M, D].

    Raises:
        DescriptorError: views cancel each other out.
    """
    hash_N = np.array([hash_text(key) for key in images.key[rows].tolist()], dtype=np.uint64)
    pose, k, form = pose_distances(), config.multi_view, config.information
    fused_of_group = []
    for group in groups:
        view_PND = descriptor_ND.numpy()[group.at_PN]
        distance_PNN = None
        if group.has_helix and config.view_distance != "descriptor":
            distance_PNN = np.broadcast_to(pose, (len(view_PND), *pose.shape))
        refined_PN = refined_weights(view_PND, distance_PNN, k=k, form=form)
        random_MPN = [random_weights(mix(seed, hash_N[group.at_PN]), k=k) for seed in RANDOM_SEEDS]
        mean_PN = np.full(refined_PN.shape, 1 / refined_PN.shape[1])
        fused_PMD = fuse(view_PND, np.stack([mean_PN, *random_MPN, refined_PN], axis=1))
        is_nothing_P = (fused_PMD == 0).all(axis=2).any(axis=1)
        if is_nothing_P.any():
            first = images.key[rows[group.at_PN[is_nothing_P][0, 0]]]
            raise DescriptorError(
                f"the descriptors of the {group.at_PN.shape[1]} drone views that {first} is the "
                "first of cancel each other out; this model did not learn, train it again"
            )
        fused_of_group.append(fused_PMD.astype(np.float32))
    place_P = np.concatenate([group.place_P for group in groups])
    order_P = place_P.argsort()
    return place_P[order_P], torch.from_numpy(np.concatenate(fused_of_group)[order_P])


def refuse_unknown_poses(groups: list[EquallySeen], rows: RowNumbers, images: ImageTable) -> None:
    """Refuse places whose views are not the 54 poses of University-1652.

    Raises:
        DescriptorError: the first such place.
    """
    for group in groups:
        if not group.has_helix:
            raise DescriptorError(
                f"the poses of the {group.at_PN.shape[1]} drone views that "
                f"{images.key[rows[group.at_PN[0, 0]]]} is the first of are not known (only the "
                f"{NUM_ORBIT_VIEWS} of University-1652's helix are); leave out --view-distance pose"
            )
