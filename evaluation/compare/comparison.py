"""Rows of reports become one table beside the published numbers: mean and deviation over seeds."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from data_shards.errors import RecipeError, require_known
from evaluation.compare.collect import (
    Entry,
    Group,
    group_runs,
    in_words,
    listed,
    shared_measurement,
)
from evaluation.compare.config import CompareConfig
from evaluation.compare.published import (
    PublishedRow,
    published,
    published_value,
    why_not_beside,
)
from evaluation.compare.table import OF_THE_TEST, Cell, Column, Row, Table, mark_best
from evaluation.report import SINGLE, Measurement, Report, Result
from evaluation.tables import short

ALL = "all"

USUAL = ("d2s", "s2d")
"""Directions that are compared unless others are named: rows from the street are for who asks."""

METRIC_WORDS = {
    "recall@1": "R@1",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "recall@1%": "R@1%",
    "ap": "AP",
}
"""As columns of papers are headed."""

PX = Column(
    head=("model", "px"),
    metric="px",
    value=lambda report: report.image_size,
    form=lambda value: f"{value:.0f}",
    best="none",
)
PARAMETERS = Column(
    head=("model", "parameters"),
    metric="parameters",
    value=lambda report: report.cost.parameters,
    form=short,
    best="low",
)
OPS = Column(
    head=("per image", "OPs"),
    metric="ops",
    value=lambda report: report.cost.ops,
    form=short,
    best="low",
)
SPEED = "images_per_second"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One table, and what is behind it."""

    measurement: Measurement
    groups: tuple[Group, ...]
    table: Table
    without_rows: tuple[str, ...]
    """Where the reports lie that have none of the compared rows."""


def compare_runs(entries: Sequence[Entry], config: CompareConfig) -> Comparison:
    """Return the table of all reports.

    Raises:
        RecipeError: a row that nobody has, or reports that were measured differently.
    """
    searches = chosen_searches(entries, config.results)
    compared, without = [], []
    for entry in entries:
        kept = tuple(one for one in entry.report.results if row_name(one) in searches)
        if kept:
            compared.append(replace(entry, report=replace(entry.report, results=kept)))
        else:
            without.append(entry.where)
    measurement = shared_measurement(compared)
    groups = group_runs(compared)
    reports = [entry.report for entry in compared]
    speed, speed_notes = _speed(reports)
    columns = [search_column(one, metric) for one in searches.values() for metric in config.metrics]
    columns += [PX, PARAMETERS, OPS, *speed]
    galleries = {result.gallery for report in reports for result in report.results}
    rows = [
        Row(
            label=group.label,
            cells=tuple(measured(group.reports, column) for column in columns),
            gallery=galleries.copy().pop() if len(galleries) == 1 else "",
            seeds=tuple(group.seeds),
        )
        for group in groups
    ]
    notes = [*_notes(measurement, groups), *speed_notes]
    others: list[Row] = []
    if not config.no_published:
        if missing := why_not_beside(reports):
            notes.append(f"published numbers are left out: {missing}")
        else:
            others = _published_rows(columns, measurement)
            notes.append(
                "published OPs are of one image: half of what was printed for a pair; empty where "
                "that is not known"
            )
    facts = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(measurement).items()}
    return Comparison(
        measurement=measurement,
        groups=tuple(groups),
        table=Table(
            title=_title(measurement),
            facts=facts,
            columns=tuple(columns),
            rows=(*mark_best(columns, rows), *others),
            notes=tuple(notes),
        ),
        without_rows=tuple(without),
    )


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
    kinds = [kind_of(known[name]) for name in names]
    directions = [known[name].direction for name in names]
    in_order = sorted(
        dict.fromkeys(names),
        key=lambda name: (
            kinds.index(kind_of(known[name])),
            directions.index(known[name].direction),
        ),
    )
    return {name: known[name] for name in in_order}


def row_name(result: Result) -> str:
    """Return the name of a result, the same for all draws of one kind."""
    return replace(result, seed=None).name


def kind_of(result: Result) -> str:
    """Return what a row is besides its direction and height: weather, gallery, views, pairing."""
    return replace(result, direction="", altitude_m=None, seed=None).name


def metric_of(report: Report, row: str, metric: str) -> float | None:
    """Return a metric of a report, the mean over draws of one kind; None if it has no such row."""
    found = [result.metrics[metric] for result in report.results if row_name(result) == row]
    return math.fsum(found) / len(found) if found else None


