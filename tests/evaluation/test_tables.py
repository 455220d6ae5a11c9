"""Tables hold every row, rounded as papers have it, in sections that are never empty."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from evaluation.efficiency import Cost, Speed
from evaluation.report import Report, Result
from evaluation.tables import (
    COLUMNS,
    escape,
    latex,
    markdown,
    notes,
    percent,
    sections,
    short,
    terminal,
)

MakeResult = Callable[..., Result]
MakeReport = Callable[..., Report]

RERANK = "k-reciprocal: top 100, k1 20, k2 6, lambda 0.3"


@pytest.fixture
def whole(result: MakeResult, report: MakeReport) -> Report:
    """A report with a row of every kind, five draws among them."""
    draws = [result(0.95 + seed / 1000, views="random-10", seed=seed) for seed in range(5)]
    return report(
        result(0.938749),
        result(0.957151, "s2d"),
        result(0.941, gallery="no-distractors"),
        result(0.96, views="mean"),
        *draws,
        result(0.971, views="refined-10"),
        result(0.92, condition="fog"),
        result(0.968, rerank=RERANK),
    )


def test_every_kind_of_row_has_its_section(whole: Report) -> None:
    found = {title: [row.label for row in rows] for title, rows in sections(whole).items()}
    assert found == {
        "official protocol, full gallery": ["drone to satellite", "satellite to drone"],
        "gallery without distractors": ["drone to satellite"],
        "several drone views per place; random: mean ± standard deviation over 5 draws": [
            "drone to satellite, mean",
            "drone to satellite, random-10",
            "drone to satellite, refined-10",
        ],
        "weather and light over the drone queries": ["drone to satellite, fog"],
        f"ranked again: {RERANK}": ["drone to satellite"],
    }


def test_what_was_not_measured_leaves_no_heading(result: MakeResult, report: MakeReport) -> None:
    only = report(result(0.5), result(0.4, "s2d"))
    assert list(sections(only)) == ["official protocol, full gallery"]
    assert markdown(only).count("**") == 4  # the title, and one section
    assert latex(only).count(r"\midrule") == 1


def test_draws_become_their_mean_and_sample_deviation(whole: Report) -> None:
    # 95.0, 95.1, ... 95.4: mean 95.2, deviation sqrt((4 + 1 + 0 + 1 + 4) / 100 / 4) = 0.158
    assert "| drone to satellite, random-10 | 95.20 ± 0.16 | 90.00 ± 0.00 |" in markdown(whole)
    assert r"drone to satellite, random-10 & 95.20 $\pm$ 0.16 & " in latex(whole)


def test_fractions_become_percent_with_two_decimals(whole: Report) -> None:
    line = "| drone to satellite | 93.87 | 90.00 | 95.00 | 97.00 | 94.87 | 0.11 |"
    assert line in markdown(whole)
    assert "(percent)" in markdown(whole).splitlines()[0]
    assert [percent(value) for value in (0, 1, 0.938751, 0.00105)] == [
        "0.00",
        "100.00",
        "93.88",
        "0.10",
    ]


def test_zero_shot_is_said_in_the_title(result: MakeResult, report: MakeReport) -> None:
    far = report(result(0.5, altitude_m=150), dataset="sues200")
    title = r"student\_a&b on SUES-200, zero-shot: trained on University-1652"
    assert title in markdown(far)
    assert "zero-shot" not in markdown(report(result(0.5), trained_on=""))


def test_ground_that_was_trained_on_is_named_in_the_title(
    result: MakeResult, report: MakeReport
) -> None:
    title = "University-1652, 3 of whose tested places it was trained on (percent)"
    assert title in markdown(report(result(0.5), seen_places=3))
    assert "left out: 1" in markdown(report(result(0.5), height_note="left out: 1 of 9"))


def test_only_the_official_counts_are_called_official(
    result: MakeResult, report: MakeReport
) -> None:
    own = report(result(0.5), dataset="toledo", protocol="university1652", trained_on="toledo")
    assert "**student\\_a&b on toledo (percent)**" in markdown(own)
    assert list(sections(own)) == ["full gallery"]


def test_latex_is_whole_and_has_no_sign_unescaped(whole: Report) -> None:
    text = latex(whole)
    assert r"student\_a\&b on University-1652" in text
    opened = re.findall(r"\\begin\{(\w+)\}", text)
    assert opened == re.findall(r"\\end\{(\w+)\}", text)[::-1] == ["table", "tabular"]
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    for row in rows:
        cells = re.split(r"(?<!\\)&", row)
        is_title = row.startswith(rf"\multicolumn{{{len(COLUMNS) + 1}}}{{l}}")
        assert len(cells) == (1 if is_title else len(COLUMNS) + 1), row
    assert len(rows) == 1 + sum(1 + len(found) for found in sections(whole).values())
    after_comment = text.split("\n", 1)[1]
    assert not re.search(r"(?<!\\)[%#_]", after_comment)
    assert re.sub(r"\\[{}]", "", text).count("{") == re.sub(r"\\[{}]", "", text).count("}")
    assert text.isascii()


def test_every_sign_of_latex_is_escaped() -> None:
    assert escape("50% of a_b & {c} #1 $x ~^") == (
        r"50\% of a\_b \& \{c\} \#1 \$x \textasciitilde{}\textasciicircum{}"
    )
    assert escape("a\\b") == r"a\textbackslash{}b"


def test_the_terminal_shows_every_number_in_100_columns(whole: Report) -> None:
    console = Console(width=100, record=True, quiet=False, file=open("/dev/null", "w"))
    console.print(terminal(whole))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert max(map(len, lines)) <= 100
    assert all(line.count("…") == 0 for line in lines)
    assert any(
        line.split()[-6:] == ["93.87", "90.00", "95.00", "97.00", "94.87", "0.11"] for line in lines
    )
    assert any("95.20±0.16" in line for line in lines)


def test_altitudes_stand_in_every_row_but_once_in_the_counts(
    result: MakeResult, report: MakeReport
) -> None:
    heights = (150, 200, 250, 300)
    sues = report(*(result(0.5, way, altitude_m=h) for way in ("d2s", "s2d") for h in heights))
    (rows,) = sections(sues).values()
    assert [row.label for row in rows][:2] == [
        "drone to satellite, 150 m",
        "drone to satellite, 200 m",
    ]
    assert len(rows) == 8
    assert [note for note in notes(sues) if "queries" in note] == [
        "drone to satellite: 37,855 queries, 951 gallery images",
        "satellite to drone: 37,855 queries, 951 gallery images",
    ]


def test_notes_say_what_the_model_costs_and_what_was_unusual(
    result: MakeResult, report: MakeReport
) -> None:
    speed = Speed(
        device="a GPU",
        precision="float32",
        threads=1,
        image_size=224,
        batch_size=64,
        warm_up=50,
        runs=200,
        median_ms=62.6,
        least_ms=60,
        most_ms=70,
        peak_memory_mib=100,
    )
    cost = Cost(
        image_size=256, parameters=33_500_000, binary_parameters=3, macs=10**7, bops=64 * 10**7
    )
    told = "\n".join(
        notes(
            report(
                result(0.5),
                cost=cost,
                speed=(speed,),
                flip=True,
                absent=("street2s",),
                distractors=("a",),
                distances={
                    "d2s": {
                        "within_50m": 0.93875,
                        "within_250m": 1.0,
                        "guessing_within_50m": 0.25,
                        "guessing_within_250m": 0.75,
                        "num_known": 1_000,
                        "num_unknown": 3,
                        "num_left_out": 0,
                    }
                },
            )
        )
    )
    assert "33.5 M parameters, 10 M MACs, 640 M BOPs, 20 M OPs" in told
    assert (
        "1,022.4 images/s in batches of 64 (62.6 ms, median of 200) on a GPU" in told
        and "mirrored" in told
    )
    assert "d2s: first answer within 50 m of the truth for 93.88 (guessing 25.00) and" in told
    assert "(guessing 75.00); 1,000 of known position, 3 of unknown position, not within" in told
    assert "left out" not in told
    assert "no images for street2s" in told and "images of 1 shard folder more" in told


def test_queries_that_nothing_can_answer_are_counted(
    report: MakeReport, result: MakeResult
) -> None:
    told = notes(report(result(0.5, num_unanswerable=12), result(0.5, "s2d")))
    assert [note for note in told if "no right image" in note] == [
        "12 of 37,855 queries of d2s have no right image in the gallery, and score 0"
    ]


def test_a_gallery_with_further_distractors_is_not_called_official(
    report: MakeReport, result: MakeResult
) -> None:
    plain = sections(report(result(0.5)))
    assert list(plain) == ["official protocol, full gallery"]
    enlarged = report(result(0.5), distractors=("a", "b"))
    assert list(sections(enlarged)) == ["full gallery with further distractors"]
    assert "galleries with the images of 2 shard folders more" in notes(enlarged)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (4.4548e9, "4.455 G"),
        (999_999, "1 M"),
        (250e6, "250 M"),
        (20, "20"),
        (0, "0"),
        (1e12, "1 T"),
    ],
)
def test_large_numbers_have_a_unit(number: float, text: str) -> None:
    assert short(number) == text


def test_a_note_says_where_there_were_no_views_to_choose(
    report: MakeReport, result: MakeResult
) -> None:
    def row(way: str, direction: str, few: int, places: int) -> Result:
        told = result(0.5, direction, views=way)
        counts = {"num_few_views": few, "num_places": places}
        return replace(told, metrics={**told.metrics, **counts})

    ways = ("random-10", "refined-10")
    chosen = [row(way, *counts) for way in ways for counts in (("d2s", 0, 701), ("s2d", 12, 1951))]
    (told,) = [note for note in notes(report(result(0.5), *chosen)) if "keep all" in note]
    assert told == "places with no more than 10 drone views keep all: 12 of 1,951 in s2d"
    assert not any("keep all" in note for note in notes(report(result(0.5), *chosen[::2])))
