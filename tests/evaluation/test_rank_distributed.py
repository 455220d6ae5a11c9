"""Ranks count as one process does: threads for any number of them, real processes for two."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch
from torch import Tensor

from evaluation.ranking import InMemory, rank, rank_gallery
from evaluation.ranking.counts import Tiles
from tests.distill.conftest import launch
from tests.evaluation.ranking.test_counts import exact_ranks, places

SCRIPT = Path(__file__).with_name("ranking_on_two_ranks.py")


class Meeting:
    """An exchange between threads: all bring something, all leave with what all brought."""

    def __init__(self, size: int) -> None:
        self.barrier, self.brought = Barrier(size, timeout=60), dict[int, object]()

    def meet(self, number: int, brought: object) -> list[object]:
        self.brought[number] = brought
        self.barrier.wait()
        everything = [self.brought[other] for other in sorted(self.brought)]
        self.barrier.wait()
        return everything


class AtMeeting:
    """One thread's side of it."""

    def __init__(self, meeting: Meeting, number: int) -> None:
        self.meet: Callable[[object], list] = lambda brought: meeting.meet(number, brought)

    def gather(self, part: Tensor) -> Tensor:
        return torch.cat(self.meet(part))

    def sum(self, part: Tensor) -> Tensor:
        return torch.stack(self.meet(part)).sum(dim=0)

    def first_problem(self, problem: str | None) -> str | None:
        return next((found for found in self.meet(problem) if found is not None), None)


@pytest.mark.parametrize("clearness", [3.0, 0.0])
@pytest.mark.parametrize("edges", [[0, 900], [0, 450, 900], [0, 1, 1, 600, 900]])
def test_no_sharding_changes_a_rank(edges: list[int], clearness: float) -> None:
    query, gallery, query_labels, labels = places(clearness)
    gallery[600:700] = gallery[100:200]
    meeting = Meeting(len(edges) - 1)

    def count(number: int) -> Tensor:
        part = slice(edges[number], edges[number + 1])
        ranking = rank_gallery(
            query,
            InMemory(gallery[part], labels[part]),
            query_labels_Q=query_labels,
            exchange=AtMeeting(meeting, number),
            tiles=Tiles(queries=7 + number, block=100 + number, first_block=30),
        )
        assert ranking.num_gallery == 900
        return ranking.ranks_P

    with ThreadPoolExecutor(len(edges) - 1) as threads:
        found = list(threads.map(count, range(len(edges) - 1)))
    expected = rank(query, gallery, query_labels_Q=query_labels, gallery_labels_G=labels)
    assert all(torch.equal(ranks, expected.ranks_P) for ranks in found)


def test_a_rank_whose_disk_fails_leaves_no_other_waiting() -> None:
    query, gallery, query_labels, labels = places(3.0)
    meeting = Meeting(2)

    class Unreadable(InMemory):
        def read(self, rows: slice) -> Tensor:
            raise OSError(f"gallery.npy: no row {rows.start}: the disk is gone")

    def count(number: int) -> str:
        kind = Unreadable if number else InMemory
        part = kind(gallery[number::2], labels[number::2])
        exchange = AtMeeting(meeting, number)
        with pytest.raises(OSError if number else ValueError) as refused:
            rank_gallery(query, part, query_labels_Q=query_labels, exchange=exchange)
        return str(refused.value)

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(count, range(2))
    assert first == second and "the disk is gone" in first


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each of two processes saw."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.save(places(0.8), folder / "search.pt")
    ended = launch(SCRIPT, folder)
    assert ended.code == 0, ended.output
    ranks = [json.loads((folder / f"rank{number}.json").read_text()) for number in range(2)]
    assert [rank["num_processes"] for rank in ranks] == [2, 2]
    return ranks


@pytest.mark.parametrize("way", ["distributed", "shards"])
def test_two_processes_rank_like_one(seen: list[dict], way: str) -> None:
    expected = exact_ranks(*places(0.8))
    assert [rank[way] for rank in seen] == [expected, expected]
    assert [rank[f"{way} gallery"] for rank in seen] == [900, 900]


def test_what_one_rank_refuses_all_refuse(seen: list[dict]) -> None:
    assert all("finite" in rank["refused"] for rank in seen)
