"""The hall of the verdict: `skydistill evaluate`."""

import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from data_shards.errors import DescriptorError
from data_shards.progress import show_progress
from data_shards.recipe import parse_command
from data_shards.remote.local_cache import LocalCache
from data_shards.remote.sources import NO_IMAGES, open_shards
from data_shards.schema import Role, View
from data_shards.shards import ShardSet
from distill.checkpoint import LoadedModel, load_student, to_device
from distill.tracking import continue_run
from evaluation.config import EvaluateConfig
from evaluation.describe import describe
from evaluation.figures.canvas import save_figure
from evaluation.figures.panels import draw_panel
from evaluation.protocols import Protocol, protocols_of
from evaluation.report import REPORT_NAME, Report, make_report, print_table
from evaluation.verdict import Verdict, judge, tracked

log = logging.getLogger(__name__)


def evaluate(argv: Sequence[str]) -> int:
    """Measure a trained model on a test set, in both directions."""
    config = parse_command(EvaluateConfig, argv, prog="skydistill evaluate")
    loaded = load_student(config.checkpoint)
    shards = open_shards(
        config.shards,
        roles=NO_IMAGES if config.dry_run else Role.QUERY | Role.GALLERY,
        views=(View.SATELLITE, View.DRONE),
        cache=LocalCache(config.local_cache, gib=config.local_cache_gib),
    )
    protocols = protocols_of(shards.manifest.layout)
    to_device(loaded.model, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    image_size = config.image_size or loaded.image_size

    path = config.out or loaded.path.parent / REPORT_NAME
    if config.dry_run:
        return _dry_run(shards, protocols, path)

    start = time.monotonic()
    verdicts = _judge_all(config, shards, protocols, loaded, image_size=image_size)
    seconds = time.monotonic() - start
    report = make_report(loaded, shards, verdicts, image_size=image_size, seconds=seconds)
    report.write(path)
    figures = [] if config.no_figures else _draw(shards, protocols, verdicts, loaded, beside=path)
    if loaded.run is not None and not config.no_mlflow:
        _record(loaded, report, [path, *figures])

    if config.json:
        sys.stdout.write(json.dumps(report.to_json()) + "\n")
    else:
        print_table(report, sys.stdout)
    log.info("report: %s", path)
    for figure in figures:
        log.info("figure: %s", figure)
    return 0


def _dry_run(shards: ShardSet, protocols: Sequence[Protocol], path: Path) -> int:
    for protocol in protocols:
        queries, gallery = (len(side.rows(shards.images)) for side in protocol.sides)
        log.info("would search %s: %d queries, %d images", protocol.title, queries, gallery)
    log.info("would write %s", path)
    return 0


def _judge_all(
    config: EvaluateConfig,
    shards: ShardSet,
    protocols: Sequence[Protocol],
    loaded: LoadedModel,
    *,
    image_size: int,
) -> dict[str, Verdict]:
    """Describe every image of all protocols once, then search in each direction."""
    images = shards.images
    sides = {
        protocol.name: [side.rows(images) for side in protocol.sides] for protocol in protocols
    }
    with show_progress(f"describing with {loaded.name}", unit="images") as progress:
        descriptors = describe(
            loaded.model,
            shards,
            [rows for both in sides.values() for rows in both],
            image_size=image_size,
            resampling=loaded.resampling,
            batch_size=config.batch_size,
            threads=config.threads,
            progress=progress,
        )
    return {
        name: judge(descriptors, images, query_rows=query, gallery_rows=gallery)
        for name, (query, gallery) in sides.items()
    }


def _draw(
    shards: ShardSet,
    protocols: Sequence[Protocol],
    verdicts: dict[str, Verdict],
    loaded: LoadedModel,
    *,
    beside: Path,
) -> list[Path]:
    """Draw a panel per direction into the report's folder."""
    folder = beside.parent / "figures"
    paths = []
    for protocol in protocols:
        figure = draw_panel(
            verdicts[protocol.name], shards, title=f"{loaded.name}: {protocol.title}"
        )
        path = folder / f"retrieval_{protocol.name}.png"
        try:
            paths.append(save_figure(figure, path))
        except OSError as error:
            raise DescriptorError(
                f"figure {path} cannot be written ({error.strerror}); give another place with --out"
            ) from error
    return paths


def _record(loaded: LoadedModel, report: Report, artifacts: Sequence[Path]) -> None:
    """Add metrics, report and figures to the MLflow run that trained the model."""
    assert loaded.run is not None, "asked by the caller"
    with continue_run(loaded.run) as tracker:
        metrics = tracked("test/d2s", report.d2s) | tracked("test/s2d", report.s2d)
        tracker.log(loaded.step, metrics)
        for path in artifacts:
            tracker.log_artifact(path, folder="evaluation")
