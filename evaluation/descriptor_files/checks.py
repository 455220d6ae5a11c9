"""What a file of descriptors must hold to be searched, one sentence for each way it does not."""

# Shapes: Q = queries, G = gallery images, D = descriptor width, B = images of a block.

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from data_shards.errors import DescriptorError, did_you_mean

Array = npt.NDArray[Any]
Found: TypeAlias = Array | str
"""What stands under a key: an array, or in words what stands there instead of one (`cells`)."""

NOT_READ = ""
"""What is said of a key that nobody asked for."""

Side = Literal["query", "gallery"]

KEYS = ("query_f", "query_label", "gallery_f", "gallery_label")
NAME_KEYS: dict[Side, tuple[str, str]] = {
    "query": ("query_name", "query_path"),
    "gallery": ("gallery_name", "gallery_path"),
}
"""Optional: one name per image, else the path that `pytorch_result.mat` keeps."""

SUFFIX = re.compile(r"\.(jpe?g|png|webp|bmp|tiff?)$", re.IGNORECASE)
"""Of the files of images; what a path says beyond folder and suffix is the name."""

FOR_BOTH = {"query": "queries", "gallery": "gallery images"}
FOR_ONE = {"query": "query", "gallery": "gallery image"}


@dataclass(frozen=True, kw_only=True)
class ImageNames:
    """What the images of a side are called."""

    texts: tuple[str, ...] = ()
    """As they stand in the file; empty where it has none, or none were asked for."""

    are_paths: bool = False
    """Whether the texts are paths of files."""

    @property
    def names(self) -> list[str]:
        """The texts, of paths what is left without folder and suffix."""
        if not self.are_paths:
            return list(self.texts)
        return [SUFFIX.sub("", re.split(r"[/\\]", text)[-1]) for text in self.texts]


def require_keys(found: Mapping[str, Found], path: Path) -> None:
    """Demand the four arrays.

    Raises:
        DescriptorError: one is missing; the sentence names those that are there.
    """
    for key in KEYS:
        if key in found:
            continue
        there = ", ".join(sorted(found)) or "nothing"
        strangers = found.keys() - {*KEYS, *NAME_KEYS["query"], *NAME_KEYS["gallery"]}
        raise DescriptorError(
            f"{path} holds no {key}{did_you_mean(key, strangers)}; it holds {there}, and must hold "
            f"{', '.join(KEYS)}"
        )


def descriptors_of(found: Found, key: str, path: Path) -> Array:
    """Return descriptors [B, D] as floats of this machine's byte order, that may be written to.

    Raises:
        DescriptorError: they are not numbers, not a table, there are none, or they are empty.
    """
    array = _numbers(found, key, path)
    if array.ndim != 2:
        raise DescriptorError(
            f"{path}: {key} has the shape {list(array.shape)}; save one row per image, [N, D]"
        )
    if not len(array):
        side = FOR_BOTH[key.partition("_")[0]]
        raise DescriptorError(
            f"{path}: {key} has the shape {list(array.shape)}, so there are no {side} to search; "
            "save at least one"
        )
    if not array.size:
        raise DescriptorError(
            f"{path}: {key} has the shape {list(array.shape)}, so its descriptors have no numbers; "
            "describe these images again"
        )
    kind = {2: "<f4", 4: "<f4"}.get(array.dtype.itemsize, "<f8")
    if array.dtype.kind != "f":
        kind = "<f8"
    with np.errstate(over="ignore"):  # what becomes infinite is refused by its row
        return np.require(array, np.dtype(kind).newbyteorder("="), requirements=("C", "W"))


def labels_of(found: Found, key: str, path: Path, *, count: int) -> Array:
    """Return labels, [N] or as MATLAB has them [1, N], as int64.

    Raises:
        DescriptorError: they are not integers, not one per descriptor, or too large.
    """
    array = _numbers(found, key, path)
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


def names_of(found: Mapping[str, Found], side: Side, path: Path, *, count: int) -> ImageNames:
    """Return what a side's images are called: names, else paths, else nothing.

    Raises:
        DescriptorError: they are no text, or not one per descriptor.
    """
    name_key, path_key = NAME_KEYS[side]
    key = name_key if name_key in found else path_key
    if key not in found:
        return ImageNames()
    array = found[key]
    if isinstance(array, str) or array.dtype.kind != "U" or array.size != count:
        how = f", char({key}) in MATLAB" if path.suffix.lower() == ".mat" else ""
        raise DescriptorError(
            f"{path}: {key} holds {_in_words(array)}, not one text for each of {count} "
            f"{FOR_BOTH[side]}; save it as an array of strings, one per {FOR_ONE[side]}{how}"
        )
    return ImageNames(texts=tuple(array.ravel().tolist()), are_paths=key == path_key)


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


def _numbers(found: Found, key: str, path: Path) -> Array:
    if isinstance(found, str) or found.dtype.kind not in "fiu":
        raise DescriptorError(
            f"{path}: {key} holds {_in_words(found)}; save it as an array of numbers"
        )
    return found


def _in_words(found: Found) -> str:
    """Say what stands under a key: `cells`, `true and false`, `2 texts`, `complex128 [3, 4]`."""
    if isinstance(found, str):
        return found
    if found.dtype.kind == "b":
        return "true and false"
    if found.dtype.kind == "U":
        return "1 text" if found.size == 1 else f"{found.size} texts"
    return f"{'bytes' if found.dtype.kind == 'S' else found.dtype} {list(found.shape)}"


def _refuse_rows(is_bad: Array, key: str, path: Path, *, why: str) -> None:
    if count := int(is_bad.sum()):
        first = int(is_bad.argmax())
        raise DescriptorError(
            f"{path}: {count} of {len(is_bad)} rows of {key}, the first at {first} counted from 0, "
            f"{'is' if count == 1 else 'are'} {why}"
        )
