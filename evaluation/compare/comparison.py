"""Rows of reports become one table beside the published numbers: mean and deviation over seeds."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import pandas as pd

from data_shards.errors import RecipeError, require_known
from evaluation.compare.collect import Entry, group_runs, in_words, listed, shared_measurement
from evaluation.compare.published import ends, published, why_not_beside
from evaluation.compare.tables import OF_THE_TEST, SPEED, Column, Key, Number, Row, Table, row_name
from evaluation.config import CompareConfig
from evaluation.report import METRICS, SINGLE, Measurement, Report, Result

ALL = "all"

USUAL = ("d2s", "s2d")
"""Directions that are compared unless others are named: rows from the street are for who asks."""

COSTS = (
    Column(head=("model", "px"), metric="px"),
    Column(head=("model", "parameters"), metric="parameters"),
    Column(head=("per image", "OPs"), metric="ops"),
)


def compare_runs(entries: Sequence[Entry], config: CompareConfig, left_out: list[str]) -> Table:
    """Return the table of all reports; name in `left_out` those that have none of its rows.

    Raises:
        RecipeError: an unknown metric or row, or reports that were measured differently.
    """
    for metric in config.metrics:
        require_known(metric, METRICS, what="metric", error=RecipeError)
    searches = chosen_searches(entries, config.results)
    compared, without = [], []
    for entry in entries:
        if kept := tuple(one for one in entry.report.results if row_name(one) in searches):
            compared.append(replace(entry, report=replace(entry.report, results=kept)))
        else:
            without.append(entry.where)
    if without:
        left_out.append(f"{len(without)} reports have none of these rows: {listed(without)}")
    how = shared_measurement(compared)
    reports = [entry.report for entry in compared]
    speed, speed_notes = _speed(reports)
    columns = [search_column(one, metric) for one in searches.values() for metric in config.metrics]
    columns += [*COSTS, *speed]
    galleries = {result.gallery for report in reports for result in report.results}
    gallery = galleries.pop() if len(galleries) == 1 else ""
    rows = []
    for label, runs in group_runs(compared):
        cells = measured([entry.report for entry in runs], columns)
        rows.append(Row(label=label, cells=cells, gallery=gallery, entries=runs))
    notes = [*_notes(how, rows), *speed_notes]
    if not config.no_published:
        if missing := why_not_beside(how, searches.values()):
            notes.append(f"published numbers are left out: {missing}")
        else:
            rows += _published_rows(columns, how)
            notes.append(
                "published OPs are of one image: half of what was printed for a pair; empty where "
                "that is not known"
            )
    training = {None: "training data unknown", False: "in-domain"}
    seen = training.get(how.zero_shot, f"zero-shot: trained on {how.trained_on}")
    title = f"{how.dataset}, {seen}"
    return Table(title=title, measurement=how, columns=columns, rows=rows, notes=notes)


def chosen_searches(entries: Sequence[Entry], asked: Sequence[str]) -> dict[str, Result]:
    """Return a result of each row to compare, by its name, those of one direction together.

    Raises:
        RecipeError: no report has any row, or one of that name; the nearest is named.
    """
    known: dict[str, Result] = {}
    for entry in entries:
        for result in entry.report.results:
            known.setdefault(row_name(result), result)
    if not known:
        raise RecipeError("the reports hold no results; evaluate again")
    names = [require_known(name, [*known, ALL], what="row", error=RecipeError) for name in asked]
    if ALL in names:
        names = list(known)
    elif not names:
        headlines = [name for name, result in known.items() if result.is_headline]
        names = [name for name in headlines if known[name].direction in USUAL] or headlines
    chosen = {name: known[name] for name in names}
    kinds = [kind_of(result) for result in chosen.values()]
    directions = [result.direction for result in chosen.values()]

    def place(item: tuple[str, Result]) -> tuple[int, int]:
        return kinds.index(kind_of(item[1])), directions.index(item[1].direction)

    return dict(sorted(chosen.items(), key=place))


def kind_of(result: Result) -> str:
    """Return what a row is besides its direction and height: weather, gallery, views, pairing."""
    return replace(result, direction="", altitude_m=None, seed=None).name


def search_column(search: Result, metric: str) -> Column:
    """Return the column of a metric of one search."""
    head = [search.direction.upper(), *(part for part in kind_of(search).split("/") if part)]
    if search.altitude_m is not None:
        head.insert(1, f"{search.altitude_m} m")
    return Column(head=(*head, metric.upper().replace("RECALL", "R")), metric=metric, search=search)


def value_of(report: Report, column: Column) -> float | None:
    """Return a number of a report: of a search a fraction, the mean over draws of one kind."""
    if column.search is None:
        cost = report.cost
        known = {"px": report.image_size, "parameters": cost.parameters, "ops": cost.ops}
        return known.get(column.metric, _speeds(report).get(column.measured_on))
    row, metric = column.key
    found = [one.metrics[metric] for one in report.results if row_name(one) == row]
    return math.fsum(found) / len(found) if found else None


def measured(reports: Sequence[Report], columns: Sequence[Column]) -> dict[Key, Number]:
    """Return mean and sample deviation (n - 1) over the reports that have a number."""
    cells = {}
    for column in columns:
        found = [number for one in reports if (number := value_of(one, column)) is not None]
        if not found:
            continue
        times = 100 if column.search else 1
        mean = times * (math.fsum(found) / len(found))
        varies = len(found) > 1 and (column.search or column.metric == SPEED)
        deviation = times * statistics.stdev(found) if varies else None
        cells[column.key] = Number(low=mean, high=mean, deviation=deviation, runs=len(found))
    return cells


def _speed(reports: Sequence[Report]) -> tuple[list[Column], list[str]]:
    """Return the column of images per second, if all were measured on one machine, and a note.

    Of several batch sizes that all were measured at, it is the fastest.
    """
    speeds = pd.DataFrame([_speeds(report) for report in reports if report.speed])
    shared = speeds.dropna(axis=1)
    if speeds.empty:
        return [], []
    if shared.empty:
        return [], [f"images/s are left out, they were measured apart: {listed(list(speeds))}"]
    fastest = str(shared.sum().idxmax())
    column = Column(head=("measured", "images/s"), metric=SPEED, measured_on=fastest)
    return [column], [f"images/s: {fastest}"]


def _speeds(report: Report) -> Mapping[str, float]:
    """Return images per second by machine and batch."""
    return {f"{one.machine}, batch {one.batch_size}": one.images_per_second for one in report.speed}


def _published_rows(columns: Sequence[Column], how: Measurement) -> list[Row]:
    """Return what was published on the same data sets, in the order of the file."""
    searches = [column.search for column in columns if column.search]
    rows = []
    for row in published().results:
        if (row.dataset, row.trained_on) != (how.protocol, how.trained_official):
            continue
        cells = {}
        for column in columns:
            value, source = None, None
            if column.search:
                value = row.value(column.search, column.metric, searches)
            elif cost := published().cost_of(row.method, column.metric):
                value, source = cost
            if value is not None:
                low, high = ends(value)
                cells[column.key] = Number(low=low, high=high, source=source)
        if any(name for name, _ in cells):
            label = f"{row.method} (unverified)" if row.source.unverified else row.method
            note, gallery = row.note, row.gallery
            rows.append(
                Row(label=label, cells=cells, gallery=gallery, source=row.source, note=note)
            )
    return rows


def _notes(how: Measurement, rows: Sequence[Row]) -> Iterator[str]:
    """Say what was counted, and how."""
    counted: dict[str, None] = {}
    results = [one for row in rows for entry in row.entries for one in entry.report.results]
    for result in results:
        kind = "" if result.gallery == "full" else f" {result.gallery}"
        kind += "" if result.views == SINGLE else " fused"
        queries, gallery = result.metrics["num_queries"], result.metrics["num_gallery"]
        what = result.direction.upper() + kind
        counted[f"{what} {queries:,.0f} queries, {gallery:,.0f} images"] = None
    yield "; ".join(counted)
    told = {k: v for k, v in asdict(how).items() if (v or v is False) and k not in OF_THE_TEST}
    said = (f"{name.replace('_', ' ')} {in_words(value)}" for name, value in told.items())
    yield "; ".join(["percent", *said])
    if any(len(row.entries) > 1 for row in rows):
        yield "± sample standard deviation over the runs that differ in the seed alone"
    for row in rows:
        if len(set(row.seeds)) < len(row.seeds):
            seeds = ", ".join(map(str, row.seeds))
            yield f"{row.label} holds runs of one seed more than once (seeds {seeds})"
