"""Where an evaluation writes, looked at before anything is described: fit for it, and nobody's."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from evaluation.result import METRICS

REPORT_KEYS = {"schema_version", "results", "checkpoint_sha256"}
"""Of every report, whichever its schema version."""

LONGEST_ASIDE = ".{}.partial"
"""Files are written under such a name first."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """One file that will be written."""

    path: Path
    option: str
    """Which would name another place: `--out`."""

    content: str
    """What the file will be, in words: `report of skydistill evaluate`."""

    may_replace: Callable[[Path], bool]
    """Whether what lies there already, with something in it, may go."""


def find_problem(destinations: Sequence[Destination]) -> str | None:
    """Return in a sentence why one of these files cannot or must not be written; None if all can.

    Nothing is left on the disk.
    """
    for one in destinations:
        try:
            if reason := _cannot_be_written(one.path):
                return f"{one.path} cannot be written ({reason}); give another with {one.option}"
            if _has_content(one.path) and not one.may_replace(one.path):
                return (
                    f"{one.path} is there and is no {one.content}, so it is not replaced; move it "
                    f"away, or give another place with {one.option}"
                )
        except OSError as error:
            return (
                f"{one.path} cannot be written ({error.strerror}); give another place with "
                f"{one.option}"
            )
    return _collision(destinations)


def _cannot_be_written(path: Path) -> str | None:
    """Return why not, in words; None if it can.

    Raises:
        OSError: the system says why not.
    """
    if path.is_dir():
        return "it is a folder"
    if path.exists() and not path.is_file():
        return "it is no plain file"
    folder = next(parent for parent in path.absolute().parents if _is_something(parent))
    if not folder.is_dir():
        return f"{folder} is no folder"
    _is_something(folder / LONGEST_ASIDE.format(path.name))
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"\0")
    return None


def _is_something(path: Path) -> bool:
    """Return whether the name is taken, be it by a link to nothing.

    Raises:
        OSError: no file can have this name.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _collision(destinations: Sequence[Destination]) -> str | None:
    really = {one.path: Path(os.path.realpath(one.path)) for one in destinations}
    for one, other in combinations(destinations, 2):
        first, second = really[one.path], really[other.path]
        if first == second:
            return (
                f"{one.path} would be written twice, for {one.option} and for {other.option}; give "
                "two names"
            )
        if first in second.parents or second in first.parents:
            return (
                f"{one.path} ({one.option}) and {other.path} ({other.option}) cannot both be "
                "written, as one is a folder of the other; give two names"
            )
    return None


def is_report(path: Path) -> bool:
    """Return whether a file is a report of a model, of whichever schema version."""
    return _holds(path, REPORT_KEYS)


def is_numbers_of_features(path: Path) -> bool:
    """Return whether a file is what `--features` writes to `--out`."""
    return _holds(path, {*METRICS, "num_queries", "num_gallery"})


def _holds(path: Path, keys: set[str]) -> bool:
    try:
        values: Any = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and keys <= values.keys()
