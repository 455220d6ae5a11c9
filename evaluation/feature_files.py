"""Descriptors and found names in files: `.npz` and `.mat` in, the formats of others' tools out."""

# Shapes: Q = queries, G = gallery images, D = descriptor width, B = images of a block.

import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.io import loadmat, savemat
from scipy.io.matlab import MatReadError
from torch import Tensor

from data_shards.errors import DescriptorError
from data_shards.shards import RowNumbers, ShardSet
from evaluation.config import ANSWERS
from evaluation.ranking import Gallery, InMemory, OnDisk
from evaluation.ranking.rerank import reorder
from evaluation.ranking.top_k import top_k
from evaluation.retrieval import rerank_settings

if TYPE_CHECKING:
    from evaluation.describe import Descriptors
    from evaluation.inputs import EvaluationInputs
    from evaluation.joined_shards import JoinedShards
    from evaluation.protocols import Search

Array = npt.NDArray[Any]

KEYS = ("query_f", "query_label", "gallery_f", "gallery_label")
NAME_KEYS = {side: (f"{side}_name", f"{side}_path") for side in ("query", "gallery")}
"""Optional: one name per image, else the path that `pytorch_result.mat` keeps."""

SUFFIX = re.compile(r"\.(jpe?g|png|webp|bmp|tiff?)$", re.IGNORECASE)

ROWS_AT_ONCE = 8192

MOST_DIGITS = 15
"""Of a label: others' tools keep it as a double."""

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
    try:
        if suffix == ".mat":
            wanted = (*KEYS, *NAME_KEYS["query"], *NAME_KEYS["gallery"])
            return _features(path, loadmat(path, variable_names=wanted), named)
        with np.load(path, allow_pickle=False) as archive:
            return _features(path, archive, named)
    except NotImplementedError as error:
        raise DescriptorError(
            f"{path} is of version 7.3, an HDF5 file; save it again with MATLAB's -v7"
        ) from error
    except DAMAGE as error:
        reason = " ".join(str(error).split()) or "its bytes are damaged"
        raise DescriptorError(f"{path} cannot be read ({reason})") from error


def _features(path: Path, arrays: Mapping[str, Array], named: Sequence[str]) -> Features:
    if missing := [key for key in KEYS if key not in arrays]:
        there = ", ".join(sorted(name for name in arrays if not name.startswith("__")))
        raise DescriptorError(
            f"{path} holds no {missing[0]}; it must hold {', '.join(KEYS)}, and holds "
            f"{there or 'none of them'}"
        )
    query, gallery = _side(path, arrays, "query"), _side(path, arrays, "gallery")
    if query.width != gallery.width:
        raise DescriptorError(
            f"{path}: query_f has {query.width} numbers per image and gallery_f {gallery.width}; "
            "describe both by one model"
        )
    counts = {"query": len(query.labels_G), "gallery": len(gallery.labels_G)}
    for side, one in (("query", query), ("gallery", gallery)):
        bad = [
            ~block.isfinite().all(dim=1) | (block == 0).all(dim=1)
            for begin in range(0, counts[side], ROWS_AT_ONCE)
            for block in [one.read(slice(begin, begin + ROWS_AT_ONCE))]
        ]
        if len(found := torch.cat(bad).nonzero().flatten()):
            raise DescriptorError(
                f"{path}: {len(found)} of {counts[side]} rows of {side}_f, the first at "
                f"{int(found[0])} counted from 0, are zero, NaN or infinite; describe these "
                "images again"
            )
    return Features(
        query_QD=query.read(slice(0, counts["query"])),
        query_labels_Q=query.labels_G,
        gallery=gallery,
        **{f"{side}_names": _names(path, arrays, side, count=counts[side]) for side in named},
    )


def _side(path: Path, arrays: Mapping[str, Array], side: str) -> Gallery:
    """Return labels, [N] or as MATLAB has them [1, N], and descriptors [N, D] as floats.

    Those of a gallery stay in the archive, if their bytes stand there as in memory.
    """
    key, labels = f"{side}_label", arrays[f"{side}_label"]
    is_row = labels.size == max(labels.shape, default=0)
    with np.errstate(invalid="ignore"):  # NaN is not equal to what it becomes
        whole = labels.ravel().astype(np.int64) if labels.dtype.kind in "fiu" else None
    if not is_row or whole is None or not np.array_equal(whole, labels.ravel()):
        raise _unfit(path, key, labels, "one whole number per descriptor, -1 for junk")
    if side == "gallery" and path.suffix.lower() == ".npz" and labels.size:
        with suppress(ValueError):  # compressed, column by column, empty, integers, other lengths
            return OnDisk.npy(path / "gallery_f", torch.from_numpy(whole))
    array = arrays[f"{side}_f"]
    if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
        wanted = "one row of numbers per image, [N, D], and at least one"
        raise _unfit(path, f"{side}_f", array, wanted)
    if len(array) != labels.size:
        raise _unfit(path, key, labels, f"one for each of {len(array)} descriptors, in their order")
    is_small = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    with np.errstate(over="ignore"):  # what becomes infinite is refused by its row
        floats = np.require(array, np.float32 if is_small else np.float64, requirements=("C", "W"))
    return InMemory(torch.from_numpy(floats), torch.from_numpy(whole))


