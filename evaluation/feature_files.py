"""Descriptors and found names in files: `.npz` and `.mat` in, the formats of others' tools out."""

# Shapes: Q = queries, G = gallery images, D = descriptor width, B = images of a block.

import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.io import loadmat, savemat
from scipy.io.matlab import MatReadError
from torch import Tensor

from data_shards.errors import DescriptorError
from evaluation.config import ANSWERS
from evaluation.ranking import Gallery, InMemory, OnDisk

Array = npt.NDArray[Any]

KEYS = ("query_f", "query_label", "gallery_f", "gallery_label")
NAME_KEYS = {
    "query": ("query_name", "query_path"),
    "gallery": ("gallery_name", "gallery_path"),
}
"""Optional: one name per image, else the path that `pytorch_result.mat` keeps."""

SUFFIX = re.compile(r"\.(jpe?g|png|webp|bmp|tiff?)$", re.IGNORECASE)

ROWS_AT_ONCE = 8192

MOST_BYTES = 2**31 - 1
"""Of one array: MATLAB reads no larger one from a level 5 file."""

DAMAGE: tuple[type[Exception], ...] = (OSError, ValueError, EOFError, MemoryError, TypeError)
DAMAGE += (NotImplementedError, MatReadError, zipfile.BadZipFile, zlib.error)
"""What numpy and scipy raise on bytes that are no arrays, or on arrays of another kind."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Two sides of one search; the gallery may lie on the disk."""

    query_QD: Tensor
    query_labels_Q: Tensor
    gallery: Gallery
    query_names: tuple[str, ...] = ()
    """Names, else paths; empty where the file has none, or none were asked for."""

    gallery_names: tuple[str, ...] = ()

    def whole_gallery(self) -> Tensor:
        """Return all descriptors of the gallery [G, D], in memory."""
        return self.gallery.read(slice(0, len(self.gallery.labels_G))).clone()


def read_features(path: Path, *, named: Sequence[str] = ()) -> Features:
    """Read a file of descriptors; the gallery of an uncompressed `.npz` stays on the disk.

    Args:
        path: an archive of `numpy.savez`, or a `.mat` of MATLAB's level 5 (`-v7`).
        named: sides whose names are read too: `query`, `gallery`.

    Raises:
        DescriptorError: it is missing, damaged, or holds what cannot be searched.
    """
    suffix = path.suffix.lower()
    if suffix not in (".npz", ".mat"):
        raise DescriptorError(
            f"{path} is neither .npz nor .mat; save the descriptors with numpy.savez, or as a .mat "
            "with MATLAB's -v7"
        )
    if not path.is_file():
        raise DescriptorError(f"there is no file {path}; give a .npz or .mat with --features")
    try:
        if suffix == ".mat":
            return _features(
                path,
                loadmat(path, variable_names=(*KEYS, *NAME_KEYS["query"], *NAME_KEYS["gallery"])),
                named,
            )
        with np.load(path, allow_pickle=False) as archive:
            return _features(path, archive, named)
    except DAMAGE as error:
        if isinstance(error, NotImplementedError):
            reason = "it is of version 7.3, an HDF5 file; save it again with MATLAB's -v7"
        else:
            reason = " ".join(str(error).split()) or "its bytes are damaged"
        raise DescriptorError(f"{path} cannot be read ({reason})") from error


def _features(path: Path, arrays: Mapping[str, Array], named: Sequence[str]) -> Features:
    for key in KEYS:
        if key not in arrays:
            there = ", ".join(sorted(name for name in arrays if not name.startswith("__")))
            raise DescriptorError(
                f"{path} holds no {key}; it must hold {', '.join(KEYS)}, and holds "
                f"{there or 'none of them'}"
            )
    query = _descriptors(arrays["query_f"], "query_f", path)
    query_labels = _labels(arrays, "query_label", path, count=len(query))
    gallery = _gallery(path, arrays)
    if query.shape[1] != gallery.width:
        raise DescriptorError(
            f"{path}: query_f has {query.shape[1]} numbers per image and gallery_f "
            f"{gallery.width}; describe both by one model"
        )
    counts = {"query": len(query), "gallery": len(gallery.labels_G)}
    in_memory = InMemory(torch.from_numpy(query), torch.from_numpy(query_labels))
    for side, one in (("query", in_memory), ("gallery", gallery)):
        bad = [
            ~block.isfinite().all(dim=1) | (block == 0).all(dim=1)
            for block in map(one.read, row_blocks(len(one.labels_G)))
        ]
        found = torch.cat(bad).nonzero().flatten()
        if len(found):
            raise DescriptorError(
                f"{path}: {len(found)} of {len(one.labels_G)} rows of {side}_f, the first at "
                f"{int(found[0])} counted from 0, are zero, NaN or infinite; describe these "
                "images again"
            )
    names = {f"{side}_names": _names(path, arrays, side, count=counts[side]) for side in named}
    return Features(
        query_QD=torch.from_numpy(query),
        query_labels_Q=torch.from_numpy(query_labels),
        gallery=gallery,
        **names,
    )


def _descriptors(array: Array, key: str, path: Path) -> Array:
    """Return descriptors [B, D] as floats of this machine's byte order, that may be written to."""
    if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
        raise DescriptorError(
            f"{path}: {key} holds {array.dtype} {list(array.shape)}; save one row of numbers per "
            "image, [N, D], and at least one"
        )
    is_small = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    with np.errstate(over="ignore"):  # what becomes infinite is refused by its row
        return np.require(array, np.float32 if is_small else np.float64, requirements=("C", "W"))


