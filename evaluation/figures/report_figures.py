"""All figures of a report: which ones there are, and what they are called."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from data_shards.config import Resampling
from data_shards.decode import resize
from data_shards.shards import ShardSet
from distill.models import RetrievalModel
from distill.models.heads import PooledHead
from evaluation.figures.charts import (
    condition_bars,
    draw_altitudes,
    draw_bars,
    draw_similarity,
    multi_view_bars,
    similarity_counts,
)
from evaluation.figures.curves import draw_distances, draw_recall_curves, recall_curve
from evaluation.figures.pictures import (
    draw_conditions,
    draw_heat_maps,
    draw_panel,
    evenly_spaced,
    heat_pairs,
    photograph,
)
from evaluation.figures.style import save_figure
from evaluation.protocols import DRONE_TO_SATELLITE
from evaluation.report import CLEAN, Report, Result
from evaluation.retrieval import Retrieval, distance_to_truth
from evaluation.tables import full_gallery, whose

NUM_PAIRS = 6
"""Heat maps are drawn of this many pairs."""

CHART_FORMATS = ("png", "pdf")

Searched = tuple[Result, Retrieval]


def draw_all(
    report: Report,
    retrievals: Mapping[str, Retrieval],
    shards: ShardSet,
    model: RetrievalModel,
    *,
    folder: Path,
    image_size: int,
    resampling: Resampling,
) -> None:
    """Draw every figure that the report has something for.

    Pictures are PNG; charts are PNG and PDF, for papers.

    Args:
        retrievals: by the name of their result, of the headline rows.
        shards: with the images that the rows of the retrievals stand for.
        model: as it described them.

    Raises:
        OSError: a file cannot be written; those before it stay.
    """
    searched = [(row, retrievals[row.name]) for row in report.headlines() if row.name in retrievals]
    for direction in dict.fromkeys(row.direction for row, _ in searched):
        here = {_altitude(row): found for row, found in searched if row.direction == direction}
        words = next(row.title for row, _ in searched if row.direction == direction)
        figure = draw_panel(here, shards, title=f"{report.name}: {words}")
        save_figure(figure, folder / f"retrieval_{direction}.png")
    pairs = _pairs(searched, shards)
    if pairs and isinstance(model.head, PooledHead):  # whose similarity is a sum over places
        found = heat_pairs(model, shards, pairs, image_size=image_size, resampling=resampling)
        side, _ = found[0].heats[0].shape
        figure = draw_heat_maps(
            found,
            title="Where the similarity of a pair comes from",
            subtitle=f"{whose(report)}; feature map {side} x {side}, {image_size} px",
        )
        save_figure(figure, folder / "heat_maps.png")
    names = list(dict.fromkeys(row.condition for row in report.results if row.condition != CLEAN))
    drones = [one for row, one in searched if row.direction == DRONE_TO_SATELLITE.direction]
    if names and drones:
        row = int(drones[0].query_rows[len(drones[0].query_rows) // 2])
        figure = draw_conditions(
            resize(photograph(shards, row), size=image_size, resampling=resampling),
            str(shards.images.key[row]),
            names,
            title="A query in weather and light",
            subtitle=f"{report.measurement.dataset}, {image_size} px",
        )
        save_figure(figure, folder / "condition_images.png")
    for name, figure in _charts(report, searched, shards):
        for suffix in CHART_FORMATS:
            save_figure(figure, folder / f"{name}.{suffix}")


def _altitude(result: Result) -> str:
    return "" if result.altitude_m is None else f"{result.altitude_m} m"


def _pairs(searched: list[Searched], shards: ShardSet) -> list[tuple[int, int, str]]:
    """Choose drone queries evenly over all altitudes, each with the satellite image of its place.

    Returns:
        image rows of both, and in words where the satellite image stood in the query's list.
    """
    place = shards.images.place
    asked = [
        (row, found, int(query))
        for row, found in searched
        if row.direction == DRONE_TO_SATELLITE.direction
        for query in found.ranking.offsets.diff().nonzero().flatten()
    ]
    pairs = []
    for at in evenly_spaced(len(asked), NUM_PAIRS):
        row, found, query = asked[at]
        drone = int(found.query_rows[query])
        right = found.gallery_rows[place[found.gallery_rows] == place[drone]]
        rank = f"rank {found.ranking.of_query(query)[0] + 1:,}"
        note = ", ".join(word for word in (_altitude(row), rank) if word)
        pairs.append((drone, int(right[0]), note))
    return pairs


def _charts(
    report: Report, searched: list[Searched], shards: ShardSet
) -> Iterator[tuple[str, Figure]]:
    """Draw the charts that there is something for, by name of file."""
    words = {"subtitle": f"{whose(report)}, {full_gallery(report)}"}
    if searched:
        curves = [
            recall_curve(found.ranking, title=row.title, label=_altitude(row))
            for row, found in searched
        ]
        yield "recall_curves", draw_recall_curves(curves, title="Recall over K", **words)
        pairs: dict[frozenset[bytes], tuple[str, Retrieval]] = {}
        for row, found in searched:
            sides = frozenset((found.query_rows.tobytes(), found.gallery_rows.tobytes()))
            name = ", ".join(word for word in (row.title, _altitude(row)) if word)
            forth, first = pairs.get(sides, ("", found))
            pairs[sides] = f"{forth} and back: the same pairs" if forth else name, first
        counts = {name: similarity_counts(found, shards.images) for name, found in pairs.values()}
        num_altitudes = sum(row.direction == searched[0][0].direction for row, _ in searched)
        yield (
            "similarity",
            draw_similarity(
                counts,
                title="Similarity of pairs",
                **words,
                columns=num_altitudes if num_altitudes > 1 else 2,
            ),
        )
    distances = {
        (row.title, _altitude(row)): distances
        for row, found in searched
        if (distances := distance_to_truth(found, shards))
    }
    if distances:
        yield "distances", draw_distances(distances, title="Distance to the truth", **words)
    by_altitude = [row for row in report.headlines() if row.altitude_m is not None]
    if by_altitude:
        yield "altitudes", draw_altitudes(by_altitude, title="Over altitude", **words)
    if bars := condition_bars(report.results):
        yield "conditions", draw_bars(bars, title="In weather and light", **words)
    if bars := multi_view_bars(report.results):
        yield "multi_view", draw_bars(bars, title="Several drone views per place", **words)
