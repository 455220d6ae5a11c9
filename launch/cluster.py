"""A sweep on a cluster: checked before anything is submitted, submitted, watched, cancelled."""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_shards.errors import RecipeError, require_known
from data_shards.recipe import build_config, load_recipe
from launch.config import SiteConfig, SweepConfig
from launch.process import run_captured
from launch.slurm import (
    JobArray,
    SlurmPaths,
    array_script,
    array_table,
    comparison_script,
    job_arrays,
)
from launch.sweep import is_done, sweep_stages
from launch.tracking import begin_sweep

SITE = Path("slurm/site.env")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterSweep:
    """A sweep as the jobs of one site."""

    path: Path
    config: SweepConfig
    site: SiteConfig
    all_arrays: list[JobArray]

    @property
    def arrays(self) -> list[JobArray]:
        """Return those of the kind that is asked for, or all."""
        kind = self.config.only
        return [array for array in self.all_arrays if kind in (None, array.kind)]

    @property
    def is_compared(self) -> bool:
        """Whether a comparison is asked for."""
        return self.config.only in (None, "comparison")

    @property
    def paths(self) -> SlurmPaths:
        """Where its scripts and tables go."""
        return SlurmPaths(out=self.config.out)

    def scripts(self) -> dict[str, str]:
        """Return the text of every job, in the order of submission."""
        where: dict[str, Any] = {"sweep": self.path.stem, "out": self.config.out}
        where["root"] = Path.cwd()
        texts = {array.name: array_script(array, self.site, **where) for array in self.arrays}
        if self.is_compared:
            texts["comparison"] = comparison_script(self.site, **where)
        return texts


def read_site(path: Path) -> SiteConfig:
    """Return what a site file sets, as bash understands it.

    Raises:
        RecipeError: it is missing, bash cannot read it, or a variable is unknown or wrong.
    """
    if not path.is_file():
        raise RecipeError(
            f"{path} does not exist in {Path.cwd()}; copy slurm/site.env.example there and fill it"
        )
    code, said = run_captured(["bash", "-c", f"set -ae; source {path} >&2; printf '\\0'; env -0"])
    if code:
        raise RecipeError(f"{path} cannot be sourced: {said or f'exit code {code}'}")
    variables = dict(line.partition("=")[::2] for line in said.split("\0"))
    kinds = {field.name: field.type for field in dataclasses.fields(SiteConfig)}
    values: dict[str, Any] = {}
    for variable, value in variables.items():
        if variable.startswith("SITE_") and value:
            name = variable.removeprefix("SITE_").lower()
            require_known(name, kinds, what=f"SITE_ variable of {path}", error=RecipeError)
            values[name] = int(value) if kinds[name] is int and value.isdigit() else value
    values["tracking_uri"] = variables.get("MLFLOW_TRACKING_URI")
    return build_config(SiteConfig, values, where=str(path))


def open_cluster_sweep(path: Path, words: Sequence[str]) -> ClusterSweep:
    """Return a sweep with what the site says of it; options of the command line come last.

    Raises:
        RecipeError: the site file, the sweep or a row of it is missing or wrong.
    """
    site = read_site(SITE)
    given = {"shards": site.shards, "weights": site.weights, "out": site.out}
    of_site = [word for key, value in given.items() if value for word in (f"--{key}", value)]
    of_site += ["--processes", str(site.ranks)]
    config = load_recipe(SweepConfig, path, [*of_site, *words])
    if config.processes != site.ranks:
        raise RecipeError(
            f"--processes ({config.processes}) must be SITE_NODES x SITE_GPUS_PER_NODE "
            f"({site.ranks}) on a cluster; change {SITE}"
        )
    arrays = job_arrays(sweep_stages(config))
    return ClusterSweep(path=path, config=config, site=site, all_arrays=arrays)


def print_table(sweep: ClusterSweep) -> None:
    """Print every array with its rows, then the comparison."""
    for array in sweep.arrays:
        sys.stdout.write(f"{array.name}: {_task(sweep, array)}; waits for {_waits(array)}\n")
        for index, stage in array.rows.items():
            done = " (done)" if is_done(stage) else ""
            sys.stdout.write(f"  {index:>3}  {stage.title}{done}\n")
    if sweep.is_compared:
        sys.stdout.write("comparison: one table; waits for all\n")


