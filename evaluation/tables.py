"""A report as a table: for the terminal, for Markdown, for LaTeX. Percent with two decimals."""

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from evaluation.report import CLEAN, METRICS, ONE_NETWORK, SINGLE, Report, Result

COLUMNS = ("recall@1", "recall@5", "recall@10", "recall@1%", "AP", "guessing")

WIDTH = 100
"""Characters of the terminal that the table is made for."""

UNITS = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))

TITLES = {
    "headline": "full gallery",
    "no-distractors": "gallery without distractors",
    "gallery-network": "queries and gallery by the gallery network",
    "asymmetric": "asymmetric: queries by the query network, gallery by the gallery network",
    "views": "several drone views per place",
    "condition": "weather and light over the drone queries",
    "rerank": "ranked again",
}
"""Sections of a table, in their order."""

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
}
"""What LaTeX would take for an order, or does not know, and how it prints it."""

SHRUNK = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"
"""Makes what is wider than the text as wide as the text, and nothing else; of graphicx."""

SMALL = r"\footnotesize\setlength{\tabcolsep}{4pt}"


class Row(NamedTuple):
    """One line of a table: a result, or the mean of those that differ in their draw alone."""

    label: str
    cells: tuple[str, ...]
    """In the order of `COLUMNS`, with the standard deviation over draws (one less in the
    denominator) of all but guessing."""


def sections(report: Report) -> dict[str, list[Row]]:
    """Sort every result of a report into the sections of its table, by title; none is empty."""
    found = {}
    for kind, title in TITLES.items():
        if not (results := [result for result in report.results if _kind(result) == kind]):
            continue
        num_draws = max(len(drawn) for drawn in _draws(results))
        if kind == "headline":
            how, title = report.measurement, full_gallery(report)
            is_official = how.is_official and not how.distractors
            title = f"official protocol, {title}" if is_official else title
        elif kind == "views" and num_draws > 1:
            title += f"; random: mean ± standard deviation over {num_draws} draws"
        elif kind == "rerank":
            title += f": {' / '.join(dict.fromkeys(result.rerank for result in results))}"
        found[title] = list(_rows(kind, results))
    return found


def full_gallery(report: Report) -> str:
    """Say what the headline rows search."""
    further = report.measurement.distractors
    return "full gallery with further distractors" if further else "full gallery"


def whose(report: Report) -> str:
    """Say which model and which data set numbers are about."""
    how, seen = report.measurement, ""
    if how.zero_shot:
        seen = f", zero-shot: trained on {how.trained_on}"
    elif report.seen_places:
        seen = f", {report.seen_places:,} of whose tested places it was trained on"
    return f"{report.name} on {how.dataset}{seen}"


def notes(report: Report) -> tuple[str, ...]:
    """Say what was searched, what the model costs, and how long it took."""
    cost = report.cost
    operations = f"{short(cost.macs)} MACs"
    if cost.bops:
        operations += f", {short(cost.bops)} BOPs, {short(cost.ops)} OPs (BOPs / 64 + MACs)"
    how = report.measurement
    flip = ", mirrored images added" if how.flip else ""
    further, gallery = len(how.distractors), report.gallery_network
    whose = "query network: " if gallery else ""
    lines = [*_counts(report.headlines())]
    if further:
        folders = "1 shard folder" if further == 1 else f"{further} shard folders"
        lines.append(f"galleries with the images of {folders} more")
    lines += _few_views(report.results)
    lines += [
        f"{row.num_unanswerable:,} of {row.metrics['num_queries']:,.0f} queries of {row.name} have "
        "no right image in the gallery, and score 0"
        for row in report.headlines()
        if row.num_unanswerable
    ]
    lines += [_distance(name, numbers) for name, numbers in report.distances.items()]
    lines += [report.height_note] if report.height_note else []
    if report.absent:
        lines.append(f"no images for {', '.join(report.absent)}")
    lines.append(
        f"{whose}{short(cost.parameters)} parameters, {operations} per image of "
        f"{cost.image_size} px"
    )
    lines += [
        f"{whose}{speed.images_per_second:,.1f} images/s in batches of {speed.batch_size} "
        f"({speed.median_ms:.1f} ms, median of {speed.runs}) on {speed.machine}"
        for speed in report.speed
    ]
    aspect = "" if how.aspect == "squeeze" else f", {how.aspect}"
    lines.append(f"{whose}images of {report.image_size} px, {how.resampling}{aspect}{flip}")
    if gallery:
        trained_on = gallery.trained_on or "unknown images"
        lines.append(
            f"gallery network: {gallery.name}, {gallery.arch}, trained on {trained_on}; images of "
            f"{gallery.image_size} px, {gallery.resampling}{flip}"
        )
    spent = f"{report.seconds:.1f} s in all, {report.ranking_seconds:.1f} s without describing"
    return (*lines, spent)