def _names(path: Path, arrays: Mapping[str, Array], side: str, *, count: int) -> tuple[str, ...]:
    """Return what a side's images are called: names, else paths, else nothing."""
    key = next((key for key in NAME_KEYS[side] if key in arrays), None)
    if key is None:
        return ()
    array = arrays[key]
    if array.dtype.kind != "U" or array.size != count:
        wanted = f"strings, one for each of {count} images (char({key}) in MATLAB)"
        raise _unfit(path, key, array, wanted)
    return tuple(text.rstrip() for text in array.ravel().tolist())  # MATLAB fills up with blanks


def _unfit(path: Path, key: str, array: Array, wanted: str) -> DescriptorError:
    return DescriptorError(f"{path}: {key} holds {array.dtype} {list(array.shape)}; save {wanted}")


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


def exported_files(inputs: "EvaluationInputs") -> Mapping[str, "Search"]:
    """Return what is written for other tools, by its place in the folder of the evaluation.

    That is the `.mat` of every headline search (`d2s.mat`, `d2s_150m.mat`), and the text file of
    the drone queries, one per height where there are several.

    Raises:
        DescriptorError: such a file cannot hold the name of an image.
    """
    config, searches = inputs.config, inputs.searches
    files = {
        f"descriptors/{_file_name(search)}.mat": search
        for search in (searches.found if config.descriptors else ())
    }
    asked = searches.drone_to_satellite if config.submission else ()
    for search in asked:
        refuse_unfit_names(image_names(inputs.shards, search.gallery_rows))
        apart = f"_{_file_name(search)}" if len(asked) > 1 else ""
        files[f"submission{apart}.txt"] = search
    return files


def _file_name(search: "Search") -> str:
    return search.protocol.name.replace("/", "_")


def write_exports(inputs: "EvaluationInputs", descriptors: "Descriptors", folder: Path) -> None:
    """Write these files."""
    shards, images = inputs.shards, inputs.shards.images
    label_of = torch.from_numpy(place_labels(shards))
    for name, search in exported_files(inputs).items():
        sides = descriptors.of(search.query_rows), descriptors.of(search.gallery_rows)
        if name.endswith(".mat"):
            write_mat(
                folder / name,
                sides[0],
                label_of[images.place[search.query_rows]],
                sides[1],
                label_of[images.place[search.gallery_rows]],
                query_paths=images.key[search.query_rows].tolist(),
                gallery_paths=images.key[search.gallery_rows].tolist(),
            )
            continue
        if inputs.config.rerank:
            best = reorder(*sides, rerank_settings(inputs.config))
        else:
            best = top_k(*sides, k=ANSWERS)
        names = image_names(shards, search.gallery_rows)
        best_QK = best.index_QK[:, :ANSWERS].tolist()
        write_submission(folder / name, [[names[at] for at in of_query] for of_query in best_QK])


def place_labels(shards: "JoinedShards") -> npt.NDArray[np.int64]:
    """Return an integer per place: its folder's name where all are integers, else its number.

    Places of distractors are counted on behind the largest, so that none is taken for another.
    """
    own = shards.main.places
    named = {int(place) for place in own if place.isdecimal() and len(place) <= MOST_DIGITS}
    is_named = len(named) == len(own)
    labels = np.array([int(place) for place in own] if is_named else range(len(own)))
    behind = int(labels.max()) + 1 + np.arange(len(shards.places) - len(own))
    return np.concatenate([labels, behind]).astype(np.int64)


def image_names(shards: ShardSet, rows: RowNumbers) -> Sequence[str]:
    """Return what each image is called: its file's name, or its place's where files share names."""
    images = shards.images
    names = [str(key).rpartition("/")[2] for key in images.key[rows]]
    if len(set(names)) == len(names):
        return names
    return [shards.places[place] for place in images.place[rows].tolist()]
