"""How training ends: in this process for what every rank sees, launched for what only two show."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from data_shards.cli import shard
from data_shards.errors import DivergedError
from data_shards.shards import ShardSet
from data_shards.verbs import run_verb
from distill import cli
from distill.cli import cache, train
from distill.run_folder import RunPaths, read_exit, record_exit
from tests.distill.conftest import (
    ALL_TERMS,
    NO_SERVER,
    OF_THE_MACHINE,
    ROOT,
    launch,
    launch_and_stop,
    metric_lines,
    save_newborn,
    write_recipe,
)

RUN = ROOT / "distill/run.py"


@pytest.fixture
def ended(capsys, tmp_path):
    """Run a verb in this process; return its exit code, its only sentence, and exit.json."""

    def run(verb, config, *words: str):
        capsys.readouterr()
        recipe = write_recipe(tmp_path / "recipe.yaml", config)
        code = run_verb(lambda: verb([str(recipe), *words]))
        told = [line for line in capsys.readouterr().err.splitlines() if "skydistill: " in line]
        sentence = told[0].removeprefix("skydistill: ") if told else None
        assert len(told) <= 1
        return code, sentence, read_exit(config.run_folder)

    return run


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--data.shards", "nowhere"], "no shards at nowhere"),
        (["--data.global_batch", "11"], "global batch 11"),
        (["--expected_world_size", "2"], "expects 2 processes and 1 run"),
        (["--teacher.run", "nowhere"], "no trained model at nowhere"),
        (["--data.validation_fraction", "0.01"], "holds out none for the probe"),
        ([], "no finished teacher cache at"),
    ],
)
def test_a_mistake_is_one_sentence_and_stands_in_exit_json(ended, distilled, words, says):
    code, sentence, record = ended(train, distilled(), *words)
    assert code == 2 and says in sentence
    assert record["code"] == 2 and record["reason"] == sentence and record["time"] > 0
    run = distilled().run_folder
    assert {path.name for path in run.iterdir()} == {"exit.json", ".lock"}, "no run, no MLflow run"


def test_places_to_test_on_alone_are_one_sentence(ended, make_config, tiny_raw, tmp_path):
    shutil.copytree(tiny_raw / "test/query_satellite", tmp_path / "own/satellite")
    shutil.copytree(tiny_raw / "test/query_drone", tmp_path / "own/drone")
    assert shard([str(tmp_path / "own"), str(tmp_path / "shards")]) == 0
    words = ["--data.shards", str(tmp_path / "shards"), "--data.validation_fraction", "0.1"]
    code, sentence, _ = ended(train, make_config(), *words)
    assert code == 2 and "no place to train on" in sentence and "--split" in sentence


@pytest.mark.parametrize("typo", ["--sed=1", "--seed=-1", "--data.shard=nowhere"])
def test_a_command_that_is_not_understood_writes_nothing(ended, make_config, typo):
    code, sentence, record = ended(train, make_config(), typo)
    assert code == 2 and sentence and record is None
    assert not make_config().run_folder.exists()


@pytest.fixture
def trained(ended, make_config):
    """A run that was trained to its end."""
    config = make_config()
    assert ended(train, config)[0] == 0
    return config


@pytest.mark.parametrize(
    "words",
    [
        ["--optimzer.learning_rate", "1"],
        ["--seed", "1"],
        ["--seed", "1", "--expected_world_size", "2"],
        ["--expected_world_size", "2"],
    ],
)
def test_the_record_of_a_finished_run_outlives_a_mistake(ended, trained, words):
    before = read_exit(trained.run_folder)
    assert before["code"] == 0 and before["step"] == 6
    code, sentence, record = ended(train, trained, *words)
    assert code == 2 and sentence and record == before


def test_a_run_that_stopped_is_not_told_the_mistakes_of_another_recipe(ended, trained):
    paths = RunPaths(trained.run_folder)
    record_exit(paths, code=75, reason="preempted", step=3)
    before = read_exit(paths.folder)
    code, sentence, record = ended(train, trained, "--seed", "1", "--data.shards", "nowhere")
    assert code == 2 and "holds a run of another recipe" in sentence and record == before
    code, sentence, record = ended(train, trained, "--expected_world_size", "2")
    assert code == record["code"] == 2 and "expects 2 processes" in sentence


def test_a_finished_run_that_is_started_again_says_so_again(ended, trained):
    before = read_exit(trained.run_folder)
    code, _, record = ended(train, trained)
    assert code == 0 and record | {"time": 0, "seconds": 0} == before | {"time": 0, "seconds": 0}


def test_a_finished_run_whose_checkpoints_are_gone_stays_finished(ended, trained, monkeypatch):
    said = []
    monkeypatch.setattr("distill.attempt.log_on_rank_zero", said.append)
    paths = RunPaths(trained.run_folder)
    shutil.rmtree(paths.checkpoints)
    before = {path: path.read_bytes() for path in paths.folder.iterdir()}
    assert ended(train, trained)[0] == 0
    assert said == [f"{paths.folder} is finished; set out to another folder to train anew"]
    code, sentence, _ = ended(train, trained, "--schedule.num_steps", "7")
    assert code == 2 and "another recipe (differs in schedule.num_steps)" in sentence
    code, sentence, _ = ended(train, trained, "--data.aspect", "pad")
    assert code == 2 and "another recipe (differs in data.aspect)" in sentence
    older = paths.recipe.read_text().replace("  aspect: squeeze\n", "")
    assert older != paths.recipe.read_text()
    paths.recipe.write_text(older)
    before[paths.recipe] = older.encode()
    assert ended(train, trained)[0] == 0
    assert {path: path.read_bytes() for path in paths.folder.iterdir()} == before


def test_a_second_job_in_a_run_folder_is_refused_and_leaves_it_alone(ended, make_config):
    """The first is another process, which a kill -9 takes the lock from."""
    config = make_config()
    paths = RunPaths(config.run_folder)
    script = (
        "import sys, time, pathlib; from distill.run_folder import RunPaths, claim_run_folder; "
        "lock = claim_run_folder(RunPaths(pathlib.Path(sys.argv[1]))); print(1, flush=True); "
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(paths.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as first:
        assert first.stdout.readline() == b"1\n"
        code, sentence, record = ended(train, config)
        assert code == 2 and record is None and list(paths.folder.iterdir()) == [paths.lock]
        assert f"{paths.folder} is being trained by process {first.pid} on " in sentence
        assert ended(train, config, "--dry-run")[0] == 0
        first.kill()
    assert ended(train, config)[0] == 0


def test_a_finished_run_that_lost_its_weights_too_trains_without_a_record(
    ended, trained, monkeypatch
):
    shutil.rmtree(RunPaths(trained.run_folder).checkpoints)
    RunPaths(trained.run_folder).weights.unlink()

    def stumble(*_: object) -> None:
        raise DivergedError("step 1: info_nce not finite")

    monkeypatch.setattr("distill.train.weigh", stumble)
    code, _, record = ended(train, trained)
    assert code == record["code"] == 2 and "info_nce" in record["reason"]


def test_a_collective_that_fails_is_recorded_with_its_step(ended, make_config, monkeypatch):
    meet = iter([torch.tensor(1.0, requires_grad=True)])

    def time_out(*_: object) -> torch.Tensor:
        if (first := next(meet, None)) is None:
            raise RuntimeError("Timed out waiting 1800000ms for recv operation")
        return first

    monkeypatch.setattr("distill.train.weigh", time_out)
    with pytest.raises(RuntimeError, match="Timed out"):
        ended(train, make_config())
    reason = read_exit(make_config().run_folder)["reason"]
    assert reason == "RuntimeError: Timed out waiting 1800000ms for recv operation; in step 2"


def command_in(sentence: str) -> tuple[str, list[str]]:
    """Return the verb and the words of the `skydistill` command that a sentence names."""
    verb, _, rest = sentence.partition("skydistill ")[2].partition(" ")
    return verb, shlex.split(rest)


def test_the_command_for_a_missing_cache_works_as_it_stands(ended, distilled, tmp_path):
    config, there = distilled(), tmp_path / "a cache; there"
    words = ["--teacher.cache", str(there), "--expected_world_size=1"]
    _, sentence, _ = ended(train, config, *words)
    verb, typed = command_in(sentence)
    assert verb == "cache" and typed == [str(tmp_path / "recipe.yaml"), *words]
    assert run_verb(lambda: cache(typed)) == 0
    assert ended(train, config, *words)[:2] == (0, None)


def test_the_command_for_a_missing_cache_is_for_one_process(make_config, tmp_path):
    recipe = write_recipe(tmp_path / "r.yaml", make_config(expected_world_size=2))
    asked = cli._read_arguments([str(recipe)], prog="skydistill train", usage="")
    assert asked is not None and asked[1] == f"{recipe} --expected_world_size 1"


def test_the_command_for_a_missing_teacher_trains_one(ended, distilled, tmp_path):
    run = tmp_path / "no teacher"
    _, sentence, _ = ended(train, distilled(), "--teacher.run", str(run))
    verb, typed = command_in(sentence)
    short = "--model.arch convnext_micro --data.global_batch 4 --data.validation_fraction 0"
    short += " --schedule.num_steps 2 --schedule.warmup_steps 1 --tracking.uri " + NO_SERVER
    assert verb == "train" and run_verb(lambda: train([*typed, *short.split()])) == 0
    RunPaths(run).weights.unlink()  # as if it were still training
    _, sentence, _ = ended(train, distilled(), "--teacher.run", str(run))
    verb, typed = command_in(sentence)
    assert "to its end" in sentence and run_verb(lambda: train(typed)) == 0
    assert RunPaths(run).weights.is_file()


def test_a_missing_weight_file_is_no_run_to_train(ended, distilled):
    _, sentence, _ = ended(train, distilled(), "--teacher.run", "gone.safetensors")
    assert "no trained model at gone.safetensors" in sentence and "skydistill" not in sentence


def test_the_default_recipe_sends_to_the_demo_for_its_shards(
    capsys, monkeypatch, tmp_path, tiny_shards
):
    monkeypatch.chdir(tmp_path)

    def told(verb, *words: str) -> str:
        assert run_verb(lambda: verb(list(words))) == 2
        return capsys.readouterr().err

    demo = Path("outputs/demo")
    assert "needs the shards outputs/demo/shards" in told(cache)
    assert "needs the shards outputs/demo/shards" in told(train, "--dry-run")
    assert not demo.exists()
    assert "run skydistill demo" in told(train, str(cli.DEFAULT_RECIPE))
    assert "no shards at mine" in told(train, "--data.shards", "mine")
    shutil.copytree(tiny_shards.folder, demo / "shards")
    assert "no trained model at outputs/demo/runs/teacher" in told(cache)


def test_a_cache_of_another_teacher_is_refused(ended, distilled, tiny_shards, tmp_path):
    assert ended(cache, distilled())[:2] == (0, None)
    other = save_newborn(tmp_path / "other", tiny_shards, seed=6)
    code, sentence, record = ended(train, distilled(), "--teacher.run", str(other))
    assert code == record["code"] == 2 and "made from another teacher_sha256" in sentence
    code, sentence, _ = ended(train, distilled(), "--augment.contrast", "0.1")
    assert code == 2 and "made from another augment.contrast" in sentence


def test_a_cache_verb_without_a_folder_is_a_mistake(ended, make_config):
    code, sentence, _ = ended(cache, make_config())
    assert code == 2 and "set teacher.cache" in sentence


def test_dry_runs_write_nothing(ended, distilled, tmp_path):
    config = distilled()
    assert ended(train, config, "--dry-run") == (0, None, None)
    assert ended(cache, config, "--dry-run") == (0, None, None)
    assert not config.run_folder.exists() and not config.teacher.cache.exists()


def test_one_process_of_several_that_accelerate_left_out_is_refused(
    ended, make_config, monkeypatch
):
    """What `accelerate launch --cpu --num_processes 2` leaves in the environment (1.15)."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    code, sentence, record = ended(train, make_config())
    assert code == record["code"] == 2 and "several processes and started one" in sentence


