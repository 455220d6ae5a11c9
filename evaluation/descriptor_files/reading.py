"""`.npz` and `.mat` files of descriptors, checked before anything is searched."""

# Shapes: Q = queries, G = gallery images, D = descriptor width.

import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_shards.errors import DescriptorError
from evaluation.descriptor_files.checks import (
    KEYS,
    NAME_KEYS,
    Found,
    ImageNames,
    Side,
    descriptors_of,
    labels_of,
    names_of,
    refuse_bad_rows,
    refuse_other_width,
    require_keys,
)
from evaluation.descriptor_files.mat import read_mat
from evaluation.descriptor_files.npz import Shape, read_npz
from evaluation.ranking import Gallery, InMemory, OnDisk

ROWS_AT_ONCE = 8192

SUFFIXES = (".npz", ".mat")

DAMAGE = (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What readers raise on bytes that are no arrays or claim to be too many, or on an archive with
a password."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Two sides of one search; the gallery may lie on the disk."""

    query_QD: Tensor
    query_labels_Q: Tensor
    gallery: Gallery
    query_names: ImageNames = ImageNames()
    gallery_names: ImageNames = ImageNames()

    def whole_gallery(self) -> Tensor:
        """Return all descriptors of the gallery [G, D], in memory."""
        return self.gallery.read(slice(0, len(self.gallery.labels_G))).clone()


def read_features(path: Path, *, named: Collection[Side] = ()) -> Features:
    """Read a file of descriptors; the gallery of an uncompressed `.npz` stays on the disk.

    Only the four arrays and the names of the `named` sides are read: whatever else a file holds
    can be of any kind.

    Raises:
        DescriptorError: it is missing, damaged, or holds what cannot be searched or no names.
    """
    keys = [key for side in named for key in NAME_KEYS[side]]
    found, left = _read(path, wanted=(*KEYS, *keys))
    require_keys(found, path)
    query = descriptors_of(found["query_f"], "query_f", path)
    query_labels = labels_of(found["query_label"], "query_label", path, count=len(query))
    gallery = _gallery(path, found, left)
    refuse_other_width(query.shape[1], gallery.width, path)
    refuse_bad_rows((query[rows] for rows in row_blocks(len(query))), "query_f", path)
    num_gallery = len(gallery.labels_G)
    blocks = (gallery.read(rows).numpy() for rows in row_blocks(num_gallery))
    refuse_bad_rows(blocks, "gallery_f", path)
    counts: dict[Side, int] = {"query": len(query), "gallery": num_gallery}
    names = {side: names_of(found, side, path, count=counts[side]) for side in named}
    return Features(
        query_QD=torch.from_numpy(query),
        query_labels_Q=torch.from_numpy(query_labels),
        gallery=gallery,
        query_names=names.get("query", ImageNames()),
        gallery_names=names.get("gallery", ImageNames()),
    )


def row_blocks(length: int) -> Iterator[slice]:
    """Yield consecutive rows, as many as are looked at at once."""
    for begin in range(0, length, ROWS_AT_ONCE):
        yield slice(begin, begin + ROWS_AT_ONCE)


def _read(path: Path, wanted: Collection[str]) -> tuple[dict[str, Found], Shape | None]:
    """Return the arrays of a file, and the shape of a gallery that was left on the disk."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DescriptorError(
            f"{path} is neither .npz nor .mat; save the descriptors with numpy.savez, or as a .mat "
            "with MATLAB's -v7"
        )
    if not path.is_file():
        raise DescriptorError(f"there is no file {path}; give a .npz or .mat with --features")
    try:
        if suffix == ".mat":
            return read_mat(path, wanted), None
        return read_npz(path, wanted, large="gallery_f")
    except DAMAGE as error:
        reason = " ".join(str(error).split()) or "its bytes are damaged"
        raise DescriptorError(
            f"{path} cannot be read ({reason}); write or copy it again"
        ) from error


def _gallery(path: Path, found: Mapping[str, Found], left: Shape | None) -> Gallery:
    """Return the gallery, from the arrays or where it was left.

    Raises:
        DescriptorError: it or its labels cannot be searched.
    """
    if left is None or not all(left):
        gallery = descriptors_of(
            found["gallery_f"] if left is None else np.empty(left), "gallery_f", path
        )
        labels = labels_of(found["gallery_label"], "gallery_label", path, count=len(gallery))
        return InMemory(torch.from_numpy(gallery), torch.from_numpy(labels))
    labels = labels_of(found["gallery_label"], "gallery_label", path, count=left[0])
    try:
        return OnDisk.npy(path / "gallery_f", torch.from_numpy(labels))
    except ValueError as error:
        raise DescriptorError(str(error)) from error
