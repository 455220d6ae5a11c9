import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.errors import PlanError
from data_shards.plan import Plan, PlanRows, deal, rank_slice, ranks_share, separate_rounds
from data_shards.shards import ShardSet
from data_shards.split import held_out_places, trained_places

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


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 15), st.integers(1, 12), st.randoms(use_true_random=False), st.data())
def test_whatever_can_be_dealt_is_dealt(places: int, num_batches: int, random, data) -> None:
    batch = data.draw(st.integers(1, places))
    values = sum((random.sample(range(places), batch) for _ in range(num_batches)), [])
    random.shuffle(values)
    batches = deal(np.array(values), batch).reshape(num_batches, batch)
    assert all(len(set(row)) == batch for row in batches.tolist())
    assert sorted(batches.reshape(-1).tolist()) == sorted(values)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 99), st.data())
def test_rounds_are_separated_by_moving_few(places: int, num_rounds, seed, data) -> None:
    batch = data.draw(st.integers(1, places))
    random = np.random.default_rng(seed)
    rounds = np.concatenate([random.permutation(places) for _ in range(num_rounds)])
    separated = rounds.copy()
    separate_rounds(separated, batch)
    whole = len(rounds) // batch * batch
    for row in separated[:whole].reshape(-1, batch).tolist():
        assert len(set(row)) == batch
    for one, other in zip(
        np.split(rounds, num_rounds), np.split(separated, num_rounds), strict=True
    ):
        assert sorted(one) == sorted(other)
    assert (separated != rounds).sum() <= 2 * batch * num_rounds


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
        ([6] * 20, 8, 1, "feadba9a66e8cf09"),
        ([6] * 20, 20, 2, "f3460db260b03999"),
        (list(range(1, 21)), 8, 1, "21e48221ebe860ce"),
        (list(range(3, 23)), 4, 3, "6ebf41caa1401ad8"),
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
        ([4] * 8, {"global_batch": 0}, "global batch 0 .* must be at least 1"),
        ([4] * 8, {"global_batch": 4, "drones_per_row": 0}, "per row 0 must be at least 1"),
        ([4, 2, 4], {"global_batch": 2, "drones_per_row": 3}, "place 0001 has 2 drone images"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(table, drones, settings, sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        plan_over(table(drones), **settings)


@pytest.mark.parametrize(
    ("batch", "ranks", "choice"), [(10, 4, "8 or 12"), (3, 8, "8 or 16"), (4, 0, "")]
)
def test_a_batch_that_ranks_cannot_share_is_refused(batch: int, ranks: int, choice: str) -> None:
    with pytest.raises(PlanError, match=f"not divisible by {ranks} ranks.*{choice}"):
        ranks_share(global_batch=batch, world_size=ranks)