def _task(sweep: ClusterSweep, array: JobArray) -> str:
    """Return how large an array and each of its rows is."""
    nodes, gpus = sweep.site.nodes, sweep.site.gpus_per_node
    if array.kind == "evaluations":
        nodes, gpus = 1, min(gpus, 1)
    return f"{len(array.rows)} rows, each on {nodes} node(s) with {gpus} GPU(s)"


def _waits(array: JobArray, ids: Mapping[str, str] | None = None) -> str:
    """Return what an array waits for, in words."""
    names = [f"{name} ({ids[name]})" if ids else name for name in array.waits_for]
    how = ", row by row" if array.by_index and names else ""
    return f"{' and '.join(names) or 'nothing'}{how}"


def check(sweep: ClusterSweep) -> bool:
    """Let bash read every script and the controller judge it; return whether one answers.

    Raises:
        RecipeError: shards are missing, or bash or Slurm refuses a script; nothing was submitted.
    """
    shards = str(sweep.config.shards)
    if ":" not in shards and not Path(shards, "manifest.json").is_file():
        raise RecipeError(f"{shards} holds no shards (manifest.json); set SITE_SHARDS in {SITE}")
    answers = run_captured(["scontrol", "ping"])[0] == 0
    for name, text in sweep.scripts().items():
        judges = [["bash", "-n"], *([["sbatch", "--test-only"]] if answers else [])]
        for judge in judges:
            code, said = run_captured(judge, text=text)
            if code:
                partitions = run_captured(["sinfo", "-h", "-o", "%R (%D nodes, %G)"])[1]
                raise RecipeError(
                    f"{' '.join(judge)} refuses the job {name}: {_last_line(said)}; {SITE} asks "
                    f"partition {sweep.site.partition or '(default)'} for {sweep.site.nodes} "
                    f"node(s) with {sweep.site.gpus_per_node} GPU(s) each, and there are "
                    f"{', '.join(partitions.splitlines())}"
                )
    return answers


def _last_line(said: str) -> str:
    return said.splitlines()[-1].removeprefix("sbatch: error: ") if said else "it said nothing"


def submit(sweep: ClusterSweep, *, resume: bool) -> int:
    """Write scripts and tables, submit every array that is not finished, and print the jobs.

    Raises:
        RecipeError: no controller answers, the sweep was submitted before, or Slurm refuses a job.
    """
    if not check(sweep):
        raise RecipeError(
            "no Slurm controller answers here (scontrol ping); --dry-run shows the jobs, --local "
            "does the rows on this machine"
        )
    paths, ids = sweep.paths, _queued_before(sweep, resume=resume)
    paths.folder.mkdir(parents=True, exist_ok=True)
    (paths.out / "logs").mkdir(exist_ok=True)
    stages = [stage for array in sweep.all_arrays for stage in array.rows.values()]
    uri = sweep.site.tracking_uri or "spool"
    begin_sweep(sweep.config, stages, name=sweep.path.stem, uri=uri)
    for name, text in sweep.scripts().items():
        paths.script(name).write_text(text)
    for array in sweep.arrays:
        paths.table(array.name).write_text(array_table(array))
        if all(is_done(stage) for stage in array.rows.values()):
            sys.stdout.write(f"finished before: {array.name}\n")
            continue
        before = [name for name in array.waits_for if name in ids]
        dependency = ":".join([array.dependency, *(ids[name] for name in before)])
        ids[array.name] = _sbatch(paths, array.name, dependency if before else "")
        waits = _waits(dataclasses.replace(array, waits_for=tuple(before)), ids)
        sys.stdout.write(
            f"job {ids[array.name]}: {array.name}, {_task(sweep, array)}; waits for {waits}\n"
        )
        paths.jobs.write_text(json.dumps(ids, indent=1))
    is_there = Path(sweep.config.out, "comparison.html").is_file()
    if sweep.is_compared and (ids or sweep.config.only or not is_there):
        dependency = ":".join(["afterany", *ids.values()]) if ids else ""
        ids["comparison"] = _sbatch(paths, "comparison", dependency)
        sys.stdout.write(f"job {ids['comparison']}: comparison; waits for the end of all\n")
        paths.jobs.write_text(json.dumps(ids, indent=1))
    sys.stdout.write(f"state: skydistill sweep {sweep.path} --status    (or: squeue --me)\n")
    return 0


