"""What an evaluation writes: nothing over what is there, all of it or a sentence."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib import rcParams

from data_shards.errors import DescriptorError
from data_shards.manifest import write_manifest
from data_shards.shards import ShardSet
from distill.run_folder import RunPaths
from evaluation.cli import evaluate
from evaluation.compare.collect import collect
from evaluation.config import CompareConfig
from evaluation.output_files import refuse_unfit
from tests.evaluation.conftest import Command


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--out", "{}/there"], "there exists; give --overwrite .*with --out"),
        (["--out", "{}/there", "--overwrite"], "mine.png was not written by this command"),
        (["--out", "{}/there/mine.png", "--overwrite"], "cannot be written .Not a directory"),
        (["--out", "/proc/x"], "/proc/x cannot be written .*--out"),
        (["--out", "{}/" + 300 * "x"], "File name too long"),
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
    (tmp_path / "there").mkdir()
    for name in ("report.json", "mine.png"):
        (tmp_path / "there" / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(DescriptorError, match=sentence) as refused:
        evaluate(command(*(word.format(tmp_path) for word in words), *dry))
    assert "\n" not in str(refused.value)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("mine", ["figures/map.png", "report_notes.docx", "submission_final.txt"])
def test_what_no_evaluation_wrote_is_never_replaced(mine: str, tmp_path: Path) -> None:
    written = ["report.json", "figures/retrieval_d2s.png", "descriptors/street2s.mat"]
    for name in (*written, "submission_d2s_150m.txt", "figures/multi_view.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    refuse_unfit(tmp_path, overwrite=True)
    (tmp_path / mine).touch()
    with pytest.raises(DescriptorError, match=f"{mine} was not written by this command"):
        refuse_unfit(tmp_path, overwrite=True)


def test_another_task_has_a_folder_of_its_own_and_compare_finds_all(
    command: Command, run: RunPaths, sues_shards: ShardSet
) -> None:
    ways = {
        "university1652": ["--image-size", "32", "--resampling", "opencv-linear"],
        "university1652_flip_48px_pillow-bicubic": [
            *("--flip", "--image-size", "48", "--resampling", "pillow-bicubic")
        ],
        "university1652_distractors": ["--distractors", sues_shards.folder],
        "sues200_flip": ["--flip", "--shards", sues_shards.folder],
    }
    for words in ways.values():
        evaluate(command("--no-figures", *words))
    evaluations = run.folder / "evaluations"
    assert {path.name for path in evaluations.iterdir()} == ways.keys()
    for where in (run.folder, evaluations):
        entries, _ = collect(CompareConfig(reports=(where,)))
        assert {Path(entry.where).parent.name for entry in entries} == ways.keys()
        assert {entry.recipe["name"] for entry in entries} == {"newborn"}


def test_a_folder_is_replaced_whole_and_only_if_told(
    command: Command, run: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.figures.style.DPI", 20)
    monkeypatch.setattr("evaluation.figures.style.CHART_DPI", 20)
    monkeypatch.setitem(rcParams, "pdf.use14corefonts", True)
    evaluate(command("--conditions", "fog", "--descriptors"))
    folder = run.folder / "evaluations/university1652"
    assert (folder / "figures/conditions.pdf").is_file()
    with pytest.raises(DescriptorError, match=r"university1652 exists; give --overwrite"):
        evaluate(command())
    evaluate(command("--overwrite"))
    files = {path.name for path in folder.rglob("*")}
    assert {"report.json", "report.md", "recall_curves.pdf", "retrieval_d2s.png"} <= files
    assert not {"conditions.pdf", "d2s.mat"} & files
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_numbers_of_another_data_set_replace_none_of_the_run(
    run: RunPaths, shards: ShardSet, sues_shards: ShardSet, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(sues_shards.folder, own)
    write_manifest(own, replace(sues_shards.manifest, name="Toledo (May 2024)"))
    words = ["--checkpoint", run.folder, "--no-figures", "--shards"]
    for folder in (shards.folder, own):
        evaluate([str(word) for word in (*words, folder)])
    names = ("university1652", "Toledo_May_2024")
    assert {path.name for path in (run.folder / "evaluations").iterdir()} == {*names}
    first, second = (json.loads(line)["metrics"] for line in run.metrics.read_text().splitlines())
    assert "test/d2s/recall_at_1" in first
    assert "test-Toledo_May_2024/d2s/150m/recall_at_1" in second
    assert first.keys() & second.keys() == {"cost/parameters", "cost/ops"}


def test_metrics_belong_to_the_shards_that_were_first_tested_under_a_name(
    run: RunPaths, sues_shards: ShardSet, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(sues_shards.folder, other)
    changed = replace(sues_shards.manifest, coordinates={"0001": (1.0, 2.0)})
    write_manifest(other, changed)
    words = ["--checkpoint", run.folder, "--no-figures", "--overwrite", "--shards"]
    for folder in (sues_shards.folder, other, sues_shards.folder):
        evaluate([str(word) for word in (*words, folder)])
    lines = [json.loads(line)["metrics"] for line in run.metrics.read_text().splitlines()]
    prefixes = [{name.split("/")[0] for name in line} - {"cost"} for line in lines]
    its_own = f"test-sues200-{changed.fingerprint[:8]}"
    assert prefixes == [{"test-sues200"}, {its_own}, {"test-sues200"}]


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
    assert not list((run.folder / "evaluations").iterdir()), "whole or not at all"
