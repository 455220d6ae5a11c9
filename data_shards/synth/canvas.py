"""A place while it is being built: layers that roads, buildings and gardens are painted into."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data_shards.synth.grid import AnyArray, Floats, Grid, Mask, Rect, Window
from data_shards.synth.materials import Surface, SurfaceTable


@dataclass(frozen=True, kw_only=True)
class Facade:
    """The walls of one building."""

    angle_rad: float
    base_m: float
    storey_m: float
    bay_m: float
    window_width: float
    """Share of a bay that is glass; 1 gives ribbons."""

    window_height: float
    wall: tuple[float, float, float]
    glass: tuple[float, float, float]


@dataclass
class Canvas:
    """Rasters of height, surface and building number, and the lists that belong to them."""

    grid: Grid
    ground_m: Floats
    height_m: Floats
    surface: NDArray[np.int32]
    building: NDArray[np.int16]
    table: SurfaceTable = field(default_factory=SurfaceTable)
    facades: list[Facade] = field(default_factory=list)
    stalls: list[Floats] = field(default_factory=list)
    """Groups of (x_m, y_m, angle_rad, chance that a car stands there)."""

    street_trees: list[Floats] = field(default_factory=list)
    """Groups of (x_m, y_m)."""

    @classmethod
    def on(cls, grid: Grid, ground_m: Floats) -> "Canvas":
        shape = ground_m.shape
        surface, building = np.zeros(shape, np.int32), np.zeros(shape, np.int16)
        return cls(grid, ground_m, ground_m.copy(), surface, building)

    def paint(self, window: Window, mask: Mask, surface: Surface) -> int:
        """Give the masked cells of a window a new surface and return its number."""
        number = self.table.add(surface)
        self.surface[window.box][mask] = number
        return number

    def fill(self, rect: Rect, surface: Surface) -> None:
        """Give a rectangle a new surface."""
        window = self.grid.window(rect)
        self.paint(window, window.inside(rect.half_u_m, rect.half_v_m), surface)

    def raise_to(self, window: Window, cover: Floats | Mask, top_m: Floats, number: int) -> None:
        """Raise cells to `top_m` where they are lower, and paint what was raised.

        A cell that is covered by half is raised by half, so that edges are finer than cells.
        """
        height = self.height_m[window.box]
        rise_m = (top_m - height) * cover
        higher = rise_m > 0
        height[higher] += rise_m[higher]
        self.surface[window.box][higher & (cover > 0.5)] = number

    def mark_stalls(self, x_m: AnyArray, y_m: AnyArray, *, angle_rad: float, chance: float) -> None:
        """Note where cars may stand, all pointing one way."""
        columns = np.broadcast_arrays(x_m, y_m, angle_rad, chance)
        self.stalls.append(np.stack([column.ravel() for column in columns], 1).astype(np.float32))

    def is_free(self, rect: Rect) -> bool:
        """Tell whether no building stands in a rectangle that lies at least partly on the grid."""
        window = self.grid.window(rect)
        inside = window.inside(rect.half_u_m, rect.half_v_m)
        return bool(inside.any()) and not bool(self.building[window.box][inside].any())
