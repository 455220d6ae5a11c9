"""What stays of an evaluation: report, tables and figures on disk, and all of it in MLflow."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

from data_shards.decode import DECODER
from data_shards.errors import DescriptorError
from data_shards.manifest import write_text_aside
from distill.collectives import broadcast_object, rank, world_size
from distill.tracking import continue_run
from evaluation.conditions import VERSION
from evaluation.destinations import Destination, find_problem, is_report
from evaluation.efficiency.cost import Cost, Speed
from evaluation.exports import export_destinations
from evaluation.figures.distances import distance_to_truth
from evaluation.figures.report_figures import FIGURE_NAMES, draw_all, remove_figures
from evaluation.figures.tables import latex, markdown
from evaluation.judging import Described, Judged
from evaluation.report import GalleryNetwork, Report
from evaluation.setting import USUAL_FIGURES, Setting
from evaluation.verdict import tracked

Wrote = TypeVar("Wrote")


def make_report(
    setting: Setting,
    described: Described,
    judged: Judged,
    *,
    cost: Cost,
    speed: tuple[Speed, ...],
) -> Report:
    """Gather what was measured, on what, and what it costs."""
    loaded, shards = setting.loaded, setting.shards
    recipe = loaded.recipe
    some_verdict = next(iter(judged.verdicts.values()))
    return Report(
        name=loaded.name,
        method=recipe["method"],
        role=loaded.role,
        arch=recipe["model"]["arch"],
        seed=recipe["seed"],
        step=loaded.step,
        dataset=setting.dataset,
        trained_on=setting.trained_on,
        results=judged.results,
        cost=cost,
        speed=speed,
        gallery_network=_gallery_network(setting.gallery) if setting.gallery else None,
        image_size=setting.image_size,
        descriptor_width=some_verdict.query_QD.shape[1],
        flip=setting.config.flip,
        resampling=setting.resampling,
        decoder=DECODER,
        distractors=tuple(part.fingerprint for part in shards.distractors),
        distances=_distances(setting, judged),
        absent=tuple(protocol.name for protocol in setting.searches.absent),
        conditions_version=VERSION if setting.conditions else 0,
        fusion=setting.config.fusion,
        checkpoint=str(loaded.path),
        checkpoint_sha256=loaded.sha256,
        shards=shards.source,
        shards_fingerprint=shards.fingerprint,
        ranks=world_size(),
        seconds=round(described.seconds + judged.seconds, 3),
        ranking_seconds=judged.seconds,
    )


def _gallery_network(setting: Setting) -> GalleryNetwork:
    loaded = setting.loaded
    return GalleryNetwork(
        name=loaded.name,
        arch=loaded.recipe["model"]["arch"],
        trained_on=setting.trained_on,
        image_size=setting.image_size,
        resampling=setting.resampling,
        checkpoint=str(loaded.path),
        checkpoint_sha256=loaded.sha256,
    )


def _distances(setting: Setting, judged: Judged) -> dict[str, dict[str, float]]:
    """Measure how far the first answers lie from the truth, where places are known."""
    measured = {
        name: distance_to_truth(verdict, setting.shards)
        for name, verdict in judged.verdicts.items()
    }
    return {name: found.numbers() for name, found in measured.items() if found is not None}


def refuse_unfit_destinations(setting: Setting) -> None:
    """Refuse files that cannot be written, or that lie there and are not ours; every rank calls it.

    Raises:
        DescriptorError: which one, the same on every rank.
    """
    destinations = [*_report_destinations(setting), *export_destinations(setting)]
    if problem := broadcast_object(find_problem(destinations) if rank() == 0 else None):
        raise DescriptorError(problem)


def _report_destinations(setting: Setting) -> list[Destination]:
    """Return every file that is written of a report; what stands beside one of ours is ours."""
    if not setting.searches.answered:
        return []
    outputs = setting.outputs
    beside = [outputs.markdown, outputs.latex]
    if not setting.config.no_figures:
        beside += [outputs.figures / name for name in FIGURE_NAMES]
    content = "report of skydistill evaluate"
    is_ours = cache(lambda: is_report(outputs.report))  # one look, at the first file that is there
    report = Destination(
        path=outputs.report, option="--out", content=content, may_replace=is_report
    )
    return [
        report,
        *(
            Destination(
                path=path,
                option="--out",
                content=f"part of a {content}: {outputs.report.name} is not beside it",
                may_replace=lambda _: is_ours(),
            )
            for path in beside
        ),
    ]


def write_tables(setting: Setting, report: Report) -> list[Path]:
    """Write report and tables, and return them; those of the replaced report and its figures go.

    Raises:
        DescriptorError: one cannot be written.
    """
    outputs = setting.outputs
    is_replacing = is_report(outputs.report)
    report.write(outputs.report)
    if is_replacing:
        _written(outputs.markdown, lambda: outputs.markdown.unlink(missing_ok=True))
        _written(outputs.latex, lambda: outputs.latex.unlink(missing_ok=True))
    _written(outputs.markdown, lambda: write_text_aside(outputs.markdown, markdown(report)))
    _written(outputs.latex, lambda: write_text_aside(outputs.latex, latex(report)))
    if is_replacing:  # beside the new report they would pass for its own
        _written(outputs.figures, lambda: remove_figures(outputs.figures))
    return [outputs.report, outputs.markdown, outputs.latex]


def write_figures(setting: Setting, report: Report, judged: Judged) -> list[Path]:
    """Draw the figures unless they were left out, and return them.

    Raises:
        DescriptorError: one cannot be written; nothing half-written stays.
    """
    folder = setting.outputs.figures
    if setting.config.no_figures:
        return []
    return _written(
        folder,
        lambda: draw_all(
            report,
            judged.verdicts,
            setting.shards,
            setting.loaded.model,
            folder=folder,
            image_size=setting.image_size,
            resampling=setting.resampling,
        ),
    )


def _written(path: Path, write: Callable[[], Wrote]) -> Wrote:
    try:
        return write()
    except OSError as error:
        raise DescriptorError(
            f"{path} cannot be written ({error.strerror}); give another place with --out"
        ) from error


def record(setting: Setting, report: Report, artifacts: list[Path]) -> None:
    """Add metrics, report, tables and figures to the MLflow run that trained the model."""
    run = setting.loaded.run
    if run is None or setting.config.no_mlflow:
        return
    metrics: dict[str, float] = {}
    for result in report.results:
        metrics |= tracked(f"{_prefix(setting)}/{result.name}", result.metrics)
    for name, distances in report.distances.items():
        metrics |= tracked(f"{_prefix(setting)}/{name}", distances)
    with continue_run(run) as tracker:
        tracker.log(setting.loaded.step, metrics)
        shards = setting.shards
        tracker.log_dataset(setting.dataset, shards.fingerprint, shards.source, context="test")
        for path in artifacts:
            tracker.log_artifact(path, folder=_artifact_folder(setting, path))


def _artifact_folder(setting: Setting, path: Path) -> str:
    """Return `evaluation`, or a folder below it for figures beside another report than the usual.

    A run keeps one file per name, and figures of several reports are called alike.
    """
    figures = setting.outputs.figures
    is_apart = path.parent == figures and figures.name != USUAL_FIGURES
    return f"evaluation/{figures.name}" if is_apart else "evaluation"


def _prefix(setting: Setting) -> str:
    """Return `test`, and what sets this evaluation apart from the plain one.

    A run keeps one number per name; one with mirrored images or more distractors is another.
    """
    return "-".join(["test", *setting.manner])
