"""The demo: every stage of the journey as the command a person would type, and what came of it."""

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data_shards.errors import SkyDistillError
from data_shards.recipe import find_recipe, load_recipe
from data_shards.usable_cpus import usable_cpus
from distill.config.tracking import TrackingConfig
from launch.config import DemoConfig
from launch.demo_paths import EVALUATION, DemoPaths
from launch.demo_view import DemoView, open_view
from launch.process import run_logged

SKYDISTILL = (sys.executable, "-m", "launch.main")
ACCELERATE_LAUNCH = (sys.executable, "-m", "accelerate.commands.launch")
CPU_LAUNCH = Path("configs/accelerate/cpu.yaml")

NAME = "synthetic world"

WORLD = {
    "--places": 280,
    "--test-places": 60,
    "--distractors": 20,
    "--views": 5,
    "--image-size": 128,
}
"""Small enough for two CPU cores: 2,160 pictures of 360 places."""

MAP = {"--test-places": 4, "--image-size": 256}
"""A map of four places, half a kilometre wide, and a photograph of each."""

METHODS = {
    "PFED": {
        "teacher": Path("configs/pfed/demo_teacher.yaml"),
        "student_alone": Path("configs/pfed/demo_alone.yaml"),
        "student_distilled": Path("configs/pfed/demo.yaml"),
    },
    "BiCrossNet": {
        "bicrossnet_teacher": Path("configs/bicrossnet/demo_teacher.yaml"),
        "bicrossnet_alone": Path("configs/bicrossnet/demo_alone.yaml"),
        "bicrossnet_distilled": Path("configs/bicrossnet/demo.yaml"),
    },
}
"""Method to its runs, and run to its shipped recipe; the first one teaches the last one."""

RECIPES = {run: recipe for runs in METHODS.values() for run, recipe in runs.items()}

