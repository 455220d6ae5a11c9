"""The tables of a comparison: one for all runs that were measured alike, groups as rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evaluation.compare.columns import (
    chosen_rows,
    cost_columns,
    group_cell,
    search_columns,
)
from evaluation.compare.config import CompareConfig
from evaluation.compare.gather import Entry
from evaluation.compare.groups import Group, group_runs, row_name
from evaluation.compare.manner import Manner, manner_of, refuse_unlike, title_of, titles_of
from evaluation.compare.official import unofficial
from evaluation.compare.published import published
from evaluation.compare.published_rows import name_in_print, published_rows
from evaluation.compare.speeds import speed_notes
from evaluation.compare.table import Column, Row, Table, mark_best
from evaluation.result import CLEAN, SINGLE, Result


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One table, and the groups behind it."""

    manner: Manner
    groups: tuple[Group, ...]
    table: Table


def compare_runs(entries: Sequence[Entry], config: CompareConfig) -> list[Comparison]:
    """Return a comparison for every way in which reports were measured: one, unless asked.

    Raises:
        RecipeError: a row that nobody has, or reports that were measured differently.
    """
    rows = chosen_rows(entries, config.results)
    manners: dict[Manner, list[Entry]] = {}
    for entry in entries:
        if results := _results(entry, rows):
            manners.setdefault(manner_of(entry, results), []).append(entry)
    if not config.separate:
        refuse_unlike(manners)
    titles = titles_of(list(manners))
    return [
        _comparison(manner, members, rows, config, title=title)
        for (manner, members), title in zip(manners.items(), titles, strict=True)
    ]


def without_rows(entries: Sequence[Entry], comparisons: Sequence[Comparison]) -> list[str]:
    """Return where the reports lie that have none of the compared rows."""
    shown = {id(entry) for one in comparisons for group in one.groups for entry in group.entries}
    return [entry.where for entry in entries if id(entry) not in shown]


def _results(entry: Entry, rows: Sequence[str]) -> list[Result]:
    """Return the results of a report that are compared."""
    return [result for result in entry.report.results if row_name(result) in rows]


def _comparison(
    manner: Manner,
    entries: Sequence[Entry],
    rows: Sequence[str],
    config: CompareConfig,
    *,
    title: str,
) -> Comparison:
    found = {row_name(result) for entry in entries for result in _results(entry, rows)}
    shown = [row for row in rows if row in found]
    groups = group_runs(entries)
    columns = [*search_columns(shown, config.metrics), *cost_columns(groups)]
    ours = [_row(group, columns, gallery=_gallery(entries, shown)) for group in groups]
    notes = list(_notes(manner, groups, shown))
    others: list[Row] = []
    weather = _in_weather(entries, shown)
    if not config.no_published:
        missing = _why_nothing_published(manner, entries, shown)
        if missing:
            notes.append(f"published numbers are left out: {missing}")
        else:
            others = published_rows(
                published(),
                columns,
                dataset=manner.dataset,
                trained_on=manner.trained_on,
                without=weather,
            )
            notes.append(
                "published OPs are of one image: half of what was printed for a pair; empty where "
                "that is not known"
            )
    return Comparison(
        manner=manner,
        groups=tuple(groups),
        table=Table(
            title=title,
            facts={
                "dataset": manner.dataset,
                "trained_on": manner.trained_on,
                "flip": manner.flip,
                "resampling": manner.resampling,
                "decoder": manner.decoder,
                "ties": manner.ties,
                "shards_fingerprint": manner.shards_fingerprint,
                "distractors": list(manner.distractors),
                "rerank": list(manner.rerank),
                "fusion": manner.fusion,
                "conditions_version": manner.conditions_version,
            },
            columns=tuple(columns),
            rows=mark_best(columns, [*ours, *others], with_published=config.mark_published),
            notes=tuple(notes),
        ),
    )


def _row(group: Group, columns: Sequence[Column], *, gallery: str) -> Row:
    return Row(
        label=group.label,
        cells=tuple(group_cell(group, column) for column in columns),
        gallery=gallery,
        seeds=tuple(group.seeds),
    )


def _gallery(entries: Sequence[Entry], rows: Sequence[str]) -> str:
    """Return the gallery of all compared rows; empty where it is not the same for all."""
    found = {result.gallery for entry in entries for result in _results(entry, rows)}
    return found.pop() if len(found) == 1 else ""


def _in_weather(entries: Sequence[Entry], rows: Sequence[str]) -> set[str]:
    """Return the rows under weather and light, which are our own: no paper had the same pixels."""
    results = [result for entry in entries for result in _results(entry, rows)]
    return {row_name(result) for result in results if result.condition != CLEAN}


def _why_nothing_published(manner: Manner, entries: Sequence[Entry], rows: Sequence[str]) -> str:
    """Say why published numbers do not belong beside these; empty if they do."""
    known = [row for row in published().results if row.dataset == manner.dataset]
    names = {name for row in known for name in row.values}
    comparable = {
        entry.where: [
            result
            for result in _results(entry, rows)
            if name_in_print(row_name(result)) in names and result.condition == CLEAN
        ]
        for entry in entries
    }
    if not manner.trained_on:
        return "it is not known what these models were trained on"
    if not any(row.trained_on == manner.trained_on for row in known):
        return f"there are none for training on {title_of(manner.trained_on)}"
    if not any(comparable.values()):
        return "there are none that compare with these rows"
    told = [
        words for entry in entries for words in unofficial(entry.report, comparable[entry.where])
    ]
    return next(iter(told), "")


def _notes(manner: Manner, groups: Sequence[Group], rows: Sequence[str]) -> Iterator[str]:
    """Say what was counted, and how."""
    entries = [entry for group in groups for entry in group.entries]
    counted: dict[tuple[str, int, int], None] = {}
    for result in [result for entry in entries for result in _results(entry, rows)]:
        counts = int(result.metrics["num_queries"]), int(result.metrics["num_gallery"])
        kind = "" if result.gallery == "full" else f" {result.gallery}"
        kind += "" if result.views == SINGLE else " fused"
        counted[(result.direction.upper() + kind, *counts)] = None
    searches = [f"{what} {q:,} queries, {g:,} images" for what, q, g in counted]
    yield "; ".join(searches)
    yield _how(manner)
    if any(len(group.entries) > 1 for group in groups):
        yield "± sample standard deviation over the runs that differ in the seed alone"
    for group in groups:
        if len(set(group.seeds)) < len(group.seeds):
            seeds = ", ".join(map(str, group.seeds))
            yield f"{group.label} holds runs of one seed more than once (seeds {seeds})"
    yield from speed_notes(groups)


def _how(manner: Manner) -> str:
    """Return how images were described and lists made, on one line."""
    how = [f"percent; {manner.resampling}, {'' if manner.flip else 'no '}mirrored images"]
    how.append(f"test images {manner.shards_fingerprint[:12]}")
    if manner.distractors:
        how.append(f"further distractors {', '.join(one[:12] for one in manner.distractors)}")
    if manner.rerank:
        how.append(f"re-ranked: {', '.join(manner.rerank)}")
    if manner.fusion:
        how.append(f"drone views chosen by {manner.fusion}")
    return "; ".join(how)
