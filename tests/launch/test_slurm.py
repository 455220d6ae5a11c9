"""Sweeps as Slurm jobs: arrays, what they wait for, and scripts, all as text; mistakes first."""

import functools
import os
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from data_shards.errors import RecipeError
from data_shards.recipe import load_recipe
from launch.cluster import open_cluster_sweep, print_table, read_site
from launch.config import SiteConfig, SweepConfig
from launch.slurm import JobArray, array_script, array_table, comparison_script, job_arrays
from launch.sweep import sweep_stages

ROOT = Path(__file__).parents[2]
SWEEPS = ROOT / "configs/sweeps"
SITE = SiteConfig(partition="gpu", account="geo", nodes=2, gpus_per_node=4, throttle=3)


@functools.cache
def arrays_of(name: str) -> dict[str, JobArray]:
    config = load_recipe(SweepConfig, SWEEPS / name)
    arrays = job_arrays(sweep_stages(replace(config, processes=SITE.ranks)))
    return {array.name: array for array in arrays}


def titles(array: JobArray) -> list[str]:
    return [stage.name for stage in array.rows.values()]


def test_each_height_waits_for_its_own_teacher_and_cache() -> None:
    arrays = arrays_of("sues_all.yaml")
    methods = [f"pfed_{{}}_{m}-0" for m in (150, 200, 250, 300)]
    methods += [name.replace("pfed", "bicrossnet") for name in methods]
    for name, noun in (("teachers", "teacher"), ("caches", "cache")):
        assert titles(arrays[name]) == [method.format(noun) for method in methods]
    waits = {name: (array.dependency, array.waits_for) for name, array in arrays.items()}
    row_by_row = "aftercorr"
    assert waits["caches"] == (row_by_row, ("teachers",))
    assert waits["students-2"] == (row_by_row, ("teachers", "caches", "students"))
    assert waits["students-3"] == (row_by_row, ("teachers", "caches"))
    assert waits["evaluate-students-3"] == (row_by_row, ("students-3",))
    assert waits["students"][1] == waits["teachers"][1] == ()
    assert list(arrays["students-2"].rows) == [0, 1, 2, 3], "PFED's heights"
    assert list(arrays["evaluate-students-3"].rows) == [4, 5, 6, 7], "BiCrossNet's heights"


def test_students_that_share_a_teacher_wait_for_all_teachers() -> None:
    arrays = arrays_of("bicrossnet.yaml")
    taught = arrays["students"]
    assert titles(taught) == ["tiny_256-0", "tiny_384-0", "middle_384-0"]
    assert (taught.dependency, taught.waits_for) == ("afterok", ("teachers", "caches"))
    assert list(taught.rows) == [0, 1, 2]
    assert arrays["students-2"].waits_for == (), "the release's student has no teacher"


def test_sues_all_is_the_rows_of_both_methods() -> None:
    both = {row.name: row for row in load_recipe(SweepConfig, SWEEPS / "sues_all.yaml").rows}
    for method in ("pfed", "bicrossnet"):
        config = load_recipe(SweepConfig, SWEEPS / f"{method}_sues200.yaml")
        for row in config.rows:
            same = both.pop(f"{method}_{row.name}")
            assert (same.recipe, same.verb, same.options.keys() - {"model.weights"}) == (
                row.recipe,
                row.verb,
                row.options.keys(),
            )
            assert same.options["data.altitudes"] == row.options["data.altitudes"]
    assert both == {}


def test_a_script_asks_for_what_the_site_has_and_passes_the_checks(tmp_path: Path) -> None:
    arrays = arrays_of("sues_all.yaml")
    out = Path("out it's")
    scripts = {
        array.name: array_script(array, SITE, sweep="sues_all", out=out, root=tmp_path)
        for array in arrays.values()
    }
    scripts["comparison"] = comparison_script(SITE, sweep="sues_all", out=out, root=tmp_path)
    for name, text in scripts.items():
        (tmp_path / f"{name}.sh").write_text(text)
    files = [tmp_path / f"{name}.sh" for name in scripts]
    for file in files:
        subprocess.run(["bash", "-n", str(file)], check=True)
    assert shutil.which("shellcheck"), "make check installs it"
    subprocess.run(["shellcheck", *map(str, files)], check=True)
    for line in (
        "--job-name=sues_all-students-3",
        "--array=4,5,6,7%3",
        "--partition=gpu",
        "--account=geo",
        "--nodes=2",
        "--ntasks-per-node=1",
        "--gpus-per-node=4",
        "--requeue",
        "--open-mode=append",
        "--output=out it's/logs/%x-%A_%a.out",
    ):
        assert f"#SBATCH {line}\n" in scripts["students-3"]
    assert "#SBATCH --nodes=1\n" in scripts["evaluate-students-3"]
    inside = replace(SITE, container="apptainer exec --nv 'my image.sif'")
    text = array_script(arrays["students"], inside, sweep="s", out=out, root=tmp_path)
    (start,) = (line for line in text.splitlines() if line.startswith("start="))
    words = shlex.split(shlex.split(start)[0].removeprefix("start="))
    assert words[:4] == ["apptainer", "exec", "--nv", "my image.sif"] and "accelerate" in words[6]
    index, name, verb, folder, command = (
        array_table(arrays["students-3"]).splitlines()[1].split("\t")
    )
    assert (index, name, verb) == ("4", "bicrossnet_student_150-0", "train")
    assert folder == "outputs/sues_all/runs/bicrossnet_student_150-0"
    assert "--num_processes 8 -m distill.run" in command
    assert "--model.weights data/weights/bnext_tiny.safetensors" in command


