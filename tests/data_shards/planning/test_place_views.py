import numpy as np

from data_shards.planning.place_views import held_out_places, trained_places


def test_a_new_place_moves_few_others(table) -> None:
    before = held_out_places(table([1] * 100), fraction=0.2, seed=0)
    after = held_out_places(table([1] * 101), fraction=0.2, seed=0)
    assert len(np.setdiff1d(before, after)) <= 1


def test_the_seed_chooses_and_the_fraction_counts(table) -> None:
    shards = table([1] * 40)
    assert len(held_out_places(shards, fraction=0, seed=0)) == 0
    assert len(trained_places(shards, fraction=0.1, seed=0)) == 36
    one, other = (held_out_places(shards, fraction=0.5, seed=seed).tolist() for seed in (0, 1))
    assert one == sorted(one)
    assert one != other