def damaged_shards(shards: ShardSet, to: Path) -> Path:
    """Copy shards and damage one satellite tile, which one rank alone reads in any step."""
    shutil.copytree(shards.folder, to)
    row = int(shards.images.where(role=1, view=0, places=[4])[0])
    entry = shards.manifest.shards[int(shards.images.shard[row])]
    with (to / entry.name).open("rb+") as tar:
        tar.seek(int(shards.images.offset[row]))
        tar.write(b"\0" * int(shards.images.size[row]))
    return to


def test_what_one_rank_sees_is_told_once(make_config, tiny_shards, tmp_path):
    shards = damaged_shards(tiny_shards, tmp_path / "damaged")
    config = make_config(data={"shards": str(shards)}, expected_world_size=2)
    job = launch(RUN, write_recipe(tmp_path / "recipe.yaml", config))
    assert job.code == 1  # accelerate's, for any failure
    assert len(job.sentences) == 1 and "cannot be decoded" in job.sentences[0], job.output
    assert job.our_tracebacks == 0, job.output
    record = read_exit(config.run_folder)
    assert record["code"] == 2 and f"skydistill: {record['reason']}" == job.sentences[0]


def test_a_bug_of_one_rank_is_one_traceback(make_config, tmp_path):
    config = make_config(expected_world_size=2)
    script = Path(__file__).with_name("with_a_bug.py")
    job = launch(script, write_recipe(tmp_path / "recipe.yaml", config))
    assert job.code == 1 and not job.sentences
    assert job.output.count("ZeroDivisionError: a bug on rank 1") == 1, job.output
    record = read_exit(config.run_folder)
    assert record["code"] == 1 and record["reason"] == "ZeroDivisionError: a bug on rank 1"


