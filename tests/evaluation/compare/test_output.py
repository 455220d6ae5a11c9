"""How a comparison is written: tables that fit, Markdown, LaTeX, CSV, figures."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from evaluation.compare import page
from evaluation.compare.tables import WIDTH
from evaluation.config import CompareConfig
from evaluation.report import Report
from tests.evaluation.compare.conftest import make_report, sues_results


def _wide(run_folder: Callable[..., Path], report: Report, *, seeds: int) -> Path:
    for seed in range(seeds):
        one = replace(report, seed=seed, checkpoint_sha256=str(seed))
        folder = run_folder(f"runs/{seed}", one).parent
    return folder


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("words", [(), ("--no-published",), ("--metrics", "recall@1", "ap")])
def test_tables_fit_and_keep_every_number(compare, run_folder, seeds, words) -> None:
    report = make_report(
        "a_run_whose_name_is_longer_than_a_label_should_be",
        dataset="sues200",
        results=sues_results(),
    )
    folder = _wide(run_folder, report, seeds=seeds)
    told = compare(folder, *words)
    assert max(map(len, told.out.splitlines())) <= WIDTH
    assert told.out.count("80.00") == 8, "AP is the same at all heights"
    for height in (150, 200, 250, 300):
        assert f"{80 + height / 20:.2f}" in told.out and f"{height} m" in told.out
    assert ("±0.00" in told.out) == (seeds > 1)


def test_all_metrics_of_a_wide_table_still_fit(compare, run_folder) -> None:
    report = make_report(dataset="sues200", results=sues_results())
    metrics = ("recall@1", "recall@5", "recall@10", "recall@1%", "ap")
    told = compare(_wide(run_folder, report, seeds=2), "--metrics", *metrics)
    assert max(map(len, told.out.splitlines())) <= WIDTH
    assert told.out.count("R@1%") == 8


def test_csv_has_a_line_per_number(compare, two_models) -> None:
    told = compare(two_models, "--format", "csv")
    lines = list(csv.DictReader(io.StringIO(told.out)))
    ours = [line for line in lines if line["is_published"] == "False"]
    assert len(ours) == 2 * (4 + 4)
    (one,) = [
        line
        for line in ours
        if (line["label"], line["row"], line["metric"]) == ("small", "d2s", "ap")
    ]
    assert float(one["low"]) == pytest.approx(90)
    assert one["runs"] == "3" and one["trained_on"] == "University-1652"
    assert one["flip"] == "False" and one["shards_fingerprint"] == "f" * 64
    printed = {line["metric"]: line for line in lines if line["label"] == "PFED"}
    assert printed["ap"]["source"] == "PFED / MobileGeo (arXiv 2510.22582), Tables I to III"
    assert printed["ops"]["source"].endswith("speed-accuracy chart")
    assert printed["ap"]["flip"] == "", "how others measured is not known"


def test_tables_in_latex_are_no_wider_than_the_text(compare, run_folder) -> None:
    report = make_report(dataset="sues200", results=sues_results())
    text = compare(_wide(run_folder, report, seeds=2), "--format", "latex").out
    tables = text.split(r"\begin{table}")[1:]
    assert len(tables) > 3, "narrower pages than a terminal has"
    for table in tables:
        before, _, behind = table.partition(r"\begin{tabular}")
        assert before.rstrip("\n").endswith("{!}{%") and r"\ifdim\width>\linewidth" in before
        assert behind.partition(r"\end{tabular}")[2].split() == ["}", r"\end{table}"]
    assert all(f"{height} m" in text for height in (150, 200, 250, 300))
    assert r"\usepackage{graphicx}" in text


def test_markdown_and_latex(compare, two_models, tmp_path) -> None:
    told = compare(two_models, "--out", tmp_path / "new" / "table.md")
    assert told.out == ""
    text = (tmp_path / "new" / "table.md").read_text()
    (head, rule, *rows) = [line for line in text.splitlines() if line.startswith("|")][:20]
    assert {line.count("|") for line in (head, rule, *rows)} == {head.count("|")}
    assert "| small | 3 | full | 91.00 ±1.00 |" in text and "**94.00 ±1.41**" in text
    assert "*DAC [2]*" in text

    shown = compare(two_models).out
    compare(two_models, "--out", tmp_path / "table.txt")
    assert (tmp_path / "table.txt").read_text() == shown

    text = compare(two_models, "--format", "latex").out
    assert r"\textbf{94.00 $\pm$1.41}" in text and r"\textcolor{gray}{DAC [2]}" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") >= 1
    assert r"\multicolumn{2}{c}{D2S}" in text
    columns = len(re.findall(r"\\begin{tabular}{(\w+)}", text)[0])
    rows = [line for line in text.splitlines() if line.startswith(("small", "large"))]
    assert rows[0].count(" & ") == columns - 1
    assert not re.search(r"(?<!\\)[%_#](?!\n)", text.partition("\n")[2])
    assert "89.40--89.64" in text and "89.40-89.64" not in text


def test_figures_have_the_points_of_the_table(compare, two_models, tmp_path) -> None:
    told = compare(two_models, "--figures", tmp_path / "figures")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {
        f"University-1652_{way}_recall_at_1_against_{cost}.png"
        for way in ("d2s", "s2d")
        for cost in ("ops", "speed")
    }
    assert all(name in told.err for name in names)


def test_figures_say_what_is_grey_and_whose_gallery_is_another(
    compare, two_models, monkeypatch
) -> None:
    drawn: dict[str, str] = {}

    def keep(figure: Figure, path: Path) -> Path:
        words = [text.get_text() for text in figure.findobj(Text)]
        if "_d2s_" in path.name:
            drawn[path.stem.rpartition("_")[2]] = " ".join(" ".join(words).split())
        return path

    monkeypatch.setattr(page, "save_figure", keep)
    compare(two_models, "--figures", "nowhere")
    assert all(label in drawn["ops"] for label in ("MEAN† [2]", "PFED [1]", "MCCG [2]"))
    assert "in-domain; grey: as published; † another gallery; bars: ±" in drawn["ops"]
    assert "grey" not in drawn["speed"], "nothing is there"
    where = "in-domain; bars: ± standard deviation over seeds; a GPU, float32, 2 threads, batch 64"
    assert where in drawn["speed"]


def test_the_suffix_says_the_format() -> None:
    assert CompareConfig(out=Path("a.TEX")).chosen_format == "latex"
    assert CompareConfig(out=Path("a.txt")).chosen_format == "table"
    assert CompareConfig(out=Path("a.md"), format="csv").chosen_format == "csv"
