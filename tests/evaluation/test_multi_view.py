"""One description per place: which views are fused, in which rows, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_shards.errors import DescriptorError
from data_shards.layouts.university1652 import orbit_altitude_m
from data_shards.schema import Role, View
from data_shards.shards import ImageTable
from evaluation.config import EvaluateConfig
from evaluation.describe import Descriptors
from evaluation.multi_view import (
    equally_seen,
    fuse_places,
    multi_view_results,
    refuse_unknown_poses,
)
from evaluation.protocols import DRONE_TO_SATELLITE, SATELLITE_TO_DRONE, Search
from evaluation.ranking import metrics, rank
from evaluation.report import Result
from evaluation.retrieval import Retrieval, retrieve

WIDTH = 16
QUERIES, DISTRACTORS = 12, 5
CONFIG = EvaluateConfig(checkpoint=Path("run"), shards="shards", multi_view=3)


def altitude_m(position: int, num_views: int) -> float:
    """As the shards of University-1652 tell it: of the 54 views where all are there."""
    is_known = num_views >= 54 and 1 <= position <= 54
    return orbit_altitude_m(position) if is_known else np.nan


def table(views_of_place: list[int], *, shuffled: bool = False) -> ImageTable:
    """One satellite tile and some drone views per place; the last places are asked by nobody."""
    columns: dict[str, list[object]] = {name: [] for name in ImageTable.__dataclass_fields__}
    for place, num_views in enumerate(views_of_place):
        is_asked = place < len(views_of_place) - DISTRACTORS
        roles = Role.GALLERY | (Role.QUERY if is_asked else Role.GALLERY)
        for position in range(num_views + 1):
            view = View.DRONE if position else View.SATELLITE
            row = {
                "key": f"{place:04d}/{view.word}/{position:02d}",
                "place": place,
                "view": int(view),
                "roles": int(roles),
                "position": max(position, 1),
                "altitude_m": altitude_m(position, num_views),
                "orientation": 1,
            }
            for name in columns:
                columns[name].append(row.get(name, 0))
    order = np.random.default_rng(0).permutation(len(columns["key"])) if shuffled else slice(None)
    arrays = {name: np.array(values)[order] for name, values in columns.items()}
    arrays["altitude_m"] = arrays["altitude_m"].astype(np.float32)
    return ImageTable(**arrays)


def describe_all(images: ImageTable, *, noise: float = 1.2) -> Descriptors:
    """Every image near its place's own direction, drawn from its key alone."""
    described = []
    for key, place in zip(images.key.tolist(), images.place.tolist(), strict=True):
        own = np.random.default_rng(place).standard_normal(WIDTH)
        off = np.random.default_rng(list(key.encode())).standard_normal(WIDTH)
        described.append(own + noise * off)
    descriptor_ND = torch.tensor(np.array(described), dtype=torch.float32)
    return Descriptors(
        rows=np.arange(len(images)), descriptor_ND=torch.nn.functional.normalize(descriptor_ND)
    )


def search_of(protocol, images) -> Search:
    query_rows, gallery_rows = protocol.rows(images)
    return Search(protocol=protocol, query_rows=query_rows, gallery_rows=gallery_rows)


def retrieval_of(protocol, images, descriptors) -> Retrieval:
    return retrieve(search_of(protocol, images), descriptors, images)


def rows_of(protocol, images, retrieval, config=CONFIG) -> list[Result]:
    search = search_of(protocol, images)
    return multi_view_results(search, retrieval, images, layout="university1652", config=config)


@pytest.fixture(scope="module")
def images() -> ImageTable:
    """As University-1652: 54 views a place, 55 of one, and one image that was lost."""
    return table([54, 55, 53, *[54] * (QUERIES + DISTRACTORS - 3)])


@pytest.fixture(scope="module")
def descriptors(images) -> Descriptors:
    return describe_all(images)


@pytest.mark.parametrize("protocol", [DRONE_TO_SATELLITE, SATELLITE_TO_DRONE])
def test_every_row_asks_once_per_place_in_the_full_gallery(protocol, images, descriptors):
    retrieval = retrieval_of(protocol, images, descriptors)
    results = rows_of(protocol, images, retrieval)
    direction = protocol.direction
    assert [result.name for result in results] == [
        f"{direction}/mean",
        *(f"{direction}/random-3/seed{seed}" for seed in range(5)),
        f"{direction}/refined-3",
    ]
    for result in results:
        assert result.metrics["num_queries"] == QUERIES
        assert result.metrics["num_gallery"] == QUERIES + DISTRACTORS
        assert result.chance == pytest.approx(1 / (QUERIES + DISTRACTORS))
    assert len({result.metrics["ap"] for result in results[1:6]}) > 1


def test_the_mean_row_is_the_official_sum_of_a_place_s_descriptors(images, descriptors):
    retrieval = retrieval_of(SATELLITE_TO_DRONE, images, descriptors)
    results = rows_of(SATELLITE_TO_DRONE, images, retrieval)
    fused = []
    for place in range(QUERIES + DISTRACTORS):
        of_place = retrieval.gallery_GD[
            torch.from_numpy(images.place[retrieval.gallery_rows] == place)
        ]
        fused.append(torch.nn.functional.normalize(of_place.sum(dim=0), dim=0))
    expected = metrics(
        rank(
            retrieval.query_QD,
            torch.stack(fused),
            query_labels_Q=torch.from_numpy(images.place[retrieval.query_rows]),
            gallery_labels_G=torch.arange(QUERIES + DISTRACTORS),
        )
    )
    assert results[0].metrics == expected
    assert results[0].metrics["recall@1"] < 1  # else the test above and this one tell little


