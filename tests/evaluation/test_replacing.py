"""A second evaluation: beside the first where it is another task, else in its place, and told."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure

from data_shards.errors import DescriptorError
from data_shards.shards import ShardSet
from distill.run_folder import RunPaths
from evaluation.cli import evaluate
from evaluation.compare.collect import collect
from evaluation.compare.config import CompareConfig
from evaluation.figures import canvas, grid, panels, report_figures
from tests.evaluation.conftest import Command, Evaluated


def test_each_manner_has_a_report_of_its_own_and_compare_finds_all(
    evaluated: Evaluated, run: RunPaths, sues_shards: ShardSet
) -> None:
    names = {
        "evaluation.json": evaluated("--conditions", "fog"),
        "evaluation_flip.json": evaluated("--flip", "--conditions", "fog"),
        "evaluation_flip_48px_pillow-bicubic.json": evaluated(
            "--flip", "--image-size", "48", "--resampling", "pillow-bicubic"
        ),
        "evaluation_distractors.json": evaluated("--distractors", sues_shards.folder),
        "evaluation_sues200_flip.json": evaluated("--flip", on=sues_shards),
    }
    reports = run.folder.glob("evaluation*.json")
    found = {path.name: json.loads(path.read_text()) for path in reports}
    assert found == names
    entries, _ = collect(CompareConfig(reports=(run.folder,)))
    assert {Path(entry.where).name for entry in entries} == names.keys()


def test_size_and_resampling_of_the_training_are_the_plain_manner(
    evaluated: Evaluated, run: RunPaths
) -> None:
    evaluated("--image-size", "32", "--resampling", "opencv-linear")
    assert [path.name for path in run.folder.glob("evaluation*.json")] == ["evaluation.json"]


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        (["--conditions", "fog", "dark"], ["--conditions", "dark"], "has not: d2s/fog;"),
        (["--multi-view", "1"], [], "d2s/random-1/seed0.* and 6 more;"),
        (["--rerank", "--rerank-top", "7"], [], "has not: d2s/reranked, s2d/reranked;"),
        (["--rerank"], ["--rerank", "--rerank-k1", "3"], "has not: d2s/reranked, s2d/reranked;"),
        (
            ["--multi-view", "1", "--information", "agreement"],
            ["--multi-view", "1"],
            "it is of views chosen by agreement, ",
        ),
        (["--out", "{}/r.json"], ["--flip", "--out", "{}/r.json"], "of another choice of flip;"),
        ([], ["--rerank", "--rerank-top", "7", "--multi-view", "1"], None),
    ],
)
def test_what_goes_with_an_earlier_report_is_told_in_one_line(
    first: list[str],
    second: list[str],
    sentence: str | None,
    command: Command,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def told(*words: str) -> list[str]:
        caplog.clear()
        with caplog.at_level("INFO"):
            evaluate(command("--no-figures", *(word.format(tmp_path) for word in words)))
        lines = [line for line in caplog.messages if "replaced, though" in line]
        assert all(("would be" in line) == ("--dry-run" in words) for line in lines)
        return lines

    assert told(*first) == []
    for more in (["--dry-run"], []):
        lines = told(*second, *more)
        assert len(lines) == (sentence is not None)
        assert all(re.search(str(sentence), line) for line in lines), lines


@pytest.fixture
def few_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canvas, "DPI", 20)
    monkeypatch.setattr(grid, "CHART_DPI", 20)
    monkeypatch.setitem(rcParams, "pdf.use14corefonts", True)
    monkeypatch.setattr(panels, "NUM_QUERIES", 2)
    monkeypatch.setattr(report_figures, "NUM_PAIRS", 1)


def figures(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*")}


@pytest.mark.usefixtures("few_pixels")
def test_figures_of_the_replaced_report_go_and_those_of_others_stay(
    command: Command, run: RunPaths
) -> None:
    folder = run.folder / "figures"
    evaluate(command("--conditions", "fog", "--multi-view", "1"))
    assert {"conditions.pdf", "multi_view.png", "heat_maps.png"} <= figures(folder)
    (folder / "mine.png").write_text("mine")
    evaluate(command("--flip", "--no-figures"))
    assert "conditions.png" in figures(folder), "of another report, which stands"
    evaluate(command())
    left = figures(folder)
    assert {"mine.png", "recall_curves.pdf", "retrieval_d2s.png"} <= left
    assert not any(name.startswith(("conditions", "multi_view")) for name in left)
    assert left - {"mine.png"} <= set(report_figures.FIGURE_NAMES)
    evaluate(command("--no-figures"))
    assert figures(folder) == {"mine.png"}


@pytest.mark.usefixtures("few_pixels")
def test_without_figures_beside_a_chosen_name_only_our_own_go(
    command: Command, tmp_path: Path
) -> None:
    out, folder = tmp_path / "r.json", tmp_path / "r_figures"
    folder.mkdir()
    (folder / "similarity.png").write_text("mine: there was no report")
    evaluate(command("--out", out, "--no-figures"))
    assert figures(folder) == {"similarity.png"}
    evaluate(command("--out", out))
    assert "heat_maps.png" in figures(folder)
    evaluate(command("--out", out, "--no-figures"))
    assert figures(folder) == set()


def test_words_and_figures_of_the_user_beside_bare_weights_stay(
    command: Command, run: RunPaths, tmp_path: Path
) -> None:
    weights = Path(shutil.copy(run.weights, tmp_path / "student.safetensors"))
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "similarity.pdf").write_text("mine")
    words = command("--no-figures")
    words[words.index("--checkpoint") + 1] = str(weights)
    evaluate(words)
    assert (tmp_path / "figures" / "similarity.pdf").read_text() == "mine"
    for name in ("evaluation.json", "evaluation.md"):
        (tmp_path / name).unlink()
    (tmp_path / "evaluation.tex").write_text("my chapter")
    with pytest.raises(DescriptorError, match="evaluation.tex is there and is no part of a report"):
        evaluate(words)
    assert (tmp_path / "evaluation.tex").read_text() == "my chapter"


def test_other_weights_of_the_same_name_are_told(
    command: Command, tmp_path: Path, run: RunPaths, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "r.json"
    evaluate(command("--no-figures", "--out", out))
    earlier = json.loads(out.read_text())
    out.write_text(json.dumps(earlier | {"checkpoint_sha256": "of another seed"}))
    with caplog.at_level("INFO"):
        evaluate(command("--no-figures", "--out", out))
    assert f"replaced, though it is of other weights, {earlier['checkpoint']}" in caplog.text


@pytest.mark.usefixtures("few_pixels")
def test_a_folder_of_figures_that_is_a_link_stays_one(
    command: Command, run: RunPaths, tmp_path: Path
) -> None:
    (tmp_path / "large_disk").mkdir()
    (run.folder / "figures").symlink_to(tmp_path / "large_disk")
    evaluate(command())
    evaluate(command("--no-figures"))
    assert (run.folder / "figures").is_symlink() and not figures(tmp_path / "large_disk")
    assert (run.folder / "evaluation.tex").is_file()


def test_tables_of_an_earlier_report_do_not_stay_beside_a_new_one(
    command: Command, run: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*words: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    evaluate(command("--no-figures"))
    monkeypatch.setattr("evaluation.record.write_text_aside", no_space)
    with pytest.raises(DescriptorError, match="evaluation.md cannot be written .No space left"):
        evaluate(command("--no-figures"))
    assert [path.name for path in run.folder.glob("evaluation*")] == ["evaluation.json"]


@pytest.mark.usefixtures("few_pixels")
@pytest.mark.parametrize("number", [0, 2])
def test_a_disk_that_fills_while_figures_are_drawn_holds_nothing_half_drawn(
    number: int, command: Command, run: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    def savefig(figure: Figure, aside: Path, **options: object) -> None:
        drawn.append(aside.name)
        aside.write_bytes(b"half")
        if len(drawn) > number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Figure, "savefig", savefig)
    with pytest.raises(DescriptorError, match="figures cannot be written .No space left"):
        evaluate(command())
    folder = run.folder / "figures"
    assert folder.is_dir() == (number > 0)
    assert len(figures(folder)) == number
    assert not any("partial" in name for name in figures(folder))
