"""Galleries read a block at a time, larger than memory if need be, or a part on each rank."""

# Shapes: G = gallery images, B = images of a block, D = descriptor width.

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar, cast
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import torch
from torch import Tensor

KINDS = {
    np.dtype("<f2"): torch.float16,
    np.dtype("<f4"): torch.float32,
    np.dtype("<f8"): torch.float64,
}
NPZ_LOCAL_HEADER = struct.Struct("<26xHH")


class Gallery(Protocol):
    """Labels in memory, descriptors wherever they are."""

    labels_G: Tensor
    """One integer per image; -1 is junk."""

    width: int
    """Numbers per descriptor."""

    def read(self, rows: slice) -> Tensor:
        """Return the descriptors [B, D] of consecutive images, good until the next read."""


class InMemory:
    """The gallery that is a tensor."""

    def __init__(self, gallery_GD: Tensor, labels_G: Tensor) -> None:
        if gallery_GD.ndim != 2:
            raise ValueError(f"a gallery must be [G, D]; it is {tuple(gallery_GD.shape)}")
        if labels_G.shape != gallery_GD.shape[:1]:
            raise ValueError("there must be one label per query and one per gallery image")
        self._gallery_GD = gallery_GD
        self.labels_G = labels_G
        self.width = gallery_GD.shape[1]

    def read(self, rows: slice) -> Tensor:
        """Return a view of the tensor."""
        return self._gallery_GD[rows]


class OnDisk:
    """Rows of float16, float32 or float64 in a file, read into one buffer used again and again.

    Reading, not mapping: mapped pages would count as this process's memory as long as they stay.
    """

    def __init__(
        self, path: Path, labels_G: Tensor, *, shape: tuple[int, ...], dtype: str, offset: int = 0
    ) -> None:
        kind = np.dtype(dtype)
        if len(shape) != 2 or kind not in KINDS:
            raise ValueError(f"{path} must hold floats [G, D]; it holds {kind} {list(shape)}")
        if labels_G.shape != shape[:1]:
            raise ValueError(
                f"{path} holds {shape[0]} images, and there are {len(labels_G)} labels"
            )
        self.path, self.labels_G, self.width = path, labels_G, shape[1]
        self._offset, self._kind = offset, kind
        needed = offset + shape[0] * self._bytes_per_row
        if path.stat().st_size < needed:
            raise ValueError(f"{path} is cut short: it should have {needed} bytes; copy it again")
        self._buffer = torch.empty(0, shape[1], dtype=KINDS[kind])

    @property
    def _bytes_per_row(self) -> int:
        return self.width * self._kind.itemsize

    @classmethod
    def npy(cls, path: Path, labels_G: Tensor) -> "OnDisk":
        """Open a `.npy` file, or `FILE.npz/MEMBER` of an uncompressed archive."""
        member = None
        if path.parent.suffix.lower() == ".npz":
            with ZipFile(path.parent) as archive:
                if f"{path.name}.npy" not in (names := archive.namelist()):
                    raise ValueError(f"{path.parent} holds no {path.name}; it holds {names}")
                member = archive.getinfo(f"{path.name}.npy")
            if member.compress_type != ZIP_STORED:
                raise ValueError(f"{path} is compressed; save it with numpy.savez")
        real_path = path.parent if member else path
        with real_path.open("rb") as file:
            if member:
                file.seek(member.header_offset)
                name, extra = NPZ_LOCAL_HEADER.unpack(file.read(NPZ_LOCAL_HEADER.size))
                file.seek(name + extra, 1)
            is_first = np.lib.format.read_magic(file) == (1, 0)
            header = np.lib.format.read_array_header_1_0 if is_first else None
            shape, is_fortran, kind = (header or np.lib.format.read_array_header_2_0)(file)
            offset = file.tell()
        if is_fortran:
            raise ValueError(f"{path} is stored column by column; save it row by row")
        return cls(real_path, labels_G, shape=shape, dtype=kind.str, offset=offset)

    def read(self, rows: slice) -> Tensor:
        """Read the rows from the file."""
        start, stop, _ = rows.indices(len(self.labels_G))
        if stop - start > len(self._buffer):
            self._buffer = torch.empty(stop - start, self.width, dtype=self._buffer.dtype)
        block_BD = self._buffer[: stop - start]
        if not len(block_BD):
            return block_BD
        view = block_BD.numpy().data.cast("B")
        with self.path.open("rb", buffering=0) as file:
            file.seek(self._offset + start * self._bytes_per_row)
            done = 0
            while done < len(view):
                got = file.readinto(view[done:])
                if not got:
                    raise ValueError(f"{self.path} ended early: it was cut while it was read")
                done += got
        return block_BD


class Exchange(Protocol):
    """Meetings of all ranks, the same on each; every rank comes to all of them."""

    def gather(self, part: Tensor) -> Tensor:
        """Concatenate every rank's tensor [any, ...] in the order of ranks."""

    def sum(self, part: Tensor) -> Tensor:
        """Add every rank's integers, exactly."""

    def first_problem(self, problem: str | None) -> str | None:
        """Return the problem of the lowest rank that has one, the same on every rank."""


class LocalExchange:
    """The exchange of one process."""

    def gather(self, part: Tensor) -> Tensor:
        """Return the only part there is."""
        return part

    def sum(self, part: Tensor) -> Tensor:
        """Return the only summand there is."""
        return part

    def first_problem(self, problem: str | None) -> str | None:
        """Return the only problem there is."""
        return problem


T = TypeVar("T")

FAILURES = (ValueError, OSError, RuntimeError, MemoryError, AssertionError)
"""What a rank tells the others before it ends, or they would wait for it."""


def work_together(exchange: Exchange, work: Callable[[], T]) -> T:
    """Do this rank's work; when a rank's fails, all raise its error instead of waiting for it.

    Raises:
        ValueError: that of the lowest rank that failed, whatever kind of error it was there.
        Exception: this rank's own, where it is of another kind.
    """
    problem, own, done = None, None, None
    try:
        done = work()
    except FAILURES as error:
        own, problem = error, str(error) or type(error).__name__
    problem = exchange.first_problem(problem)
    if own is not None and not isinstance(own, ValueError):
        raise own
    if problem is not None:
        raise ValueError(problem)
    return cast(T, done)
