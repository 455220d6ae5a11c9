"""What is noted of where steps go: in every metric line, in a log file, in a trace."""

import json

from data_shards.verbs import run_verb
from distill.cli import train
from distill.profiling import PARTS
from distill.run_folder import RunPaths
from tests.distill.conftest import metric_lines, run_alone, write_recipe


def test_a_traced_run_leaves_a_trace_and_a_table(make_config):
    session = run_alone(make_config(profile_steps=2, save_every_steps=4))
    trace = json.loads((session.paths.profile / "trace-rank0.json").read_text())
    marked = {one.get("name") for one in trace["traceEvents"]}
    assert set(PARTS) <= marked
    table = (session.paths.profile / "table-rank0.txt").read_text().splitlines()
    rows = {line[:24].strip(): line.split()[-3:] for line in table[1:]}
    assert list(rows) == [*PARTS, "communication (inside)", "step"]
    host = {name: float(row[0]) for name, row in rows.items()}
    parts = sum(host[name] for name in PARTS)
    assert 0.8 * host["step"] <= parts <= 1.01 * host["step"] and rows["step"][2] == "100.0%"
    assert host["backward"] > 0 == host["communication (inside)"]  # alone


def test_a_trace_of_a_run_that_is_stopped_is_written(make_config):
    session = run_alone(make_config(profile_steps=50), stop_after=4)
    assert (session.paths.profile / "table-rank0.txt").is_file()
    session = run_alone(make_config())
    assert session.state.step == 6  # it is no other recipe


def test_metric_lines_tell_wait_memory_and_speed(make_config):
    session = run_alone(make_config())
    for line in metric_lines(session.paths):
        metrics = line["metrics"]
        assert 0 < metrics["train/data_wait"] < 1
        assert 0.05 < metrics["train/memory_gib"] < 50
        images = 8 * metrics["train/steps_per_second"]
        assert abs(images - metrics["train/images_per_second"]) <= 1e-6 * images


def test_a_launched_run_writes_a_log_file(make_config, tmp_path):
    config = make_config()
    words = [str(write_recipe(tmp_path / "recipe.yaml", config)), "--profile"]
    assert run_verb(lambda: train(words)) == 0
    paths = RunPaths(config.run_folder)
    told = paths.log.read_text().splitlines()
    assert sum("train/info_nce=" in line and "train/grad_norm=" in line for line in told) == 6
    assert any("traced rank 0 into" in line for line in told)
    assert len(list(paths.profile.iterdir())) == 2
