"""Which images look for which: the rows of both data sets, absent views, distractors."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_shards.errors import DescriptorError
from data_shards.packing.index_tars import index_tars
from data_shards.planning.plan import Plan
from data_shards.progress import show_progress
from data_shards.schema import Role, View
from data_shards.shards import RowNumbers, ShardSet
from evaluation.joined_shards import JoinedShards
from evaluation.protocols import find_searches, height_note
from tests.evaluation.conftest import Evaluated, sharded, write_sues


def counts(shards: JoinedShards) -> dict[str, tuple[int, int]]:
    """Name of each search to its queries and gallery images."""
    found = find_searches(shards).found
    return {s.protocol.name: (len(s.query_rows), len(s.gallery_rows)) for s in found}


def test_sues_is_searched_at_each_height_in_galleries_of_all_places(sues_shards: ShardSet) -> None:
    shards = JoinedShards(sues_shards)
    assert counts(shards) == {
        "d2s/150m": (3 * 2, 7),
        "d2s/300m": (3 * 2, 7),
        "s2d/150m": (3, 7 * 2),
        "s2d/300m": (3, 7 * 2),
    }
    searches = find_searches(shards)
    assert searches.absent == ()  # no height of which the shards hold nothing
    high = next(search for search in searches.found if search.protocol.name == "s2d/300m")
    assert set(shards.images.altitude_m[high.gallery_rows].tolist()) == {300.0}
    trained_on = shards.images.roles[high.gallery_rows] & Role.TRAIN != 0
    assert trained_on.sum() == 4 * 2, "training places stay in the gallery as distractors"
    asked = high.without_distractors(shards.images)
    assert asked.gallery == "no-distractors"
    assert len(asked.gallery_rows) == 3 * 2


def test_heights_of_ones_own_are_trained_on_and_searched_one_by_one(
    tmp_path: Path, evaluated: Evaluated
) -> None:
    raw = write_sues(tmp_path / "raw")
    for place in (raw / "drone_view_512").iterdir():
        for height, own in ((150, "80"), (300, "100m")):
            (place / str(height)).rename(place / own)
        shutil.copytree(place / "80", place / "90")
    shards = sharded(raw, "sues200", split=raw / "split.yaml")
    assert counts(JoinedShards(shards)) == {
        **{f"d2s/{height}m": (3 * 2, 7) for height in (80, 90, 100)},
        **{f"s2d/{height}m": (3, 7 * 2) for height in (80, 90, 100)},
    }
    low = Plan(shards, shards.train_places, seed=0, global_batch=4, altitudes=[80])
    assert low.pairs_available == 4 * 2
    rows = evaluated(on=shards)["results"]
    assert {row["altitude_m"] for row in rows} == {80, 90, 100}


def test_street_images_are_searched_where_there_are_some(
    shards: ShardSet, street_shards: ShardSet
) -> None:
    assert counts(JoinedShards(shards)) == {"d2s": (12, 9), "s2d": (6, 18)}
    assert counts(JoinedShards(street_shards)) == {
        "d2s": (12, 9),
        "s2d": (6, 18),
        "street2s": (6, 9),
        "s2street": (6, 6),
        "street2d": (6, 18),
        "d2street": (12, 6),
    }


def test_distractors_join_the_galleries_and_nothing_else(
    shards: ShardSet, sues_shards: ShardSet
) -> None:
    joined = JoinedShards(shards, [sues_shards])
    # All 7 satellite tiles and all 28 drone images, whatever their role and height.
    assert counts(joined) == {"d2s": (12, 9 + 7), "s2d": (6, 18 + 28)}
    search = find_searches(joined).found[0]
    own = find_searches(JoinedShards(shards)).found[0]
    assert np.array_equal(search.gallery_rows[:9], own.gallery_rows)
    kept = search.without_distractors(joined.images)
    assert np.array_equal(kept.gallery_rows, own.without_distractors(shards.images).gallery_rows)


def test_a_place_of_both_shard_sets_is_two_places(shards: ShardSet, sues_shards: ShardSet) -> None:
    joined = JoinedShards(shards, [sues_shards])
    assert set(sues_shards.places) & set(shards.places), "ids collide, as those of real sets do"
    assert len(joined.places) == len(set(joined.places)) == 29 + 7
    row = int(joined.distractor_rows(View.SATELLITE)[0])
    assert joined.places[int(joined.images.place[row])] == "distractors-1/0001"
    assert bytes(joined.read(row)) == bytes(sues_shards.read(row - len(shards.images)))
    assert str(sues_shards.folder) in joined.describe(row)
    assert joined.fingerprint == shards.fingerprint
    assert [bytes(joined.read(r)) == bytes(shards.read(r)) for r in (0, 5)] == [True, True]


def test_distractors_that_are_the_test_set_are_refused(shards: ShardSet, tmp_path: Path) -> None:
    again = ShardSet.open(shards.folder / ".." / shards.folder.name)
    with pytest.raises(DescriptorError, match=r"very images of .* leave it out of --distr"):
        JoinedShards(shards, [again])
    copy = ShardSet.open(shutil.copytree(shards.folder, tmp_path / "copy"))
    with pytest.raises(DescriptorError, match=r"very images of .* right answers .* other shards"):
        JoinedShards(shards, [copy])


def test_distractors_that_are_given_twice_are_refused(
    shards: ShardSet, sues_shards: ShardSet, tmp_path: Path
) -> None:
    with pytest.raises(DescriptorError, match=r"very images of .* they count twice"):
        JoinedShards(shards, [sues_shards, ShardSet.open(sues_shards.folder)])
    copy = ShardSet.open(shutil.copytree(sues_shards.folder, tmp_path / "copy"))
    with pytest.raises(DescriptorError, match=r"very images of .* they count twice; leave"):
        JoinedShards(shards, [sues_shards, copy])


def test_an_image_without_a_height_does_not_join_the_heights(sues_shards: ShardSet) -> None:
    images, manifest = sues_shards.images, sues_shards.manifest
    of_a_drone = images.where(role=Role.QUERY, view=View.DRONE)

    def at(heights: Any, rows: RowNumbers = of_a_drone) -> tuple[set[str], str]:
        altitude_m = images.altitude_m.copy()
        altitude_m[rows] = heights
        changed = replace(images, altitude_m=altitude_m)
        shards = JoinedShards(ShardSet(sues_shards.folder, manifest, changed))
        return counts(shards).keys(), height_note(manifest.layout, changed)

    both = {"d2s/150m", "d2s/300m", "s2d/150m", "s2d/300m"}
    assert at(images.altitude_m[of_a_drone]) == (both, "")
    names, note = at(np.nan, of_a_drone[:1])
    assert names == both and note.startswith("left out: 1 of ")
    names, note = at(np.linspace(100, 200, len(of_a_drone)))
    assert names == {"d2s", "s2d"} and "heights are searched together" in note


def test_shards_without_test_images_are_refused(shards: ShardSet) -> None:
    images = replace(shards.images, roles=shards.images.roles & Role.TRAIN)
    with pytest.raises(DescriptorError, match="no test images"):
        find_searches(JoinedShards(ShardSet(shards.folder, shards.manifest, images)))


def test_tars_of_others_are_searched_by_the_roles_and_views_in_their_index(
    evaluated: Callable[..., dict[str, Any]], street_shards: ShardSet, tmp_path: Path
) -> None:
    for tar in street_shards.folder.glob("*.tar"):
        shutil.copy(tar, tmp_path)
    with show_progress("indexing", enabled=False) as progress:
        index_tars(tmp_path, roles=None, workers=1, progress=progress)
    report = evaluated(on=ShardSet.open(tmp_path))
    ours = evaluated(on=street_shards)
    rows = [[(row["name"], row["metrics"]) for row in one["results"]] for one in (report, ours)]
    assert rows[0] == rows[1]
    assert {"d2s", "s2d", "street2s", "s2street"} <= {name for name, _ in rows[0]}
