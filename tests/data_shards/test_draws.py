import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.draws import mix, uniform


def test_draws_are_those_they_always_were() -> None:
    assert mix(1, 2, 3) == 16701863140368406653
    assert mix(0) == 7960286522194355700


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**63), min_size=1, max_size=4), st.integers(0, 2**63))
def test_an_array_draws_what_its_numbers_draw(names: list[int], last: int) -> None:
    together = mix(*names, np.array([last, 7], dtype=np.uint64))
    assert together.tolist() == [mix(*names, last).tolist(), mix(*names, 7).tolist()]


def test_the_order_of_names_matters() -> None:
    assert mix(1, 2) != mix(2, 1)
    assert mix(0) != mix(0, 0)


def test_uniform_numbers_are_uniform() -> None:
    numbers = uniform(mix(5, np.arange(100_000)))
    assert 0 <= numbers.min() and numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=50, range=(0, 1))
    assert ((counts - 2000) ** 2 / 2000).sum() < 100  # chi-squared, 49 degrees: P < 0.0001