def _labels(arrays: Mapping[str, Array], key: str, path: Path, *, count: int) -> Array:
    """Return labels, [N] or as MATLAB has them [1, N], as int64."""
    array = arrays[key]
    is_row = array.ndim == 1 or (array.ndim == 2 and 1 in array.shape)
    if not is_row or array.size != count or array.dtype.kind not in "fiu":
        raise DescriptorError(
            f"{path}: {key} holds {array.dtype} {list(array.shape)}, but there are {count} "
            "descriptors; save one whole number per descriptor, in their order"
        )
    with np.errstate(invalid="ignore"):  # NaN is not equal to what it becomes
        labels = array.ravel().astype(np.int64)
    if not np.array_equal(labels, array.ravel()):
        raise DescriptorError(
            f"{path}: {key} holds what is no whole number of 64 bits; save integers, -1 for junk"
        )
    return labels


def _gallery(path: Path, arrays: Mapping[str, Array]) -> Gallery:
    """Return the gallery: where it lies in the archive, if its bytes stand there as in memory."""
    if path.suffix.lower() == ".npz" and arrays["gallery_label"].size:
        labels = _labels(arrays, "gallery_label", path, count=arrays["gallery_label"].size)
        with suppress(ValueError):  # compressed, column by column, empty, integers
            return OnDisk.npy(path / "gallery_f", torch.from_numpy(labels))
    gallery = _descriptors(arrays["gallery_f"], "gallery_f", path)
    labels = _labels(arrays, "gallery_label", path, count=len(gallery))
    return InMemory(torch.from_numpy(gallery), torch.from_numpy(labels))


def _names(path: Path, arrays: Mapping[str, Array], side: str, *, count: int) -> tuple[str, ...]:
    """Return what a side's images are called: names, else paths, else nothing."""
    key = next((key for key in NAME_KEYS[side] if key in arrays), None)
    if key is None:
        return ()
    array = arrays[key]
    if array.dtype.kind != "U" or array.size != count:
        raise DescriptorError(
            f"{path}: {key} holds {array.dtype} {list(array.shape)}; save it as an array of "
            f"strings, one for each of {count} images (char({key}) in MATLAB)"
        )
    return tuple(text.rstrip() for text in array.ravel().tolist())  # MATLAB fills up with blanks


def row_blocks(length: int) -> Iterator[slice]:
    """Yield consecutive rows, as many as are looked at at once."""
    for begin in range(0, length, ROWS_AT_ONCE):
        yield slice(begin, begin + ROWS_AT_ONCE)


def name_of(text: str) -> str:
    """Return a name as it is, and of a path what is left without folder and suffix."""
    return SUFFIX.sub("", re.split(r"[/\\]", text)[-1])


def write_mat(
    path: Path,
    query_QD: Tensor,
    query_labels_Q: Tensor,
    gallery_GD: Tensor,
    gallery_labels_G: Tensor,
    *,
    query_paths: Sequence[str] = (),
    gallery_paths: Sequence[str] = (),
) -> None:
    """Write what the evaluation of University-1652 reads from `pytorch_result.mat`.

    Keys `query_f` [Q, D], `query_label` [1, Q], `gallery_f` [G, D], `gallery_label` [1, G]; and
    `query_path`, `gallery_path` where paths are given (source: `test.py` of
    layumi/University1652-Baseline).

    Raises:
        DescriptorError: an array is too large for the format.
    """
    # MATLAB has no half precision.
    query_QD, gallery_GD = (
        rows.cpu() if rows.dtype == torch.float64 else rows.cpu().float()
        for rows in (query_QD, gallery_GD)
    )
    values = {"query_f": query_QD.numpy(), "query_label": query_labels_Q.cpu().numpy()}
    values |= {"gallery_f": gallery_GD.numpy(), "gallery_label": gallery_labels_G.cpu().numpy()}
    paths = {"query_path": query_paths, "gallery_path": gallery_paths}
    values |= {key: np.array(texts, dtype=np.str_) for key, texts in paths.items() if texts}
    for key, array in values.items():
        if array.nbytes > MOST_BYTES:
            raise DescriptorError(
                f"{path} cannot hold {key} of {array.nbytes / 2**30:.1f} GiB: MATLAB's -v7 files "
                "end at 2 GiB per array; leave --descriptors out"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, values, appendmat=False)


def write_submission(path: Path, names: Sequence[Sequence[str]]) -> None:
    """Write the answer of University-160k: a line per query, its best ten names between tabs.

    The lines stand in the order of the queries (`query_drone_name.txt`), the names best first and
    without the suffix of their files (source: `test_160k.py` and `image_folder.py` of
    layumi/University1652-Baseline; its evaluation server takes the file zipped).
    """
    path.write_text("".join("\t".join(line[:ANSWERS]) + "\n" for line in names))


def refuse_unfit_names(names: Iterable[str]) -> None:
    """Demand names that can stand between tabs.

    Raises:
        DescriptorError: one is empty or has a blank in it.
    """
    for name in names:
        if name.split() != [name]:
            raise DescriptorError(
                f"--submission cannot hold the name {name!r}; give names without blanks and tabs"
            )
