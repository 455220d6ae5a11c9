"""What a person or a machine reads of an evaluation while it runs and when it is done."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data_shards.errors import DescriptorError
from distill.launched import launched_rank
from evaluation.conditions import VERSION
from evaluation.exports import descriptor_files, submission_files
from evaluation.report import Report, read_report
from evaluation.reranking import rerank_settings
from evaluation.result import CLEAN, ONE_NETWORK, SINGLE, Result
from evaluation.setting import Setting
from evaluation.standard_output import standard_output

log = logging.getLogger(__name__)

MOST_ROWS = 8
"""That the line about a replaced report names."""


def tell_plan(setting: Setting) -> None:
    """Say everything that would be described, searched and written; rank 0 alone."""
    if launched_rank() == 0:
        for line in _plan(setting):
            log.info("%s", line)


def _plan(setting: Setting) -> Iterator[str]:
    config, searches = setting.config, setting.searches
    images = len(np.unique(np.concatenate(searches.rows)))
    mirrored = ", each with its mirror image" if config.flip else ""
    for one in filter(None, (setting, setting.gallery)):
        yield (
            f"would describe {images:,} images with {one.loaded.name} at {one.image_size} px "
            f"({one.resampling}){mirrored}"
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
    if setting.gallery:
        names = f"{setting.gallery.loaded.name}, by its queries and by {setting.loaded.name}'s"
        yield f"would search all of it in the gallery of {names}"
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


def tell_replaced(setting: Setting) -> None:
    """Say which rows of an earlier report go, and that it was another task, if so; rank 0 alone."""
    path = setting.outputs.report
    if launched_rank() != 0 or not setting.searches.answered or not path.is_file():
        return
    try:
        earlier = read_report(path)
    except DescriptorError:  # of another version, or damaged: nothing in it can be read
        return
    lost = [row.name for row in earlier.results if not _will_have(setting, row)]
    if earlier.speed and not setting.config.measure_speed:
        lost.append("speed")
    reasons = [f"it is of {other}" for other in _others(setting, earlier)]
    if lost:
        more = f" and {len(lost) - MOST_ROWS} more" if len(lost) > MOST_ROWS else ""
        reasons.append(f"it has what this evaluation has not: {', '.join(lost[:MOST_ROWS])}{more}")
    if reasons:
        how = "would be" if setting.config.dry_run else "is"
        log.info("%s %s replaced, though %s; --out keeps both", path, how, ", and ".join(reasons))


def _will_have(setting: Setting, row: Result) -> bool:
    """Return whether this evaluation makes the row of an earlier one again."""
    config = setting.config
    fused = {"mean", f"random-{config.multi_view}", f"refined-{config.multi_view}"}
    protocols = [search.protocol for search in setting.searches.answered]
    return (
        (row.direction, row.altitude_m) in {(one.direction, one.altitude_m) for one in protocols}
        and (row.pairing == ONE_NETWORK or setting.gallery is not None)
        and (row.views == SINGLE or (config.multi_view > 0 and row.views in fused))
        and row.condition in {CLEAN, *(condition.name for condition in setting.conditions)}
        and (not row.rerank or (config.rerank and row.rerank == rerank_settings(config).words))
    )


def _others(setting: Setting, earlier: Report) -> Iterator[str]:
    """Name what an earlier report was measured with or on, where it was something else."""
    shards, config = setting.shards, setting.config
    distractors = tuple(part.fingerprint for part in shards.distractors)
    facts = {
        f"other weights, {earlier.checkpoint}": (earlier.checkpoint_sha256, setting.loaded.sha256),
        "other test images": (earlier.shards_fingerprint, shards.fingerprint),
        "other distractors": (earlier.distractors, distractors),
        "another choice of flip": (earlier.flip, config.flip),
        f"{earlier.image_size} px": (earlier.image_size, setting.image_size),
        f"{earlier.resampling} resampling": (earlier.resampling, setting.resampling),
    }
    if earlier.fusion and config.multi_view:
        facts[f"views chosen by {earlier.fusion}"] = (earlier.fusion, config.fusion)
    if earlier.gallery_network and setting.gallery:
        sha256 = earlier.gallery_network.checkpoint_sha256
        facts["another gallery network"] = (sha256, setting.gallery.loaded.sha256)
    if earlier.conditions_version and setting.conditions:
        facts["conditions of another version"] = (earlier.conditions_version, VERSION)
    yield from (name for name, (before, now) in facts.items() if before != now)


def tell_report(report: Report, *, as_json: bool) -> None:
    """Print the report on standard output: tables, or one line of JSON.

    Raises:
        DescriptorError: it cannot be written to.
    """
    with standard_output() as output:
        if as_json:
            output.write(json.dumps(report.to_json()) + "\n")
            return
        from rich.console import Console

        from evaluation.figures.tables import WIDTH, terminal

        width = None if output.isatty() else WIDTH
        Console(file=output, highlight=False, width=width).print(terminal(report))


def tell_paths(paths: Sequence[Path]) -> None:
    """Say what was written."""
    for path in paths:
        log.info("wrote %s", path)
