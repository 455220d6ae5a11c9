"""What others read: the official `.mat` of descriptors, and the answer of a challenge."""

# Shapes: Q = queries, G = gallery images, D = descriptor width.

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.io import savemat
from torch import Tensor

from data_shards.errors import DescriptorError
from data_shards.manifest import write_text_aside
from evaluation.config import ANSWERS
from evaluation.destinations import Destination

HEADER = b"MATLAB 5.0 MAT-file, written by skydistill evaluate".ljust(116)
"""The text at the beginning: MATLAB asks for its first words, and the rest says whose it is."""

MOST_BYTES = 2**31 - 1
"""Of one array: MATLAB reads no larger one from a level 5 file."""


def write_mat(
    path: Path,
    query_QD: Tensor,
    query_labels_Q: Tensor,
    gallery_GD: Tensor,
    gallery_labels_G: Tensor,
    *,
    query_paths: Sequence[str] = (),
    gallery_paths: Sequence[str] = (),
) -> Path:
    """Write what the evaluation of University-1652 reads from `pytorch_result.mat`.

    Keys `query_f` [Q, D], `query_label` [1, Q], `gallery_f` [G, D], `gallery_label` [1, G]; and
    `query_path`, `gallery_path` where paths are given (source: `test.py` of
    layumi/University1652-Baseline). Written aside, then renamed.

    Raises:
        DescriptorError: the file cannot be written, or an array is too large for the format.
    """
    values = {
        "query_f": _kept(query_QD).cpu().numpy(),
        "query_label": query_labels_Q.cpu().numpy(),
        "gallery_f": _kept(gallery_GD).cpu().numpy(),
        "gallery_label": gallery_labels_G.cpu().numpy(),
    }
    for key, paths in (("query_path", query_paths), ("gallery_path", gallery_paths)):
        if paths:
            values[key] = np.array(paths, dtype=np.str_)
    for key, array in values.items():
        if array.nbytes > MOST_BYTES:
            raise DescriptorError(
                f"{path} cannot hold {key} of {array.nbytes / 2**30:.1f} GiB: MATLAB's -v7 files "
                "end at 2 GiB per array; leave --descriptors-out out"
            )
    aside = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            savemat(file, values)
            file.seek(0)
            file.write(HEADER)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        if aside.is_file():
            aside.unlink()
        raise DescriptorError(
            f"{path} cannot be written ({error.strerror}); give another folder with "
            "--descriptors-out"
        ) from error
    return path


def _kept(descriptors: Tensor) -> Tensor:
    """Return descriptors as MATLAB knows numbers: it has no half precision."""
    return descriptors if descriptors.dtype == torch.float64 else descriptors.float()


def descriptors_destination(path: Path) -> Destination:
    """Return where a `.mat` will be written; an earlier one of ours may go."""
    return Destination(
        path=path,
        option="--descriptors-out",
        content="file of --descriptors-out",
        may_replace=is_descriptors,
    )


def submission_destination(path: Path, names: Sequence[str]) -> Destination:
    """Return where the best of these names will be written; an earlier submission may go.

    Raises:
        DescriptorError: a name cannot stand in such a file.
    """
    refuse_unfit_names(path, names)
    num_names, known = min(ANSWERS, len(names)), frozenset(names)
    return Destination(
        path=path,
        option="--submission",
        content=f"submission of {num_names} of these names per line",
        may_replace=lambda there: is_submission(there, known, num_names=num_names),
    )


def refuse_unfit_names(path: Path, names: Iterable[str]) -> None:
    """Demand names that can stand between tabs.

    Raises:
        DescriptorError: one is empty or has a blank in it.
    """
    for name in names:
        if name.split() != [name]:
            raise DescriptorError(
                f"{path} cannot hold the name {name!r}; give names without blanks and tabs"
            )


def write_submission(path: Path, names: Sequence[Sequence[str]]) -> Path:
    """Write the answer of University-160k: a line per query, its best ten names between tabs.

    The lines stand in the order of the queries (`query_drone_name.txt`), the names best first and
    without the suffix of their files (source: `test_160k.py` and `image_folder.py` of
    layumi/University1652-Baseline; its evaluation server takes the file zipped). Written aside,
    then renamed.

    Raises:
        DescriptorError: a name cannot stand in such a file, or the file cannot be written.
    """
    for number, line in enumerate(names):
        refuse_unfit_names(path, line)
        if not line or len(line) > ANSWERS or len(line) != len(names[0]):
            raise DescriptorError(
                f"{path}: query {number}, counted from 0, has {len(line)} names; give every query "
                f"as many, at most {ANSWERS}"
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_aside(path, "".join("\t".join(line) + "\n" for line in names))
    except OSError as error:
        raise DescriptorError(
            f"{path} cannot be written ({error.strerror}); give another file with --submission"
        ) from error
    return path


def is_submission(path: Path, known: frozenset[str], *, num_names: int) -> bool:
    """Return whether a file is lines of `num_names` known names each, between tabs."""
    try:
        lines = [line.split("\t") for line in path.read_text().splitlines()]
    except ValueError:
        return False
    return all(len(line) == num_names and known.issuperset(line) for line in lines)


def is_descriptors(path: Path) -> bool:
    """Return whether a file is a `.mat` of descriptors that this program wrote."""
    with path.open("rb") as file:
        return file.read(len(HEADER)) == HEADER
