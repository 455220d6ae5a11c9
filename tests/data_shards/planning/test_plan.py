import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.errors import PlanError
from data_shards.planning.neighbours import Neighbours
from data_shards.planning.place_views import held_out_places, trained_places
from data_shards.planning.plan import Plan, PlanRows, rank_slice, ranks_share
from data_shards.schema import View
from data_shards.shards import ShardSet

EPOCHS = 3


def plan_over(shards: ShardSet, **settings) -> Plan:
    return Plan(shards, shards.train_places, **{"seed": 3} | settings)


def digest(rows: PlanRows) -> str:
    columns = (rows.place, rows.visit, rows.satellite, rows.drone.reshape(-1))
    return hashlib.sha256(np.concatenate(columns).astype("<i8").tobytes()).hexdigest()[:16]


def assert_no_place_twice(rows: PlanRows, batch: int) -> None:
    batches = np.sort(rows.place.reshape(-1, batch), axis=1)
    assert (np.diff(batches, axis=1) > 0).all()


def most_steps(rounds: list[int], batch: int) -> int:
    """The slow way: one more step until the rows that places can fill no longer suffice."""
    steps = 0
    while sum(min(count, steps + 1) for count in rounds) >= (steps + 1) * batch:
        steps += 1
    return steps


@pytest.mark.parametrize("batch", [7, 128, 700, 701])
def test_an_epoch_shows_every_pair_once_and_no_place_twice_in_a_batch(table, batch: int) -> None:
    shards = table([54] * 701)
    plan = plan_over(shards, global_batch=batch)
    pairs = 701 * 54
    assert plan.pairs_available == pairs
    assert plan.pairs_per_epoch == pairs - pairs % batch
    for epoch in range(EPOCHS):
        rows = plan.epoch(epoch)
        assert_no_place_twice(rows, batch)
        assert len(np.unique(rows.drone)) == len(rows) == plan.pairs_per_epoch
        assert (shards.images.place[rows.drone[:, 0]] == rows.place).all()
        assert (shards.images.place[rows.satellite] == rows.place).all()