def _distance(name: str, numbers: Mapping[str, float]) -> str:
    """Say how near the first answers of a row are, and of how many this is known."""
    near = " and ".join(
        f"within {metres} m of the truth for {percent(numbers[f'within_{metres}m'])} (guessing "
        f"{percent(numbers[f'guessing_within_{metres}m'])})"
        for metres in (50, 250)
    )
    counts = {
        "of known position": numbers["num_known"],
        "of unknown position, not within": numbers["num_unknown"],
        "to queries of unknown position, left out": numbers["num_left_out"],
    }
    told = ", ".join(f"{count:,.0f} {words}" for words, count in counts.items() if count)
    return f"{name}: first answer {near}; {told}"


def _few_views(results: Sequence[Result]) -> list[str]:
    """Say in which rows there was nothing to choose from for some places."""
    told: dict[str, list[str]] = {}
    for result in results:
        way, _, k = result.views.partition("-")
        if way == "refined" and (few := result.metrics.get("num_few_views", 0)):
            row = replace(result, views=SINGLE).name
            counts = f"{few:,.0f} of {result.metrics['num_places']:,.0f} in {row}"
            told.setdefault(k, []).append(counts)
    return [
        f"places with no more than {k} drone views keep all: {', '.join(counts)}"
        for k, counts in told.items()
    ]


def terminal(report: Report) -> Group:
    """Return the table for a terminal of `WIDTH` characters."""
    found = {
        title: [[row.label, *(cell.replace(" ± ", "±") for cell in row.cells)] for row in rows]
        for title, rows in sections(report).items()
    }
    lines = [["", *COLUMNS], *sum(found.values(), [])]
    longest, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    room = min(WIDTH - 2 - sum(widths) - 2 * len(widths), longest)

    def table(lines: Sequence[Sequence[str]], style: str = "") -> Table:
        shown = Table(box=None, show_header=False, padding=(0, 0, 0, 2))
        shown.add_column(width=room)
        for width in widths:
            shown.add_column(width=width, justify="right", no_wrap=True)
        for line in lines:
            shown.add_row(*line, style=style)
        return shown

    shown: list[Text | Table] = [
        Text(f"{whose(report)} (percent)", style="bold"),
        Text(),
        table(lines[:1], "dim"),
    ]
    for title, of_section in found.items():
        shown += [Text(title, style="bold"), table(of_section), Text()]
    return Group(*shown, *(Text(note, style="dim") for note in notes(report)))


def markdown(report: Report) -> str:
    """Return the table as Markdown, with a title above and notes below."""
    lines = [f"**{plain(whose(report))} (percent)**", "", f"| | {' | '.join(COLUMNS)} |"]
    lines.append("|---" + "|---:" * len(COLUMNS) + "|")
    for title, rows in sections(report).items():
        lines.append(f"| **{plain(title)}** |" + " |" * len(COLUMNS))
        lines += [f"| {plain(label)} | {' | '.join(cells)} |" for label, cells in rows]
    return "\n".join([*lines, "", *(f"- {plain(note)}" for note in notes(report)), ""])


