"""The square raster that a place is drawn on: x to the east, y to the north, row 0 in the north."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
AnyArray = NDArray[Any]
Metres = TypeVar("Metres", float, AnyArray)


@dataclass(frozen=True, kw_only=True)
class Rect:
    """A rectangle in the ground plane, its long axes turned by `angle_rad` from east to north."""

    x_m: float
    y_m: float
    half_u_m: float
    half_v_m: float
    angle_rad: float

    def at(self, u_m: Metres, v_m: Metres) -> tuple[Metres, Metres]:
        """Return the (x, y) of a point, or of arrays of points, given in the rectangle's axes."""
        cos, sin = float(np.cos(self.angle_rad)), float(np.sin(self.angle_rad))
        return self.x_m + u_m * cos - v_m * sin, self.y_m + u_m * sin + v_m * cos

    def part(self, u_m: float, v_m: float, half_u_m: float, half_v_m: float) -> "Rect":
        """Return a smaller rectangle of the same direction, placed in this one's axes."""
        x_m, y_m = self.at(u_m, v_m)
        return Rect(
            x_m=x_m, y_m=y_m, half_u_m=half_u_m, half_v_m=half_v_m, angle_rad=self.angle_rad
        )


@dataclass(frozen=True)
class Window:
    """The cells around a rectangle, with their coordinates in its axes."""

    rows: slice
    cols: slice
    u_m: Floats
    v_m: Floats

    @property
    def box(self) -> tuple[slice, slice]:
        """The slices that cut this window out of a whole raster."""
        return self.rows, self.cols

    def inside(self, half_u_m: float, half_v_m: float) -> Mask:
        """Tell which cells lie within a centred rectangle of these half sizes."""
        return (np.abs(self.u_m) <= half_u_m) & (np.abs(self.v_m) <= half_v_m)

    def cover(self, half_u_m: float, half_v_m: float, *, cell_m: float) -> Floats:
        """Return the share of every cell that a centred rectangle covers, roughly."""
        from_u, from_v = half_u_m - np.abs(self.u_m), half_v_m - np.abs(self.v_m)
        cover: Floats = np.clip(np.minimum(from_u, from_v) / np.float32(cell_m) + 0.5, 0, 1)
        return cover.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Grid:
    """`cells` x `cells` squares of `cell_m` metres, centred on the place."""

    cells: int
    cell_m: float

    @property
    def half_m(self) -> float:
        return 0.5 * self.cells * self.cell_m

    @cached_property
    def x_m(self) -> Floats:
        """East coordinate of every column, as a row vector."""
        axis = (np.arange(self.cells) + 0.5) * self.cell_m - self.half_m
        return axis.astype(np.float32)[None, :]

    @cached_property
    def y_m(self) -> Floats:
        """North coordinate of every row, as a column vector."""
        return np.ascontiguousarray(-self.x_m.T)

    def turned(self, angle_rad: float) -> tuple[Floats, Floats]:
        """Return the coordinates of all cells in axes turned by `angle_rad`."""
        cos, sin = np.float32(np.cos(angle_rad)), np.float32(np.sin(angle_rad))
        return self.x_m * cos + self.y_m * sin, self.y_m * cos - self.x_m * sin

    def window(self, rect: Rect, *, margin_m: float = 0.0) -> Window:
        """Cut out the cells around `rect`; a rectangle outside the grid gives an empty window."""
        reach_m = float(np.hypot(rect.half_u_m, rect.half_v_m)) + margin_m
        cols = self._span(rect.x_m, reach_m)
        rows = self._span(-rect.y_m, reach_m)
        dx_m, dy_m = self.x_m[:, cols] - rect.x_m, self.y_m[rows] - rect.y_m
        cos, sin = np.float32(np.cos(rect.angle_rad)), np.float32(np.sin(rect.angle_rad))
        return Window(rows, cols, dx_m * cos + dy_m * sin, dy_m * cos - dx_m * sin)

    def _span(self, centre_m: float, reach_m: float) -> slice:
        first = int((centre_m - reach_m + self.half_m) / self.cell_m)
        last = int((centre_m + reach_m + self.half_m) / self.cell_m) + 1
        first = min(max(first, 0), self.cells)
        return slice(first, min(max(last, first), self.cells))

    def index(self, x_m: AnyArray, y_m: AnyArray) -> Indices:
        """Return the flat index of the cell that holds each point, clamped to the grid."""
        scale = 1.0 / self.cell_m
        col = np.clip(((x_m + self.half_m) * scale).astype(np.int32), 0, self.cells - 1)
        row = np.clip(((self.half_m - y_m) * scale).astype(np.int32), 0, self.cells - 1)
        return row * np.int64(self.cells) + col

    def interpolate(self, field: Floats, x_m: Floats, y_m: Floats) -> Floats:
        """Read a flat field, or each of several (channels, cells), between cell centres."""
        col = np.clip((x_m + self.half_m) / self.cell_m - 0.5, 0, self.cells - 1.001)
        row = np.clip((self.half_m - y_m) / self.cell_m - 0.5, 0, self.cells - 1.001)
        col0, row0 = col.astype(np.int32), row.astype(np.int32)
        fc, fr = (col - col0).astype(np.float32), (row - row0).astype(np.float32)
        flat = row0 * np.int64(self.cells) + col0
        corners = (flat, flat + 1, flat + self.cells, flat + self.cells + 1)
        weights = ((1 - fc) * (1 - fr), fc * (1 - fr), (1 - fc) * fr, fc * fr)
        planes = field.reshape(-1, self.cells**2)
        between = np.zeros((len(planes), *flat.shape), np.float32)
        for plane, values in zip(between, planes, strict=True):
            for corner, weight in zip(corners, weights, strict=True):
                plane += values.take(corner) * weight
        return between.reshape(*field.shape[:-1], *flat.shape)


def stamp(
    grid: Grid, x_m: Floats, y_m: Floats, *, reach_m: float
) -> tuple[Indices, Floats, Floats]:
    """Return the cells around many points: flat indices, and offsets east and north of each point.

    The results have shape (points, k, k); cells beyond the edge are folded onto it.
    """
    reach = int(np.ceil(reach_m / grid.cell_m))
    around = np.arange(-reach, reach + 1)
    col = np.floor((x_m + grid.half_m) / grid.cell_m).astype(np.int64)[:, None] + around
    row = np.floor((grid.half_m - y_m) / grid.cell_m).astype(np.int64)[:, None] + around
    col, row = np.clip(col, 0, grid.cells - 1), np.clip(row, 0, grid.cells - 1)
    east = grid.x_m[0, col] - x_m[:, None]
    north = grid.y_m[row, 0] - y_m[:, None]
    flat = row[:, :, None] * grid.cells + col[:, None, :]
    shape = flat.shape
    east_full = np.broadcast_to(east[:, None, :], shape)
    return flat, east_full, np.broadcast_to(north[:, :, None], shape)
