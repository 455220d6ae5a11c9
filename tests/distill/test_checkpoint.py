import hashlib
import json
import logging
import resource
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from data_shards.errors import CheckpointError
from distill import checkpoint, checkpoint_writer
from distill.checkpoint import OLDEST, SET_ASIDE, VERSION, RunState
from distill.models.weights import file_sha256
from distill.run_folder import RunPaths
from distill.weights_file import WEIGHTS_FORMAT, load_student, save_weights
from tests.distill.conftest import (
    metric_lines,
    open_alone,
    resume,
    run_alone,
    tiny_config,
    train_alone,
)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, tiny_shards):
    """A run of 6 steps that nothing interrupted; for reading only."""
    return run_alone(tiny_config(tiny_shards, tmp_path_factory.mktemp("straight") / "run"))


@pytest.fixture
def copied(straight, make_config):
    """A copy of that run, to damage, and the recipe that resumes it."""
    config = make_config()
    shutil.copytree(straight.paths.folder, config.run_folder)
    return config


def step_weights(session) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in session.step.state_dict().items()}


def test_resumed_run_is_the_uninterrupted_one(make_config, straight):
    config = make_config()
    stopped = run_alone(config, stop_after=2)
    assert stopped.state.step == 2 and not stopped.paths.weights.exists()
    resumed = run_alone(config)
    assert resumed.state.step == 6
    one, two = step_weights(straight), step_weights(resumed)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    one, two = (load_file(session.paths.weights) for session in (straight, resumed))
    assert all(torch.equal(one[key], two[key]) for key in one)
    lines = [
        [
            (line["step"], line["metrics"]["train/total"])
            for line in metric_lines(session.paths)
            if line["metrics"]  # the watcher of `run_alone` measures nothing
        ]
        for session in (straight, resumed)
    ]
    assert lines[0] == lines[1] and [step for step, _ in lines[0]] == [1, 2, 3, 4, 5, 6]


def test_a_finished_run_is_only_finished_again(copied, straight):
    RunPaths(copied.run_folder).weights.unlink()
    again = run_alone(copied)
    assert again.state.step == 6 and len(metric_lines(again.paths)) == 6
    one, two = (load_student(session.paths.folder) for session in (straight, again))
    assert one.model.state_dict().keys() == two.model.state_dict().keys()
    # The very same bytes, so that a teacher's cache stays valid.
    facts = {"places": one.places, "trained_on": one.trained_on, "step": 6}
    save_weights(again.paths.weights, again.paths.card, again.model, straight.config, **facts)
    assert load_student(again.paths.folder).sha256 == one.sha256


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "unsealed", "lost"])
def test_a_damaged_checkpoint_is_passed_over(copied, damage, caplog):
    paths = RunPaths(copied.run_folder)
    newest = paths.checkpoints / "step-00000006"
    file = newest / "training.pt"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-10])
    elif damage == "flipped":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "gone":
        file.unlink()
    elif damage == "unsealed":
        (newest / "state.json").unlink()
    elif damage == "lost":
        for folder in paths.checkpoints.iterdir():
            (folder / "state.json").write_text("{")
    session = open_alone(copied)
    assert session.state.step == (0 if damage == "lost" else 3)
    warned = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert any(str(newest) in line and "is damaged" in line for line in warned)


def test_a_checkpoint_of_other_shards_is_refused_in_a_sentence(make_config):
    session = open_alone(make_config())
    assert session.state.shards == session.shards.fingerprint
    session.state.step = 1
    session.checkpoints.save(session.state, must_succeed=True)
    assert resume(session, shards=session.state.shards).step == 1
    with pytest.raises(CheckpointError, match="step-00000001 was trained on shards .* another out"):
        resume(session, shards="f" * 64)


def names(paths: RunPaths) -> list[str]:
    return sorted(path.name for path in paths.checkpoints.iterdir())


