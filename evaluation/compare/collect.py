"""Reports of runs, from files, run folders and MLflow; runs of several seeds come together."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from data_shards.errors import DescriptorError, RecipeError, TrackingError, require_known
from distill.config.tracking import TrackingConfig
from distill.mlflow_store import SQLITE, first_line, open_store
from distill.run_folder import MAY_CHANGE_ON_RESUME, read_recipe
from evaluation.config import CompareConfig
from evaluation.report import (
    CLEAN,
    EVALUATIONS,
    REPORT_NAME,
    Measurement,
    Report,
    read_report,
    report_of,
)

USUAL_STORE = Path("outputs/mlflow.db")
REPORTS = f"{EVALUATIONS}/*/{REPORT_NAME}"
"""In a run folder."""

NOT_OF_THE_MODEL = {*MAY_CHANGE_ON_RESUME, "name", "seed", "teacher.cache"}
"""Keys of a recipe that may differ between the seeds of one experiment."""

OF_SOME_ROWS: Mapping[str, Any] = {"rerank": "", "fusion": "", "conditions_version": 0}
"""What a measurement says of some of its rows alone, and what it says where there are none."""

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
    """The report, beside which the panels lie; None from MLflow."""

    @property
    def run(self) -> Path | None:
        """The run folder that the report lies in, with the curves."""
        is_in_run = self.file is not None and self.file.parts[-3:-2] == (EVALUATIONS,)
        return self.file.parents[2] if self.file and is_in_run else None


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
        entries += _from_mlflow(store, config.experiment or TrackingConfig().experiment, left_out)
    known = sorted({entry.report.measurement.dataset for entry in entries})
    wanted = config.dataset or known
    for name in wanted:
        require_known(name, known, what="data set", error=RecipeError)
    chosen = [entry for entry in entries if entry.report.measurement.dataset in wanted]
    kept: dict[tuple[object, ...], Entry] = {}
    for entry in chosen:
        report = entry.report
        how = replace(report.measurement, **OF_SOME_ROWS)
        same = (report.checkpoint_sha256, report.image_size, how)
        kept[same] = _joined(kept[same], entry) if same in kept else entry
    if repeated := len(chosen) - len(kept):
        left_out.append(f"{repeated} of {len(chosen)} reports are of the same weights as another")
    return list(kept.values()), left_out


def _from_path(path: Path) -> Iterator[Entry]:
    """Yield the report of a file, or those of a run folder, or of the run folders in a folder."""
    files = [path]
    if path.is_dir():
        below = (REPORT_NAME, REPORTS, f"*/{REPORTS}", f"*/{REPORT_NAME}")
        files = next(filter(None, (sorted(path.glob(one)) for one in below)), [])
        if not files:
            raise DescriptorError(
                f"{path} holds no report ({REPORTS}); run skydistill evaluate --checkpoint "
                f"{path} --shards SHARDS"
            )
    for file in files:
        entry = Entry(report=read_report(file), where=str(file), recipe={}, file=file)
        yield replace(entry, recipe=read_recipe(entry.run) if entry.run else {})


def _from_mlflow(uri: str, experiment: str, left_out: list[str]) -> list[Entry]:
    """Read every report of an experiment's runs; name in `left_out` the runs that have none."""
    entries: list[Entry] = []
    without: list[str] = []
    unreadable: list[str] = []
    runs = read_runs(uri, experiment=experiment)
    for run, evaluations in runs:
        name, status = run.info.run_name, run.info.status
        for file, values in evaluations.items():
            where = f"{file} of MLflow run {name}"
            try:
                report = report_of(values, where=where)
                entries.append(Entry(report=report, where=where, recipe=run.data.params))
            except DescriptorError as error:
                unreadable.append(str(error))
        if not evaluations:
            without.append(name if status == "FINISHED" else f"{name} ({status})")
    if without:
        said = f"{len(without)} of {len(runs)} runs of {experiment} have no evaluation"
        left_out.append(f"{said}: {listed(without)}; skydistill evaluate adds one")
    if unreadable:
        left_out.append(f"reports that cannot be read: {listed(unreadable)}")
    if not entries:
        raise DescriptorError(
            f"MLflow experiment {experiment} at {uri} has {len(runs)} runs and no evaluation of "
            "any; run skydistill evaluate --checkpoint RUN --shards SHARDS"
        )
    return entries


def read_runs(uri: str, *, experiment: str) -> list[tuple[Any, dict[str, Any]]]:
    """Read all runs of an experiment, oldest first, without deleted ones and parents of sweeps.

    Each comes with the values of its reports, by the name of their folder; None of a damaged one.

    Raises:
        TrackingError: the store is missing, where opening it would make one, or does not answer, or
            has no such experiment; the sentence names the nearest one.
    """
    if Path(uri).is_file():
        raise TrackingError(f"{uri} is a file; give it as an address, sqlite:///{uri}")
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file():
        raise TrackingError(f"MLflow store {uri} does not exist; give another with --tracking-uri")
    try:
        client = open_store(uri)
        known = {one.name: one.experiment_id for one in _all_pages(client.search_experiments)}
        require_known(experiment, known, what="MLflow experiment", error=TrackingError)
        asked = {"experiment_ids": [known[experiment]], "order_by": ["attributes.start_time ASC"]}
        runs = _all_pages(client.search_runs, **asked)
        return [
            (run, _read_json(client, run)) for run in runs if run.data.tags.get("role") != "sweep"
        ]
    except TrackingError:
        raise
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"MLflow at {uri} needs the Python package {error.name}, which is not installed"
        ) from error
    except Exception as error:
        raise TrackingError(
            f"MLflow at {uri} cannot be read ({first_line(error)}); start its server, give another "
            "store with --tracking-uri, or report files or run folders"
        ) from error


