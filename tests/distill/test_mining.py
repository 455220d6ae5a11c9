import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.errors import DivergedError
from data_shards.planning.neighbours import read_neighbours
from data_shards.planning.place_views import views_by_place
from data_shards.schema import View
from distill import mining
from distill.config import MiningConfig
from distill.mining import looks, mine, nearest_wrong, planned_batches
from tests.distill.conftest import metric_lines, open_alone, run_alone

MINED = {
    "data": {"global_batch": 5, "drones_per_row": 2, "mining": {"neighbours": 3, "drones": 2}},
    "save_every_steps": 5,
}
"""Four steps make an epoch: 10 places, 2 rows each, 5 a batch. Steps 5 and 6 are mined."""


def by_hand(places: np.ndarray, own: np.ndarray, k: int) -> list[list[int]]:
    """The slow way: every pair, both directions, equal ones by their number."""
    drone, satellite = np.split(places, 2, axis=1)
    return [
        sorted(
            (other for other in range(len(places)) if other != one),
            key=lambda other: (
                -(drone[one] @ satellite[other] + satellite[one] @ drone[other]),
                other,
            ),
        )[:k]
        for one in own
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 14), st.integers(0, 99), st.data())
def test_the_nearest_wrong_places_are_those_of_the_slow_way(count: int, seed: int, data) -> None:
    k = data.draw(st.integers(1, count - 1))
    # Small whole numbers: the scores are exact, and many are equal.
    places = np.random.default_rng(seed).integers(-1, 2, (count, 4)).astype(np.float32)
    own = np.arange(data.draw(st.integers(0, 2)), count, 2)
    found = nearest_wrong(torch.from_numpy(places), own, num_neighbours=k)
    assert found.shape == (len(own), k) and found.dtype == np.int32
    assert found.tolist() == by_hand(places, own, k)


def test_tiles_change_nothing(monkeypatch) -> None:
    places = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    whole = nearest_wrong(places, np.arange(50), num_neighbours=7)
    monkeypatch.setattr(mining, "SCORES_AT_ONCE", 150)
    assert (nearest_wrong(places, np.arange(50), num_neighbours=7) == whole).all()


def test_a_drone_view_that_looks_like_another_satellite_makes_its_place_near() -> None:
    north, east, up = np.eye(3, dtype=np.float32)
    drone, satellite = np.stack([north, east, up]), np.stack([north, north, up])
    places = torch.from_numpy(np.concatenate([drone, satellite], axis=1))
    assert nearest_wrong(places, np.arange(3), num_neighbours=1)[:2, 0].tolist() == [1, 0]


def test_places_are_looked_at_when_the_recipe_says() -> None:
    every_third = MiningConfig(neighbours=4, from_epoch=2, every_epochs=3)
    assert [*looks(every_third, 10)] == [2, 5, 8]
    assert not looks(MiningConfig(), 10)


def test_images_are_spread_over_the_flight(tiny_shards) -> None:
    views = views_by_place(tiny_shards, tiny_shards.train_places, View.DRONE)
    for most, positions in ((2, [1, 3]), (0, [1, 2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])):
        rows, owner = views.spread(most)
        assert tiny_shards.images.position[rows].tolist() == positions * 10
        assert owner.tolist() == np.repeat(np.arange(10), len(positions)).tolist()


def test_a_mined_run_resumes_to_the_same_bits(make_config, tmp_path, monkeypatch) -> None:
    straight = run_alone(make_config(**MINED, out=str(tmp_path / "straight")))
    table = straight.state.neighbours
    assert table is not None and table.check().table.shape == (10, 3)
    seconds = [
        line for line in metric_lines(straight.paths) if "train/mining_seconds" in line["metrics"]
    ]
    assert [line["step"] for line in seconds] == [5]

    config = make_config(**MINED)
    stopped = run_alone(config, stop_after=5)
    saved = read_neighbours(stopped.paths.checkpoints / "step-00000005" / "neighbours.npz")
    assert saved.digest == table.digest
    monkeypatch.setattr(mining, "mine", lambda session: pytest.fail("the saved table is used"))
    resumed = run_alone(config)
    assert resumed.state.step == 6 and resumed.state.neighbours.digest == table.digest
    one, two = (run.step.state_dict() for run in (straight, resumed))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_order_is_that_of_the_table_and_held_out_places_are_in_none(make_config) -> None:
    config = make_config(**MINED | {"data": {**MINED["data"], "validation_fraction": 0.2}})
    session = open_alone(config)
    table = mine(session)
    assert len(table.places) == 8 and session.step.training
    assert mine(session).digest == table.digest

    session.state.step, session.state.neighbours = 4, table  # mid-epoch: 3 steps make one here
    batch = next(planned_batches(session))
    plan = session.loader.plan
    assert plan.neighbours is table
    assert batch.drone_rows.tolist() == plan.rows(1, slice(5, 10)).drone.tolist()


def test_more_neighbours_than_wrong_places_are_all_of_them(make_config) -> None:
    table = mine(open_alone(make_config(data={"mining": {"neighbours": 99, "drones": 1}})))
    assert table.check().table.shape == (10, 9)


def test_a_model_that_diverged_is_told_before_its_table(make_config) -> None:
    session = open_alone(make_config(**MINED))
    with torch.no_grad():
        next(session.model.parameters()).fill_(torch.nan)
    with pytest.raises(DivergedError, match=r"step 0: descriptors of the training places"):
        mine(session)
