"""Where an evaluation may write: refused before anything is described, and nobody's file lost."""

import errno
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from data_shards.errors import DescriptorError
from data_shards.manifest import write_text_aside
from distill.run_folder import RunPaths
from evaluation.cli import evaluate
from tests.evaluation.conftest import Command, Evaluated


@pytest.fixture
def no_describing(monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(*words: object, **facts: object) -> None:
        raise AssertionError("described before the destinations were looked at")

    monkeypatch.setattr("evaluation.judging.describe", describe)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("no_describing")
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--out", "{}/folder.json"], "folder.json cannot be written .it is a folder.* --out"),
        (["--out", "/proc/x.json"], "/proc/x.json cannot be written .*--out"),
        (["--out", "{}/file.md/x.json"], "x.json cannot be written .*file.md is no folder"),
        (["--out", "{}/" + 250 * "x" + ".json"], "cannot be written .File name too long"),
        (["--out", "{}/pipe.json"], "pipe.json cannot be written .it is no plain file"),
        (["--descriptors-out", "{}/file.md"], "file.md is no folder.*--descriptors-out"),
        (["--submission", "{}/folder.json"], "it is a folder.*--submission"),
        (["--out", "{}/table.json"], "table.md cannot be written .it is a folder"),
        (["--out", "{}/a.json", "--submission", "{}/a.md"], "written twice, for --out and for"),
        (["--out", "{}/a.json", "--descriptors-out", "{}/a.json"], "one is a folder of the other"),
        # What others wrote stays.
        (["--out", "{}/mlflow.json"], "mlflow.json is there and is no report of skydistill"),
        (["--out", "{}/file.json"], "file.md is there and is no part of a report .*file.json is"),
        (["--out", "{}/own.json"], "own_figures/similarity.png is there and is no part"),
        (["--submission", "{}/file.md"], "file.md is there and is no submission of 9 of these"),
        (["--submission", "{}/names.txt"], "names.txt is there and is no submission of 9 of these"),
        (["--descriptors-out", "{}"], "d2s.mat is there and is no file of --descriptors-out"),
    ],
)
def test_a_place_where_nothing_can_or_may_be_written_is_refused_first(
    words: list[str], sentence: str, dry: list[str], command: Command, tmp_path: Path
) -> None:
    for name in ("folder.json", "table.md", "own_figures"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "file.md").write_text("mine\n")
    (tmp_path / "own_figures/similarity.png").write_text("mine")
    (tmp_path / "names.txt").write_text("tile1\ntile2\n")
    (tmp_path / "mlflow.json").write_text(json.dumps({"run_id": "a", "schema_version": 1}))
    savemat(tmp_path / "d2s.mat", {"gallery_f": np.ones((2, 2)), "query_f": np.ones((2, 2))})
    before = contents(tmp_path)
    with pytest.raises(DescriptorError, match=sentence) as refused:
        evaluate(command(*(word.format(tmp_path) for word in words), *dry))
    assert "\n" not in str(refused.value)
    assert contents(tmp_path) == before


def test_what_an_evaluation_wrote_the_next_one_replaces(
    evaluated: Evaluated, tmp_path: Path
) -> None:
    words = ["--out", tmp_path / "r.json", "--submission", tmp_path / "answer.txt"]
    words += ["--descriptors-out", tmp_path / "mat"]
    (tmp_path / "answer.txt").touch()  # as mktemp leaves it: nothing is lost
    evaluated(*words)
    first = {path: path.stat().st_ino for path in tmp_path.rglob("*.*") if path.is_file()}
    again = evaluated(*words)
    for path in first.keys() - set((tmp_path / "newborn").rglob("*")):
        assert path.stat().st_ino != first[path], path
    # One of an older schema says less, and is ours too.
    (tmp_path / "r.json").write_text(json.dumps(again | {"schema_version": 1}))
    assert evaluated(*words)["schema_version"] == 2


def no_space(*words: object, **facts: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "broken", ["os.fsync", "evaluation.exports.write_submission", "evaluation.record.draw_all"]
)
def test_numbers_are_told_when_a_file_cannot_be_written(
    broken: str,
    command: Command,
    run: RunPaths,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def failing(*words: object, **facts: object) -> None:
        raise DescriptorError("no space")

    monkeypatch.setattr(broken, failing if "submission" in broken else no_space)
    with pytest.raises(DescriptorError, match=r"cannot be written .No space left|no space"):
        evaluate(command("--json", "--submission", tmp_path / "answer.txt"))
    told = json.loads(capsys.readouterr().out)
    assert told["results"][0]["name"] == "d2s"
    assert not list(run.folder.rglob("*.partial"))
    if broken != "os.fsync":
        assert json.loads((run.folder / "evaluation.json").read_text()) == told


@pytest.mark.parametrize("reader", ["full disk", "gone"])
def test_numbers_that_nobody_can_be_told_are_written(
    reader: str,
    command: Command,
    run: RunPaths,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if reader == "gone":
        there, here = os.pipe()
        os.close(there)
    else:
        here = os.open("/dev/full", os.O_WRONLY)
    words = command("--json", "--no-figures", "--submission", tmp_path / "answer.txt")
    with os.fdopen(here, "w") as output, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", output)
        if reader == "gone":
            assert evaluate(words) == 0
            assert (tmp_path / "answer.txt").is_file()
        else:
            with pytest.raises(DescriptorError, match="numbers cannot be printed .No space"):
                evaluate(words)
    assert (run.folder / "evaluation.json").is_file()


def test_a_text_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there.md").write_text("before")
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", no_space)
        for name in ("new.md", "there.md"):
            with pytest.raises(OSError, match="No space left"):
                write_text_aside(tmp_path / name, "text")
    with pytest.raises(NotADirectoryError):
        write_text_aside(tmp_path / "there.md/new.md", "text")
    assert contents(tmp_path) == {tmp_path / "there.md": b"before"}