def latex(report: Report) -> str:
    r"""Return the table as LaTeX for booktabs and graphicx, the notes in its caption."""
    columns = " & ".join(escape(column) for column in COLUMNS)
    caption = f"{whose(report)} (percent). {'; '.join(notes(report))}."
    lines = [
        r"% needs \usepackage{booktabs} and \usepackage{graphicx}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        SMALL,
        rf"{SHRUNK}{{\begin{{tabular}}{{l{'r' * len(COLUMNS)}}}",
        r"\toprule",
        rf" & {columns} \\",
    ]
    span = len(COLUMNS) + 1
    for title, rows in sections(report).items():
        lines += [
            r"\midrule",
            rf"\multicolumn{{{span}}}{{l}}{{\emph{{{escape(title)}}}}} \\",
            *(rf"{escape(label)} & {' & '.join(map(escape, cells))} \\" for label, cells in rows),
        ]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""])


def escape(text: str) -> str:
    """Return text that LaTeX prints as it stands."""
    return "".join(LATEX.get(sign, sign) for sign in text)


def _kind(result: Result) -> str:
    """Return the section a result belongs to: the furthest from the official protocol."""
    departures = {
        "rerank": bool(result.rerank),
        "condition": result.condition != CLEAN,
        "views": result.views != SINGLE,
        result.pairing: result.pairing != ONE_NETWORK,
        "no-distractors": result.gallery != "full",
        "headline": True,
    }
    return next(kind for kind, is_so in departures.items() if is_so)


def _draws(results: Sequence[Result]) -> list[list[Result]]:
    """Bring together the results that differ in their draw alone."""
    drawn: dict[str, list[Result]] = {}
    for result in results:
        drawn.setdefault(replace(result, seed=None).name, []).append(result)
    return list(drawn.values())


def _rows(kind: str, results: Sequence[Result]) -> Iterator[Row]:
    for drawn in _draws(results):
        values = [(*(result.metrics[name] for name in METRICS), result.chance) for result in drawn]
        columns = list(zip(*values, strict=True))
        one = drawn[0]  # in words, without what the title of its section says
        words = {
            one.title: True,
            f"{one.altitude_m} m": one.altitude_m is not None,
            one.views: one.views != SINGLE,
            one.condition: one.condition != CLEAN,
            one.gallery: one.gallery != "full" and kind != "no-distractors",
        }
        cells = [percent(math.fsum(column) / len(column)) for column in columns]
        if len(drawn) > 1:
            for number, column in enumerate(columns[:-1]):
                cells[number] += f" ± {percent(statistics.stdev(column))}"
        yield Row(", ".join(word for word, is_told in words.items() if is_told), tuple(cells))


def _counts(results: Sequence[Result]) -> list[str]:
    """Return how much was searched in each direction, at each altitude only where they differ."""
    for with_altitude in (False, True):
        counts = dict.fromkeys(
            f"{result.title}{f', {result.altitude_m} m' if with_altitude else ''}: "
            f"{result.metrics['num_queries']:,.0f} queries, "
            f"{result.metrics['num_gallery']:,.0f} gallery images"
            for result in results
        )
        if len(counts) == len({result.title for result in results}):
            break
    return list(counts)


def plain(text: str) -> str:
    """Return text that Markdown prints as it stands."""
    return re.sub(r"([\\|*_`])", r"\\\1", text)


def short(number: float) -> str:
    """Return a large number with four digits and its unit: `4.455 G`, `250 M`, `20`."""
    for unit, size in UNITS:
        # What four digits round up to the next unit is written in it: 1 M, not 1000 k.
        if number >= 0.99995 * size:
            return f"{number / size:.4g} {unit}"
    return f"{number:.4g}"


def percent(fraction: float) -> str:
    """Return a fraction as papers have it: percent with two decimals."""
    return f"{100 * fraction:.2f}"
