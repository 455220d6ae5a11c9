"""One evaluation from images to report, read top to bottom; every rank comes to all of it."""

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from data_shards.errors import DescriptorError
from data_shards.manifest import write_text_aside
from data_shards.progress import show_progress
from data_shards.shards import RowNumbers
from distill.collectives import broadcast_object, rank, wait_for_slow_ranks, world_size
from distill.mlflow_runs import read_lines
from distill.run_folder import RunPaths
from distill.tracking import continue_run
from evaluation.conditions import Condition
from evaluation.config import EvaluateConfig
from evaluation.describe import Descriptors, describe
from evaluation.efficiency import Cost
from evaluation.efficiency.measure import cost, measure_speed
from evaluation.feature_files import exported_files, write_exports
from evaluation.figures.report_figures import draw_all
from evaluation.inputs import EvaluationInputs, open_inputs, plan
from evaluation.multi_view import multi_view_results
from evaluation.output_files import new_folder, refuse_unfit
from evaluation.protocols import Search, height_note
from evaluation.ranking.rerank import rank_again, reorder
from evaluation.report import EVALUATIONS, REPORT_NAME, Pairing, Report, Result
from evaluation.retrieval import (
    Retrieval,
    distance_to_truth,
    rerank_settings,
    result_of,
    retrieve,
    tracked,
)
from evaluation.tables import WIDTH, latex, markdown, terminal

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Described:
    """Descriptors of every image that is searched with or among."""

    descriptors: Descriptors
    in_conditions: Mapping[str, Descriptors]
    """Condition to the drone queries in it."""

    by_gallery_network: Descriptors | None
    """The same images by the network of `--gallery-checkpoint`."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What was found."""

    results: tuple[Result, ...]
    """Headline rows first, in the order of the protocol."""

    retrievals: Mapping[str, Retrieval]
    """Headline rows alone, by the name of their result."""

    seconds: float


def evaluate_model(config: EvaluateConfig, device: torch.device) -> None:
    """Describe, search, and on rank 0 report; every rank calls it.

    Raises:
        SkyDistillError: what cannot be evaluated, or a file that cannot be written.
    """
    inputs = open_inputs(config, device)
    wait_for_slow_ranks("shards")
    _refuse_unfit_outputs(inputs)
    if config.dry_run:
        for line in (*plan(inputs), f"would write {inputs.folder}") if rank() == 0 else ():
            log.info("%s", line)
        return
    counted = _counted_cost(inputs)
    described = describe_all(inputs)
    searched = search_all(inputs, described)
    if rank() != 0:
        return
    if not inputs.searches.answered:
        with new_folder(inputs.folder) as folder:
            write_exports(inputs, described.descriptors, folder)
        log.info("wrote %s", inputs.folder)
        return
    report = _report(inputs, described, searched, counted=counted)
    try:
        _write(inputs, report, described, searched)
    finally:  # numbers that cannot be written are still told
        if config.json:
            sys.stdout.write(json.dumps(report.to_json()) + "\n")
        else:
            width = None if sys.stdout.isatty() else WIDTH
            Console(file=sys.stdout, highlight=False, width=width).print(terminal(report))


def _refuse_unfit_outputs(inputs: EvaluationInputs) -> None:
    """Refuse, the same on every rank, what could not be written once all is described."""
    problem = None
    if rank() == 0:
        try:
            exported_files(inputs)
            refuse_unfit(inputs.folder, overwrite=inputs.config.overwrite)
        except DescriptorError as error:
            problem = str(error)
    if problem := broadcast_object(problem):
        raise DescriptorError(problem)


def _counted_cost(inputs: EvaluationInputs) -> Cost:
    """Count parameters and operations of one description, the mirrored image's included."""
    size = inputs.image_size
    try:
        return cost(inputs.loaded.model, image_size=size, flip=inputs.config.flip)
    except RuntimeError as error:
        raise DescriptorError(
            f"{inputs.loaded.path} cannot describe images of {size} x {size} px "
            f"({' '.join(str(error).split())[:200]}); give a larger --image-size"
        ) from error


