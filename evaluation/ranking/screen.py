"""The fast, rough product: rounded descriptors and how far their scores can be from exact ones.

Descriptors x are rounded to x' of so few bits that the processor's fast matrix unit multiplies them
without loss (bfloat16 on a GPU and on a CPU with AMX; all of float32 elsewhere), and the products
are added in float32. With d = x - x', the error of a score is bounded by

    |q.g - fl(q'.g')| <= |q.g - q'.g'| + |q'.g' - fl(q'.g')|
                      <= |dq| |g| + |q'| |dg| + (D + 4) u |q'| |g'|

by Cauchy and Schwarz for the first two terms; the last is the textbook bound of a float32 sum in
any order, with u = 2^-24 for ordinary arithmetic. Matrix units may cut instead of round and drop
subnormal numbers: they get u = 2^-22. All norms are measured, not assumed, and raised by 1 % for
their own rounding; norms so small or so large that float32 might not hold a product send the pair
to exact scores (`is_bounded`). A product of bfloat16 is written as bfloat16 too, half as many
bytes to look through: once added up, s becomes v with |s - v| <= w |s|, w = 2^-8, so that
|s - v| <= 1.03 w |v| widens the bound of a score that is read (`reach`), and no score s >= t is
written below t - w |t| (`floor`; s - w |s| rises with s). Every positive is scored both ways, so
the bound is asserted where it is used.

The score that decides is one float64 dot product per pair, the same bits wherever the pair stands:
a matrix product may round equal rows differently at different places of a tile. In `exact_scores`
every product of two numbers and every sum is made in blocks of one shape, so two copies of an image
score equal bits, and a tie is a tie on any tile, shard and number of ranks.
"""

# Shapes: R = rows of descriptors, D = descriptor width, N = pairs of a query and a gallery image.

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

ROWS_AT_ONCE = {"cpu": 128}
ROWS_ELSEWHERE = 2**14
SMALLEST_NORM, LARGEST_NORM = 2.0**-30, 2.0**30
LARGEST, SMALLEST = 2.0**500, 2.0**-1000


@dataclass(frozen=True, kw_only=True)
class Screen:
    """How rough scores are made on one kind of device."""

    kind: torch.dtype
    """The numbers that are multiplied, and those that scores are written in."""

    unit: float
    """Bound of one addition's relative error."""

    written: float = 0.0
    """Bound of the relative error of writing a score, once it is added up."""

    def round(
        self, rows_RD: Tensor, *, into: Tensor | None = None, norm_R: Tensor | None = None
    ) -> "Rounded":
        """Round descriptors, into `into` if given, and measure what it costs.

        Lengths are measured unless they are given.

        Raises:
            ValueError: a descriptor is not finite, or too long to be scored even in float64.
        """
        if rows_RD.dtype == self.kind == torch.float32:
            norm_R = _believed(_lengths(rows_RD), rows_RD) if norm_R is None else norm_R
            return Rounded(value_RD=rows_RD, norm_R=norm_R, error_R=torch.zeros_like(norm_R))
        value_RD = rows_RD.new_empty(rows_RD.shape, dtype=self.kind) if into is None else into
        norms, errors = [], []
        # Filled again and again: fresh memory would cost more than the arithmetic.
        at_once = ROWS_AT_ONCE.get(rows_RD.device.type, ROWS_ELSEWHERE)
        # Half precision would tell a length below 2^-14 to few bits.
        wide_kind = torch.promote_types(rows_RD.dtype, torch.float32)
        room_RD = rows_RD[:at_once].to(wide_kind, copy=True)
        for rows, value in zip(rows_RD.split(at_once), value_RD.split(at_once), strict=True):
            wide = rows.to(wide_kind)
            if norm_R is None:
                norms.append(_lengths(wide))
            value.copy_(wide)
            errors.append(_lengths(room_RD[: len(rows)].copy_(value).sub_(wide)))
        if norm_R is None:
            norm_R = _believed(torch.cat(norms), rows_RD)
        return Rounded(value_RD=value_RD, norm_R=norm_R, error_R=torch.cat(errors))

    def reach(self, score: Tensor, margin: Tensor) -> Tensor:
        """Bound how far exact scores lie from written ones, float64, with their products' bound."""
        return torch.add(margin, score.abs(), alpha=1.03 * self.written)

    def floor(self, score: Tensor, margin: Tensor) -> Tensor:
        """Return what the written score of a pair reaches if the exact one reaches `score`."""
        lowest = score - margin
        lowest = lowest - 1.03 * self.written * lowest.abs()
        floor = lowest.to(self.kind)
        less = torch.nextafter(floor, torch.full_like(floor[:1], -torch.inf))
        floor = torch.where(floor.double() <= lowest, floor, less)
        return floor.clamp(min=torch.finfo(self.kind).min)  # -infinity is what is hidden


