"""What came of a demo: `summary.json`, and the figures that compare its models."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from launch.config import DemoConfig
from launch.demo_paths import DemoPaths

RUNS = ("teacher", "student_alone", "student_distilled")


def summarize(paths: DemoPaths, config: DemoConfig, *, seconds: float) -> dict[str, Any]:
    """Gather the reports of all models into `summary.json`, and return it."""
    from data_shards.manifest import write_json

    reports = {run: _report(paths, run) for run in RUNS}
    teacher = reports["teacher"]
    summary = {
        "seconds": round(seconds, 1),
        "world_size": _world_size(paths),
        "seed": config.seed,
        "chance": teacher["chance"],
        "gallery": {name: teacher[name]["num_gallery"] for name in ("d2s", "s2d")},
        "models": [
            {
                key: report[key]
                for key in ("name", "method", "role", "parameters", "macs", "d2s", "s2d")
            }
            | {"seconds": _seconds(paths, run)}
            for run, report in reports.items()
        ],
        "mlflow": _mlflow(paths),
    }
    write_json(paths.summary, summary)
    return summary


def write_figures(paths: DemoPaths) -> list[Path]:
    """Draw the curves of all runs and their recall; return every figure of the demo."""
    from evaluation.figures import read_curves, recall_bars, save_figure, training_curves

    reports = {run: _report(paths, run) for run in RUNS}
    title = "SkyDistill demo"
    names = {run: run.replace("_", " ") for run in RUNS}
    curves = training_curves(
        {names[run]: read_curves(paths.runs / run / "metrics.jsonl") for run in RUNS},
        title=f"{title}: how the models learned",
        subtitle="recall on held-out training places, and the terms of the loss",
    )
    bars = recall_bars(
        {
            names[run]: {way: report[way]["recall@1"] for way in ("d2s", "s2d")}
            for run, report in reports.items()
        },
        chance=reports["teacher"]["chance"],
        title=f"{title}: recall@1 on the test set",
        subtitle="synthetic University-1652, full gallery",
    )
    figures = paths.out / "figures"
    panels = [paths.runs / RUNS[-1] / "figures" / f"retrieval_{way}.png" for way in ("d2s", "s2d")]
    return [
        save_figure(curves, figures / "curves.png"),
        save_figure(bars, figures / "recall.png"),
        *panels,
    ]


def _report(paths: DemoPaths, run: str) -> dict[str, Any]:
    return dict(json.loads((paths.runs / run / "evaluation.json").read_text()))


def _seconds(paths: DemoPaths, run: str) -> float:
    from distill.run_folder import read_exit

    ended = read_exit(paths.runs / run)
    return round(float(ended["seconds"]), 1) if ended else 0.0


def _world_size(paths: DemoPaths) -> int:
    """Return how many processes really trained, as the runs recorded it."""
    return int(json.loads((paths.runs / RUNS[-1] / "environment.json").read_text())["world_size"])


def _mlflow(paths: DemoPaths) -> dict[str, str]:
    """Return where the runs are recorded, and the command that opens them."""
    link = json.loads((paths.runs / RUNS[-1] / "mlflow.json").read_text())
    mlflow = Path(sys.executable).with_name("mlflow")
    shown = mlflow.relative_to(Path.cwd()) if mlflow.is_relative_to(Path.cwd()) else mlflow
    return {
        "tracking_uri": link["uri"],
        "experiment": link["experiment"],
        "command": f"{shown} ui --backend-store-uri {shlex.quote(_shortened(link['uri']))}",
    }


def _shortened(uri: str) -> str:
    """Return a SQLite address relative to the current folder, as a person would type it."""
    inside = f"sqlite:///{Path.cwd()}/"
    return "sqlite:///" + uri.removeprefix(inside) if uri.startswith(inside) else uri
