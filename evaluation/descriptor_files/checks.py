"""What a file of descriptors must hold to be searched, one sentence for each way it does not."""

# Shapes: Q = queries, G = gallery images, D = descriptor width, B = images of a block.

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_shards.errors import DescriptorError
from data_shards.nearest import did_you_mean

Array = npt.NDArray[Any]

KEYS = ("query_f", "query_label", "gallery_f", "gallery_label")
NAME_KEYS = ("query_name", "gallery_name", "query_path", "gallery_path")
"""Optional: one name per image, or the path that `pytorch_result.mat` keeps."""

SUFFIX = re.compile(r"\.(jpe?g|png|webp|bmp|tiff?)$", re.IGNORECASE)
"""Of the files of images; what a path says beyond folder and suffix is the name."""

FOR_BOTH = {"query": "queries", "gallery": "gallery images"}


def require_keys(found: Mapping[str, Array | None], path: Path) -> None:
    """Demand the four arrays.

    Raises:
        DescriptorError: one is missing; the sentence names those that are there.
    """
    for key in KEYS:
        if key in found:
            continue
        there = ", ".join(sorted(found)) or "nothing"
        strangers = found.keys() - {*KEYS, *NAME_KEYS}
        raise DescriptorError(
            f"{path} holds no {key}{did_you_mean(key, strangers)}; it holds {there}, and must hold "
            f"{', '.join(KEYS)}"
        )


def descriptors_of(array: Array | None, key: str, path: Path) -> Array:
    """Return descriptors [B, D] as floats of this machine's byte order, that may be written to.

    Raises:
        DescriptorError: they are not numbers, not a table, or there are none.
    """
    array = _numbers(array, key, path)
    if array.ndim != 2:
        raise DescriptorError(
            f"{path}: {key} has the shape {list(array.shape)}; save one row per image, [N, D]"
        )
    if not array.size:
        side = FOR_BOTH[key.partition("_")[0]]
        raise DescriptorError(
            f"{path}: {key} has the shape {list(array.shape)}, so there are no {side} to search; "
            "save at least one"
        )
    kind = {2: "<f4", 4: "<f4"}.get(array.dtype.itemsize, "<f8")
    if array.dtype.kind != "f":
        kind = "<f8"
    with np.errstate(over="ignore"):  # what becomes infinite is refused by its row
        return np.require(array, np.dtype(kind).newbyteorder("="), requirements=("C", "W"))


def labels_of(array: Array | None, key: str, path: Path, *, count: int) -> Array:
    """Return labels, [N] or as MATLAB has them [1, N], as int64.

    Raises:
        DescriptorError: they are not integers, not one per descriptor, or too large.
    """
    array = _numbers(array, key, path)
    is_row = array.ndim == 1 or (array.ndim == 2 and 1 in array.shape)
    if not is_row or array.size != count:
        raise DescriptorError(
            f"{path}: {key} has the shape {list(array.shape)}, but there are {count} descriptors; "
            "save one label per descriptor, in their order"
        )
    labels = array.ravel()
    if labels.dtype.kind == "f":
        whole = np.isfinite(labels) & (labels == np.floor(labels))
        _refuse_rows(~whole, key, path, why="not a whole number; save integers, -1 for junk")
    limit = int(np.iinfo(np.int64).max)
    if labels.dtype.kind == "f":
        # Beyond this a float of so many bits stands for several integers.
        limit = min(limit, 2 ** (np.finfo(labels.dtype).nmant + 1) - 1)
    _refuse_rows(np.abs(labels) > limit, key, path, why=f"beyond {limit}; number the places anew")
    return labels.astype(np.int64)


def names_of(found: Mapping[str, Array | None], side: str, path: Path, *, count: int) -> list[str]:
    """Return the names of a side, or of its files without folder and suffix; none if not told.

    Raises:
        DescriptorError: they are no text, or not one per descriptor.
    """
    key = next((key for key in (f"{side}_name", f"{side}_path") if key in found), None)
    if key is None:
        return []
    array = found[key]
    if array is None or array.dtype.kind != "U" or array.size != count:
        raise DescriptorError(
            f"{path}: {key} is not a text per descriptor ({count}); save an array of strings"
        )
    names: list[str] = array.ravel().tolist()
    if key.endswith("_path"):
        names = [SUFFIX.sub("", re.split(r"[/\\]", name)[-1]) for name in names]
    return names


def refuse_bad_rows(blocks: Iterable[Array], key: str, path: Path) -> None:
    """Look at descriptors block by block.

    Raises:
        DescriptorError: some are not finite, or zero throughout.
    """
    finite, zero = [], []
    for block_BD in blocks:
        finite.append(np.isfinite(block_BD).all(axis=1))
        zero.append(~block_BD.any(axis=1))
    _refuse_rows(
        ~np.concatenate(finite), key, path, why="NaN or infinite; describe these images again"
    )
    _refuse_rows(
        np.concatenate(zero), key, path, why="zero, which no image is; describe these images again"
    )


def refuse_other_width(query_width: int, gallery_width: int, path: Path) -> None:
    """Demand descriptors of one width.

    Raises:
        DescriptorError: they differ.
    """
    if query_width != gallery_width:
        raise DescriptorError(
            f"{path}: query_f has {query_width} numbers per image and gallery_f {gallery_width}; "
            "describe both by one model"
        )


def _numbers(array: Array | None, key: str, path: Path) -> Array:
    if array is None or array.dtype.kind not in "fiu":
        kind = "text, cells, sparse or complex numbers" if array is None else str(array.dtype)
        raise DescriptorError(f"{path}: {key} holds {kind}; save it as an array of numbers")
    return array


def _refuse_rows(is_bad: Array, key: str, path: Path, *, why: str) -> None:
    if count := int(is_bad.sum()):
        first = int(is_bad.argmax())
        raise DescriptorError(
            f"{path}: {count} of {len(is_bad)} rows of {key}, the first at {first} counted from 0, "
            f"{'is' if count == 1 else 'are'} {why}"
        )
