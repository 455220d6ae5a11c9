"""The published numbers alone, as tables."""

from collections.abc import Iterator

from data_shards.errors import RecipeError
from data_shards.nearest import choose
from evaluation.compare.columns import ALL, OPS, PARAMETERS, PX, in_order, search_columns
from evaluation.compare.config import CompareConfig
from evaluation.compare.manner import title_of
from evaluation.compare.published import Published, PublishedCost, published
from evaluation.compare.published_rows import count_cell, published_rows, span_cell
from evaluation.compare.table import Cell, Column, Row, Table, mark_best, percent_cell

PRINTED = Column(row="", metric="printed_ops", head=("as printed", "OPs"), block="cost")
IMAGES = Column(row="", metric="images", head=("as printed", "images"), block="cost")
PER_SECOND = Column(row="", metric="images_per_second", head=("", "images/s"), block="cost")


def tables_in_print(config: CompareConfig) -> list[Table]:
    """Return what was published: a table per data set and training data, costs, classifiers.

    Raises:
        RecipeError: nothing is published on a data set, or under a metric or row.
    """
    known = published()
    datasets = list(dict.fromkeys(row.dataset for row in known.results))
    wanted = [choose(name, datasets, what="data set", error=RecipeError) for name in config.dataset]
    searches = _searches(known, config, wanted or datasets)
    tables = list(_result_tables(known, config, wanted or datasets, searches))
    if "university1652" in (wanted or datasets):
        tables.append(_costs(known))
    if not wanted:
        tables.append(_classifiers(known))
    return tables


def _searches(known: Published, config: CompareConfig, datasets: list[str]) -> list[str]:
    """Return the names of the rows to show: all that are published, or those asked for.

    Raises:
        RecipeError: nothing is published under one of the rows or metrics; those that are, are
            listed.
    """
    values = [row.values for row in known.results if row.dataset in datasets]
    rows = dict.fromkeys(name for found in values for name in found)
    asked = [
        choose(name, [*rows, ALL], what="published row", error=RecipeError)
        for name in config.results
    ]
    searches = list(rows) if ALL in asked or not asked else asked
    metrics = dict.fromkeys(
        metric for found in values for row in searches for metric in found.get(row, ())
    )
    for metric in config.metrics:
        choose(metric, metrics, what="published metric", error=RecipeError)
    return searches


def _result_tables(
    known: Published, config: CompareConfig, datasets: list[str], searches: list[str]
) -> Iterator[Table]:
    kinds = dict.fromkeys((row.dataset, row.trained_on) for row in known.results)
    for dataset, trained_on in kinds:
        of_kind = [
            row for row in known.results if (row.dataset, row.trained_on) == (dataset, trained_on)
        ]
        names = dict.fromkeys(name for row in of_kind for name in row.values)
        asked = [name for name in names if name in searches]
        columns = [*search_columns(in_order(asked), config.metrics), PX, PARAMETERS, OPS]
        rows = published_rows(known, columns, dataset=dataset, trained_on=trained_on)
        if dataset not in datasets or not rows:
            continue
        how = "in-domain" if dataset == trained_on else f"trained on {title_of(trained_on)}"
        yield Table(
            title=f"{title_of(dataset)}, {how}, as published",
            facts={"dataset": dataset, "trained_on": trained_on},
            columns=tuple(columns),
            rows=mark_best(columns, rows, with_published=config.mark_published),
            notes=(
                "percent; OPs are MACs, or BOPs / 64 + MACs, of one image: half of what was "
                "printed for a pair",
                *(f"{row.label}: {row.note}" for row in rows if row.note),
            ),
        )


def _costs(known: Published) -> Table:
    columns = (*search_columns(["d2s"], ["recall@1", "ap"]), PARAMETERS, PRINTED, IMAGES, PX)
    columns += (OPS, PER_SECOND)
    return Table(
        title="What inference costs, as charted, with the accuracy on University-1652",
        facts={"dataset": "university1652", "trained_on": "university1652"},
        columns=columns,
        rows=tuple(_cost_row(cost) for cost in known.costs),
        notes=(
            "empty where nothing tells of how many images, or of which size, the operations are; "
            "images/s on a device that is not stated unless it is named",
        ),
    )


def _cost_row(cost: PublishedCost) -> Row:
    accuracy = [
        span_cell(cost.accuracy[metric]) if metric in cost.accuracy else None
        for metric in ("recall@1", "ap")
    ]
    size = cost.parameters
    counts = (cost.operations, cost.images, cost.image_size, cost.operations_per_image)
    return Row(
        label=f"{cost.method} on {cost.device}" if cost.device else cost.method,
        cells=(
            *accuracy,
            None if size is None else count_cell(size.low, size.high),
            *(_count(value) for value in counts),
            None if cost.per_second is None else _speed(cost.per_second),
        ),
        gallery="",
        source=cost.source,
    )


def _speed(per_second: float) -> Cell:
    return Cell(text=f"{per_second:g}", low=per_second, high=per_second)


def _count(value: float | None) -> Cell | None:
    return None if value is None else count_cell(value, value)


def _classifiers(known: Published) -> Table:
    columns = (
        Column(row="", metric="top1", head=("ImageNet", "top-1"), block="accuracy"),
        Column(row="", metric="ops", head=("per image", "OPs"), block="cost"),
        Column(row="", metric="binary_share", head=("of these", "binary %"), block="cost"),
        Column(row="", metric="deploy_mib", head=("deployed", "MiB"), block="cost"),
    )
    rows = [
        Row(
            label=one.model,
            cells=(
                percent_cell(one.top1, one.top1),
                _count(one.operations),
                percent_cell(one.binary_share, one.binary_share),
                _count(one.deploy_mib),
            ),
            gallery="",
            source=one.source,
        )
        for one in known.classifiers
    ]
    return Table(
        title="BNext on ImageNet, as published",
        facts={"dataset": "imagenet", "trained_on": "imagenet"},
        columns=columns,
        rows=tuple(rows),
        notes=("OPs at 224 px, real convolutions counted at 8 bits",),
    )
