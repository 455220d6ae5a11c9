"""The demo's commands and its way of failing; the whole demo is `make demo`."""

import io
import json
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console

from data_shards.recipe import load_recipe
from distill.config import DistillConfig
from launch.config import DemoConfig
from launch.demo import RECIPES, WORLD, DemoFailedError, Stage, demo_stages, run_stage
from launch.demo_paths import DemoPaths
from launch.demo_view import BarView, LineView, sparkline
from launch.main import main
from launch.process import run_logged


@pytest.fixture
def recipes() -> dict[str, DistillConfig]:
    return {run: load_recipe(DistillConfig, path) for run, path in RECIPES.items()}


def test_dry_run_prints_the_commands_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("accelerate launch") == 8
    assert shown.count("skydistill evaluate") == 6
    verbs = [line.split()[1] for line in shown.splitlines() if line.startswith("skydistill ")]
    assert verbs[-4:] == ["synth", "index", "query", "compare"]
    assert shown.endswith(f"--html {out}/comparison.html\n")
    assert not out.exists()


def test_every_training_stage_asks_for_the_processes_it_launches() -> None:
    stages = demo_stages(DemoConfig(processes=2))
    trained = [stage for stage in stages if stage.run]
    assert len(trained) == 6
    for stage in trained:
        words = stage.argv
        assert words[words.index("--num_processes") + 1] == "2"
        assert words[words.index("--expected_world_size") + 1] == "2"


@pytest.mark.parametrize("method", ["student", "bicrossnet"])
def test_alone_and_distilled_differ_in_the_teacher_only(
    recipes: dict[str, DistillConfig], method: str
) -> None:
    alone, distilled = recipes[f"{method}_alone"], recipes[f"{method}_distilled"]
    for part in ("data", "augment", "model", "optimizer", "schedule", "phases", "seed"):
        assert getattr(alone, part) == getattr(distilled, part), part
    assert alone.objectives.info_nce == distilled.objectives.info_nce
    assert alone.objectives.triplet == distilled.objectives.triplet
    assert alone.objectives.cross_entropy == distilled.objectives.cross_entropy
    assert distilled.objectives.needs_teacher
    assert not alone.objectives.needs_teacher


def test_the_world_is_as_large_as_promised() -> None:
    assert WORLD["--places"] >= 200
    assert WORLD["--test-places"] + WORLD["--distractors"] >= 40
    assert WORLD["--views"] <= 8
    assert WORLD["--image-size"] <= 128


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--processes", "0"], "--processes"),
        (["--seed", "-1"], "--seed"),
        (["--processes", "3"], "not divisible by 3 ranks"),
    ],
)
def test_a_demo_that_cannot_run_is_refused_before_its_first_stage(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), *words]) == 2
    assert told in capsys.readouterr().err
    assert not out.exists()


def stage_of(code: str, run: str | None = None) -> Stage:
    return Stage(name="broken", title="break", argv=[sys.executable, "-c", code], run=run)


def test_a_failed_stage_says_why_and_where_its_log_is(tmp_path: Path) -> None:
    told = "skydistill: no luck; try again"
    code = f"import sys; print('noise'); sys.stderr.write('{told}\\n'); sys.exit(2)"
    view, paths = LineView(["break"]), DemoPaths(tmp_path)
    with pytest.raises(DemoFailedError, match="no luck; try again") as caught:
        run_stage(stage_of(code), paths, view)
    assert str(paths.log("broken")) in str(caught.value)
    assert "noise" in paths.log("broken").read_text()


def test_a_failed_training_is_told_by_its_exit_record(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "teacher"
    run.mkdir(parents=True)
    (run / "exit.json").write_text(
        json.dumps({"code": 2, "reason": "the cache is of another teacher"})
    )
    with pytest.raises(DemoFailedError, match="the cache is of another teacher") as caught:
        run_stage(
            stage_of("raise SystemExit(1)", run="teacher"),
            DemoPaths(tmp_path),
            LineView(["break"]),
        )
    assert caught.value.exit_code == 2


def test_progress_lines_reach_the_view_and_not_the_log(tmp_path: Path) -> None:
    line = {"progress": "x", "unit": "steps", "done": 1, "total": 2, "facts": {"loss": 3.0}}
    code = f"import sys; sys.stderr.write({json.dumps(json.dumps(line))} + '\\n'); print('done')"
    seen: list[dict[str, object]] = []

    class Recorder(LineView):
        def update(self, progress: dict[str, object]) -> None:
            seen.append(progress)

    run_stage(stage_of(code), DemoPaths(tmp_path), Recorder(["x"]))
    assert seen == [line]
    assert "progress" not in DemoPaths(tmp_path).log("broken").read_text().split("\n", 1)[1]


def test_a_command_is_shown_as_a_person_types_it() -> None:
    stages = demo_stages(DemoConfig(out=Path("my demo")))
    synth, teacher = stages[0].typed, stages[2].typed
    assert synth.startswith("skydistill synth 'my demo/raw' --layout university1652 --places 280")
    variable, command = teacher.split(maxsplit=1)
    assert variable.startswith("OMP_NUM_THREADS=")
    assert command.startswith("accelerate launch --config_file")


def test_the_bars_fit_a_narrow_terminal() -> None:
    titles = [stage.title for stage in demo_stages(DemoConfig())]
    shown = io.StringIO()
    console = Console(file=shown, width=80, force_terminal=True, color_system=None)
    view = BarView(titles, console=console)
    facts = {"loss": 3.21, "images/s": 117.0}
    with view.bars, view.stage(4):
        for done in range(0, 200, 5):
            view.update({"done": done, "total": 200, "unit": "steps", "facts": facts})
        shown.truncate(0)
        console.print(view.bars.get_renderable())
        drawn = shown.getvalue()
    for title in titles:
        assert title in drawn
    assert "195/200 loss 3.21" in drawn
    assert "━" in drawn, "the bar is there"


def test_ctrl_c_lets_a_child_save_and_keeps_what_it_says(tmp_path: Path) -> None:
    child = """
import signal, sys, time
def save(*_):
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
print('{"progress": "x", "done": 1}', flush=True)
time.sleep(60)
"""

    def interrupt(_: dict[str, object]) -> None:
        signal.raise_signal(signal.SIGTERM)

    log_file = tmp_path / "child.log"
    with pytest.raises(KeyboardInterrupt):
        run_logged(
            [sys.executable, "-c", child],
            log_file=log_file,
            environment={},
            on_progress=interrupt,
        )
    assert "saved" in log_file.read_text()


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([3.0, 2.0, 1.0], "█▄▁"), ([1.0], "▁"), ([2.0, 2.0], "▁▁")],
)
def test_a_sparkline_falls_with_the_loss(values: list[float], drawn: str) -> None:
    assert sparkline(values) == drawn


def test_a_long_sparkline_keeps_its_newest_value() -> None:
    falling = [float(value) for value in range(1000, 0, -1)]
    drawn = sparkline(falling)
    assert len(drawn) == 12
    assert drawn[-1] == "▁"
    assert drawn[0] in "▇█"
