"""What an evaluation writes: nothing over what is there, all of it or a sentence."""

import errno
import json
import os
from pathlib import Path

import pytest
from matplotlib import rcParams

from data_shards.errors import DescriptorError
from data_shards.shards import ShardSet
from distill.run_folder import RunPaths
from evaluation.cli import evaluate
from evaluation.compare.collect import collect
from evaluation.config import CompareConfig
from tests.evaluation.conftest import Command


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--out", "{}/folder.json"], "folder.json exists; give --overwrite .*with --out"),
        (["--out", "/proc/x.json"], "/proc/x.json cannot be written .*--out"),
        (["--out", "{}/mine.md/x.json"], "x.json cannot be written .*--out"),
        (["--out", "{}/" + 250 * "x" + ".json"], "File name too long"),
        (["--out", "{}/mine.json"], "mine.md exists"),
        (["--out", "{}/own.json"], "own_figures/similarity.png exists"),
        (["--submission", "{}/mine.md"], "mine.md exists.*with --submission"),
        (["--descriptors-out", "{}"], "d2s.mat exists.*with --descriptors-out"),
    ],
)
def test_a_place_where_nothing_can_or_may_be_written_is_refused_before_anything_is_described(
    words: list[str],
    sentence: str,
    dry: list[str],
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("evaluation.evaluate.describe")
    for name in ("folder.json", "own_figures"):
        (tmp_path / name).mkdir()
    for name in ("mine.md", "own_figures/similarity.png", "d2s.mat"):
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(DescriptorError, match=sentence) as refused:
        evaluate(command(*(word.format(tmp_path) for word in words), *dry))
    assert "\n" not in str(refused.value)
    assert contents(tmp_path) == before


def test_another_task_has_a_report_of_its_own_and_compare_finds_all(
    command: Command, run: RunPaths, sues_shards: ShardSet
) -> None:
    ways = {
        "evaluation.json": ["--image-size", "32", "--resampling", "opencv-linear"],
        "evaluation_flip_48px_pillow-bicubic.json": [
            *("--flip", "--image-size", "48", "--resampling", "pillow-bicubic")
        ],
        "evaluation_distractors.json": ["--distractors", sues_shards.folder],
        "evaluation_sues200_flip.json": ["--flip", "--shards", sues_shards.folder],
    }
    for words in ways.values():
        evaluate(command("--no-figures", *words))
    assert {path.name for path in run.folder.glob("evaluation*.json")} == ways.keys()
    entries, _ = collect(CompareConfig(reports=(run.folder,)))
    assert {Path(entry.where).name for entry in entries} == ways.keys()


def test_a_report_is_replaced_whole_and_only_if_told(
    command: Command, run: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.figures.style.DPI", 20)
    monkeypatch.setattr("evaluation.figures.style.CHART_DPI", 20)
    monkeypatch.setitem(rcParams, "pdf.use14corefonts", True)
    evaluate(command("--conditions", "fog"))
    (run.folder / "figures/mine.png").write_text("mine")
    assert (run.folder / "figures/conditions.pdf").is_file()
    with pytest.raises(DescriptorError, match=r"evaluation.json exists; give --overwrite"):
        evaluate(command())
    evaluate(command("--overwrite"))
    left = {path.name for path in (run.folder / "figures").iterdir()}
    assert {"mine.png", "recall_curves.pdf", "retrieval_d2s.png"} <= left
    assert not any(name.startswith("conditions") for name in left)


def no_space(*words: object, **facts: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("broken", ["os.fsync", "matplotlib.figure.Figure.savefig"])
def test_numbers_are_told_when_a_file_cannot_be_written(
    broken: str,
    command: Command,
    run: RunPaths,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(broken, no_space)
    with pytest.raises(DescriptorError, match=r"cannot be written .No space left"):
        evaluate(command("--json"))
    told = json.loads(capsys.readouterr().out)
    assert told["results"][0]["name"] == "d2s"
    assert not list(run.folder.rglob("*.partial"))
    if broken != "os.fsync":
        assert json.loads((run.folder / "evaluation.json").read_text()) == told
