"""What came of a demo: `summary.json`, and the figures that compare its models."""

import json
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.demo_paths import EVALUATED, EVALUATION, DemoPaths

if TYPE_CHECKING:
    from evaluation.report import Report, Result


WAYS = ("d2s", "s2d")
"""Headline rows that the demo shows: drone to satellite, and back."""


def summarize(paths: DemoPaths, runs: Iterable[str], *, seed: int) -> dict[str, Any]:
    """Gather the reports of all runs into `summary.json`, and return it."""
    from data_shards.manifest import write_json
    from distill.run_folder import RunPaths

    reports = {run: _report(paths, run) for run in runs}
    last, some_report = list(reports.items())[-1]
    rows = _headlines(some_report)
    environment = json.loads(RunPaths(paths.runs / last).environment.read_text())
    summary = {
        "seconds": round(sum(_seconds(paths).values()), 1),
        "world_size": int(environment["world_size"]),
        "seed": seed,
        "chance": {way: rows[way].chance for way in WAYS},
        "gallery": {way: rows[way].metrics["num_gallery"] for way in WAYS},
        "models": [_facts(report, paths.runs / run) for run, report in reports.items()],
        "mlflow": _mlflow(RunPaths(paths.runs / last).mlflow),
    }
    write_json(paths.summary, summary)
    return summary


def _facts(report: "Report", run: Path) -> dict[str, Any]:
    """Return what the demo shows of one model."""
    from distill.run_folder import read_exit

    rows, ended = _headlines(report), read_exit(run)
    assert ended is not None, "a stage that went well left its record"
    return {
        "name": report.name,
        "method": report.method,
        "role": report.role,
        "parameters": report.cost.parameters,
        "macs": report.cost.macs,
        "ops": report.cost.ops,
        **{way: dict(rows[way].metrics) for way in WAYS},
        "seconds": round(float(ended["seconds"]), 1),
    }


def write_figures(paths: DemoPaths, runs: Iterable[str]) -> list[Path]:
    """Draw the curves of all runs and their recall; return every figure of the demo."""
    from distill.run_folder import RunPaths
    from evaluation.figures.charts import recall_bars
    from evaluation.figures.curves import read_curves, training_curves
    from evaluation.figures.style import save_figure

    rows = {run: _headlines(_report(paths, run)) for run in runs}
    last, some_rows = list(rows.items())[-1]
    names = {run: run.replace("_", " ") for run in rows}
    curves = training_curves(
        {name: read_curves(RunPaths(paths.runs / run).metrics) for run, name in names.items()},
        title="SkyDistill demo: how the models learned",
        subtitle="recall on held-out training places, and the terms of the loss",
    )
    bars = recall_bars(
        {
            names[run]: {way: of_run[way].metrics["recall@1"] for way in WAYS}
            for run, of_run in rows.items()
        },
        chance={way: some_rows[way].chance for way in WAYS},
        title="SkyDistill demo: recall@1 on the test set",
        subtitle="synthetic University-1652, full gallery",
    )
    drawn = paths.runs / last / EVALUATION / "figures"
    panels = [drawn / f"retrieval_{way}.png" for way in WAYS]
    return [
        save_figure(curves, paths.figures / "curves.png"),
        save_figure(bars, paths.figures / "recall.png"),
        *panels,
    ]


def add_seconds(paths: DemoPaths, stage: str, seconds: float) -> None:
    """Count the time of one attempt at a stage; a demo that was stopped adds up."""
    from data_shards.manifest import write_json

    spent = _seconds(paths)
    paths.out.mkdir(parents=True, exist_ok=True)
    write_json(paths.seconds, spent | {stage: round(spent.get(stage, 0.0) + seconds, 1)})


def _seconds(paths: DemoPaths) -> dict[str, float]:
    return dict(json.loads(paths.seconds.read_text())) if paths.seconds.is_file() else {}


def _report(paths: DemoPaths, run: str) -> "Report":
    from evaluation.report import read_report

    return read_report(paths.runs / run / EVALUATED)


def _headlines(report: "Report") -> "dict[str, Result]":
    """Return the rows of the plain official protocol, by name."""
    return {result.name: result for result in report.headlines()}


def _mlflow(link_file: Path) -> dict[str, str]:
    """Return where the runs are recorded, and the command that opens them, as a person types it."""
    link = json.loads(link_file.read_text())
    mlflow, here = Path(sys.executable).with_name("mlflow"), Path.cwd()
    shown = mlflow.relative_to(here) if mlflow.is_relative_to(here) else mlflow
    uri = link["uri"]
    if uri.startswith(f"sqlite:///{here}/"):
        uri = "sqlite:///" + uri.removeprefix(f"sqlite:///{here}/")
    return {
        "tracking_uri": link["uri"],
        "experiment": link["experiment"],
        "command": f"{shown} ui --backend-store-uri {shlex.quote(uri)}",
    }
