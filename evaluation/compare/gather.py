"""Where the reports of a comparison come from: files, run folders, MLflow."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_shards.errors import DescriptorError, RecipeError
from data_shards.nearest import choose
from distill.mlflow_runs import TrackedRun, read_runs
from distill.run_folder import read_recipe
from evaluation.compare.config import CompareConfig
from evaluation.report import REPORT_NAME, Report, read_report, report_of

USUAL_STORE = Path("outputs/mlflow.db")
EXPERIMENT = "skydistill"
"""As recipes have it."""

REPORTS = f"{Path(REPORT_NAME).stem}*.json"
"""`evaluation.json`, and beside it those of further data sets: `evaluation_sues200.json`."""

MOST_NAMES = 8
"""That one line about runs left out lists."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One report, and the recipe that its model was trained by."""

    report: Report
    where: str
    """For sentences: the file, or the run of MLflow."""

    recipe: Mapping[str, str]
    """By dotted key; empty where it is not known."""


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """All reports that were found, and in a line each what was left out."""

    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]


def gather(config: CompareConfig) -> Gathered:
    """Find all reports that are asked for.

    Raises:
        SkyDistillError: there is none, or a file, store or experiment is missing or damaged.
    """
    entries: list[Entry] = []
    left_out: list[str] = []
    for path in config.reports:
        entries += list(_from_path(path))
    if config.tracking_uri or not config.reports:
        tracked = _from_mlflow(_store(config.tracking_uri), config.experiment or EXPERIMENT)
        entries += tracked.entries
        left_out += tracked.left_out
    known = sorted({entry.report.dataset for entry in entries})
    wanted = [choose(name, known, what="data set", error=RecipeError) for name in config.dataset]
    chosen = [entry for entry in entries if entry.report.dataset in (wanted or known)]
    unique = _without_repetitions(chosen)
    if repeated := len(chosen) - len(unique):
        left_out.append(f"{repeated} of {len(chosen)} reports are of the same weights as another")
    return Gathered(entries=tuple(unique), left_out=tuple(left_out))


def _from_path(path: Path) -> Iterator[Entry]:
    """Yield the report of a file, or those of a run folder, or of the run folders in a folder."""
    files = [path]
    if path.is_dir():
        files = sorted(path.glob(REPORTS)) or sorted(path.glob(f"*/{REPORTS}"))
        if not files:
            raise DescriptorError(
                f"{path} holds no report ({REPORT_NAME}); run skydistill evaluate --checkpoint "
                f"{path} --shards SHARDS"
            )
    for file in files:
        yield Entry(report=read_report(file), where=str(file), recipe=read_recipe(file.parent))


def _store(uri: str | None) -> str:
    """Return the store that is meant: as asked, as the environment says, else the usual one."""
    told = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not told and not USUAL_STORE.is_file():
        raise RecipeError(
            "nothing to compare: give reports or run folders, or an MLflow store with "
            f"--tracking-uri ({USUAL_STORE} does not exist)"
        )
    return told or f"sqlite:///{USUAL_STORE}"


def _from_mlflow(uri: str, experiment: str) -> Gathered:
    """Read every report of an experiment's runs; name the runs that have none to compare."""
    entries = []
    without: list[str] = []
    unreadable: list[str] = []
    runs = read_runs(uri, experiment=experiment)
    for run in runs:
        found = list(_from_run(run, unreadable))
        entries += found
        if not run.evaluations:
            without.append(run.name if run.status == "FINISHED" else f"{run.name} ({run.status})")
    left_out = []
    if without:
        left_out.append(
            f"{len(without)} of {len(runs)} runs of {experiment} have no evaluation: "
            f"{listed(without)}; skydistill evaluate adds one"
        )
    if unreadable:
        left_out.append(f"reports that cannot be read: {listed(unreadable)}")
    if not entries:
        raise DescriptorError(
            f"MLflow experiment {experiment} at {uri} has {len(runs)} runs and no evaluation of "
            "any; run skydistill evaluate --checkpoint RUN --shards SHARDS"
        )
    return Gathered(entries=tuple(entries), left_out=tuple(left_out))


def _from_run(run: TrackedRun, unreadable: list[str]) -> Iterator[Entry]:
    """Yield the reports among the files of a run; say in `unreadable` which are none."""
    for name, values in run.evaluations.items():
        where = f"{name} of MLflow run {run.name}"
        try:
            report = report_of(values, where=where)
        except DescriptorError as error:
            unreadable.append(str(error))
        else:
            yield Entry(report=report, where=where, recipe=run.params)


def _without_repetitions(entries: Sequence[Entry]) -> list[Entry]:
    """Bring the reports of the same weights measured the same way together, rows of all in one."""
    kept: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        report = entry.report
        how = (report.image_size, report.flip, report.resampling, report.distractors)
        same = (report.checkpoint_sha256, report.shards_fingerprint, *how)
        kept[same] = _joined(kept[same], entry) if same in kept else entry
    return list(kept.values())


def _joined(one: Entry, other: Entry) -> Entry:
    """Add the rows that only the poorer of two reports has to the richer one, if both may stand."""
    if len(other.report.results) > len(one.report.results):
        one, other = other, one
    report, further = one.report, other.report
    ways = ("fusion", "conditions_version", "gallery_network")
    for how in ways:
        if len({getattr(report, how), getattr(further, how)} - {0, "", None}) > 1:
            return one  # rows of one name would mean two things
    names = {result.name for result in report.results}
    return replace(
        one,
        report=replace(
            report,
            results=report.results + tuple(r for r in further.results if r.name not in names),
            speed=report.speed or further.speed,
            **{how: getattr(report, how) or getattr(further, how) for how in ways},
        ),
    )


def listed(names: Sequence[str]) -> str:
    """Return names for one line, and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
