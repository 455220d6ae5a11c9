"""Sweeps: every shipped table makes commands, and a tiny one is done, once."""

import json
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from data_shards.errors import RecipeError
from data_shards.recipe import load_recipe
from data_shards.shards import ShardSet
from distill.run_folder import read_exit
from launch.cli import sweep
from launch.config import SweepConfig
from launch.slurm import job_arrays
from launch.sweep import students_of_caches, sweep_stages

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "configs/sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_rows_of_a_shipped_sweep_are_recipes_that_hold_together(path: Path) -> None:
    config = load_recipe(SweepConfig, path)
    stages = sweep_stages(config)
    assert len({stage.name for stage in stages}) == len(stages)
    trained = {f"{row.name}-{seed}" for row in config.rows for seed in config.seeds}
    for stage in stages:
        used = [word.removesuffix("/evaluations/test") for word in stage.argv if "/runs/" in word]
        assert {Path(word).name for word in used if "cache" not in word} <= trained | {"teacher-0"}
    in_arrays = [stage for array in job_arrays(stages) for stage in array.rows.values()]
    assert sorted(in_arrays, key=stages.index) == stages, "each in one array of Slurm jobs"


@pytest.fixture
def table(tmp_path: Path, tiny_shards: ShardSet) -> Path:
    small = {
        "model.arch": "convnext_micro",
        "data.image_size": 32,
        "data.global_batch": 4,
        "data.validation_fraction": 0,
        "schedule": {"num_steps": 2, "warmup_steps": 1},
    }
    values = {
        "out": str(tmp_path / "out"),
        "shards": str(tiny_shards.folder),
        "processes": 1,
        "seeds": [3],
        "options": small,
        "rows": [
            {"name": "step1", "recipe": "configs/pfed/demo_alone.yaml"},
            {
                "name": "step2",
                "recipe": "configs/pfed/demo_alone.yaml",
                "options": {"start": "{runs}/step1-{seed}"},
                "evaluate": False,
            },
        ],
    }
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def assert_rows_are_children(out: Path, statuses: dict[str, str]) -> None:
    """The store of a sweep holds it as a run, and its rows as runs below."""
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    (experiment,) = (one for one in client.search_experiments() if one.name == "demo")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs.pop("table")
    assert {name: run.info.status for name, run in runs.items()} == statuses
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"
    assert "comparison.html" in [file.path for file in client.list_artifacts(parent.info.run_id)]
    assert runs["step1"].data.metrics["test/d2s/recall_at_1"] >= 0
    contexts = {one.tags[0].value for one in runs["step1"].inputs.dataset_inputs}
    assert contexts == {"train", "test"}


@pytest.mark.slow
def test_rows_are_done_in_order_and_once(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert sweep([str(table), "--local"]) == 0
    runs = tmp_path / "out/runs"
    assert_rows_are_children(tmp_path / "out", {"step1": "FINISHED", "step2": "FINISHED"})
    for name in ("step1-3", "step2-3"):
        ended = read_exit(runs / name)
        assert ended is not None and ended["code"] == 0
    assert "start: " + str(runs / "step1-3") in (runs / "step2-3/recipe.yaml").read_text()
    assert json.loads((runs / "step1-3/evaluations/test/report.json").read_text())["results"]
    assert not (runs / "step2-3/evaluations/test/report.json").exists()
    said = capsys.readouterr().out
    assert "3 commands done, 0 were done before" in said
    *_, told, view = said.splitlines()
    assert told == f"comparison: {tmp_path / 'out/comparison.html'}"
    assert view.startswith("view: mlflow ui") and view.endswith("viewStateShareKey=table")
    assert "step1" in (tmp_path / "out/comparison.html").read_text()
    assert sweep([str(table), "--local"]) == 0
    assert "0 commands done, 3 were done before" in capsys.readouterr().out
    (tmp_path / "out/comparison.html").unlink()
    assert sweep([str(table), "--local", "--only", "students"]) == 0
    assert "0 commands done, 2 were done before" in capsys.readouterr().out
    assert not (tmp_path / "out/comparison.html").exists()
    report = json.loads((runs / "step1-3/evaluations/test/report.json").read_text())
    report["measurement"]["flip"] = True
    other = runs / "step2-3/evaluations/test"
    other.mkdir(parents=True)
    (other / "report.json").write_text(json.dumps(report | {"checkpoint_sha256": "another"}))
    assert sweep([str(table), "--local"]) == 0
    assert "do not compare: flip no in" in capsys.readouterr().out.splitlines()[-2]
    assert_rows_are_children(tmp_path / "out", {"step1": "FINISHED", "step2": "FINISHED"})
    values = yaml.safe_load(table.read_text())
    values["rows"][1]["options"]["optimizer.learning_rate"] = 0.5
    table.write_text(yaml.safe_dump(values))
    says = r"step2-3 holds a run of another recipe \(differs in optimizer.learning_rate\)"
    with pytest.raises(RecipeError, match=says):
        sweep([str(table), "--local"])


def test_a_dry_run_lists_commands_and_starts_none(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep([str(table), "--dry-run"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line for line in listed if line.startswith("#")] == [
        "# train step1, seed 3",
        "# evaluate step1, seed 3",
        "# train step2, seed 3",
    ]
    assert "--schedule '{num_steps: 2, warmup_steps: 1}'" in listed[1]
    assert not (tmp_path / "out").exists()
    for only, titles in (("evaluations", ["evaluate step1, seed 3"]), ("teachers", [])):
        assert sweep([str(table), "--dry-run", "--only", only]) == 0
        said = capsys.readouterr().out.splitlines()
        assert [line[2:] for line in said if line.startswith("#")] == titles


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"recipe": "configs/pfed/nowhere.yaml"}, "nowhere.yaml does not exist"),
        ({"options": {"data.image_sise": 32}}, "image_sise is unknown .did you mean"),
        ({"verb": "teach"}, "teach"),
    ],
)
def test_a_row_that_cannot_be_done_is_told_before_any_is(
    table: Path, change: dict[str, object], sentence: str
) -> None:
    values = yaml.safe_load(table.read_text())
    values["rows"][1] |= change
    table.write_text(yaml.safe_dump(values))
    with pytest.raises(RecipeError, match=sentence):
        sweep([str(table)])


def test_the_students_of_one_teacher_pass_are_counted() -> None:
    config = load_recipe(SweepConfig, ROOT / "configs/sweeps/pfed_ablation.yaml")
    counted = students_of_caches(sweep_stages(config))
    caches = [Path(f"outputs/pfed_ablation/runs/../cache-{seed}") for seed in config.seeds]
    assert counted == dict.fromkeys(caches, 3), "logit, feature and teacher_only share one pass"


def test_who_learns_from_no_teacher_is_no_student_of_its_cache(table: Path) -> None:
    values = yaml.safe_load(table.read_text())
    values["options"] |= {"teacher.cache": "shared", "teacher.run": "teacher"}
    live = {
        "name": "live",
        "recipe": "configs/pfed/demo.yaml",
        "options": {"teacher.source": "live"},
    }
    values["rows"] += [{"name": "taught", "recipe": "configs/pfed/demo.yaml"}, live]
    table.write_text(yaml.safe_dump(values))
    stages = sweep_stages(load_recipe(SweepConfig, table))
    assert students_of_caches(stages) == {Path("shared"): 1}