def describe_all(inputs: EvaluationInputs) -> Described:
    """Describe every image once per network, and drone queries once per condition."""
    started = time.monotonic()
    gallery, searches = inputs.gallery, inputs.searches
    drone_queries = [search.query_rows for search in searches.drone_to_satellite]
    return Described(
        descriptors=_described(inputs, searches.rows),
        in_conditions={
            condition.name: _described(inputs, drone_queries, condition=condition)
            for condition in inputs.conditions
        },
        by_gallery_network=_described(gallery, searches.rows) if gallery else None,
        seconds=round(time.monotonic() - started, 3),
    )


def _described(
    inputs: EvaluationInputs, rows: Sequence[RowNumbers], *, condition: Condition | None = None
) -> Descriptors:
    loaded, config = inputs.loaded, inputs.config
    where = f" in {condition.name}" if condition else ""
    title = f"describing{where} with {loaded.name}"
    with show_progress(title, unit="images", enabled=rank() == 0) as progress:
        return describe(
            loaded.model,
            inputs.shards,
            rows,
            image_size=inputs.image_size,
            resampling=inputs.resampling,
            batch_size=config.batch_size,
            threads=config.threads,
            flip=config.flip,
            change=condition.apply if condition else None,
            progress=progress,
        )


def search_all(inputs: EvaluationInputs, described: Described) -> Searched:
    """Search in every way that was asked."""
    started = time.monotonic()
    searches, images = inputs.searches.answered, inputs.shards.images
    descriptors = described.descriptors
    retrievals = {one.protocol.name: retrieve(one, descriptors, images) for one in searches}
    results = [result_of(one, retrievals[one.protocol.name].ranking) for one in searches]

    # The same galleries without the places that nobody asks for, where there are such.
    asked = [search.without_distractors(images) for search in searches]
    full = {one.protocol.name: len(one.gallery_rows) for one in searches}
    asked = [one for one in asked if len(one.gallery_rows) < full[one.protocol.name]]
    results += [result_of(one, retrieve(one, descriptors, images).ranking) for one in asked]

    # Both galleries of a second network, by its own queries and by those of the first.
    if gallery := described.by_gallery_network:
        askers: dict[Pairing, Descriptors] = {"gallery-network": gallery, "asymmetric": descriptors}
        for pairing, queries in askers.items():
            for one in (*searches, *asked):
                ranking = retrieve(one, gallery, images, queries=queries).ranking
                results.append(replace(result_of(one, ranking), pairing=pairing))

    # Drone queries in weather and difficult light.
    for one in inputs.searches.drone_to_satellite:
        for name, queries in described.in_conditions.items():
            ranking = retrieve(one, descriptors, images, queries=queries).ranking
            results.append(result_of(one, ranking, condition=name))

    # Ranked again, and several views per place.
    if rank() == 0:
        for one in searches:
            results += _refined(inputs, one, retrievals[one.protocol.name])
    return Searched(
        results=tuple(results),
        retrievals=retrievals,
        seconds=round(time.monotonic() - started, 3),
    )


def _refined(inputs: EvaluationInputs, search: Search, found: Retrieval) -> Iterator[Result]:
    """Yield the rows that rank 0 alone adds to a headline row."""
    config, images = inputs.config, inputs.shards.images
    if config.rerank:
        settings = rerank_settings(config)
        ranking = rank_again(
            found.ranking,
            reorder(found.query_QD, found.gallery_GD, settings),
            query_labels_Q=torch.from_numpy(images.place[search.query_rows]),
            gallery_labels_G=torch.from_numpy(images.place[search.gallery_rows]),
        )
        yield result_of(search, ranking, rerank=settings.words)
    if config.multi_view and search.has_drone_views:
        layout = inputs.shards.manifest.layout
        yield from multi_view_results(search, found, images, layout=layout, config=config)


