"""What a person or a machine reads of an evaluation while it runs and when it is done."""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from distill.collectives import launched_rank
from evaluation.exports import descriptor_files, submission_files
from evaluation.report import Report
from evaluation.setting import Setting

log = logging.getLogger(__name__)


def tell_plan(setting: Setting) -> None:
    """Say everything that would be described, searched and written; rank 0 alone."""
    if launched_rank() == 0:
        for line in _plan(setting):
            log.info("%s", line)


def _plan(setting: Setting) -> Iterator[str]:
    config, searches = setting.config, setting.searches
    images = len(np.unique(np.concatenate(searches.rows)))
    mirrored = ", each with its mirror image" if config.flip else ""
    yield (
        f"would describe {images:,} images with {setting.loaded.name} at {setting.image_size} px "
        f"({setting.resampling}){mirrored}"
    )
    if setting.is_zero_shot:
        yield f"zero-shot: trained on {setting.trained_on}, tested on {setting.dataset}"
    yield from _planned_searches(setting)
    if searches.absent:
        absent = ", ".join(protocol.name for protocol in searches.absent)
        yield f"no images for: {absent}"
    yield from (f"would write {path}" for path in _planned_files(setting))


def _planned_searches(setting: Setting) -> Iterator[str]:
    for search in setting.searches.found:
        asked = search.without_distractors(setting.shards.images)
        yield (
            f"would search {search.protocol.name}, {search.protocol.title}: "
            f"{len(search.query_rows):,} queries, {len(search.gallery_rows):,} images, "
            f"{len(asked.gallery_rows):,} without distractors"
        )
    config = setting.config
    for condition in setting.conditions:
        rows = np.unique(np.concatenate([s.query_rows for s in setting.searches.from_the_air]))
        yield f"would describe {len(rows):,} drone queries again in {condition.name}"
    if config.rerank:
        yield f"would rank again by the {config.rerank_top} nearest neighbours"
    if config.multi_view:
        yield f"would fuse {config.multi_view} drone views of each place, beside controls"
    if config.measure_speed:
        yield f"would measure speed at batch {config.batch_size} and 1"


def _planned_files(setting: Setting) -> Iterator[Path]:
    outputs, config = setting.outputs, setting.config
    if setting.searches.answered:
        yield from (outputs.report, outputs.markdown, outputs.latex)
        if not config.no_figures:
            yield outputs.figures
    yield from (path for path, _ in descriptor_files(setting))
    yield from (path for path, _ in submission_files(setting))


def tell_report(report: Report, *, as_json: bool) -> None:
    """Print the report on standard output: tables, or one line of JSON."""
    if as_json:
        sys.stdout.write(json.dumps(report.to_json()) + "\n")
    else:
        from rich.console import Console

        from evaluation.figures.tables import WIDTH, terminal

        width = None if sys.stdout.isatty() else WIDTH
        Console(file=sys.stdout, highlight=False, width=width).print(terminal(report))


def tell_paths(paths: Sequence[Path]) -> None:
    """Say what was written."""
    for path in paths:
        log.info("wrote %s", path)