def test_the_order_of_rows_in_the_shards_changes_nothing(images, descriptors):
    shuffled = table([54, 55, 53, *[54] * (QUERIES + DISTRACTORS - 3)], shuffled=True)
    found = [
        rows_of(
            DRONE_TO_SATELLITE,
            these,
            retrieval_of(DRONE_TO_SATELLITE, these, described),
        )
        for these, described in ((images, descriptors), (shuffled, describe_all(shuffled)))
    ]
    assert found[0] == found[1]


def test_auto_takes_the_pose_only_where_the_helix_is_whole(images, descriptors):
    rows, _ = DRONE_TO_SATELLITE.rows(images)
    groups = equally_seen(images, rows, layout="university1652")
    places = {group.at_PN.shape[1]: (group.has_helix, len(group.place_P)) for group in groups}
    assert places == {53: (False, 1), 54: (True, QUERIES - 2), 55: (False, 1)}
    elsewhere = equally_seen(images, rows, layout="sues200")
    assert not any(group.has_helix for group in elsewhere)

    def fused(groups, view_distance):
        config = replace(CONFIG, view_distance=view_distance)
        described = descriptors.of(rows)
        return fuse_places(described, rows, images, groups=groups, config=config)[1]

    by_auto, by_descriptor = fused(groups, "auto"), fused(groups, "descriptor")
    is_equal_P = (by_auto == by_descriptor).all(dim=2).all(dim=1)
    assert is_equal_P[1:3].all()  # 55 and 53 views
    assert not is_equal_P[3:].all()
    assert torch.equal(fused(elsewhere, "auto"), by_descriptor)


def test_54_views_with_a_gap_are_no_helix(images):
    rows, _ = DRONE_TO_SATELLITE.rows(images)
    rows = rows[(images.place[rows] == 1) & (images.position[rows] != 7)]  # 54 of the 55
    (group,) = equally_seen(images, rows, layout="university1652")
    assert group.at_PN.shape == (1, 54)
    assert not group.has_helix


@pytest.mark.parametrize("height_m", [np.nan, 200.0, 256.0])
def test_distractors_from_elsewhere_fly_no_helix_whatever_their_positions(
    images, descriptors, height_m
):
    """Further shards join the galleries under positions of their own, which count up to 54 too."""
    foreign = QUERIES + DISTRACTORS - 1
    is_foreign = (images.place == foreign) & (images.view == View.DRONE)
    joined = replace(images, altitude_m=np.where(is_foreign, height_m, images.altitude_m))
    _, rows = SATELLITE_TO_DRONE.rows(joined)
    groups = equally_seen(joined, rows, layout="university1652")
    on_helix = np.concatenate([group.place_P for group in groups if group.has_helix])
    assert foreign not in on_helix
    assert foreign - 1 in on_helix, "the distractors of University-1652 itself flew the helix"

    of_54 = [group for group in groups if group.at_PN.shape[1] == 54]
    with pytest.raises(DescriptorError, match="0016/drone/01 is the first of are not known"):
        refuse_unknown_poses(of_54, rows, joined)


def test_fewer_views_than_asked_for_are_all_kept(images, descriptors):
    rows, _ = DRONE_TO_SATELLITE.rows(images)
    groups = equally_seen(images, rows, layout="university1652")
    config = replace(CONFIG, multi_view=60)
    _, fused = fuse_places(descriptors.of(rows), rows, images, groups=groups, config=config)
    mean, *drawn = fused[:, :6].unbind(dim=1)
    assert all(torch.allclose(mean, one, atol=1e-6) for one in drawn)


def test_views_that_cancel_out_are_refused(images):
    described = describe_all(images)
    of_place = np.flatnonzero((images.place == 4) & (images.view == View.DRONE))
    described.descriptor_ND[of_place] = torch.eye(WIDTH)[0]
    described.descriptor_ND[of_place[::2]] *= -1
    retrieval = retrieval_of(DRONE_TO_SATELLITE, images, described)
    with pytest.raises(DescriptorError, match="54 drone views that 0004/drone/01 is the first"):
        rows_of(DRONE_TO_SATELLITE, images, retrieval)


@pytest.mark.parametrize(("k", "few"), [(3, 0), (53, 1), (54, QUERIES - 1)])
def test_rows_that_choose_say_for_how_many_places_there_was_no_choice(
    k: int, few: int, images, descriptors
):
    retrieval = retrieval_of(DRONE_TO_SATELLITE, images, descriptors)
    config = replace(CONFIG, multi_view=k)
    mean, *chosen = rows_of(DRONE_TO_SATELLITE, images, retrieval, config)
    assert "num_few_views" not in mean.metrics
    for row in chosen:
        assert (row.metrics["num_few_views"], row.metrics["num_places"]) == (few, QUERIES)
