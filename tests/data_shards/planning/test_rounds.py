from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.planning.rounds import Recent, Rounds, deal, make_order, separate


def rounds_of(turns: list[int], **settings) -> Rounds:
    return Rounds(
        np.array(turns),
        np.arange(100, 100 + len(turns)),
        **{"seed": 1, "epoch": 2, "global_batch": 4, "neighbours": None} | settings,
    )


def dealt_by_hand(values: list[int], batch: int) -> list[int]:
    """The plain way: in order, those passed over first, and whoever must be in is in."""
    dealt, coming = [], deque(values)
    for remaining in range(len(values) // batch, 0, -1):
        due = {value for value in coming if coming.count(value) == remaining}
        members, passed = [], deque()
        while len(members) < batch:
            value = coming.popleft()
            others = sum(member not in due for member in members)
            fits = value in due or others < batch - len(due)
            (members if value not in members and fits else passed).append(value)
        coming = passed + coming
        dealt += members
    return dealt


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 15), st.integers(1, 20), st.randoms(use_true_random=False), st.data())
def test_whatever_can_be_dealt_is_dealt(places: int, num_batches: int, random, data) -> None:
    batch = data.draw(st.integers(1, places))
    values = sum((random.sample(range(places), batch) for _ in range(num_batches)), [])
    random.shuffle(values)
    dealt, turn = deal(np.array(values, dtype=np.int32), batch)
    assert dealt.tolist() == dealt_by_hand(values, batch)
    assert all(len(set(row)) == batch for row in dealt.reshape(num_batches, batch).tolist())
    for place in range(places):
        assert turn[dealt == place].tolist() == list(range(values.count(place)))


def test_one_value_in_every_batch_is_dealt_however_late_it_comes() -> None:
    values = np.array([1, 2, 3, 4, 5, 6, 7, 8] * 5 + [0] * 20, dtype=np.int32)
    dealt, _ = deal(values, 3)
    assert (np.sort(dealt.reshape(20, 3), axis=1)[:, 0] == 0).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(0, 99), st.data())
def test_rounds_are_separated_by_moving_few(places: int, seed: int, data) -> None:
    batch = data.draw(st.integers(1, places))
    shared = data.draw(st.integers(0, batch - 1))
    random = np.random.default_rng(seed)
    before = random.permutation(places)[:shared].astype(np.int32)
    drawn = random.permutation(places).astype(np.int32)
    order = drawn.copy()
    separate(order, before, batch=batch)
    assert len({*before.tolist(), *order[: batch - shared].tolist()}) == batch
    assert sorted(order.tolist()) == list(range(places))
    assert order[batch:].tolist() == drawn[batch:].tolist()
    assert (order != drawn).sum() <= 2 * shared


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30).filter(any))
def test_every_turn_falls_into_a_round_of_its_own(turns: list[int]) -> None:
    rounds = rounds_of(turns)
    assert rounds.count == max(turns)
    members = [rounds[number].tolist() for number in range(rounds.count)]
    assert all(len(set(round_)) == len(round_) for round_ in members)
    flat = sum(members, [])
    assert [flat.count(place) for place in range(len(turns))] == turns
    # Evenly: between two turns of n in c rounds lie c / n rounds, one more or less.
    for place, count in enumerate(turns):
        gaps = np.diff([number for number, round_ in enumerate(members) if place in round_])
        assert all(abs(gap - rounds.count / count) < 1 for gap in gaps)


def test_draws_are_named_by_places_and_not_by_their_numbers() -> None:
    one = rounds_of([3] * 20)
    other = Rounds(one.turns[5:], one.places[5:], seed=1, epoch=2, global_batch=4, neighbours=None)
    assert [p - 5 for p in one[1].tolist() if p >= 5] == other[1].tolist()


@pytest.mark.parametrize("batch", [1, 4, 10, 11, 20])
def test_rounds_made_alone_are_those_made_in_turn(batch: int) -> None:
    rounds = rounds_of([7] * 20, global_batch=batch)
    steps = 7 * 20 // batch
    owners, turns = make_order(rounds, num_steps=steps)(0, steps * batch)
    alone = [
        make_order(rounds, num_steps=steps)(step * batch, (step + 1) * batch)
        for step in reversed(range(steps))
    ]
    assert np.concatenate([owner for owner, _ in alone[::-1]]).tolist() == owners.tolist()
    assert np.concatenate([turn for _, turn in alone[::-1]]).tolist() == turns.tolist()
    assert all(len(set(row)) == batch for row in owners.reshape(-1, batch).tolist())


def test_recent_results_are_made_once_and_old_ones_go() -> None:
    recent, made = Recent[str](2), []

    def make(name: str) -> str:
        made.append(name)
        return name.upper()

    names = ["a", "b", "a", "b", "c", "b", "c", "a"]
    assert [recent.get(n, lambda n=n: make(n)) for n in names] == [n.upper() for n in names]
    assert made == ["a", "b", "c", "a"]