def test_old_and_half_written_checkpoints_go_and_damaged_ones_are_kept_aside(make_config, caplog):
    session = open_alone(make_config())
    paths = session.paths
    for step in (1, 2, 3):
        session.checkpoints.save(RunState(step=step), must_succeed=True)
    assert names(paths) == ["step-00000002", "step-00000003"]
    # Step 3 is damaged and step 4 half-written; the run goes on from step 2, past where it was.
    for size, saved in ((1, 3), (2, 5)):
        (paths.checkpoints / "step-00000003" / "model.safetensors").write_bytes(b"x" * size)
        (paths.checkpoints / "step-00000004.partial").mkdir()
        assert resume(session, shards="").step == 2
        assert names(paths) == ["set_aside", "step-00000002", "step-00000004.partial"]
        session.checkpoints.save(RunState(step=saved), must_succeed=True)
        assert names(paths) == ["set_aside", "step-00000002", f"step-{saved:08d}"]
        assert resume(session, shards="").step == saved
    aside = paths.checkpoints / SET_ASIDE
    kept = {path.name: (path / "model.safetensors").stat().st_size for path in aside.iterdir()}
    assert kept == {"step-00000003": 1, "step-00000003-2": 2}
    assert f"is damaged and kept as {aside / 'step-00000003'}" in caplog.text


@pytest.mark.parametrize("version", [None, OLDEST - 1, VERSION + 1])
def test_a_checkpoint_of_another_version_is_refused_and_nothing_is_touched(copied, version):
    run = RunPaths(copied.run_folder)
    file = run.checkpoints / "step-00000006" / "state.json"
    meta = json.loads(file.read_text())
    assert meta.pop("version") == VERSION
    meta["state"]["new"] = {"of": "that version"}
    file.write_text(json.dumps(meta | ({"version": version} if version else {})))
    before = {path: path.stat().st_mtime_ns for path in run.checkpoints.rglob("*")}
    says = (
        r"step-00000006 was saved by another version .* \(it is of version "
        rf"{version or 1}, and this one reads {VERSION}\)"
    )
    with pytest.raises(CheckpointError, match=says):
        open_alone(copied)
    assert {path: path.stat().st_mtime_ns for path in run.checkpoints.rglob("*")} == before


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_ones(make_config, monkeypatch):
    session = open_alone(make_config())
    session.checkpoints.save(RunState(step=1), must_succeed=True)

    monkeypatch.setattr(checkpoint_writer, "save_file", full)
    with pytest.raises(CheckpointError, match=r"step-00000002.*No space left"):
        session.checkpoints.save(RunState(step=2), must_succeed=True)
    assert names(session.paths) == ["step-00000001"]


def test_a_run_goes_on_when_the_disk_is_full_and_tells_so(make_config, straight, caplog):
    """A real writer that fails, of weights and then of moments, half way into its file."""
    caplog.set_level(logging.INFO)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    config = make_config(save_every_steps=1, probe_every_steps=1, keep_checkpoints=9)
    seen, session = {}, open_alone(config)

    def fill(model: torch.nn.Module, step: int) -> dict[str, float]:
        session.checkpoints.wait()
        seen[step] = names(RunPaths(config.run_folder))
        room = {2: 10_000, 4: size_of_weights(model) + 10_000}.get(step, limits[0])
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        return {}

    try:
        train_alone(session, probes=[fill])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    saved = [f"step-{step:08d}" for step in (1, 3, 5, 6)]
    assert seen[3] == saved[:1] and names(session.paths) == saved
    told = [line for line in caplog.messages if line.startswith("training goes on: checkpoint")]
    assert [step for step in (2, 4) for line in told if f"step-{step:08d}" in line] == [2, 4]
    one, two = step_weights(straight), step_weights(session)
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_training_goes_on_while_a_checkpoint_is_written(make_config, straight, monkeypatch):
    """And what is written is what was there at its step, whatever is trained meanwhile."""
    may_go_on, seen, copied = threading.Event(), {}, checkpoint_writer.copied_to_host

    def late(value: object, earlier: object) -> object:
        if isinstance(value, dict) and "random" in value:  # the whole
            time.sleep(0.5)
        return copied(value, earlier)

    def slow(path: Path) -> str:
        assert may_go_on.wait(30)
        return file_sha256(path)

    def look(model: torch.nn.Module, step: int) -> dict[str, float]:
        seen[step] = names(RunPaths(config.run_folder))
        if step == 5:
            may_go_on.set()
        return {}

    config = make_config(probe_every_steps=1)
    monkeypatch.setattr(checkpoint_writer, "file_sha256", slow)
    monkeypatch.setattr(checkpoint_writer, "copied_to_host", late)
    session = run_alone(config, probes=[look])
    assert seen[3] == [] and seen[5] in ([], ["step-00000003.partial"])
    assert names(session.paths) == names(straight.paths) == ["step-00000003", "step-00000006"]
    for step in names(session.paths):
        one, two = (run.paths.checkpoints / step for run in (session, straight))
        assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
        one, two = (torch.load(folder / "training.pt") for folder in (one, two))
        assert torch.equal(one["random"], two["random"])
        for number, moments in two["optimizer"]["state"].items():
            mine = one["optimizer"]["state"][number]
            assert all(torch.equal(mine[name], value) for name, value in moments.items())


