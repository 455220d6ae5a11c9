"""Issue 13: eight jobs that start at once, all with the same fresh SQLite store.

Each is a process of its own with one run, as a job of an array is. Once nobody has made the store,
and once `skydistill sweep` made it with the experiment and the run above theirs.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from line import report
from mlflow import MlflowClient

from distill.mlflow_runs import RunInStore, begin_run
from distill.run_folder import RunPaths

SEED, JOBS, LINES = 0, 8, 50

JOB = """
import sys
import time
from pathlib import Path
from distill.run_folder import RunPaths
from distill.tracking import Tracker
sweep, name, uri = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
paths = RunPaths(sweep / "runs" / name)
paths.folder.mkdir(parents=True)
tracker = Tracker(paths)
asked = {"experiment": "jobs", "params": {"seed": "0"}, "tags": {}, "sweep": sweep}
tracker.start(name=name, uri=uri, **asked)
for step in range(50):
    tracker.log(step, {"train/total": step / 7})
tracker.finish("FINISHED")
"""


def complete_runs(out: Path, *, is_made: bool) -> dict[str, object]:
    """Start the jobs at once, and return how many of their runs are whole and in their place."""
    out.mkdir()
    uri, paths = f"sqlite:///{out / 'mlflow.db'}", RunPaths(out)
    if is_made:
        begin_run(paths, name="sweep", experiment="jobs", uri=uri, params={}, tags={})
        parent = RunInStore(paths).run_id
    begin = time.perf_counter()
    words = [sys.executable, "-c", JOB, str(out)]
    jobs = [subprocess.Popen([*words, f"job-{number}", uri]) for number in range(JOBS)]
    codes = [job.wait() for job in jobs]
    seconds = time.perf_counter() - begin
    client = MlflowClient(uri)
    experiments = {one.name: one.experiment_id for one in client.search_experiments()}
    runs = client.search_runs([experiments["jobs"]], "attributes.run_name LIKE 'job-%'")
    complete = [
        run
        for run in runs
        if run.info.status == "FINISHED"
        and run.data.params == {"seed": "0"}
        and len(client.get_metric_history(run.info.run_id, "train/total")) == LINES
        and (not is_made or run.data.tags["mlflow.parentRunId"] == parent)
    ]
    strays = client.search_runs([experiments["Default"]])
    return {
        "exit codes": codes,
        "complete": len(complete),
        "runs": len(runs),
        "in another experiment": len(strays),
        "wall s": round(seconds, 1),
    }


def main() -> int:
    """Start the jobs on both stores and print one line."""
    with tempfile.TemporaryDirectory() as folder:
        value = {
            "nobody made the store": complete_runs(Path(folder, "fresh"), is_made=False),
            "a sweep made it": complete_runs(Path(folder, "made"), is_made=True),
        }
    passed = all(
        found["complete"] == found["runs"] == JOBS and not found["in another experiment"]
        for found in value.values()
    )
    must = f"{JOBS} of {JOBS} complete, each once, in its experiment"
    return report("M4", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