def measured(reports: Sequence[Report], column: Column) -> Cell | None:
    """Return mean and sample deviation (n - 1) over the reports that have a number."""
    found = [number for report in reports if (number := column.value(report)) is not None]
    if not found:
        return None
    times = 100 if column.search else 1
    mean = times * (math.fsum(found) / len(found))
    varies = len(found) > 1 and (column.search or column.metric == SPEED)
    return Cell(
        low=mean,
        high=mean,
        deviation=times * statistics.stdev(found) if varies else None,
        count=len(found),
    )


def search_column(search: Result, metric: str) -> Column:
    """Return the column of a metric of one search."""
    row = row_name(search)
    head = [search.direction.upper(), *(part for part in kind_of(search).split("/") if part)]
    if search.altitude_m is not None:
        head.insert(1, f"{search.altitude_m} m")
    return Column(
        head=(*head, METRIC_WORDS[metric]),
        metric=metric,
        value=lambda report: metric_of(report, row, metric),
        form=lambda value: f"{value:.2f}",
        search=search,
    )


def _speed(reports: Sequence[Report]) -> tuple[list[Column], list[str]]:
    """Return the column of images per second, if all were measured on one machine, and a note.

    Of several batch sizes that all were measured at, it is the fastest.
    """
    found = [speeds for report in reports if (speeds := _speed_by_setup(report))]
    if not found:
        return [], []
    shared = [setup for setup in found[0] if all(setup in one for one in found)]
    if not shared:
        setups = list(dict.fromkeys(setup for one in found for setup in one))
        return [], [f"images/s are left out, they were measured apart: {listed(setups)}"]
    fastest = max(shared, key=lambda setup: math.fsum(one[setup] for one in found))
    column = Column(
        head=("measured", "images/s"),
        metric=SPEED,
        value=lambda report: _speed_by_setup(report).get(fastest),
        form=lambda value: f"{value:.0f}" if value >= 100 else f"{value:.3g}",
        measured_on=fastest,
    )
    return [column], [f"images/s: {fastest}"]


def _speed_by_setup(report: Report) -> dict[str, float]:
    """Return images per second by machine and batch."""
    return {f"{one.machine}, batch {one.batch_size}": one.images_per_second for one in report.speed}


def _published_rows(columns: Sequence[Column], measurement: Measurement) -> list[Row]:
    """Return what was published on the same data sets, in the order of the file."""
    searches = [column.search for column in columns if column.search]

    def cell(row: PublishedRow, column: Column) -> Cell | None:
        if column.search:
            span = published_value(row, column.search, column.metric, searches)
            return None if span is None else Cell(low=span[0], high=span[1])
        cost = published().cost_of(row.method, column.metric)
        return cost and Cell(low=cost[0][0], high=cost[0][1], source=cost[1])

    rows = []
    for row in published().results:
        cells = [cell(row, column) for column in columns]
        has_number = any(one for one, column in zip(cells, columns, strict=True) if column.search)
        public = (measurement.protocol, measurement.trained_official)
        tested = (row.dataset, row.trained_on) == public
        if tested and has_number:
            rows.append(
                Row(
                    label=f"{row.method} (unverified)" if row.source.unverified else row.method,
                    cells=tuple(cells),
                    gallery=row.gallery,
                    source=row.source,
                    note=row.note,
                )
            )
    return rows


def _title(measurement: Measurement) -> str:
    """Say what was tested: `SUES-200, zero-shot: trained on University-1652`."""
    if measurement.zero_shot is None:
        return f"{measurement.dataset}, training data unknown"
    if measurement.zero_shot:
        return f"{measurement.dataset}, zero-shot: trained on {measurement.trained_on}"
    return f"{measurement.dataset}, in-domain"


def _notes(one: Measurement, groups: Sequence[Group]) -> Iterator[str]:
    """Say what was counted, and how."""
    counted: dict[str, None] = {}
    for result in [row for group in groups for report in group.reports for row in report.results]:
        kind = "" if result.gallery == "full" else f" {result.gallery}"
        kind += "" if result.views == SINGLE else " fused"
        queries, gallery = result.metrics["num_queries"], result.metrics["num_gallery"]
        what = result.direction.upper() + kind
        counted[f"{what} {queries:,.0f} queries, {gallery:,.0f} images"] = None
    yield "; ".join(counted)
    how = {
        k: in_words(v) for k, v in asdict(one).items() if (v or v is False) and k not in OF_THE_TEST
    }
    yield "; ".join(
        ["percent", *(f"{name.replace('_', ' ')} {said}" for name, said in how.items())]
    )
    if any(len(group.entries) > 1 for group in groups):
        yield "± sample standard deviation over the runs that differ in the seed alone"
    for group in groups:
        if len(set(group.seeds)) < len(group.seeds):
            seeds = ", ".join(map(str, group.seeds))
            yield f"{group.label} holds runs of one seed more than once (seeds {seeds})"
