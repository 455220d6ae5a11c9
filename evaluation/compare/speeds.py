"""How fast the runs of a group were: one number only where all of them were measured alike."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evaluation.compare.gather import listed
from evaluation.compare.groups import Group, Measured
from evaluation.efficiency.cost import Speed
from evaluation.report import Report


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything that a speed hangs on besides the model."""

    machine: str
    """Device, precision, and on a CPU the threads, in words."""

    image_size: int
    batch_size: int

    def __str__(self) -> str:
        """Say it without the image size, which has a column of its own."""
        return f"{self.machine}, batch {self.batch_size}"


@dataclass(frozen=True, kw_only=True)
class GroupSpeed:
    """Images per second of a group, at the fastest setup that all its measured runs share."""

    group: Group
    setup: Setup
    measured: Measured
    batch_sizes: frozenset[int]
    """That the fastest was chosen from, on this machine."""


def setup_of(speed: Speed) -> Setup:
    """Return how a speed was measured."""
    return Setup(machine=speed.machine, image_size=speed.image_size, batch_size=speed.batch_size)


def speed_of(group: Group) -> GroupSpeed | None:
    """Return the speed of a group; None where none was measured, or no setup is common to all."""
    found = [_by_setup(report) for report in group.reports if report.speed]
    shared = [setup for setup in found[0] if all(setup in one for one in found)] if found else []
    if not shared:
        return None
    fastest = max(shared, key=lambda setup: math.fsum(one[setup] for one in found))
    measured = group.measured(lambda report: _by_setup(report).get(fastest))
    assert measured is not None, "some run was measured at what all share"
    machine = fastest.machine
    return GroupSpeed(
        group=group,
        setup=fastest,
        measured=measured,
        batch_sizes=frozenset(one.batch_size for one in shared if one.machine == machine),
    )


def speeds_of(groups: Sequence[Group]) -> list[GroupSpeed]:
    """Return the speeds of those groups that have one."""
    return [speed for group in groups if (speed := speed_of(group)) is not None]


def is_measured_apart(group: Group) -> bool:
    """Whether runs of a group have speeds whose mean would tell nothing."""
    return speed_of(group) is None and any(report.speed for report in group.reports)


def may_compare(speeds: Sequence[GroupSpeed]) -> bool:
    """Whether speeds are of one machine, and of one batch size or the fastest of the same ones."""
    machines = {speed.setup.machine for speed in speeds}
    sizes = {speed.setup.batch_size for speed in speeds}
    choices = {speed.batch_sizes for speed in speeds}
    return len(machines) == 1 and 1 in (len(sizes), len(choices))


def speed_notes(groups: Sequence[Group]) -> Iterator[str]:
    """Say on what images per second were measured, and why some are not told."""
    speeds = speeds_of(groups)
    if may_compare(speeds):
        yield f"images/s: {where_all(speeds)}{_size_of_each(speeds)}"
    elif speeds:
        yield f"images/s do not compare: {_where_each(speeds)}"
    for group in groups:
        if is_measured_apart(group):
            yield (
                f"no images/s of {group.label} (-), whose runs were not measured alike: "
                f"{_runs_apart(group)}"
            )


def where_all(speeds: Sequence[GroupSpeed]) -> str:
    """Say where speeds that compare were measured, and at which batch size."""
    sizes = {speed.setup.batch_size for speed in speeds}
    some = speeds[0].setup
    return str(some) if len(sizes) == 1 else f"{some.machine}, fastest of the batch sizes"


def _size_of_each(speeds: Sequence[GroupSpeed]) -> str:
    """Say which rows were fastest at which batch size; nothing where it is one."""
    rows: dict[int, list[str]] = {}
    for speed in speeds:
        rows.setdefault(speed.setup.batch_size, []).append(speed.group.label)
    told = "; ".join(f"{size} of {listed(names)}" for size, names in sorted(rows.items()))
    return f" ({told})" if len(rows) > 1 else ""


def _where_each(speeds: Sequence[GroupSpeed]) -> str:
    """Say which rows were measured where."""
    rows: dict[str, list[str]] = {}
    for speed in speeds:
        rows.setdefault(str(speed.setup), []).append(speed.group.label)
    return "; ".join(f"{listed(names)} on {setup}" for setup, names in rows.items())


def _runs_apart(group: Group) -> str:
    """Say how fast which runs were at their fastest, and where."""
    seeds: dict[Setup, list[int]] = {}
    numbers: dict[Setup, list[float]] = {}
    for report in sorted(group.reports, key=lambda report: report.seed):
        if found := _by_setup(report):
            fastest = max(found, key=lambda setup: found[setup])
            seeds.setdefault(fastest, []).append(report.seed)
            numbers.setdefault(fastest, []).append(found[fastest])
    told = []
    for setup, of in seeds.items():
        mean = math.fsum(numbers[setup]) / len(of)
        size = f", {setup.image_size} px" if len({one.image_size for one in seeds}) > 1 else ""
        those = f"{'seed' if len(of) == 1 else 'seeds'} {', '.join(map(str, of))}"
        told.append(f"{written(mean)} on {setup}{size} ({those})")
    return "; ".join(told)


def written(images_per_second: float) -> str:
    """Return images per second as tables have them: whole ones, or three digits of few."""
    return f"{images_per_second:.0f}" if images_per_second >= 100 else f"{images_per_second:.3g}"


def _by_setup(report: Report) -> dict[Setup, float]:
    """Return the images per second of each setup of a report."""
    return {setup_of(speed): speed.images_per_second for speed in report.speed}