def test_ranks_that_are_new_draw_their_own_random_numbers_and_the_loss_scale_is_kept(
    make_config, monkeypatch
):
    session = open_alone(make_config())
    session.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    session.checkpoints.save(RunState(step=1), must_succeed=True)
    drawn = [torch.rand(4).tolist()]
    for number in (0, 1, 1, 2):
        session.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
        monkeypatch.setattr(checkpoint, "rank", lambda number=number: number)
        resume(session, shards="")
        assert session.accelerator.scaler.get_scale() == 8.0
        drawn.append(torch.rand(4).tolist())
    assert drawn[0] == drawn[1] and drawn[2] == drawn[3]
    assert len({tuple(numbers) for numbers in drawn}) == 3


def size_of_weights(model: torch.nn.Module) -> int:
    return sum(value.nbytes for value in model.state_dict().values())


def test_a_stop_that_cannot_save_is_told_as_a_mistake(make_config, monkeypatch):
    monkeypatch.setattr(checkpoint_writer, "save_file", full)
    with pytest.raises(CheckpointError, match=r"step-00000002.*No space left.* the one before"):
        run_alone(make_config(), stop_after=2)


def test_a_checkpoint_of_another_program_is_refused_in_a_sentence(make_config):
    session = open_alone(make_config())
    session.checkpoints.save(RunState(step=1), must_succeed=True)
    folder = session.paths.checkpoints / "step-00000001"
    file = folder / "model.safetensors"
    save_file({"other": torch.zeros(1)}, file)
    meta = json.loads((folder / "state.json").read_text())
    meta["sha256"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "state.json").write_text(json.dumps(meta))
    with pytest.raises(CheckpointError, match="does not fit this version"):
        resume(session, shards="")


def test_weights_round_trip(straight):
    loaded = load_student(straight.paths.folder)
    assert (loaded.name, loaded.role, loaded.step, loaded.image_size) == ("tiny", "alone", 6, 32)
    assert loaded.run == straight.paths and len(loaded.places) == 10
    assert not loaded.model.training
    trained = straight.model.state_dict()
    assert all(torch.equal(value, trained[key]) for key, value in loaded.model.state_dict().items())
    assert load_student(straight.paths.weights).sha256 == loaded.sha256
    assert "trained: 6 steps of 4 places" in straight.paths.card.read_text()


def test_foreign_and_damaged_weights_are_refused(straight, tmp_path):
    with pytest.raises(CheckpointError, match="no trained model at"):
        load_student(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="or a file of others"):
        load_student(tmp_path / "foreign.safetensors")
    cut = tmp_path / "cut.safetensors"
    shutil.copy(straight.paths.weights, cut)
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_student(cut)


def test_weights_of_a_version_that_told_no_resampling_are_refused(straight, tmp_path):
    with safe_open(straight.paths.weights, framework="pt") as opened:
        meta = json.loads(opened.metadata()[WEIGHTS_FORMAT])
    del meta["recipe"]["data"]["resampling"]
    older = tmp_path / "older.safetensors"
    save_file(load_file(straight.paths.weights), older, metadata={WEIGHTS_FORMAT: json.dumps(meta)})
    with pytest.raises(CheckpointError, match=r"does not fit this version.*resampling"):
        load_student(older)


def test_a_checkpoint_is_told_from_the_model_of_its_run(copied):
    run = RunPaths(copied.run_folder)
    (step, *_) = sorted(run.checkpoints.iterdir())
    for path in (step, step / "model.safetensors"):
        with pytest.raises(CheckpointError, match="is a checkpoint, which resumes a training"):
            load_student(path)


def test_the_runs_in_a_folder_that_is_none_are_named(copied):
    run = RunPaths(copied.run_folder)
    folder = run.folder.parent
    with pytest.raises(CheckpointError, match=f"at {folder}/.* below are {run.folder}$"):
        load_student(folder)
