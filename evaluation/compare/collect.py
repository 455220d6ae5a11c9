"""Reports of runs, from files, run folders and MLflow; runs of several seeds are one row."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from data_shards.errors import DescriptorError, RecipeError, require_known
from distill.run_folder import MAY_CHANGE_ON_RESUME, read_recipe
from evaluation.compare.config import CompareConfig
from evaluation.compare.tracked_runs import read_runs
from evaluation.report import CLEAN, REPORT_NAME, Measurement, Report, read_report, report_of

USUAL_STORE = Path("outputs/mlflow.db")
EXPERIMENT = "skydistill"
"""As recipes have it."""

REPORTS = f"{Path(REPORT_NAME).stem}*.json"
"""`evaluation.json`, and beside it those of further data sets: `evaluation_sues200.json`."""

NOT_OF_THE_MODEL = {*MAY_CHANGE_ON_RESUME, "name", "seed", "teacher.cache"}
"""Keys of a recipe that may differ between the seeds of one experiment."""

WAYS_OF_ROWS = ("rerank", "fusion", "conditions_version")
"""What a measurement says of some of its rows alone."""

MOST_NAMES = 8
"""That one line about runs lists."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One report, and what is known of the run that trained its model."""

    report: Report
    where: str
    """For sentences: the file, or the run of MLflow."""

    recipe: Mapping[str, str]
    """By dotted key; empty where it is not known."""

    file: Path | None = None
    """The report, beside which the curves of the run and the panels lie; None from MLflow."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """One row of a comparison: its runs differ in the seed alone."""

    label: str
    entries: tuple[Entry, ...]

    @property
    def reports(self) -> list[Report]:
        """Of its runs."""
        return [entry.report for entry in self.entries]

    @property
    def seeds(self) -> list[int]:
        """Of its runs; one that was trained twice stands here twice."""
        return sorted(report.seed for report in self.reports)


def collect(config: CompareConfig) -> tuple[list[Entry], list[str]]:
    """Find all reports that are asked for, and say in a line each what was left out.

    Raises:
        SkyDistillError: there is none, or a file, store or experiment is missing or damaged.
    """
    entries = [entry for path in config.reports for entry in _from_path(path)]
    left_out: list[str] = []
    if config.tracking_uri or not config.reports:
        store = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if not store and not USUAL_STORE.is_file():
            raise RecipeError(
                "nothing to compare: give reports or run folders, or an MLflow store with "
                f"--tracking-uri ({USUAL_STORE} does not exist)"
            )
        store = store or f"sqlite:///{USUAL_STORE}"
        entries += _from_mlflow(store, config.experiment or EXPERIMENT, left_out)
    known = sorted({entry.report.measurement.dataset for entry in entries})
    wanted = [
        require_known(name, known, what="data set", error=RecipeError) for name in config.dataset
    ]
    chosen = [entry for entry in entries if entry.report.measurement.dataset in (wanted or known)]
    unique = _without_repetitions(chosen)
    if repeated := len(chosen) - len(unique):
        left_out.append(f"{repeated} of {len(chosen)} reports are of the same weights as another")
    return unique, left_out


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
        recipe = read_recipe(file.parent)
        yield Entry(report=read_report(file), where=str(file), recipe=recipe, file=file)


def _from_mlflow(uri: str, experiment: str, left_out: list[str]) -> list[Entry]:
    """Read every report of an experiment's runs; name in `left_out` the runs that have none."""
    entries: list[Entry] = []
    without: list[str] = []
    unreadable: list[str] = []
    runs = read_runs(uri, experiment=experiment)
    for run in runs:
        for name, values in run.evaluations.items():
            where = f"{name} of MLflow run {run.name}"
            try:
                report = report_of(values, where=where)
                entries.append(Entry(report=report, where=where, recipe=run.params))
            except DescriptorError as error:
                unreadable.append(str(error))
        if not run.evaluations:
            without.append(run.name if run.status == "FINISHED" else f"{run.name} ({run.status})")
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
    return entries


def _without_repetitions(entries: Sequence[Entry]) -> list[Entry]:
    """Bring the reports of the same weights measured the same way together, rows of all in one."""
    kept: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        report, how = entry.report, entry.report.measurement
        same = (
            *(report.checkpoint_sha256, report.image_size),
            *(how.shards_fingerprint, how.flip, how.resampling, how.aspect),
            how.distractors,
        )
        kept[same] = _joined(kept[same], entry) if same in kept else entry
    return list(kept.values())


