"""What stays of an evaluation: report, tables and figures on disk, and all of it in MLflow."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from data_shards.decode import DECODER
from data_shards.errors import DescriptorError
from data_shards.manifest import write_text_aside
from distill.collectives import world_size
from distill.tracking import continue_run
from evaluation.conditions import VERSION
from evaluation.config import EvaluateConfig
from evaluation.efficiency.cost import Cost, Speed
from evaluation.figures.distances import distance_to_truth
from evaluation.figures.report_figures import draw_all
from evaluation.figures.tables import latex, markdown
from evaluation.judging import Described, Judged
from evaluation.report import Report
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
        image_size=setting.image_size,
        descriptor_width=some_verdict.query_QD.shape[1],
        flip=setting.config.flip,
        resampling=setting.resampling,
        decoder=DECODER,
        distractors=tuple(part.fingerprint for part in shards.distractors),
        distances=_distances(setting, judged),
        absent=tuple(protocol.name for protocol in setting.searches.absent),
        conditions_version=VERSION if setting.conditions else 0,
        fusion=_fusion(setting.config),
        checkpoint=str(loaded.path),
        checkpoint_sha256=loaded.sha256,
        shards=shards.source,
        shards_fingerprint=shards.fingerprint,
        ranks=world_size(),
        seconds=round(described.seconds + judged.seconds, 3),
        ranking_seconds=judged.seconds,
    )


def _distances(setting: Setting, judged: Judged) -> dict[str, dict[str, float]]:
    """Measure how far the first answers lie from the truth, where places are known."""
    measured = {
        name: distance_to_truth(verdict, setting.shards)
        for name, verdict in judged.verdicts.items()
    }
    return {name: found.numbers() for name, found in measured.items() if found is not None}


def _fusion(config: EvaluateConfig) -> str:
    """Say how drone views are chosen for the `refined` rows; empty where there are none."""
    return f"{config.information}, {config.view_distance}" if config.multi_view else ""


def write_files(setting: Setting, report: Report, judged: Judged) -> list[Path]:
    """Write report, tables and figures, and return them all.

    Raises:
        DescriptorError: one cannot be written.
    """
    outputs = setting.outputs
    report.write(outputs.report)
    _written(outputs.markdown, lambda: write_text_aside(outputs.markdown, markdown(report)))
    _written(outputs.latex, lambda: write_text_aside(outputs.latex, latex(report)))
    paths = [outputs.report, outputs.markdown, outputs.latex]
    return paths if setting.config.no_figures else [*paths, *_draw(setting, report, judged)]


def _draw(setting: Setting, report: Report, judged: Judged) -> list[Path]:
    folder = setting.outputs.figures
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
    loaded, config = setting.loaded, setting.config
    words = {
        "flip": config.flip,
        "distractors": bool(config.distractors),
        f"{setting.image_size}px": setting.image_size != loaded.image_size,
        setting.resampling: setting.resampling != loaded.resampling,
    }
    return "-".join(["test", *(word for word, is_apart in words.items() if is_apart)])
