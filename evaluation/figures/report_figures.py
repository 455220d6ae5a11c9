"""All figures of a report: which ones there are, and what they are called."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure

from data_shards.config import Resampling
from data_shards.shards import ShardSet
from distill.models import RetrievalModel
from distill.models.heads import PooledHead
from evaluation.figures.canvas import save_figure
from evaluation.figures.distances import DistanceCurve, distance_to_truth, draw_distances
from evaluation.figures.heat import draw_heat_maps, heat_pairs
from evaluation.figures.panels import draw_panel, evenly_spaced
from evaluation.figures.recall_curves import draw_recall_curves, recall_curve
from evaluation.figures.result_charts import (
    condition_bars,
    draw_altitudes,
    draw_conditions,
    draw_multi_view,
    multi_view_bars,
)
from evaluation.figures.similarity import draw_similarity, similarity_counts
from evaluation.figures.tables import DATASETS
from evaluation.protocols import PROTOCOLS
from evaluation.report import Report, Result
from evaluation.retrieval import Retrieval

NUM_PAIRS = 6
"""Heat maps are drawn of this many pairs."""

FROM_THE_AIR = "d2s"
"""Direction whose pairs have heat maps."""

HEAT_MAPS = "heat_maps.png"
CHARTS = ("recall_curves", "similarity", "distances", "altitudes", "conditions", "multi_view")
CHART_FORMATS = ("png", "pdf")

DIRECTIONS = sorted({one.direction for found in PROTOCOLS.values() for one in found})

FIGURE_NAMES = (
    *(f"retrieval_{direction}.png" for direction in DIRECTIONS),
    HEAT_MAPS,
    *(f"{name}.{suffix}" for name in CHARTS for suffix in CHART_FORMATS),
)
"""Everything that a report may have."""

Searched = tuple[Result, Retrieval]


def remove_figures(folder: Path) -> None:
    """Remove every figure of a report; the folder stays, as it may be a link or hold more.

    Raises:
        OSError: one cannot be removed.
    """
    _remove(folder, FIGURE_NAMES)


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files that are there."""
    for path in (folder / name for name in names):
        if path.is_file():
            path.unlink()


@contextmanager
def _nothing_half_drawn(folder: Path) -> Iterator[None]:
    """Remove what a figure that cannot be written leaves, and the folder if it was made for it."""
    was_there = folder.is_dir()
    try:
        yield
    except BaseException:
        _remove(folder, (f".{name}.partial" for name in FIGURE_NAMES))
        if not was_there and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def draw_all(
    report: Report,
    retrievals: Mapping[str, Retrieval],
    shards: ShardSet,
    model: RetrievalModel,
    *,
    folder: Path,
    image_size: int,
    resampling: Resampling,
) -> list[Path]:
    """Draw every figure that the report has something for, and return their files.

    Pictures are PNG; charts are PNG and PDF, for papers.

    Args:
        report: what was measured.
        retrievals: by the name of their result, of the headline rows.
        shards: with the images that the rows of the retrievals stand for.
        model: as it described them.
        folder: is made if it is not there.
        image_size: width and height of the model's inputs in pixels.
        resampling: how images come to that size.

    Raises:
        OSError: a file cannot be written; those before it stay.
    """
    searched = [(row, retrievals[row.name]) for row in report.headlines() if row.name in retrievals]
    paths = []
    with _nothing_half_drawn(folder):
        for direction, figure in _panels(report, searched, shards).items():
            paths.append(save_figure(figure, folder / f"retrieval_{direction}.png"))
        pairs = _pairs(searched, shards)
        if pairs and isinstance(model.head, PooledHead):  # whose similarity is a sum over places
            found = heat_pairs(model, shards, pairs, image_size=image_size, resampling=resampling)
            side, _ = found[0].drone_heat.shape
            figure = draw_heat_maps(
                found,
                title="Where the similarity of a pair comes from",
                subtitle=f"{_whose(report)}; feature map {side} x {side}, {image_size} px",
            )
            paths.append(save_figure(figure, folder / HEAT_MAPS))
        for name, figure in _charts(report, searched, shards).items():
            paths += [save_figure(figure, folder / f"{name}.{suffix}") for suffix in CHART_FORMATS]
    return paths


