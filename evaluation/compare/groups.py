"""Runs that differ in nothing but the seed become one row: mean and sample standard deviation."""

import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distill.run_folder import MAY_CHANGE_ON_RESUME
from evaluation.compare.gather import Entry
from evaluation.report import Report
from evaluation.result import Result

NOT_OF_THE_MODEL = {*MAY_CHANGE_ON_RESUME, "name", "seed", "data.threads", "teacher.cache"}
"""Keys of a recipe that may differ between the seeds of one experiment."""

FACTS: dict[str, Callable[[Report], object]] = {
    "method": lambda report: report.method,
    "role": lambda report: report.role,
    "arch": lambda report: report.arch,
    "px": lambda report: report.image_size,
    "steps": lambda report: report.step,
    "width": lambda report: report.descriptor_width,
    "parameters": lambda report: report.cost.parameters,
}
"""What else the seeds of one experiment have in common, in words for a label."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One number of a group, in the unit of its report."""

    mean: float
    deviation: float | None
    """Sample standard deviation over the runs (n - 1); None for a single one."""

    count: int
    """Runs that have it."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """One experiment: its runs differ in the seed alone."""

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

    def measured(self, value: Callable[[Report], float | None]) -> Measured | None:
        """Return mean and deviation of what `value` finds in each report; None if in no one."""
        found = [number for report in self.reports if (number := value(report)) is not None]
        if not found:
            return None
        return Measured(
            mean=math.fsum(found) / len(found),
            deviation=statistics.stdev(found) if len(found) > 1 else None,
            count=len(found),
        )


def row_name(result: Result) -> str:
    """Return the name of a result, the same for all draws of one kind."""
    return replace(result, seed=None).name


def metric_of(report: Report, row: str, metric: str) -> float | None:
    """Return a metric of a report, the mean over draws of one kind; None if it has no such row."""
    found = [result.metrics[metric] for result in report.results if row_name(result) == row]
    return math.fsum(found) / len(found) if found else None


def group_runs(entries: Sequence[Entry]) -> list[Group]:
    """Put runs together that differ in the seed alone, in the order of their first ones."""
    groups: dict[tuple[object, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_identity(entry), []).append(entry)
    return [
        Group(label=label, entries=tuple(members))
        for label, members in zip(_labels(list(groups.values())), groups.values(), strict=True)
    ]


def _identity(entry: Entry) -> tuple[object, ...]:
    """Return what the seeds of one experiment have in common: name, facts and recipe."""
    report = entry.report
    recipe = sorted(_recipe_without_seed(entry).items())
    return (_stem(report), *(fact(report) for fact in FACTS.values()), tuple(recipe))


def _stem(report: Report) -> str:
    """Return the name of a run without its seed: `student` of `student_seed3` or `student-s3`."""
    return (
        re.sub(r"[-_. /]*\*[-_. /]*$", "", _without_seed(report.name, report.seed)) or report.name
    )


def _recipe_without_seed(entry: Entry) -> dict[str, str]:
    """Return what shapes the model; folders named after the seed become the same for all seeds."""
    return {
        key: _without_seed(value, entry.report.seed)
        for key, value in entry.recipe.items()
        if key not in NOT_OF_THE_MODEL and key.partition(".")[0] not in NOT_OF_THE_MODEL
    }


def _without_seed(text: str, seed: int) -> str:
    return re.sub(rf"(?<![a-zA-Z])(seed|s)[-_= ]?{seed}(?!\d)", "*", text)


def _labels(groups: Sequence[Sequence[Entry]]) -> list[str]:
    """Return a label for each group: its name, and what tells it from others of that name."""
    stems = [_stem(members[0].report) for members in groups]
    counts = Counter(stems)
    labels = []
    for stem, members in zip(stems, groups, strict=True):
        rivals = [
            other[0]
            for name, other in zip(stems, groups, strict=True)
            if name == stem and other is not members
        ]
        words = _differences(members[0], rivals) if counts[stem] > 1 else []
        labels.append(f"{stem} ({', '.join(words)})" if words else stem)
    return labels


def _differences(entry: Entry, rivals: Sequence[Entry]) -> list[str]:
    """Say in a few words how a run differs from others of its name."""
    facts: dict[str, Any] = {name: fact(entry.report) for name, fact in FACTS.items()}
    differing = [
        f"{name} {value}"
        for name, value in facts.items()
        if any(FACTS[name](rival.report) != value for rival in rivals)
    ]
    recipe, others = _recipe_without_seed(entry), [_recipe_without_seed(one) for one in rivals]
    keys = sorted({key for key in recipe if any(other.get(key) != recipe[key] for other in others)})
    differing += [f"{key.rpartition('.')[2]} {recipe[key]}" for key in keys]
    return differing[:2] or [entry.where]
