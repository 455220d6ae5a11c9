"""MATLAB's level 5 file: arrays of numbers and text by name, read without trusting a byte of it.

Source: MathWorks, *MAT-File Format*, 2024, chapter 1 (level 5). The reader is ours because the one
of scipy 1.17 reads outside of its memory when sizes in a damaged file lie, and ends the process;
`skydistill` writes with scipy.
"""

import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

HEADER_BYTES = 128
BYTE_ORDERS = {b"IM": "<", b"MI": ">"}

NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
"""How numbers are stored; `miINT8` and so on."""

CLASSES = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8",
}  # fmt: skip
"""What an array is in MATLAB, whatever its numbers are stored as; `mxDOUBLE_CLASS` and so on."""

MATRIX, COMPRESSED, TEXT_CLASS, COMPLEX_FLAG = 14, 15, 4, 0x08
TEXT_CODES = {1: "utf-8", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


class MatError(ValueError):
    """A file that is no level 5 file, or a damaged one; the caller knows which."""


@dataclass(frozen=True, kw_only=True)
class _Element:
    """One element: its kind and its bytes, without the padding."""

    kind: int
    content: memoryview


def read_mat(path: Path, wanted: Collection[str]) -> dict[str, Array | None]:
    """Return the arrays of a file by name: those of `wanted`, and None for all others.

    Text becomes an array of one string per row; what is neither numbers nor rows of text is None.

    Raises:
        MatError: the file is of another level, or damaged.
        OSError: it cannot be read.
    """
    content = memoryview(path.read_bytes())
    start = bytes(content[:HEADER_BYTES])
    order = BYTE_ORDERS.get(start[126:128])
    if b"MATLAB 7.3" in start[:116]:
        raise MatError("it is of version 7.3, an HDF5 file; save it again with MATLAB's '-v7'")
    if len(start) < HEADER_BYTES or order is None:
        raise MatError("it has not the header of a level 5 file")
    arrays: dict[str, Array | None] = {}
    try:
        for element in _elements(content[HEADER_BYTES:], order):
            if element.kind == COMPRESSED:
                element = next(_elements(memoryview(zlib.decompress(element.content)), order))
            if element.kind == MATRIX:
                name, array = _matrix(element.content, order, wanted)
                arrays[name] = array
    except MatError:
        raise
    except (struct.error, zlib.error, StopIteration, ValueError, OverflowError) as error:
        raise MatError("it is damaged") from error
    return arrays


def _elements(content: memoryview, order: str) -> Iterator[_Element]:
    """Yield the elements that follow one another; each begins at a multiple of eight bytes.

    Raises:
        MatError: one is longer than what is left.
    """
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        if kind >> 16:  # four bytes or less stand in the tag itself
            kind, size, begin, length = kind & 0xFFFF, kind >> 16, at + 4, 8
            is_whole = size <= 4
        else:
            begin = at + 8
            # A compressed element is the one kind that is not padded.
            length = 8 + size + (0 if kind == COMPRESSED else -size % 8)
            is_whole = begin + size <= len(content)
        if not is_whole:
            raise MatError("it is cut short")
        yield _Element(kind=kind, content=content[begin : begin + size])
        at += length


def _matrix(content: memoryview, order: str, wanted: Collection[str]) -> tuple[str, Array | None]:
    """Return the name and the values of one array."""
    parts = _elements(content, order)
    (flags,) = struct.unpack_from(f"{order}I", next(parts).content)
    sizes = np.frombuffer(next(parts).content, dtype=f"{order}i4").tolist()
    name = bytes(next(parts).content).decode("ascii")
    of_class, is_complex = flags & 0xFF, bool((flags >> 8) & COMPLEX_FLAG)
    read: Callable[[_Element, str, str], Array] | None = None
    if of_class in CLASSES and not is_complex:
        read = _numbers
    elif of_class == TEXT_CLASS:
        read = _characters
    if name not in wanted or read is None:
        return name, None
    values = read(next(parts), order, CLASSES.get(of_class, ""))
    if min(sizes, default=-1) < 0 or values.size != np.prod(sizes, dtype=object):
        raise MatError(f"the size of its {name} does not fit its values")
    table = values.reshape(sizes, order="F")
    if of_class != TEXT_CLASS:
        return name, table
    return name, _joined(table) if table.ndim == 2 else None


def _numbers(element: _Element, order: str, of_class: str) -> Array:
    if element.kind not in NUMBERS:
        raise MatError("it is damaged")
    stored = np.dtype(order + NUMBERS[element.kind])
    if len(element.content) % stored.itemsize:
        raise MatError("it is damaged")
    return np.frombuffer(element.content, dtype=stored).astype(of_class, copy=False)


def _characters(element: _Element, order: str, _: str) -> Array:
    if element.kind not in TEXT_CODES:
        raise MatError("it is damaged")
    code = TEXT_CODES[element.kind]
    if code in {"utf-16", "utf-32"}:
        code += "-le" if order == "<" else "-be"
    return np.array(list(bytes(element.content).decode(code)), dtype="U1")


def _joined(characters: Array) -> Array:
    """Return one string per row; MATLAB fills shorter rows up with blanks."""
    rows = characters.reshape(len(characters), -1)
    return np.array(["".join(row).rstrip() for row in rows.tolist()], dtype=np.str_)