def _whose(report: Report) -> str:
    """Say which model and which test set a figure is about."""
    on = f"{report.name} on {DATASETS.get(report.dataset, report.dataset)}"
    if report.is_zero_shot:
        on += f", trained on {DATASETS.get(report.trained_on, report.trained_on)}"
    return on


def _charts(report: Report, searched: list[Searched], shards: ShardSet) -> dict[str, Figure]:
    """Draw the charts by name of file."""
    whose = _whose(report)
    in_full = f"{whose}, full gallery"
    figures = {}
    if searched:
        figures["recall_curves"] = draw_recall_curves(
            [
                recall_curve(retrieval.ranking, title=row.title, label=_altitude(row))
                for row, retrieval in searched
            ],
            title="Recall over K",
            subtitle=in_full,
        )
        figures["similarity"] = _similarity(searched, shards, subtitle=whose)
    distances = _distances(searched, shards)
    if distances:
        figures["distances"] = draw_distances(
            distances, title="Distance to the truth", subtitle=in_full
        )
    by_altitude = [row for row in report.headlines() if row.altitude_m is not None]
    if by_altitude:
        figures["altitudes"] = draw_altitudes(by_altitude, title="Over altitude", subtitle=in_full)
    if condition_bars(report.results):
        figures["conditions"] = draw_conditions(
            report.results, title="In weather and light", subtitle=in_full
        )
    if multi_view_bars(report.results):
        figures["multi_view"] = draw_multi_view(
            report.results, title="Several drone views per place", subtitle=in_full
        )
    return figures


def _altitude(result: Result) -> str:
    return "" if result.altitude_m is None else f"{result.altitude_m} m"


def _search(result: Result) -> str:
    return ", ".join(word for word in (result.title, _altitude(result)) if word)


def _panels(report: Report, searched: list[Searched], shards: ShardSet) -> dict[str, Figure]:
    """Draw a panel per direction, of all its altitudes."""
    directions: dict[str, dict[str, Retrieval]] = {}
    titles = {}
    for row, retrieval in searched:
        directions.setdefault(row.direction, {})[_altitude(row)] = retrieval
        titles[row.direction] = f"{report.name}: {row.title}"
    return {
        direction: draw_panel(found, shards, title=titles[direction])
        for direction, found in directions.items()
    }


def _pairs(searched: list[Searched], shards: ShardSet) -> list[tuple[int, int, str]]:
    """Choose drone queries evenly over all altitudes, each with the satellite image of its place.

    Returns:
        image rows of both, and in words where the satellite image stood in the query's list.
    """
    place = shards.images.place
    asked = [
        (row, retrieval, int(query))
        for row, retrieval in searched
        if row.direction == FROM_THE_AIR
        for query in retrieval.ranking.offsets.diff().nonzero().flatten()
    ]
    pairs = []
    for at in evenly_spaced(len(asked), NUM_PAIRS):
        row, retrieval, query = asked[at]
        drone = int(retrieval.query_rows[query])
        right = retrieval.gallery_rows[place[retrieval.gallery_rows] == place[drone]]
        rank = f"rank {retrieval.ranking.of_query(query)[0] + 1:,}"
        note = ", ".join(word for word in (_altitude(row), rank) if word)
        pairs.append((drone, int(right[0]), note))
    return pairs


def _similarity(searched: list[Searched], shards: ShardSet, *, subtitle: str) -> Figure:
    num_altitudes = sum(row.direction == searched[0][0].direction for row, _ in searched)
    return draw_similarity(
        {_search(row): similarity_counts(retrieval, shards.images) for row, retrieval in searched},
        title="Similarity of pairs",
        subtitle=subtitle,
        columns=num_altitudes if num_altitudes > 1 else 2,
    )


def _distances(searched: list[Searched], shards: ShardSet) -> list[DistanceCurve]:
    """Measure the distances of every search whose places are known."""
    measured = [(row, distance_to_truth(retrieval, shards)) for row, retrieval in searched]
    return [
        DistanceCurve(title=row.title, label=_altitude(row), distances=found)
        for row, found in measured
        if found is not None
    ]
