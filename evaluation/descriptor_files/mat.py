"""MATLAB's level 5 file: arrays of numbers and text by name, read without trusting a byte of it.

Source: MathWorks, *MAT-File Format*, 2024, chapter 1 (level 5). The reader is ours because the one
of scipy 1.17 reads outside of its memory when sizes in a damaged file lie, and ends the process;
`skydistill` writes with scipy.
"""

import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.descriptor_files.checks import NOT_READ, Found

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

OTHER_CLASSES = {
    1: "cells", 2: "structs", 3: "objects", 5: "sparse numbers", 16: "functions",
}  # fmt: skip
"""What we do not read, in words."""

MATRIX, COMPRESSED, TEXT_CLASS, OPAQUE_CLASS = 14, 15, 4, 17
COMPLEX_FLAG, LOGICAL_FLAG = 0x0800, 0x0200
TEXT_CODES = {1: "utf-8", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


class MatError(ValueError):
    """A file that is no level 5 file, or a damaged one; the caller knows which."""


@dataclass(frozen=True, kw_only=True)
class _Element:
    """One element: its kind and its bytes, without the padding."""

    kind: int
    content: memoryview


def read_mat(path: Path, wanted: Collection[str]) -> dict[str, Found]:
    """Return the arrays of a file by name: those of `wanted`, and `NOT_READ` for all others.

    Text becomes an array of one string per row, logical values become booleans; what is neither
    numbers nor rows of text is told in words.

    Raises:
        MatError: the file is of another level, or damaged.
        OSError: it cannot be read.
    """
    content = memoryview(path.read_bytes())
    start = bytes(content[:HEADER_BYTES])
    order = BYTE_ORDERS.get(start[126:128])
    if b"MATLAB 7.3" in start[:116] or b"HDF" in start[:116]:
        raise MatError("it is of version 7.3, an HDF5 file; save it again with MATLAB's '-v7'")
    if len(start) < HEADER_BYTES or order is None:
        raise MatError("it has not the header of a level 5 file")
    arrays: dict[str, Found] = {}
    try:
        for element in _elements(content[HEADER_BYTES:], order):
            if element.kind == COMPRESSED:
                element = next(_elements(memoryview(zlib.decompress(element.content)), order))
            if element.kind == MATRIX:
                name, found = _matrix(element.content, order, wanted)
                arrays[name] = found
    except MatError:
        raise
    except (struct.error, zlib.error, StopIteration, ValueError, OverflowError) as error:
        raise MatError("it is damaged") from error
    arrays.pop("", None)  # where MATLAB notes things for itself
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


def _matrix(content: memoryview, order: str, wanted: Collection[str]) -> tuple[str, Found]:
    """Return the name and the values of one array; no further than its name if nobody wants it."""
    parts = _elements(content, order)
    (flags,) = struct.unpack_from(f"{order}I", next(parts).content)
    of_class = flags & 0xFF
    if of_class == OPAQUE_CLASS:  # without sizes; `string`, `table` and other classes of MATLAB
        name, _, class_name = (_word(next(parts)), next(parts), _word(next(parts)))
        return name, f"an object of the class {class_name}"
    sizes = np.frombuffer(next(parts).content, dtype=f"{order}i4").tolist()
    name = _word(next(parts))
    if name not in wanted:
        return name, NOT_READ
    if of_class == TEXT_CLASS:
        table = _shaped(_characters(next(parts), order), sizes, name)
        return name, _joined(table) if table.ndim == 2 else "text of more than two dimensions"
    if of_class not in CLASSES:
        return name, OTHER_CLASSES.get(of_class, "what no MATLAB we know of writes")
    if flags & COMPLEX_FLAG:
        return name, "complex numbers"
    kind = "?" if flags & LOGICAL_FLAG else CLASSES[of_class]
    return name, _shaped(_numbers(next(parts), order, kind), sizes, name)


def _word(element: _Element) -> str:
    return bytes(element.content).decode("latin-1")


def _shaped(values: Array, sizes: list[int], name: str) -> Array:
    if min(sizes, default=-1) < 0 or values.size != np.prod(sizes, dtype=object):
        raise MatError(f"the size of its {name} does not fit its values")
    return values.reshape(sizes, order="F")


def _numbers(element: _Element, order: str, kind: str) -> Array:
    if element.kind not in NUMBERS:
        raise MatError("it is damaged")
    stored = np.dtype(order + NUMBERS[element.kind])
    if len(element.content) % stored.itemsize:
        raise MatError("it is damaged")
    return np.frombuffer(element.content, dtype=stored).astype(kind, copy=False)


def _characters(element: _Element, order: str) -> Array:
    if element.kind not in TEXT_CODES:
        raise MatError("it is damaged")
    code = TEXT_CODES[element.kind]
    if code in {"utf-16", "utf-32"}:
        code += "-le" if order == "<" else "-be"
    return np.array(list(bytes(element.content).decode(code)), dtype="U1")


def _joined(characters: Array) -> Array:
    """Return one string per row; MATLAB fills shorter rows up with blanks."""
    return np.array(["".join(row).rstrip() for row in characters.tolist()], dtype=np.str_)
