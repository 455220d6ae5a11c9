"""`accelerate launch evaluation/run.py`: two real ranks share the work, and one of them speaks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from data_shards.shards import ShardSet
from distill.run_folder import RunPaths
from evaluation import describe
from tests.distill.conftest import launch
from tests.evaluation.conftest import Evaluated

ROOT = Path(__file__).parents[2]
ENTRY_POINT = ROOT / "evaluation/run.py"
SETTINGS = ("--batch-size", "4", "--flip", "--conditions", "fog", "--no-figures", "--no-mlflow")
SETTINGS += ("--descriptors",)


def test_two_ranks_give_the_report_of_one(
    evaluated: Evaluated, run: RunPaths, shards: ShardSet, tmp_path: Path
) -> None:
    assert torch.get_num_threads() == 1, "as each rank has: sums of floats are split by threads"
    alone = evaluated(*SETTINGS, "--out", tmp_path / "alone")
    out = tmp_path / "together"
    words = ["--checkpoint", run.folder, "--shards", shards.folder, "--out", out]
    ended = launch(ENTRY_POINT, *words, *SETTINGS, "--threads", "1")
    assert ended.code == 0, ended.output
    together = json.loads((out / "report.json").read_text())
    differing = {name for name in alone if alone[name] != together[name]}
    assert differing <= {"ranks", "seconds", "ranking_seconds"}
    assert (alone["ranks"], together["ranks"]) == (1, 2)
    for name in ("d2s.mat", "s2d.mat"):
        one, two = (loadmat(tmp_path / who / "descriptors" / name) for who in ("alone", "together"))
        assert all(np.array_equal(one[key], two[key]) for key in ("query_f", "gallery_f"))
    assert ended.output.count("full gallery") == 1, "one of them prints the table"


def test_a_place_that_cannot_be_written_is_told_once_and_stops_both_ranks_before_they_describe(
    run: RunPaths, shards: ShardSet, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    words = ["--checkpoint", run.folder, "--shards", shards.folder, *SETTINGS]
    ended = launch(ENTRY_POINT, *words, "--out", tmp_path / "there", "--threads", "1")
    assert ended.code != 0
    assert len(ended.sentences) == 1
    assert "there exists; give --overwrite" in ended.sentences[0]
    assert ended.our_tracebacks == 0
    assert "describing" not in ended.output


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("images", [0, 1, 8, 9, 50])
def test_every_image_is_dealt_to_one_rank(
    ranks: int, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.describe.world_size", lambda: ranks)
    rows = 3 * np.arange(images)
    dealt = [describe._dealt(rows, 4, to=number) for number in range(ranks)]
    assert sorted(np.concatenate(dealt).tolist()) == rows.tolist()
    # Each rank cuts its rows into the batches that one process would describe.
    cut = [part[start : start + 4].tolist() for part in dealt for start in range(0, len(part), 4)]
    assert sorted(cut) == [rows[start : start + 4].tolist() for start in range(0, images, 4)]