def _queued_before(sweep: ClusterSweep, *, resume: bool) -> dict[str, str]:
    """Return the jobs of this sweep that are in the queue: of other kinds than is asked for.

    Raises:
        RecipeError: what is asked for was submitted, or builds on what is neither there nor queued.
    """
    paths, name = sweep.paths, sweep.path.stem
    alive = {job for job, _ in job_states(submitted(paths))}
    ids = {name: job for name, job in submitted(paths).items() if job in alive}
    if not ids.keys().isdisjoint(sweep.scripts()):
        raise RecipeError(f"{name} has jobs in the queue; give --status or --cancel")
    if sweep.config.only is None and paths.jobs.is_file() and not resume:
        raise RecipeError(
            f"{paths.jobs} lists jobs that were submitted earlier and are gone; give --resume to "
            "submit what is not finished"
        )
    submitted_now = {array.name for array in sweep.arrays}
    needed = {name for array in sweep.arrays for name in array.waits_for}
    for array in sweep.all_arrays:
        for stage in array.rows.values() if array.name in needed - submitted_now - {*ids} else ():
            is_cached = stage.makes is not None and (stage.makes / "cache.json").is_file()
            if not is_cached and not is_done(stage):
                raise RecipeError(
                    f"{sweep.config.only} of {name} build on {array.name}, and {stage.makes} is "
                    f"neither finished nor in the queue; submit {array.kind} first, or all"
                )
    return ids


def _sbatch(paths: SlurmPaths, name: str, dependency: str) -> str:
    """Submit one script and return its job id.

    Raises:
        RecipeError: Slurm refuses it; its own sentence is in ours.
    """
    waits = [f"--dependency={dependency}"] if dependency else []
    code, said = run_captured(["sbatch", "--parsable", *waits, str(paths.script(name))])
    if code:
        raise RecipeError(
            f"sbatch refuses {paths.script(name)}: {_last_line(said)}; --cancel takes back what "
            "was submitted before it"
        )
    return _last_line(said).partition(";")[0]


def submitted(paths: SlurmPaths) -> dict[str, str]:
    """Return the jobs of the last submission: name to id; none when there was none."""
    return dict(json.loads(paths.jobs.read_text())) if paths.jobs.is_file() else {}


def job_states(ids: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Return the state of what is still queued or running, by job and index in its array."""
    if not ids:
        return {}
    code, said = run_captured(["squeue", "--me", "-h", "-r", "-o", "%F|%K|%T|%r"])
    if code:
        raise RecipeError(f"squeue does not answer: {_last_line(said)}")
    rows = [line.split("|") for line in said.splitlines()]
    return {
        (job, index): state if reason == "None" else f"{state} ({reason})"
        for job, index, state, reason in rows
        if job in ids.values()
    }


def print_status(sweep: ClusterSweep) -> int:
    """Print the state of every row: done, in the queue, or how its last attempt ended."""
    from distill.run_folder import read_exit

    ids = submitted(sweep.paths)
    states = job_states(ids)
    for array in sweep.arrays:
        job = ids.get(array.name, "-")
        sys.stdout.write(f"{array.name}, job {job}\n")
        for index, stage in array.rows.items():
            ended = (stage.makes and read_exit(stage.makes)) or {}
            last = f"ended with {ended['code']}: {ended['reason']}" if ended else "not in the queue"
            state = "done" if is_done(stage) else states.get((job, str(index)), last)
            sys.stdout.write(f"  {index:>3}  {stage.title}: {state}\n")
    if not sweep.is_compared:
        return 0
    job = ids.get("comparison", "-")
    waiting = [state for (one, _), state in states.items() if one == job]
    sys.stdout.write(f"comparison, job {job}: {(waiting or ['not in the queue'])[0]}\n")
    return 0


def cancel(sweep: ClusterSweep) -> int:
    """Take all jobs of the sweep from the queue; runs save first, and --resume goes on."""
    ids = {name: job for name, job in submitted(sweep.paths).items() if name in sweep.scripts()}
    alive = job_states(ids)
    if alive:
        code, said = run_captured(["scancel", *ids.values()])
        if code:
            raise RecipeError(f"scancel refuses: {_last_line(said)}")
    sys.stdout.write(f"{len(alive)} rows were in the queue and are cancelled\n")
    return 0


def print_scripts(sweep: ClusterSweep) -> int:
    """Print table and scripts, checked, and submit nothing."""
    print_table(sweep)
    for name, text in sweep.scripts().items():
        sys.stdout.write(f"\n# {sweep.paths.script(name)}\n{text}")
    judge = "bash -n and sbatch --test-only accept"
    if not check(sweep):
        judge = "no Slurm controller answers here; bash -n accepts"
    sys.stdout.write(f"\n{judge} all scripts; nothing was submitted\n")
    return 0