PLAIN = Screen(kind=torch.float32, unit=2.0**-24)
BFLOAT16 = Screen(kind=torch.bfloat16, unit=2.0**-22, written=2.0**-8)


def fastest_screen(device: torch.device) -> Screen:
    """Return the screen that a device is quickest with; results are the same with each."""
    if device.type == "cuda":
        has_unit = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        has_unit = torch.cpu.get_capabilities().get("amx_bf16", False)
    return BFLOAT16 if has_unit else PLAIN


@contextmanager
def sums_of_float32() -> Iterator[None]:
    """Add products of matrices as the bounds say, whatever torch was told to do before."""
    on_gpu = torch.backends.cuda.matmul
    before = torch.get_float32_matmul_precision(), on_gpu.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    on_gpu.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        on_gpu.allow_bf16_reduced_precision_reduction = before[1]


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """Rounded descriptors, the lengths of the true ones, and those of the differences."""

    value_RD: Tensor
    norm_R: Tensor
    error_R: Tensor

    def take(self, row_R: Tensor) -> "Rounded":
        """Return some rows, ascending; those that stand side by side are not copied."""
        begin, end = int(row_R[0]), int(row_R[-1]) + 1
        rows = slice(begin, end) if end - begin == len(row_R) else row_R
        return Rounded(
            value_RD=self.value_RD[rows], norm_R=self.norm_R[rows], error_R=self.error_R[rows]
        )


def is_bounded(norm: Tensor) -> Tensor:
    """Whether products of descriptors this long are safe in float32, underflow included."""
    return (norm >= SMALLEST_NORM) & (norm <= LARGEST_NORM)


def margins(query: Rounded, gallery: Rounded, unit: float) -> Tensor:
    """Bound the error of each query's scores against any of these gallery rows: [R] float64."""
    width = query.value_RD.shape[1]
    longest, farthest = gallery.norm_R.max(), gallery.error_R.max()
    # |x'| <= |x| + |d|; the sum of the squares of both is what the third term may grow to.
    query_R, reach = query.norm_R + query.error_R, longest + farthest
    rounding_R = query.error_R * longest + query_R * farthest
    return 1.03 * (rounding_R + (width + 4) * unit * query_R * reach)


def _believed(norm_R: Tensor, rows_RD: Tensor) -> Tensor:
    """Return the lengths of the rows, measured again in float64 where float32 may not do."""
    if bool(is_bounded(norm_R).all()):
        return norm_R
    norms = []
    for rows in rows_RD.double().split(ROWS_ELSEWHERE):  # whose squares may leave float64
        largest_R1 = rows.abs().amax(dim=1, keepdim=True).clamp(min=SMALLEST)
        norms.append(largest_R1[:, 0] * torch.linalg.vector_norm(rows / largest_R1, dim=1))
    norm_R = torch.cat(norms)
    if not bool((norm_R <= LARGEST).all()):
        raise ValueError("descriptors must be finite, and their lengths squared too")
    return norm_R


