"""The demo: every stage of the journey as the command a person would type, and what came of it."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_shards.errors import SkyDistillError
from data_shards.recipe import find_recipe
from launch.command import CPU_LAUNCH, accelerate_argv, as_typed, verb_argv
from launch.config import DemoConfig
from launch.demo_paths import DemoPaths
from launch.demo_view import DemoView, open_view
from launch.process import run_logged

WORLD = (
    "--places",
    200,
    "--test-places",
    60,
    "--distractors",
    20,
    "--views",
    8,
    "--image-size",
    128,
)
"""Small enough for two CPU cores: 2,680 images of 280 places."""

MODELS = {
    "teacher": "demo_teacher.yaml",
    "student_alone": "demo_alone.yaml",
    "student_distilled": "demo.yaml",
}
"""Run to its recipe; the last one is taught by the first."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of the demo."""

    name: str
    title: str
    argv: list[str]
    run: str | None = None
    """Run folder whose `exit.json` says how it went, for stages that train."""


class DemoFailedError(SkyDistillError):
    """A stage did not end well; the sentence names its log."""


def demo_stages(config: DemoConfig) -> list[Stage]:
    """Return the commands of the demo, in order."""
    paths = DemoPaths(config.out)
    world = ("synth", paths.raw, "--layout", "university1652", *WORLD, "--seed", config.seed)
    shard = ("shard", paths.raw, paths.shards, "--layout", "university1652")
    return [
        Stage(name="synth", title="render a synthetic world", argv=verb_argv(*world)),
        Stage(name="shard", title="write shards", argv=verb_argv(*shard)),
        _learn(config, "teacher", title="train the teacher"),
        Stage(
            name="cache",
            title="cache the teacher",
            argv=_launch(
                config,
                "distill.cache",
                MODELS["student_distilled"],
                _inputs(paths, config, "student_distilled"),
            ),
        ),
        _learn(config, "student_alone", title="train a student alone"),
        _learn(config, "student_distilled", title="distill a student"),
        *(
            Stage(
                name=f"evaluate_{run}",
                title=f"evaluate {run.replace('_', ' ')}",
                argv=verb_argv(
                    "evaluate", "--checkpoint", paths.runs / run, "--shards", paths.shards
                ),
            )
            for run in MODELS
        ),
    ]


def _learn(config: DemoConfig, run: str, *, title: str) -> Stage:
    words = [
        *_inputs(DemoPaths(config.out), config, run),
        "--expected_world_size",
        config.processes,
    ]
    return Stage(
        name=run, title=title, run=run, argv=_launch(config, "distill.run", MODELS[run], words)
    )


def _launch(config: DemoConfig, module: str, recipe: str, words: list[object]) -> list[str]:
    return accelerate_argv(
        module,
        [find_recipe(Path("configs/pfed") / recipe), *words],
        config=find_recipe(CPU_LAUNCH),
        processes=config.processes,
    )


def _inputs(paths: DemoPaths, config: DemoConfig, run: str) -> list[object]:
    """Return what a shipped recipe must be told when the demo is not in its usual folder."""
    words: list[object] = [
        "--data.shards",
        paths.shards,
        "--out",
        paths.runs / run,
        "--seed",
        config.seed,
    ]
    if run == "student_distilled":
        words += ["--teacher.run", paths.runs / "teacher", "--teacher.cache", paths.cache]
    return words


def run_demo(config: DemoConfig) -> int:
    """Run every stage, then write summary and figures, and show them.

    Raises:
        DemoFailedError: a stage failed; the sentence names it, its reason and its log.
    """
    from launch.summary import summarize, write_figures

    paths, started = DemoPaths(config.out), time.monotonic()
    stages = demo_stages(config)
    with open_view([stage.title for stage in stages]) as view:
        for number, stage in enumerate(stages):
            with view.stage(number):
                run_stage(stage, paths, config, view)
    figures = write_figures(paths)
    summary = summarize(paths, config, seconds=time.monotonic() - started)
    show(summary, paths, figures)
    return 0


def run_stage(stage: Stage, paths: DemoPaths, config: DemoConfig, view: DemoView) -> None:
    """Run one command to its end.

    Raises:
        DemoFailedError: it failed; the sentence says why, and where its output is.
    """
    cores = os.cpu_count() or 1
    threads = max(1, cores // config.processes) if "accelerate" in as_typed(stage.argv) else cores
    log_file = paths.log(stage.name)
    code = run_logged(
        stage.argv,
        log_file=log_file,
        environment={"OMP_NUM_THREADS": str(threads)},
        on_progress=view.update,
    )
    if code:
        raise DemoFailedError(
            f"stage {stage.name!r} failed: {_reason(stage, paths)}; its output is in {log_file}"
        )


def _reason(stage: Stage, paths: DemoPaths) -> str:
    """Return why a stage failed: the run's record, else the sentence in its log."""
    from distill.run_folder import read_exit

    ended = read_exit(paths.runs / stage.run) if stage.run else None
    if ended and ended["code"]:
        return str(ended["reason"]).rstrip(".")
    lines = [line for line in paths.log(stage.name).read_text().splitlines() if line.strip()]
    told = [line.removeprefix("skydistill: ") for line in lines if line.startswith("skydistill: ")]
    return (told or lines or ["it said nothing"])[-1].rstrip(".")


def show(summary: dict[str, Any], paths: DemoPaths, figures: list[Path]) -> None:
    """Print the table of models, and where to look next."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    gallery = summary["gallery"]
    title = f"{gallery['d2s']} satellite tiles, {gallery['s2d']} drone images of unseen places"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for column in ("size", "MACs", "D2S R@1", "AP", "S2D R@1", "AP", "time"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in _table_rows(summary):
        table.add_row(*row)
    console = Console(file=sys.stdout, highlight=False)
    console.print(table)
    seconds, processes = summary["seconds"], summary["world_size"]
    console.print(f"{seconds:.0f} s on {processes} processes; summary: {paths.summary}\n")
    for figure in figures:
        console.print(f"  {figure}", soft_wrap=True)
    opens = summary["mlflow"]["command"]
    console.print(f"\ncompare the runs in MLflow:\n  {opens}", soft_wrap=True)


def _table_rows(summary: dict[str, Any]) -> Iterator[list[str]]:
    for model in summary["models"]:
        d2s, s2d = model["d2s"], model["s2d"]
        yield [
            model["name"].replace("_", " "),
            f"{model['parameters'] / 1e6:.2f} M",
            f"{model['macs'] / 1e6:.0f} M",
            *(f"{value:.3f}" for value in (d2s["recall@1"], d2s["ap"], s2d["recall@1"], s2d["ap"])),
            f"{model['seconds']:.0f} s",
        ]
    chance = summary["chance"]
    yield [
        "[dim]guessing",
        "",
        "",
        f"[dim]{chance['d2s']:.3f}",
        "",
        f"[dim]{chance['s2d']:.3f}",
        "",
        "",
    ]
