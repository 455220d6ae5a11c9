"""How training ends: in this process for what every rank sees, launched for what only two show."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from data_shards.shards import ShardSet
from data_shards.verbs import run_verb
from distill.cli import cache, train
from distill.run_folder import RunPaths, read_exit
from tests.distill.conftest import ROOT, launch, launch_and_stop, save_newborn, write_recipe

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
        (["--data.shard", "nowhere"], "did you mean 'shards'?"),
        (["--data.global_batch", "11"], "global batch 11"),
        (["--expected_world_size", "2"], "expects 2 processes and 1 run"),
        (["--teacher.run", "nowhere"], "no trained model at nowhere"),
        (["--data.image_size", "48"], "was trained at 32 px"),
        ([], "no finished teacher cache at"),
    ],
)
def test_a_mistake_is_one_sentence_and_stands_in_exit_json(ended, distilled, words, says):
    code, sentence, record = ended(train, distilled(), *words)
    assert code == 2 and says in sentence
    assert record["code"] == 2 and record["reason"] == sentence and record["time"] > 0


def test_a_mistake_is_recorded_where_the_run_was_meant_to_be(ended, make_config, tmp_path):
    ended(train, make_config(), "--out", str(tmp_path / "there"), "--sed=1")
    assert "unknown (did you mean 'seed'?)" in read_exit(tmp_path / "there")["reason"]


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
def test_a_stopped_job_goes_on_to_the_weights_of_one_that_was_not(make_config, tmp_path):
    changes = {
        "expected_world_size": 2,
        "schedule": {"num_steps": 60},
        "save_every_steps": 1000,
        "objectives": {"cross_entropy": {"weight": 1.0}},
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
    assert 3 <= record["step"] < 60
    state = json.loads((paths.checkpoints / f"step-{record['step']:08d}/state.json").read_text())
    assert state["state"]["step"] == record["step"] and not paths.weights.exists()

    job = launch(RUN, recipe)
    assert job.code == 0 and "resumed from" in job.output, job.output
    assert read_exit(config.run_folder)["code"] == 0
    assert json.loads(paths.environment.read_text())["world_size"] == 2
    one, two = load_file(RunPaths(whole.run_folder).weights), load_file(paths.weights)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    steps = [json.loads(line)["step"] for line in paths.metrics.read_text().splitlines()]
    assert steps == list(range(1, 61))
