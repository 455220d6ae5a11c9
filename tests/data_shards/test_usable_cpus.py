import os

import pytest

from data_shards.usable_cpus import usable_cpus


def test_a_share_of_the_processors_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert usable_cpus() == 3


@pytest.mark.parametrize(("told", "counted"), [(4, 4), (None, 1)])
def test_a_system_without_shares_counts_all(
    monkeypatch: pytest.MonkeyPatch, told: int | None, counted: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: told)
    assert usable_cpus() == counted
