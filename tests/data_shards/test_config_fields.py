"""Bounds and needs that stand in the metadata of a field, reported all at once."""

from dataclasses import dataclass, field, make_dataclass

import pytest

from data_shards.config import bounded, field_problems, seed


@dataclass(frozen=True, kw_only=True)
class Inner:
    share: float = bounded(0.5, at_least=0, below=1)
    weight: float = bounded(0.0, at_least=0, needs=("path",))
    stages: tuple[float, ...] = bounded((0.1, 0.0), at_least=0)


@dataclass(frozen=True, kw_only=True)
class Outer:
    count: int | None = bounded(None, at_least=1)
    path: str | None = None
    seed: int = seed()
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("limits", "allowed", "refused", "words"),
    [
        ({"at_least": 1}, [1, 2.5], [0, float("nan")], "at least 1"),
        ({"above": 0}, [1e-9], [0, -1], "above 0"),
        ({"at_least": 0, "below": 1}, [0, 0.99], [1, -0.1], "at least 0 and below 1"),
        ({"above": 0, "at_most": 5}, [5], [0, 5.1], "above 0 and at most 5"),
    ],
)
def test_limits_allow_what_their_words_say(limits, allowed, refused, words):
    part = make_dataclass("Part", [("value", float, bounded(1.0, **limits))])
    assert not any(list(field_problems(part(value))) for value in allowed)
    for value in refused:
        assert list(field_problems(part(value))) == [f"value ({value}) must be {words}"]


def test_a_recipe_within_its_bounds_has_no_problem():
    assert list(field_problems(Outer())) == []
    assert list(field_problems(Outer(count=1, path="p", inner=Inner(weight=1.0)))) == []


def test_every_problem_is_told_at_once_by_its_dotted_key():
    wrong = Outer(count=0, seed=2**32, inner=Inner(share=1.0, weight=0.5, stages=(1.0, -0.1)))
    assert list(field_problems(wrong)) == [
        "count (0) must be at least 1",
        "seed (4294967296) must be at least 0 and at most 4294967295",
        "inner.share (1.0) must be at least 0 and below 1",
        "inner.weight (0.5) needs path; set it, or inner.weight to 0",
        "inner.stages ((1.0, -0.1)) must be at least 0",
    ]