TEACHERS = {distilled: teacher for teacher, _, distilled in METHODS.values()}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of the demo."""

    name: str
    title: str
    argv: list[str]
    processes: int = 1
    """Ranks that the command starts."""

    run: str | None = None
    """Run whose `exit.json` says how it went, for stages that train."""

    cache: Path | None = None
    """Teacher cache that a row of a sweep fills or learns from."""

    makes: Path | None = None
    """Run folder or teacher cache that a row of a sweep is for."""

    tracking: TrackingConfig | None = None
    """What the recipe of a row of a sweep says of MLflow."""

    teacher: Path | None = None
    """Run folder of the teacher that a row of a sweep learns from."""

    uses: tuple[Path, ...] = ()
    """Run folders and caches that must be there before."""

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the command: ranks share the processors, one process takes what it wants."""
        if self.processes == 1:
            return {}
        return {"OMP_NUM_THREADS": str(max(1, usable_cpus() // self.processes))}

    @property
    def typed(self) -> str:
        """The command as the README would print it, quoted for a shell."""
        words = self.argv
        for started, typed in (
            (SKYDISTILL, ["skydistill"]),
            (ACCELERATE_LAUNCH, ["accelerate", "launch"]),
        ):
            if tuple(words[: len(started)]) == started:
                words = [*typed, *words[len(started) :]]
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return " ".join([*variables, shlex.join(words)])


class DemoFailedError(SkyDistillError):
    """A stage did not end well; the sentence names its log, the exit code is the stage's own."""

    def __init__(self, sentence: str, *, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


def demo_stages(config: DemoConfig) -> list[Stage]:
    """Return the commands of the demo, in order.

    Raises:
        PlanError: the processes cannot share the recipes' global batch.
    """
    paths = DemoPaths(config.out)
    world = [word for option in WORLD.items() for word in option]
    layout = ("--layout", "university1652")
    return [
        Stage(
            name="synth",
            title="render a synthetic world",
            argv=verb_argv("synth", paths.raw, *layout, *world, "--seed", config.seed),
        ),
        Stage(
            name="shard",
            title="write shards",
            argv=verb_argv("shard", paths.raw, paths.shards, *layout, "--name", NAME),
        ),
        *(
            _launched(config, name, title=f"{method}: {title}", is_cache=title.startswith("cache"))
            for method, (teacher, alone, distilled) in METHODS.items()
            for name, title in (
                (teacher, "train the teacher"),
                (distilled, "cache the teacher"),
                (alone, "train a student alone"),
                (distilled, "distill a student"),
            )
        ),
        *(
            Stage(
                name=f"evaluate_{run}",
                title=f"evaluate the {run.replace('_', ' ')}",
                argv=evaluate_argv(paths.runs / run, paths.shards, "--overwrite"),
            )
            for run in RECIPES
        ),
        *(_map_stages(config) if find_spec("rasterio") and find_spec("pyproj") else ()),
        comparison_stage(paths),
    ]


def _map_stages(config: DemoConfig) -> list[Stage]:
    """Return the commands from a map of the world and photographs of it to their coordinates."""
    paths = DemoPaths(config.out)
    world, index = paths.map, paths.map / "index"
    drawn = [word for option in MAP.items() for word in option]
    student = ("--checkpoint", paths.runs / "student_distilled")
    asked = ("--truth", world / "truth.csv", "--refine", "--html", paths.places, "--overwrite")
    draw = Stage(
        name="map",
        title="draw a map of it, and photographs",
        argv=verb_argv("synth", world, "--map", *drawn, "--seed", config.seed),
    )
    return [
        *(() if (world / "map.tif").exists() else (draw,)),  # an earlier demo's is not written over
        Stage(
            name="index",
            title="index the map",
            argv=verb_argv(
                "index", world / "map.tif", index, *student, "--footprint-m", 120, "--overlap", 0.75
            ),
        ),
        Stage(
            name="query",
            title="find the photographs on the map",
            argv=verb_argv("query", index, world / "photos", *asked),
        ),
    ]


def comparison_stage(paths: DemoPaths) -> Stage:
    """Return the command that puts all evaluated runs side by side."""
    page = paths.comparison
    words = (paths.runs, "--out", page.with_suffix(".md"), "--html", page)
    return Stage(
        name="compare", title="compare what was evaluated", argv=verb_argv("compare", *words)
    )


def verb_argv(verb: str, *words: object) -> list[str]:
    """Return the command of one verb in one process."""
    return [*SKYDISTILL, verb, *map(str, words)]


def evaluate_argv(run: Path, shards: object, *words: str) -> list[str]:
    """Return the command that evaluates the model of a run where demo and sweep look for it."""
    places = ("--checkpoint", run, "--shards", shards, "--out", run / EVALUATION)
    return verb_argv("evaluate", *places, *words)


def launched_argv(
    verb: str, recipe: Path, *words: object, processes: int, accelerate: Path = CPU_LAUNCH
) -> list[str]:
    """Return the command of `train` or `cache` on several ranks of this machine."""
    # An entry point is named as a module, so that it needs no checkout.
    module = "distill.cache" if verb == "cache" else "distill.run"
    launcher = ["--config_file", find_recipe(accelerate), "--num_processes", processes]
    launcher += ["-m", module, find_recipe(recipe), "--expected_world_size", processes]
    return [*ACCELERATE_LAUNCH, *map(str, [*launcher, *words])]


def _launched(config: DemoConfig, run: str, *, title: str, is_cache: bool = False) -> Stage:
    """Return the stage that trains a run, or that runs the teacher for it."""
    from data_shards.planning.plan import ranks_share
    from distill.config import DistillConfig

    paths, recipe = DemoPaths(config.out), RECIPES[run]
    global_batch = load_recipe(DistillConfig, recipe).data.global_batch
    ranks_share(global_batch=global_batch, world_size=config.processes)
    words: list[object] = ["--data.shards", paths.shards, "--out", paths.runs / run]
    words += ["--seed", config.seed]
    if teacher := TEACHERS.get(run):
        words += ["--teacher.run", paths.runs / teacher, "--teacher.cache", paths.cache(teacher)]
    return Stage(
        name=f"cache_{teacher}" if is_cache else run,
        title=title,
        argv=launched_argv(
            "cache" if is_cache else "train", recipe, *words, processes=config.processes
        ),
        processes=config.processes,
        run=None if is_cache else run,
    )


def run_demo(config: DemoConfig, stages: Sequence[Stage]) -> int:
    """Run every stage, then write summary and figures, and show them.

    Raises:
        DemoFailedError: a stage failed; the sentence names it, its reason and its log.
    """
    from launch.summary import add_seconds, summarize, write_figures

    paths = DemoPaths(config.out)
    with open_view([stage.title for stage in stages]) as view:
        for number, stage in enumerate(stages):
            started = time.monotonic()
            try:
                with view.stage(number):
                    run_stage(stage, paths, view)
            finally:
                add_seconds(paths, stage.name, time.monotonic() - started)
    figures = write_figures(paths, RECIPES)
    summary = summarize(paths, RECIPES, seed=config.seed)
    show(summary, paths, figures)
    return 0


def run_stage(stage: Stage, paths: DemoPaths, view: DemoView) -> None:
    """Run one command to its end.

    Raises:
        DemoFailedError: it failed; the sentence says why, and where its output is.
    """
    log_file = paths.log(stage.name)
    code = run_logged(
        stage.argv, log_file=log_file, environment=stage.environment, on_progress=view.update
    )
    if code:
        code, reason = _failure(stage, paths, code)
        message = f"stage {stage.name!r} failed: {reason}; its output is in {log_file}"
        raise DemoFailedError(message, exit_code=code)


def _failure(stage: Stage, paths: DemoPaths, code: int) -> tuple[int, str]:
    """Return why a stage failed: the run's own record, else the sentence in its log."""
    from distill.run_folder import read_exit

    ended = read_exit(paths.runs / stage.run) if stage.run else None
    if ended and ended["code"]:
        return int(ended["code"]), str(ended["reason"]).rstrip(".")
    lines = [line for line in paths.log(stage.name).read_text().splitlines() if line.strip()]
    ours = [line.removeprefix("skydistill: ") for line in lines if line.startswith("skydistill: ")]
    return code, (ours or lines or ["it said nothing"])[-1].rstrip(".")


def show(summary: dict[str, Any], paths: DemoPaths, figures: list[Path]) -> None:
    """Print the table of models, and where to look next."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    gallery = summary["gallery"]
    title = f"{gallery['d2s']} satellite tiles, {gallery['s2d']} drone images of unseen places"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for column in ("size", "OPs", "D2S R@1", "AP", "S2D R@1", "AP", "time"):
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
    console.print(f"or in a browser, without a server:\n  {paths.comparison}", soft_wrap=True)
    if paths.places.exists():
        console.print(f"photographs found on a map:\n  {paths.places}", soft_wrap=True)


def _table_rows(summary: dict[str, Any]) -> Iterator[list[str]]:
    for model in summary["models"]:
        d2s, s2d = model["d2s"], model["s2d"]
        yield [
            model["name"].replace("_", " "),
            f"{model['parameters'] / 1e6:.2f} M",
            f"{model['ops'] / 1e6:.1f} M",
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