@pytest.mark.parametrize("path", sorted((ROOT / "slurm").glob("*.sh")), ids=lambda path: path.stem)
def test_a_script_of_the_checkout_submits_what_its_name_says(path: Path, tmp_path: Path) -> None:
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm/site.env").write_text(f"PATH={tmp_path}:$PATH\n")
    shutil.copy(ROOT / "slurm/submit.sh", tmp_path / "slurm")
    (tmp_path / "skydistill").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "skydistill").chmod(0o755)
    (tmp_path / "spool.sh").write_text(path.read_text())  # sbatch copies a script away
    words = ["bash", str(tmp_path / "spool.sh"), "--dry-run"]
    words += ["configs/sweeps/pfed.yaml"] * (path.stem == "submit")
    variables = {**os.environ, "SLURM_SUBMIT_DIR": str(tmp_path)}
    said = subprocess.run(
        words, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    assert said[0] == "sweep" and {"--slurm", "--dry-run"} <= {*said}
    rest = [word for word in said[1:] if word not in ("--slurm", "--dry-run")]
    (sweep,) = (word for word in rest if word.endswith(".yaml"))
    config = load_recipe(SweepConfig, ROOT / sweep, [word for word in rest if word != sweep])
    wholes = {"sues_all": "sues_all", "university1652": "university1652", "submit": "pfed"}
    assert Path(sweep).stem == wholes.get(path.stem, "sues_all")
    assert config.only == (None if path.stem in wholes else path.stem)


def test_one_kind_of_rows_is_asked_for_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm/site.env").write_text("SITE_GPUS_PER_NODE=2\n")
    for folder in ("configs", "data"):
        if (ROOT / folder).exists():
            (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    path = Path("configs/sweeps/sues_all.yaml")
    for only, found in {
        "caches": ["caches"],
        "students": ["students", "students-2", "students-3"],
        "comparison": ["comparison"],
    }.items():
        sweep = open_cluster_sweep(path, ["--only", only])
        assert list(sweep.scripts()) == found
        print_table(sweep)
        listed = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
        assert [line for line in listed if line[0] != " "] == found
    with pytest.raises(RecipeError, match="only"):
        open_cluster_sweep(path, ["--only", "teacher"])


RANKS = """#!/usr/bin/env bash
trap '' USR1
touch {folder}/started
while [[ ! -f {cache}/STOP ]]; do sleep 0.05; done
echo '{{"code": 75}}' > {cache}/exit.json
exit 1
"""
"""Ranks that start up so long that they hear no signal; then they find the file."""


@pytest.mark.parametrize("told_at", ["entered", "started"])
def test_a_cache_that_is_preempted_while_it_starts_up_is_queued_again(
    tmp_path: Path, told_at: str
) -> None:
    """By USR1 while the site's environment is loaded, or when ranks are there and hear nothing."""
    stage = next(iter(arrays_of("sues_all.yaml")["caches"].rows.values()))
    cache = tmp_path / "cache"
    array = JobArray(name="caches", rows={0: replace(stage, makes=cache)})
    (tmp_path / "out/slurm").mkdir(parents=True)
    (tmp_path / "out/slurm/caches.tsv").write_text(array_table(array))
    text = array_script(array, SITE, sweep="sues_all", out=tmp_path / "out", root=tmp_path)
    (tmp_path / "row.sh").write_text(text)
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm/site.env").write_text(f"touch {tmp_path}/entered\nsleep 0.5\n")
    fakes = {"srun": RANKS.format(folder=tmp_path, cache=cache), "scontrol": "#!/bin/sh\necho $@\n"}
    for name, program in fakes.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(program)
        (tmp_path / "bin" / name).chmod(0o755)
    variables = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n0"}
    variables |= {"SLURM_CPUS_PER_TASK": "1", "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    job = subprocess.Popen(
        ["bash", str(tmp_path / "row.sh")], env=variables, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 20
    while not (tmp_path / told_at).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    said, _ = job.communicate(timeout=20)
    assert "saved what it has and is queued again\nrequeue 7" in said
    assert job.returncode == 1


def test_a_site_is_read_as_bash_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "site.env"
    path.write_text("echo loading\nGPUS=2\nSITE_GPUS_PER_NODE=$GPUS # each\nSITE_TIME=60\n")
    assert read_site(path) == SiteConfig(gpus_per_node=2, time="60")
    assert isinstance(read_site(ROOT / "slurm/site.env.example"), SiteConfig)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "does not exist in .*; copy slurm/site.env.example"),
        ("SITE_PARTITON=gpu", "partiton.*did you mean"),
        ("SITE_NODES=two", "nodes"),
        ("cd /nowhere/at/all", "cannot be sourced: .*nowhere"),
    ],
)
def test_a_site_that_says_nothing_useful_is_told(
    tmp_path: Path, text: str | None, sentence: str
) -> None:
    path = tmp_path / "site.env"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=sentence):
        read_site(path)


def test_a_row_of_a_missing_recipe_is_told_before_slurm_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm/site.env").write_text("SITE_GPUS_PER_NODE=2\n")
    (tmp_path / "sweep.yaml").write_text(
        "out: out\nshards: shards\nrows: [{name: one, recipe: configs/pfed/nowhere.yaml}]\n"
    )
    with pytest.raises(RecipeError, match="nowhere.yaml does not exist"):
        open_cluster_sweep(Path("sweep.yaml"), [])
    with pytest.raises(RecipeError, match="SITE_NODES x SITE_GPUS_PER_NODE"):
        open_cluster_sweep(Path("sweep.yaml"), ["--processes", "3"])