def _joined(one: Entry, other: Entry) -> Entry:
    """Add the rows that only the poorer of two reports has to the richer one, if both may stand."""
    if len(other.report.results) > len(one.report.results):
        one, other = other, one
    report, further = one.report, other.report
    both = (report.measurement, further.measurement)
    ways = {way: [getattr(how, way) for how in both] for way in WAYS_OF_ROWS}
    networks = [report.gallery_network, further.gallery_network]
    if any(all(pair) and pair[0] != pair[1] for pair in (*ways.values(), networks)):
        return one  # rows of one name would mean two things
    names = {result.name for result in report.results}
    return replace(
        one,
        report=replace(
            report,
            results=report.results + tuple(r for r in further.results if r.name not in names),
            speed=report.speed or further.speed,
            measurement=replace(both[0], **{way: pair[0] or pair[1] for way, pair in ways.items()}),
            gallery_network=networks[0] or networks[1],
        ),
    )


def listed(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """Return names for one line, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def measurement_of(report: Report) -> Measurement:
    """Return how the rows that a report has were measured."""
    how, rows = report.measurement, report.results
    is_fused = any(row.views.startswith("refined") for row in rows)
    return replace(
        how,
        rerank=how.rerank if any(row.rerank for row in rows) else "",
        fusion=how.fusion if is_fused else "",
        conditions_version=(
            how.conditions_version if any(row.condition != CLEAN for row in rows) else 0
        ),
    )


def shared_measurement(entries: Sequence[Entry]) -> Measurement:
    """Return how all reports were measured.

    Raises:
        RecipeError: they were measured in several ways: the fields that differ, and in which.
    """
    where: dict[Measurement, list[str]] = {}
    for entry in entries:
        where.setdefault(measurement_of(entry.report), []).append(entry.where)
    names = [field.name for field in fields(Measurement)]
    differing = [name for name in names if len({getattr(one, name) for one in where}) > 1]
    if "dataset" in differing:
        differing = ["dataset"]  # everything else about them may differ too
    told = []
    for name in differing:
        by_value: dict[str, list[str]] = {}
        for one, places in where.items():
            by_value.setdefault(in_words(getattr(one, name)), []).extend(places)
        said = [f"{value} in {listed(places, most=2)}" for value, places in by_value.items()]
        told.append(f"{name.replace('_', ' ')} {' but '.join(said)}")
    if told:
        raise RecipeError(
            f"reports that were not measured alike do not compare: {'; '.join(told)}; choose some "
            "with --dataset, name the reports, or evaluate them alike"
        )
    return next(iter(where))


def in_words(value: object) -> str:
    """Return one field of a measurement as people read it; fingerprints by their beginning."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(in_words, value)) or "none"
    return str(value)[:12] if len(str(value)) == 64 else str(value) or "unknown"


def group_runs(entries: Sequence[Entry]) -> list[Group]:
    """Put runs together that differ in the seed alone, in the order of their first ones."""
    groups: dict[tuple[object, ...], list[Entry]] = {}
    for entry in entries:
        identity = (_stem(entry.report), *sorted(_shared_by_seeds(entry).items()))
        groups.setdefault(identity, []).append(entry)
    counts = Counter(_stem(members[0].report) for members in groups.values())
    found = []
    for members in groups.values():
        label = stem = _stem(members[0].report)
        if counts[stem] > 1:
            rivals = [
                other[0]
                for other in groups.values()
                if other is not members and _stem(other[0].report) == stem
            ]
            label = f"{stem} ({', '.join(_differences(members[0], rivals))})"
        found.append(Group(label=label, entries=tuple(members)))
    return found


def _shared_by_seeds(entry: Entry) -> dict[str, str]:
    """Return what the seeds of one experiment have in common: what the model is, and its recipe.

    Folders that are named after the seed become the same for all seeds.
    """
    report = entry.report
    facts = {
        "method": report.method,
        "role": report.role,
        "arch": report.arch,
        "px": report.image_size,
        "steps": report.step,
        "width": report.descriptor_width,
        "parameters": report.cost.parameters,
    }
    recipe = {
        f"recipe.{key}": _without_seed(value, report.seed)
        for key, value in entry.recipe.items()
        if key not in NOT_OF_THE_MODEL and key.partition(".")[0] not in NOT_OF_THE_MODEL
    }
    return {**{name: str(value) for name, value in facts.items()}, **dict(sorted(recipe.items()))}


def _stem(report: Report) -> str:
    """Return the name of a run without its seed: `student` of `student_seed3` or `student-s3`."""
    name = _without_seed(report.name, report.seed)
    return re.sub(r"[-_. /]*\*[-_. /]*$", "", name) or report.name


def _without_seed(text: str, seed: int) -> str:
    return re.sub(rf"(?<![a-zA-Z])(seed|s)[-_= ]?{seed}(?!\d)", "*", text)


def _differences(entry: Entry, rivals: Sequence[Entry]) -> list[str]:
    """Say in a few words how a run differs from others of its name."""
    others = [_shared_by_seeds(rival) for rival in rivals]
    differing = [
        f"{name.rpartition('.')[2]} {value}"
        for name, value in _shared_by_seeds(entry).items()
        if any(other.get(name) != value for other in others)
    ]
    return differing[:2] or [entry.where]