@pytest.mark.slow
def test_a_stopped_job_goes_on_to_the_losses_and_weights_of_one_that_was_not(make_config, tmp_path):
    taught = {"logit_distillation", "feature_distillation"}
    changes = {
        "expected_world_size": 2,
        "schedule": {"num_steps": 30},
        "save_every_steps": 1000,
        "objectives": {name: term for name, term in ALL_TERMS.items() if name not in taught},
        "data": {"drones_per_row": 2},
    }
    whole = make_config(out=str(tmp_path / "whole"), **changes)
    job = launch(RUN, write_recipe(tmp_path / "whole.yaml", whole))
    assert job.code == 0, job.output
    assert read_exit(whole.run_folder)["code"] == 0

    config = make_config(**changes)
    paths, recipe = RunPaths(config.run_folder), write_recipe(tmp_path / "recipe.yaml", config)

    def has_logged() -> bool:
        return paths.metrics.is_file() and paths.metrics.read_text().count("\n") >= 3

    launch_and_stop(RUN, recipe, when=has_logged)
    record = read_exit(config.run_folder)
    assert record["code"] == 75 and record["reason"] == "preempted"
    assert 3 <= record["step"] < 30
    state = json.loads((paths.checkpoints / f"step-{record['step']:08d}/state.json").read_text())
    assert state["state"]["step"] == record["step"] and not paths.weights.exists()

    job = launch(RUN, recipe)
    assert job.code == 0 and "resumed from" in job.output, job.output
    assert read_exit(config.run_folder)["code"] == 0
    assert json.loads(paths.environment.read_text())["world_size"] == 2
    one, two = load_file(RunPaths(whole.run_folder).weights), load_file(paths.weights)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    lines = metric_lines(paths)
    assert [line["step"] for line in lines] == list(range(1, 31))
    assert {f"train/{name}" for name in config.objectives.weights} <= lines[0]["metrics"].keys()
    for line, other in zip(lines, metric_lines(RunPaths(whole.run_folder)), strict=True):
        speeds = [of["metrics"].pop(key) for of in (line, other) for key in OF_THE_MACHINE]
        assert min(speeds) > 0 and line["metrics"] == other["metrics"]