def _read_json(client: Any, run: Any) -> dict[str, Any]:
    """Read the reports among the artifacts of a run."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for place in client.list_artifacts(run.info.run_id, EVALUATIONS):
            file = f"{place.path}/{REPORT_NAME}"
            if file in [one.path for one in client.list_artifacts(run.info.run_id, place.path)]:
                text = Path(client.download_artifacts(run.info.run_id, file, folder)).read_text()
                try:
                    found[Path(place.path).name] = json.loads(text)
                except ValueError:
                    found[Path(place.path).name] = None
    return found


def _all_pages(search: Callable[..., Any], **asked: Any) -> list[Any]:
    """Return everything that a search of MLflow finds."""
    found = list(page := search(**asked))
    while page.token:
        found += (page := search(**asked, page_token=page.token))
    return found


def _joined(one: Entry, other: Entry) -> Entry:
    """Add the rows that only the poorer of two reports has to the richer one, if both may stand."""
    if len(other.report.results) > len(one.report.results):
        one, other = other, one
    report, further = one.report, other.report
    names = {result.name for result in report.results}
    both = report.measurement, further.measurement
    ways = {name: [getattr(how, name) for how in both] for name in OF_SOME_ROWS}
    networks = [report.gallery_network, further.gallery_network]
    if any(all(pair) and pair[0] != pair[1] for pair in (*ways.values(), networks)):
        return one  # rows of one name would mean two things
    joined = replace(
        report,
        results=report.results + tuple(r for r in further.results if r.name not in names),
        speed=report.speed or further.speed,
        gallery_network=networks[0] or networks[1],
        measurement=replace(both[0], **{name: pair[0] or pair[1] for name, pair in ways.items()}),
    )
    return replace(one, report=joined)


def listed(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """Return names for one line, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def shared_measurement(entries: Sequence[Entry]) -> Measurement:
    """Return how the rows of all reports were measured.

    Raises:
        RecipeError: they were measured in several ways: the fields that differ, and in which.
    """
    found = []
    for report in (entry.report for entry in entries):
        is_told = {
            "rerank": any(row.rerank for row in report.results),
            "fusion": any(row.views.startswith("refined") for row in report.results),
            "conditions_version": any(row.condition != CLEAN for row in report.results),
        }
        unused = {name: OF_SOME_ROWS[name] for name, is_so in is_told.items() if not is_so}
        found.append(replace(report.measurement, **unused))
    names = [field.name for field in fields(Measurement)]
    if len({how.dataset for how in found}) > 1:
        names = ["dataset"]  # everything else about them may differ too
    told = []
    for name in names:
        by_value: dict[str, list[str]] = {}
        for entry, how in zip(entries, found, strict=True):
            value = getattr(how, name) or (() if name in OF_SOME_ROWS else getattr(how, name))
            by_value.setdefault(in_words(value), []).append(entry.where)
        if len(by_value) > 1:
            said = [f"{value} in {listed(places, most=2)}" for value, places in by_value.items()]
            told.append(f"{name.replace('_', ' ')} {' but '.join(said)}")
    if told:
        raise RecipeError(
            f"reports that were not measured alike do not compare: {'; '.join(told)}; choose some "
            "with --dataset, name the reports, or evaluate them alike"
        )
    return found[0]


def in_words(value: object) -> str:
    """Return one field of a measurement as people read it; fingerprints by their beginning."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(in_words, value)) or "none"
    return str(value)[:12] if len(str(value)) == 64 else str(value) or "unknown"


def group_runs(entries: Sequence[Entry]) -> list[tuple[str, tuple[Entry, ...]]]:
    """Put runs together that differ in the seed alone, in the order of their first ones.

    Each group has a label, which says in a few words how it differs from others of its name.
    """
    members: dict[tuple[str, tuple[tuple[str, str], ...]], list[Entry]] = {}
    for entry in entries:
        name, seed = entry.report.name, entry.report.seed
        # `student` of `student_seed3` or `student-s3`
        stem = re.sub(r"[-_. /]*\*[-_. /]*$", "", _without_seed(name, seed)) or name
        members.setdefault((stem, tuple(_shared_by_seeds(entry).items())), []).append(entry)
    groups = []
    for (stem, facts), runs in members.items():
        rivals = [dict(theirs) for name, theirs in members if name == stem and theirs != facts]
        differing = [
            f"{name.rpartition('.')[2]} {value}"
            for name, value in facts
            if any(theirs.get(name) != value for theirs in rivals)
        ]
        about = f" ({', '.join(differing[:2] or [runs[0].where])})" if rivals else ""
        groups.append((stem + about, tuple(runs)))
    return groups


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
        for key, value in sorted(entry.recipe.items())
        if not {key, key.partition(".")[0]} & NOT_OF_THE_MODEL
    }
    return {name: str(value) for name, value in facts.items()} | recipe


def _without_seed(text: str, seed: int) -> str:
    return re.sub(rf"(?<![a-zA-Z])(seed|s)[-_= ]?{seed}(?!\d)", "*", text)