def _report(
    inputs: EvaluationInputs, described: Described, searched: Searched, *, counted: Cost
) -> Report:
    """Gather what was measured, on what, and what it costs."""
    loaded, shards, gallery = inputs.loaded, inputs.shards, inputs.gallery
    distances = {
        name: distance_to_truth(found, shards) for name, found in searched.retrievals.items()
    }
    size, flip = inputs.image_size, inputs.config.flip
    batch_sizes = sorted({1, inputs.config.batch_size}) if inputs.config.measure_speed else []
    return Report(
        name=loaded.name,
        method=loaded.recipe["method"],
        role=loaded.role,
        arch=loaded.recipe["model"]["arch"],
        seed=loaded.recipe["seed"],
        step=loaded.step,
        measurement=inputs.measurement,
        seen_places=inputs.seen_places,
        results=searched.results,
        cost=counted,
        speed=tuple(
            measure_speed(loaded.model, image_size=size, batch_size=batch_size, flip=flip)
            for batch_size in batch_sizes
        ),
        gallery_network=gallery.as_gallery_network() if gallery else None,
        image_size=size,
        descriptor_width=described.descriptors.descriptor_ND.shape[1],
        distances={name: found.numbers() for name, found in distances.items() if found},
        height_note=height_note(shards.manifest.layout, shards.main.images),
        absent=tuple(protocol.name for protocol in inputs.searches.absent),
        checkpoint=str(loaded.path),
        checkpoint_sha256=loaded.sha256,
        shards=shards.source,
        ranks=world_size(),
        seconds=round(described.seconds + searched.seconds, 3),
        ranking_seconds=searched.seconds,
    )


def _write(
    inputs: EvaluationInputs, report: Report, described: Described, searched: Searched
) -> None:
    """Write report, tables, figures and exports, and add them to the run that trained the model."""
    with new_folder(inputs.folder) as folder:
        report.write(folder / REPORT_NAME)
        write_text_aside(folder / "report.md", markdown(report))
        write_text_aside(folder / "report.tex", latex(report))
        write_exports(inputs, described.descriptors, folder)
        if not inputs.config.no_figures:
            draw_all(
                report,
                searched.retrievals,
                inputs.shards,
                inputs.loaded.model,
                folder=folder / "figures",
                image_size=inputs.image_size,
                resampling=inputs.resampling,
            )
    log.info("wrote %s", inputs.folder)
    _record(inputs, report)


def _record(inputs: EvaluationInputs, report: Report) -> None:
    """Add metrics, report, tables and figures to the MLflow run that trained the model."""
    run, how, folder = inputs.loaded.run, inputs.measurement, inputs.folder
    if run is None or inputs.config.no_mlflow:
        return
    prefix, shards = _prefix(inputs, run), inputs.shards
    metrics: dict[str, float] = {"cost/parameters": report.cost.parameters}
    metrics["cost/ops"] = report.cost.ops
    for result in report.results:
        metrics |= tracked(f"{prefix}/{result.name}", result.metrics)
    for name, distances in report.distances.items():
        metrics |= tracked(f"{prefix}/{name}", distances)
    with continue_run(run) as tracker:
        tracker.log(inputs.loaded.step, metrics, shards=shards.fingerprint)
        tracker.log_dataset(how.dataset, shards.fingerprint, shards.source, context="test")
        for path in sorted((*folder.glob("report.*"), *folder.glob("figures/*"))):
            place = Path(EVALUATIONS, folder.name, path.relative_to(folder).parent)
            tracker.log_artifact(path, folder=str(place))


def _prefix(inputs: EvaluationInputs, run: RunPaths) -> str:
    """Return how metrics begin: a run keeps one number per name, and other tasks get other names.

    A name belongs to the first shards that were tested under it; others' have their fingerprint.
    """
    how, fingerprint = inputs.measurement, inputs.shards.fingerprint
    dataset = () if how.zero_shot is False else (how.dataset_word,)
    prefix = "-".join(("test", *dataset, *inputs.differences))
    for line in read_lines(run.metrics)[0]:
        is_taken = any(name.startswith(f"{prefix}/") for name in line["metrics"])
        if is_taken and line.get("shards", fingerprint) != fingerprint:
            return "-".join(("test", how.dataset_word, fingerprint[:8], *inputs.differences))
    return prefix
