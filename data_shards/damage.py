"""Where in a damaged tar the damage is: which image, header, JSON or padding."""

import hashlib
import json
import mmap
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_shards.index import ENCODINGS, Index
from data_shards.packing.tar import TAR_BLOCK
from data_shards.schema import Role, View


def damaged_parts(
    path: Path, index: Index, places: Sequence[str], *, is_ours: bool
) -> list[tuple[str, str]]:
    """Return the key and the damage of everything in a tar that is not what its index says.

    Of a tar that somebody else wrote (`is_ours` is false) only the images are described. The tar
    has the right length and a wrong digest, so there is at least one pair; the key is
    empty where the damage is in bytes that nothing else describes.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as tar:
        found = [
            (key, problem)
            for row, key in zip(index.rows, index.keys, strict=True)
            for problem in _problems(tar, row, key, places, is_ours=is_ours)
        ]
        if is_ours and index.keys and any(tar[-2 * TAR_BLOCK :]):
            found.append((index.keys[-1], "what stands behind the image is damaged"))
    return found or [
        ("", "its digest is wrong, and headers, JSON or padding of no single image stand out")
    ]


def _problems(
    tar: mmap.mmap, row: np.void, key: str, places: Sequence[str], *, is_ours: bool
) -> Iterator[str]:
    start, size = int(row["offset"]), int(row["size"])
    if hashlib.sha256(tar[start : start + size]).digest()[:16] != row["digest"].tobytes():
        yield "the image is not the one that was written (its digest differs)"
    if not is_ours:
        return
    suffix = f".{View(row['view']).word}.{ENCODINGS[row['encoding']]}"
    if not _is_header(tar[start - TAR_BLOCK : start], key + suffix):
        yield "the header before the image is damaged"
    described = start + size + -size % TAR_BLOCK
    if any(tar[start + size : described]):
        yield "the padding behind the image is damaged"
    if not _is_description(tar, described, key, row, places):
        yield "the JSON is damaged"


def _is_header(header: bytes, name: str) -> bool:
    """Tell whether a tar header is intact, by its own checksum, and names this member."""
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "replace").name == name
    except tarfile.HeaderError:
        return False


def _is_description(tar: mmap.mmap, at: int, key: str, row: np.void, places: Sequence[str]) -> bool:
    """Tell whether header and JSON stand at `at` and say what the index says."""
    header = tar[at : at + TAR_BLOCK]
    if not _is_header(header, f"{key}.json"):
        return False
    size = int(header[124:135], 8)
    start = at + TAR_BLOCK
    if any(tar[start + size : start + size + -size % TAR_BLOCK]):
        return False
    try:
        told: dict[str, Any] = json.loads(tar[start : start + size])
        said = [told[name] for name in ("key", "place", "view", "roles", "position")]
        digest, altitude_m = str(told["sha256"]), told["altitude_m"]
    except (ValueError, KeyError, TypeError):
        return False
    view, roles = View(row["view"]).word, Role(row["roles"]).words
    height = np.float32(np.nan if altitude_m is None else altitude_m)
    return (
        said == [key, places[row["place"]], view, roles, int(row["position"])]
        and digest.startswith(row["digest"].tobytes().hex())
        and bool(np.array_equal(height, row["altitude_m"], equal_nan=True))
    )
