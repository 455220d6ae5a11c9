"""What only two processes can show; one launch of on_two_ranks.py answers for all tests."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from data_shards.progress import show_progress
from data_shards.recipe import build_config
from data_shards.shards import ShardSet
from distill.config import DistillConfig
from distill.preemption import StopFlag
from distill.teacher.build import build_cache
from distill.teacher.source import LiveTeacher, load_teacher
from tests.distill.conftest import ALL_TERMS, launch, write_recipe
from tests.distill.on_two_ranks import BRANCHES
from tests.distill.test_teacher_cache import files

SCRIPT = Path(__file__).with_name("on_two_ranks.py")


@pytest.fixture(scope="module")
def config(
    tmp_path_factory: pytest.TempPathFactory, tiny_shards: ShardSet, teacher_run: Path
) -> DistillConfig:
    folder = tmp_path_factory.mktemp("two")
    return build_config(
        DistillConfig,
        {
            "out": str(folder / "run"),
            "objectives": ALL_TERMS,
            "expected_world_size": 2,
            "data": {"shards": str(tiny_shards.folder), "image_size": 32, "global_batch": 16},
            "augment": {"slots": 2},
            "teacher": {"run": str(teacher_run), "cache": str(folder / "cache")},
        },
        where="test",
    )


@pytest.fixture(scope="module")
def seen(config: DistillConfig) -> list[dict[str, Any]]:
    """What each rank saw."""
    folder = config.run_folder.parent
    ended = launch(SCRIPT, write_recipe(folder / "recipe.yaml", config), folder)
    assert ended.code == 0, ended.output
    ranks = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert [rank["num_processes"] for rank in ranks] == [2, 2]
    return ranks


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(
    ("method", "term"),
    [("pfed", term) for term in (*ALL_TERMS, "total")]
    + [("bicrossnet", term) for term in (*BRANCHES.weights, "total")],
)
def test_two_ranks_give_the_gradient_of_one(seen, method, term, k, dtype, tolerance):
    for rank in seen:
        assert rank["gradients"][f"{method} {term} k={k} {dtype}"] <= tolerance


def test_gather_leaves_other_gradients_alone(seen):
    # Each rank's sum reaches this rank's part: 2; the other summand gets its own gradient: 1.
    assert [rank["shared_gradient"] for rank in seen] == [[2.0, 1.0, 1.0]] * 2


def test_rows_of_all_ranks_come_in_the_order_of_ranks(seen):
    drone = [[0.1, 0.2], [1.1, 1.2], [10.1, 10.2], [11.1, 11.2]]
    assert [rank["everyone"] for rank in seen] == [[[0, 1, 10, 11], [0, 1, 10, 11], drone]] * 2


def test_ranks_agree(seen):
    assert [rank["first_problem"] for rank in seen] == ["rank 1 has one"] * 2
    assert [rank["said"] for rank in seen] == ["by 0"] * 2
    assert sorted(seen[0]["first_to_fail"]) == [False, True]


def test_a_slow_rank_is_waited_for_and_a_failed_one_is_not(seen):
    assert [rank["waited"] for rank in seen] == [True, True]
    assert "another rank failed" in seen[0]["left_alone"]


def test_a_signal_to_one_rank_stops_both(seen):
    assert [rank["stop"] for rank in seen] == [[False, False, True]] * 2
    assert seen[0]["seconds_to_ask"] < 0.5, "rank 0 waited for one that was a second late"


def test_every_way_to_stop_saves_at_one_step_at_most_two_later_and_is_recorded(seen):
    one, two = (rank["stopped"] for rank in seen)
    assert one == two and len(one) == 5
    step = 0
    for end in one[:4]:
        assert end["begun"] == step and step + 2 <= end["step"] <= step + 4
        step = end["step"]
        assert end["code"] == 75 and not end["is_done"] and not end["file"]
        assert end["recorded"] == step and end["saved"] == f"step-{step:08d}"
    assert one[4]["is_done"] and one[4]["code"] == 0 and one[4]["step"] == 14


def test_between_two_lines_no_rank_waits_for_what_the_host_reads(seen):
    for rank in seen:
        assert rank["waits"]["reads"] == []
        # Losses meet where they are computed; the flag's question alone is the host's, and begun.
        expected = {"all_gather": 1, "all_reduce": 1, "all_reduce begun": 1}
        assert rank["waits"]["per_step"] == [expected] * 20


def test_a_run_that_cannot_save_for_a_while_goes_on_and_one_that_must_is_told_on_every_rank(seen):
    for rank in seen:
        *saved, told = rank["full"]
        assert saved == ["step-00000001", "step-00000004"]
        assert "step-00000009 could not be written" in told and "No space left on device" in told


def test_a_mined_run_on_two_ranks_resumes_to_the_same_bits(seen):
    one, two = (rank["mined"] for rank in seen)
    assert one == two and one["step"] == 6
    assert [rank["mined_and_resumed"] for rank in seen] == [one, one]


@pytest.mark.parametrize("method", [0, 1], ids=["pfed, of different terms", "bicrossnet"])
def test_phases_keep_two_ranks_alike(seen, method):
    assert seen[0]["phased"][method] == seen[1]["phased"][method]


def test_two_ranks_write_the_cache_of_one(seen, config, tmp_path):
    shards = ShardSet.open(config.data.shards)
    with show_progress("caching", enabled=False) as progress:
        build_cache(
            LiveTeacher(config, shards, load_teacher(config, shards), torch.device("cpu")),
            tmp_path / "one",
            threads=1,
            progress=progress,
            flag=StopFlag(),
        )
    one, two = tmp_path / "one", config.teacher.cache
    assert len(list(one.iterdir())) == 3
    assert files(one) == files(two)
    assert [rank["cache"] for rank in seen] == [[None, True]] * 2
