"""A sweep as Slurm jobs: which rows form an array, what it waits for, and the text of its script.

Pure functions: nothing is written and nobody is asked.
"""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from launch.config import Kind, SiteConfig
from launch.demo import ACCELERATE_LAUNCH, SKYDISTILL, Stage, comparison_stage, verb_argv
from launch.demo_paths import DemoPaths

LAUNCHER = (
    *ACCELERATE_LAUNCH,
    '--num_machines "$SLURM_NNODES" --machine_rank "$SLURM_NODEID"',
    '--main_process_ip "$MAIN_HOST" --main_process_port "$MAIN_PORT"',
    "--rdzv_backend static --same_network",
)
"""How every node starts its ranks; the variables are those of the node."""

ROW_OF_TABLE = r"""
IFS=$'\t' read -r _ name verb folder command < <(
  awk -F '\t' -v row="$SLURM_ARRAY_TASK_ID" '$1 == row' "$table")
echo "$(date '+%F %T') $verb $name, attempt $((${SLURM_RESTART_COUNT:-0} + 1)), $SLURM_JOB_NODELIST"
ended() { grep -Eqs "\"code\": $1\b" "$folder/exit.json"; }
is_done() {
  case $verb in
    train) ended 0 ;;
    evaluate) [[ -f $folder/evaluations/test/report.json ]] ;;
    *) false ;;
  esac
}
if is_done; then
  echo "finished before"
  exit 0
fi
[[ $verb == evaluate ]] || rm -f "$folder/exit.json" "$folder/STOP" # of the attempt before

# Jobs on one node meet at ports of their own. Where node names are no addresses: MASTER_ADDR.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MAIN_HOST=${MASTER_ADDR:-$head} MAIN_PORT=$((20000 + SLURM_JOB_ID % 10000))

# USR1 comes before the time limit and before a preemption. Ranks save and exit with 75; their
# launcher inherits that it is ignored, else it would die of it. Who starts up finds the file STOP.
step=
stop() {
  [[ $verb == evaluate ]] || { mkdir -p "$folder" && touch "$folder/STOP"; }
  [[ -z $step ]] || kill -USR1 "$step"
}
trap stop USR1
[[ -z $is_told ]] || stop
srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  bash -c "trap '' USR1; exec $start $command" &
step=$!
code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do # a signal ends the waiting, not the step
  code=0
  wait "$step" || code=$?
done

if [[ $verb != evaluate ]] && ended 75; then
  echo "$name saved what it has and is queued again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""
"""What every task of an array does with its row."""


@dataclass(frozen=True, kw_only=True)
class JobArray:
    """Rows that run side by side, and the arrays before it."""

    name: str
    """teachers, caches, students, or evaluate- and one of these."""

    rows: dict[int, Stage]
    """Index in the array to its row."""

    waits_for: tuple[str, ...] = ()
    """Names of arrays."""

    by_index: bool = False
    """Whether a row waits only for the rows of its own index: those it builds on."""

    @property
    def kind(self) -> Kind:
        """What its rows are; evaluations take one GPU each, and make nothing."""
        if self.name.startswith("evaluate-"):
            return "evaluations"
        return cast(Kind, self.name.partition("-")[0])

    @property
    def dependency(self) -> str:
        """Slurm's word for how it waits."""
        return "aftercorr" if self.by_index else "afterok"


@dataclass(frozen=True, kw_only=True)
class SlurmPaths:
    """Names of what a submitted sweep leaves in its folder."""

    out: Path

    @property
    def folder(self) -> Path:
        """Scripts, tables and the list of jobs."""
        return self.out / "slurm"

    @property
    def jobs(self) -> Path:
        """What was submitted last."""
        return self.folder / "jobs.json"

    def script(self, name: str) -> Path:
        """Return the script of a job."""
        return self.folder / f"{name}.sh"

    def table(self, name: str) -> Path:
        """Return the rows of an array, tab-separated."""
        return self.folder / f"{name}.tsv"


def job_arrays(stages: Sequence[Stage]) -> list[JobArray]:
    """Return the arrays of a sweep: rows of one kind that wait for the same arrays.

    An array depends on others as a whole. Where each row builds on rows of one index, and no two
    rows on the same, its rows take that index and each waits for its own (`aftercorr`): a height
    whose teacher failed does not stop the others. Else the array waits for all rows of the arrays
    before it (`afterok`).
    """
    teachers = {_same(stage.teacher) for stage in stages if stage.teacher}
    array_of: dict[str, int] = {}
    groups: list[list[Stage]] = []
    keys: list[tuple[str, frozenset[int]]] = []
    for stage in stages:
        if stage.makes is None:
            continue
        kind = "caches" if stage.run is None else "students"
        kind = "teachers" if _same(stage.makes) in teachers else kind
        key = kind, frozenset(array_of[path] for path in _uses(stage) if path in array_of)
        if key not in keys:
            keys.append(key)
            groups.append([])
        groups[keys.index(key)].append(stage)
        array_of[_same(stage.makes)] = keys.index(key)
    index_of: dict[str, int] = {}
    arrays: list[JobArray] = []
    kinds: Counter[str] = Counter()
    for (kind, before), group in zip(keys, groups, strict=True):
        kinds[kind] += 1
        built_on = [{index_of[path] for path in _uses(stage) & {*index_of}} for stage in group]
        indexes = [index for indexes in built_on for index in indexes]
        by_index = all(len(one) == 1 for one in built_on) and len({*indexes}) == len(group)
        rows = dict(zip(indexes if by_index else range(len(group)), group, strict=True))
        index_of |= {_same(stage.makes): index for index, stage in rows.items() if stage.makes}
        arrays.append(
            JobArray(
                name=kind if kinds[kind] == 1 else f"{kind}-{kinds[kind]}",
                rows=rows,
                waits_for=tuple(arrays[number].name for number in sorted(before)),
                by_index=by_index,
            )
        )
    return [*arrays, *_evaluations(arrays, stages)]