@pytest.mark.parametrize(("views", "k"), [(6, 2), (7, 3), (5, 5)])
def test_a_row_of_several_drones_shows_no_view_twice(table, views: int, k: int) -> None:
    shards = table([views] * 20)
    plan = plan_over(shards, global_batch=8, drones_per_row=k)
    for epoch in range(EPOCHS):
        rows = plan.epoch(epoch)
        assert rows.drone.shape == (20 * (views // k) // 8 * 8, k)
        assert_no_place_twice(rows, 8)
        assert len(np.unique(rows.drone)) == rows.drone.size
        assert (shards.images.place[rows.drone] == rows.place[:, None]).all()


def test_several_satellites_of_a_place_take_turns(table) -> None:
    shards = table([6] * 8, satellites=3)
    rows = plan_over(shards, global_batch=8).epoch(0)
    _, shown = np.unique(rows.satellite, return_counts=True)
    assert shown.tolist() == [2] * 24


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_unequal_places_fill_as_many_batches_as_can_be(table, data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=25))
    batch = data.draw(st.integers(1, len(counts)))
    k = data.draw(st.integers(1, min(counts)))
    shards = table(counts)
    plan = plan_over(shards, global_batch=batch, drones_per_row=k)
    assert plan.steps_per_epoch == most_steps([count // k for count in counts], batch)
    rows = plan.epoch(data.draw(st.integers(0, 5)))
    assert len(rows) == plan.pairs_per_epoch
    assert len(np.unique(rows.drone)) == rows.drone.size
    assert (shards.images.place[rows.drone] == rows.place[:, None]).all()
    assert_no_place_twice(rows, batch)


def drawn_table(plan: Plan, num_neighbours: int, seed: int) -> Neighbours:
    """A table of neighbours that nobody mined."""
    random, count = np.random.default_rng(seed), len(plan.places)
    rows = [random.permutation(np.delete(np.arange(count), place)) for place in range(count)]
    return Neighbours(
        table=np.array(rows, dtype=np.int32)[:, :num_neighbours], places=plan.place_names
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_mined_epoch_shows_what_a_drawn_one_could(table, data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        counts = [data.draw(st.integers(1, 8))] * data.draw(st.integers(2, 30))
    else:
        counts = data.draw(st.lists(st.integers(1, 12), min_size=2, max_size=25))
    batch, k = data.draw(st.integers(1, len(counts))), data.draw(st.integers(1, min(counts)))
    drawn = plan_over(table(counts), global_batch=batch, drones_per_row=k)
    num_neighbours = data.draw(st.integers(1, len(counts) - 1))
    plan = drawn.with_neighbours(drawn_table(drawn, num_neighbours, data.draw(st.integers(0, 9))))
    epoch = data.draw(st.integers(0, 5))
    rows = plan.epoch(epoch)
    assert len(rows) == drawn.pairs_per_epoch
    assert len(np.unique(rows.drone)) == rows.drone.size
    assert_no_place_twice(rows, batch)
    again = plan.with_neighbours(plan.neighbours)
    assert digest(again.epoch(epoch)) == digest(rows)
    assert digest(plan.with_neighbours(None).epoch(epoch)) == digest(drawn.epoch(epoch))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_rows_are_those_of_the_whole_epoch(table, data: st.DataObject) -> None:
    equal = data.draw(st.booleans())
    counts = [4] * 21 if equal else data.draw(st.lists(st.integers(2, 9), min_size=4, max_size=21))
    batch = data.draw(st.integers(1, 4))
    plan = plan_over(
        table(counts, street=[2] * len(counts)),
        global_batch=batch,
        drones_per_row=2,
        third_view=View.STREET,
    )
    if data.draw(st.booleans()):
        plan = plan.with_neighbours(drawn_table(plan, 3, seed=1))
    whole = plan.epoch(1)
    start = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(start, len(whole)))
    fresh = plan.with_neighbours(plan.neighbours)
    part, expected = fresh.rows(1, slice(start, stop)), whole[start:stop]
    for name in ("place", "visit", "satellite", "drone", "third"):
        assert (getattr(part, name) == getattr(expected, name)).all(), name


def test_mined_batches_hold_neighbours(table) -> None:
    places, size, batch = 60, 6, 12
    drawn = plan_over(table([8] * places), global_batch=batch)
    district = np.random.default_rng(0).permutation(places) // size
    near = [[p for p in np.flatnonzero(district == district[i]) if p != i] for i in range(places)]
    mined = drawn.with_neighbours(
        Neighbours(table=np.array(near, dtype=np.int32), places=drawn.place_names)
    )

    def neighbours_met(plan: Plan) -> float:
        """Return in how many of its batches a place stands with each other of its district."""
        batches = district[np.searchsorted(plan.places, plan.epoch(0).place.reshape(-1, batch))]
        return np.mean([np.mean(row == one) - 1 / batch for row in batches for one in row])

    # Chance: 5 of 59 others. Two whole districts fill a batch.
    assert neighbours_met(drawn) < 0.12
    assert neighbours_met(mined) > 0.3


def test_every_round_is_another_one(table) -> None:
    plan = plan_over(table([6] * 40), global_batch=10)
    plan = plan.with_neighbours(drawn_table(plan, 5, seed=2))
    batches = {tuple(sorted(row)) for row in plan.epoch(0).place.reshape(-1, 10).tolist()}
    assert len(batches) == 24


def test_turns_of_rare_places_are_spread_over_the_epoch(table) -> None:
    rows = plan_over(table([20] * 30 + [4] * 30), global_batch=6).epoch(0)
    for place in range(30, 60):
        at = np.flatnonzero(rows.place == place) / len(rows)
        assert len(at) >= 3
        assert np.diff(at).min() > 0.1 and np.diff(at).max() < 0.4


def test_a_third_view_takes_turns_and_leaves_places_without_one_out(table) -> None:
    street = [0, 1, 2, 3] * 5
    shards = table([6] * 20, street=street)
    plan = plan_over(shards, global_batch=5, third_view=View.STREET)
    assert plan.left_out == 5
    assert plan.places.tolist() == [place for place in range(20) if street[place]]
    rows = plan.epoch(0)
    assert (shards.images.view[rows.third] == View.STREET).all()
    assert (shards.images.place[rows.third] == rows.place).all()
    shown = dict(zip(*np.unique(rows.third, return_counts=True), strict=True))
    for place in plan.places.tolist():
        images = np.flatnonzero((shards.images.place == place) & (shards.images.view == 2))
        assert [shown[image] for image in images.tolist()] == [6 // street[place]] * street[place]


def test_altitudes_choose_drone_views(table) -> None:
    shards = table([8] * 12, altitudes=(150, 200, 250, 300))
    plan = plan_over(shards, global_batch=6, altitudes=(200, 300))
    rows = plan.epoch(0)
    heights, counts = np.unique(shards.images.altitude_m[rows.drone], return_counts=True)
    assert heights.tolist() == [200, 300] and counts.tolist() == [24, 24]
    assert len(rows) == plan.pairs_available == 48


def test_places_that_lack_a_height_are_left_out(table) -> None:
    plan = plan_over(table([1, 4, 4, 1, 4], altitudes=(150, 200)), global_batch=3, altitudes=[200])
    assert plan.left_out == 2 and plan.places.tolist() == [1, 2, 4]
    with pytest.raises(PlanError, match=r"the 3 places .*; 2 places that lack a view are left out"):
        plan_over(table([1, 4, 4, 1, 4], altitudes=(150, 200)), global_batch=4, altitudes=[200])


def test_threads_share_a_plan(table) -> None:
    shards = table([9] * 50)
    alone = [digest(plan_over(shards, global_batch=20).epoch(epoch)) for epoch in range(4)]
    plan = plan_over(shards, global_batch=20)
    epochs = [0, 1, 0, 1, 2, 1, 2, 3, 2, 3] * 10
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda epoch: digest(plan.epoch(epoch)), epochs))
    assert seen == [alone[epoch] for epoch in epochs]


@pytest.mark.parametrize("world_size", [1, 2, 4, 8, 64])
def test_ranks_together_see_the_order_of_one(world_size: int) -> None:
    rows = np.arange(3 * 64)
    seen = [
        rows[rank_slice(step, rank=rank, world_size=world_size, global_batch=64)]
        for step in range(3)
        for rank in range(world_size)
    ]
    assert np.concatenate(seen).tolist() == rows.tolist()


def test_seed_epoch_and_batch_change_the_order(table) -> None:
    shards = table([6] * 30)
    seen = {
        digest(plan_over(shards, seed=seed, global_batch=batch).epoch(epoch))
        for seed in (0, 1)
        for epoch in (0, 1)
        for batch in (8, 16)
    }
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("drones", "batch", "k", "expected"),
    [
        ([6] * 20, 8, 1, "f3d943ae20b89dd0"),
        ([6] * 20, 20, 2, "7de091e9d5007471"),
        (list(range(1, 21)), 8, 1, "1cc61df4d01e12b9"),
        (list(range(3, 23)), 4, 3, "bac719f65bd11312"),
    ],
)
def test_the_order_is_the_one_it_always_was(table, drones, batch, k, expected) -> None:
    plan = plan_over(table(drones), global_batch=batch, drones_per_row=k)
    assert digest(plan.epoch(2)) == expected


def test_visits_of_a_place_rise_over_steps_and_epochs(table) -> None:
    plan = plan_over(table([6] * 8), global_batch=8)
    rows = [plan.epoch(epoch) for epoch in range(EPOCHS)]
    visits = np.concatenate([part.visit[part.place == 3] for part in rows])
    assert visits.tolist() == list(range(EPOCHS * 6))


def test_a_held_out_place_is_in_no_row(table) -> None:
    shards = table([4] * 40)
    held_out = held_out_places(shards, fraction=0.25, seed=1)
    places = trained_places(shards, fraction=0.25, seed=1)
    assert len(held_out) == 10
    assert sorted([*held_out, *places]) == shards.train_places.tolist()
    rows = Plan(shards, places, seed=0, global_batch=30).epoch(0)
    assert sorted(set(rows.place.tolist())) == places.tolist()


@pytest.mark.parametrize(
    ("drones", "settings", "sentence"),
    [
        ([4] * 8, {"global_batch": 9}, "global batch 9 is larger than the 8 places.*at most 8"),
        ([4, 2, 4], {"global_batch": 2, "drones_per_row": 3}, "place 0001 has 2 drone images"),
        ([4] * 8, {"global_batch": 4, "third_view": View.STREET}, "no place .* has a street image"),
        ([4] * 8, {"global_batch": 4, "altitudes": [150, 99]}, "at 99 m; choose among 150, 200.5$"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(table, drones, settings, sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        plan_over(table(drones, altitudes=(150, 200.5)), **settings)


def test_a_height_of_shards_that_tell_none_is_refused(table) -> None:
    with pytest.raises(PlanError, match="at 150 m; these shards tell no heights"):
        plan_over(table([4] * 8, altitudes=[np.nan]), global_batch=4, altitudes=[150])


def test_only_some_of_many_heights_are_named(table) -> None:
    with pytest.raises(PlanError, match=r"at 7 m; choose among 10, .*, 17, \.\.\.$"):
        plan_over(table([20] * 2, altitudes=range(10, 30)), global_batch=2, altitudes=[7])


def test_neighbours_of_other_places_are_refused(table) -> None:
    plan, other = (plan_over(table([4] * n), global_batch=4) for n in (8, 9))
    with pytest.raises(PlanError, match="those of 9 other places than the 8 planned; mine again"):
        plan.with_neighbours(drawn_table(other, 2, seed=0))


@pytest.mark.parametrize(
    ("batch", "ranks", "choice"), [(10, 4, "8 or 12"), (3, 8, "8 or 16"), (4, 0, "")]
)
def test_a_batch_that_ranks_cannot_share_is_refused(batch: int, ranks: int, choice: str) -> None:
    with pytest.raises(PlanError, match=f"not divisible by {ranks} ranks.*{choice}"):
        ranks_share(global_batch=batch, world_size=ranks)
