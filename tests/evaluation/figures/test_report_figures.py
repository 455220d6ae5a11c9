"""A report's figures: all that there is something for, by fixed names, and nothing half-written."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from data_shards.progress import show_progress
from data_shards.shards import ShardSet
from distill.run_folder import RunPaths
from distill.weights_file import LoadedModel, load_student
from evaluation.describe import describe
from evaluation.figures import pictures as panels
from evaluation.figures import report_figures, style
from evaluation.figures.pictures import draw_panel, evenly_spaced
from evaluation.figures.report_figures import draw_all
from evaluation.joined_shards import JoinedShards
from evaluation.protocols import find_searches
from evaluation.report import Report, Result
from evaluation.retrieval import Retrieval, result_of, retrieve
from tests.evaluation import conftest
from tests.evaluation.conftest import sharded, write_university

Searched = tuple[tuple[Result, ...], Mapping[str, Retrieval]]
MakeResult = Callable[..., Result]
MakeReport = Callable[..., Report]


def search(shards: ShardSet, loaded: LoadedModel) -> Searched:
    """Search in every direction and at every altitude that the shards have."""
    searches = find_searches(JoinedShards(shards))
    with show_progress("describing", enabled=False) as progress:
        descriptors = describe(
            loaded.model,
            shards,
            searches.rows,
            image_size=32,
            resampling=loaded.resampling,
            batch_size=16,
            threads=1,
            progress=progress,
        )
    found = searches.found
    retrievals = {one.protocol.name: retrieve(one, descriptors, shards.images) for one in found}
    results = tuple(result_of(one, retrievals[one.protocol.name].ranking) for one in found)
    return results, retrievals


@pytest.fixture
def loaded(run: RunPaths) -> LoadedModel:
    return load_student(run.folder)


def test_university_has_panels_curves_similarity_and_heat(
    tmp_path: Path,
    shards: ShardSet,
    loaded: LoadedModel,
    report: MakeReport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Few pixels, few pictures, and the fonts that every reader of PDF has: only the look changes.
    monkeypatch.setattr(style, "DPI", 40)
    monkeypatch.setattr(style, "CHART_DPI", 40)
    monkeypatch.setitem(rcParams, "pdf.use14corefonts", True)
    monkeypatch.setattr(panels, "NUM_QUERIES", 2)
    monkeypatch.setattr(panels, "NUM_HITS", 2)
    monkeypatch.setattr(report_figures, "NUM_PAIRS", 1)
    results, retrievals = search(shards, loaded)
    draw_all(
        report(*results),
        retrievals,
        shards,
        loaded.model,
        folder=tmp_path / "figures",
        image_size=32,
        resampling=loaded.resampling,
    )
    paths = list((tmp_path / "figures").iterdir())
    assert {path.name for path in paths} == {
        "retrieval_d2s.png",
        "retrieval_s2d.png",
        "heat_maps.png",
        "recall_curves.png",
        "recall_curves.pdf",
        "similarity.png",
        "similarity.pdf",
    }
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
                assert image.width > 125
        else:
            assert path.read_bytes().startswith(b"%PDF")


def test_sues_has_lines_over_altitude_and_one_panel_per_direction(
    tmp_path: Path,
    sues_shards: ShardSet,
    loaded: LoadedModel,
    result: MakeResult,
    report: MakeReport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths: list[Path] = []
    monkeypatch.setattr(report_figures, "save_figure", lambda figure, path: paths.append(path))
    monkeypatch.setattr(report_figures, "NUM_PAIRS", 1)
    monkeypatch.setattr(panels, "NUM_QUERIES_PER_ALTITUDE", 1)
    monkeypatch.setattr(panels, "NUM_HITS", 2)
    results, retrievals = search(sues_shards, loaded)
    extra = [
        result(0.5, altitude_m=150, condition="fog"),
        result(0.6, altitude_m=150, views="mean"),
    ]
    places = {place: (45.0, 7.0 + n / 1000) for n, place in enumerate(sues_shards.places)}
    manifest = replace(sues_shards.manifest, coordinates=places)
    for shard in range(len(manifest.shards)):  # mapped now: later the manifest is another
        sues_shards.read(int(np.flatnonzero(sues_shards.images.shard == shard)[0]))
    known = ShardSet(sues_shards.folder, manifest, sues_shards.images)
    known._tars = sues_shards._tars
    draw_all(
        report(*results, *extra, dataset="sues200"),
        retrievals,
        known,
        loaded.model,
        folder=tmp_path,
        image_size=32,
        resampling=loaded.resampling,
    )
    names = {path.stem for path in paths}
    charts = {"recall_curves", "similarity", "distances", "altitudes", "conditions", "multi_view"}
    assert names == {"retrieval_d2s", "retrieval_s2d", "heat_maps", "condition_images"} | charts


def test_a_panel_of_altitudes_has_two_queries_of_each(
    sues_shards: ShardSet, loaded: LoadedModel
) -> None:
    _, retrievals = search(sues_shards, loaded)
    searches = {"150 m": retrievals["d2s/150m"], "300 m": retrievals["d2s/300m"]}
    figure = draw_panel(searches, sues_shards, title="newborn: drone to satellite")
    captions = [axes.get_xlabel().split("\n")[0] for axes in figure.axes]
    for height in searches:
        assert sum(caption.endswith(f", {height}") for caption in captions) == 2
    for axes, caption in zip(figure.axes, captions, strict=True):
        edge = to_hex(axes.spines["left"].get_edgecolor())
        wanted = {style.RIGHT: "✓", style.WRONG: "✗"}.get(edge)
        assert wanted is None or caption.startswith(wanted)
    assert any(caption.startswith("✓") for caption in captions)
    texts = [text.get_text() for text in figure.texts]
    assert any(text.startswith("6 queries, 7 gallery images each") for text in texts)


def test_a_panel_says_the_counts_of_each_height_where_they_differ(
    sues_shards: ShardSet, loaded: LoadedModel
) -> None:
    _, retrievals = search(sues_shards, loaded)
    found = [retrievals["d2s/150m"], retrievals["d2s/300m"]]
    searches = {
        f"{height} m": replace(
            found[number // 2], metrics=found[0].metrics | {"num_queries": count}
        )
        for number, (height, count) in enumerate(((150, 52), (200, 53), (250, 53)))
    }
    figure = draw_panel(searches, sues_shards, title="newborn: drone to satellite")
    told = " ".join(text.get_text() for text in figure.texts)
    assert "150 m: 52 queries, 7 gallery images; 200 m, 250 m: 53 queries, 7 gallery" in told


def test_directions_of_the_same_pairs_are_drawn_once_and_the_gallery_is_named(
    loaded: LoadedModel,
    report: MakeReport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conftest, "DISTRACTORS", 0)
    shards = sharded(write_university(tmp_path / "raw", has_street=False), "university1652")
    drawn: dict[str, Figure] = {}
    monkeypatch.setattr(
        report_figures, "save_figure", lambda figure, path: drawn.update({path.name: figure})
    )
    results, retrievals = search(shards, loaded)
    draw_all(
        report(*results, distractors=("a",)),
        retrievals,
        shards,
        loaded.model,
        folder=tmp_path,
        image_size=32,
        resampling=loaded.resampling,
    )
    (chart,) = drawn["similarity.png"].axes
    assert chart.get_title(loc="left") == "drone to satellite and back: the same pairs"
    for name in ("similarity.png", "recall_curves.png"):
        told = " ".join(text.get_text() for text in drawn[name].texts)
        assert "full gallery with further distractors" in " ".join(told.split())


def test_queries_are_spread_evenly_and_not_the_first_view_of_a_place() -> None:
    assert evenly_spaced(600, 6) == [50, 150, 250, 350, 450, 550]
    assert evenly_spaced(2, 6) == [0, 1]
    assert evenly_spaced(0, 6) == []