def stages_of_kind(stages: Sequence[Stage], kind: Kind | None) -> list[Stage]:
    """Return the rows of one kind, or all, in their order."""
    arrays = [array for array in job_arrays(stages) if kind in (None, array.kind)]
    rows = {stage.name for array in arrays for stage in array.rows.values()}
    return [stage for stage in stages if stage.name in rows]


def _evaluations(arrays: Iterable[JobArray], stages: Iterable[Stage]) -> list[JobArray]:
    """Return an array per array that trains, of the same indexes."""
    evaluated = {_same(stage.uses[0]): stage for stage in stages if stage.makes is None}
    found = []
    for array in arrays:
        made = {index: _same(stage.makes) for index, stage in array.rows.items() if stage.makes}
        rows = {index: evaluated[path] for index, path in made.items() if path in evaluated}
        if rows:
            name = f"evaluate-{array.name}"
            found.append(JobArray(name=name, rows=rows, waits_for=(array.name,), by_index=True))
    return found


def _same(path: Path | None) -> str:
    """Return one name for a folder that is written in several ways (`runs/../cache`)."""
    return os.path.normpath(path or "")


def _uses(stage: Stage) -> set[str]:
    return {_same(path) for path in stage.uses}


def array_table(array: JobArray) -> str:
    """Return the rows of an array: index, name, verb, folder and the words of its command."""
    lines = ["index\tname\tverb\tfolder\tcommand"]
    started = len(SKYDISTILL if array.kind == "evaluations" else ACCELERATE_LAUNCH)
    for index, stage in array.rows.items():
        verb = "evaluate" if stage.makes is None else "train" if stage.run else "cache"
        folder, command = stage.makes or stage.uses[0], shlex.join(stage.argv[started:])
        lines.append(f"{index}\t{stage.name}\t{verb}\t{folder}\t{command}")
    return "\n".join(lines) + "\n"


def array_script(array: JobArray, site: SiteConfig, *, sweep: str, out: Path, root: Path) -> str:
    """Return the script of an array.

    Args:
        array: its rows.
        site: what is asked of the cluster.
        sweep: name of the sweep, of which job names begin.
        out: folder of the sweep.
        root: where it was submitted, where relative paths begin.
    """
    nodes, gpus = site.nodes, site.gpus_per_node
    if array.kind == "evaluations":
        nodes, gpus = 1, min(1, site.gpus_per_node)
    options = {
        "array": f"{','.join(map(str, array.rows))}%{site.throttle}",
        "nodes": nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": site.cpus_per_node,
        "gpus-per-node": gpus or None,
        "time": site.time,
        "requeue": "",
        "signal": "B:USR1@300",
    }
    threads = max(1, site.cpus_per_node // max(1, gpus))
    start = shlex.join([*SKYDISTILL]) if array.kind == "evaluations" else " ".join(LAUNCHER)
    start = f"{site.container} {start}" if site.container else start
    return (
        _head(f"{sweep}-{array.name}", site, options, out=out, log="%x-%A_%a.out", root=root)
        + f"table={shlex.quote(str(SlurmPaths(out=out).table(array.name)))}\n"
        + f"export OMP_NUM_THREADS={threads}\n"
        + f"# shellcheck disable=SC2016 # each node puts in its own\nstart={shlex.quote(start)}\n"
        + ROW_OF_TABLE
    )


def comparison_script(site: SiteConfig, *, sweep: str, out: Path, root: Path) -> str:
    """Return the script of the last job: what was evaluated, side by side, and all in MLflow."""
    options = {"nodes": 1, "ntasks": 1, "cpus-per-task": 1, "time": "01:00:00"}
    compare = shlex.join(comparison_stage(DemoPaths(out)).argv)
    sync = shlex.join(verb_argv("mlflow", "sync", out))
    head = _head(f"{sweep}-comparison", site, options, out=out, log="%x-%j.out", root=root)
    return f"{head}code=0\n{compare} || code=$?\n{sync} || code=$?\nexit $code\n"


def _head(
    name: str, site: SiteConfig, options: dict[str, object], *, out: Path, log: str, root: Path
) -> str:
    """Return what all scripts begin with: options of Slurm, the folder, the site's environment."""
    asked = {"job-name": name, "partition": site.partition, "account": site.account, **options}
    asked |= {"output": out / "logs" / log, "open-mode": "append", "kill-on-invalid-dep": "yes"}
    hears = "signal" in options
    lines = [
        f"#SBATCH --{key}{'=' if value != '' else ''}{value}"
        for key, value in asked.items()
        if value is not None
    ]
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            "# Written by skydistill sweep; change the sweep or slurm/site.env instead.",
            *lines,
            *(["is_told= # USR1 may come as soon as this", "trap 'is_told=1' USR1"] * hears),
            f"cd {shlex.quote(str(root))} || exit",
            "set -a # what the site sets is for the ranks as well",
            "# shellcheck source=/dev/null",
            "source slurm/site.env",
            "set +a",
            f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
            "set -euo pipefail",
            "",
        ]
    )