def _lengths(rows_RD: Tensor) -> Tensor:
    length_R: Tensor = torch.linalg.vector_norm(rows_RD, dim=1)
    return length_R.double()


Array = npt.NDArray[Any]
Kind = np.dtype[Any]

NUMBERS_AT_ONCE = 2**15
"""Products per block on a CPU: few enough to stay near its core."""

NUMBERS_ELSEWHERE = 2**22


def exact_scores(query_QD: Tensor, gallery_GD: Tensor, row_N: Tensor, column_N: Tensor) -> Tensor:
    """Return the float64 scores [N] of the pairs (row, column)."""
    return _scores(query_QD, gallery_GD, row_N, column_N, kind=torch.float64)


def near_scores(query_QD: Tensor, gallery_GD: Tensor, row_N: Tensor, column_N: Tensor) -> Tensor:
    """Return the scores [N] of pairs of float32 rows, added in float32: a third of the time."""
    return _scores(query_QD, gallery_GD, row_N, column_N, kind=torch.float32)


def _scores(
    query_QD: Tensor, gallery_GD: Tensor, row_N: Tensor, column_N: Tensor, *, kind: torch.dtype
) -> Tensor:
    if not len(row_N):
        return query_QD.new_empty(0, dtype=kind)
    at_once = NUMBERS_AT_ONCE if query_QD.device.type == "cpu" else NUMBERS_ELSEWHERE
    pairs = max(1, at_once // max(1, query_QD.shape[1]))
    padding = row_N.new_zeros(-len(row_N) % pairs)
    row_N, column_N = torch.cat([row_N, padding]), torch.cat([column_N, padding])
    if query_QD.device.type == "cpu":
        rows = _array(query_QD), _array(gallery_GD)
        wide = np.dtype(str(kind).removeprefix("torch."))
        score_N = torch.from_numpy(_on_cpu(*rows, row_N.numpy(), column_N.numpy(), pairs, wide))
    else:
        score_N = torch.cat(
            [
                (query_QD[row].to(kind) * gallery_GD[column].to(kind)).sum(dim=1)
                for row, column in zip(row_N.split(pairs), column_N.split(pairs), strict=True)
            ]
        )
    return score_N[: len(score_N) - len(padding)]


def _on_cpu(
    query_QD: Array, gallery_GD: Array, row_N: Array, column_N: Array, pairs: int, kind: Kind
) -> Array:
    """Score blocks of `pairs`, all full; einsum adds each row in one order, on one thread."""
    score_N = np.empty(len(row_N), kind)
    # The buffers are filled again and again: fresh memory would cost more than the arithmetic.
    left, right = _Gathered(query_QD, pairs, kind), _Gathered(gallery_GD, pairs, kind)
    for begin in range(0, len(row_N), pairs):
        part = slice(begin, begin + pairs)
        np.einsum("nd,nd->n", left.take(row_N[part]), right.take(column_N[part]), out=score_N[part])
    return score_N


class _Gathered:
    """Rows of a table, brought together and widened in buffers."""

    def __init__(self, rows_RD: Array, pairs: int, kind: Kind) -> None:
        self._rows_RD = rows_RD
        self._taken = np.empty((pairs, rows_RD.shape[1]), rows_RD.dtype)
        self._wide = self._taken if rows_RD.dtype == kind else np.empty_like(self._taken, kind)

    def take(self, row_N: Array) -> Array:
        """Return the rows, good until the next ones."""
        # "clip" writes into `out` at once; the indices are never outside.
        np.take(self._rows_RD, row_N, axis=0, out=self._taken, mode="clip")
        if self._wide is not self._taken:
            self._wide[:] = self._taken
        return self._wide


def _array(rows_RD: Tensor) -> Array:
    """Return the rows as numpy has them, which has no bfloat16."""
    array: Array = (rows_RD.float() if rows_RD.dtype == torch.bfloat16 else rows_RD).numpy()
    return array
