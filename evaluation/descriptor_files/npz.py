"""Archives of `numpy.savez`, of which nothing is ever unpickled."""

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.descriptor_files.checks import NOT_READ, Found
from evaluation.ranking.gallery import KINDS

Shape = tuple[int, ...]


BYTES_AT_ONCE = 2**22


class NpzError(ValueError):
    """A file that is no archive of arrays, or a damaged one; the caller knows which."""


def read_npz(
    path: Path, wanted: Collection[str], *, large: str
) -> tuple[dict[str, Found], Shape | None]:
    """Return the arrays of a file by name, and the shape of the `large` one if it was left there.

    It is left where its bytes lie in the archive as they would in memory; it stands as `NOT_READ`
    then, as do all members that are not wanted, whatever they are.

    Raises:
        NpzError: the file is no archive, or a wanted member is no array.
        OSError, ValueError, EOFError, RuntimeError, zlib.error: its bytes are damaged.
    """
    if not zipfile.is_zipfile(path):
        raise NpzError("it is no archive of numpy.savez, or cut short")
    arrays: dict[str, Found] = {}
    left: Shape | None = None
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            arrays[name] = NOT_READ
            if name not in wanted:
                continue
            shape, is_fortran, kind = _header(archive.zip, name)
            if kind.hasobject:
                arrays[name] = "Python objects"
                continue
            is_stored = _member(archive.zip, name).compress_type == zipfile.ZIP_STORED
            if name == large and is_stored and len(shape) == 2 and not is_fortran and kind in KINDS:
                left = shape
                _read_through(archive.zip, name)
            else:
                arrays[name] = archive[name]
    return arrays, left


def _header(archive: zipfile.ZipFile, name: str) -> tuple[Shape, bool, np.dtype[Any]]:
    """Return the shape, the order and the kind of number of a member."""
    with archive.open(_member(archive, name)) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        return np.lib.format.read_array_header_2_0(file)


def _read_through(archive: zipfile.ZipFile, name: str) -> None:
    """Read a member to its end, where its checksum is compared."""
    with archive.open(_member(archive, name)) as file:
        while file.read(BYTES_AT_ONCE):
            pass


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(f"{name}.npy")
    except KeyError as error:
        raise NpzError(f"its {name} is no array") from error
