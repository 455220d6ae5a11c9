"""Places on the ground: pixels of a map to degrees and metres; the only file that speaks pyproj."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError

Numbers = npt.NDArray[np.float64]
Place = tuple[float, float]
"""(Latitude, longitude) in degrees, WGS 84."""

GEOD = Geod(ellps="WGS84")


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A coordinate system, and how pixels lie in it."""

    crs: str
    """As WKT or PROJ text."""

    matrix: tuple[float, ...]
    """`x = a * column + b * row + c`, `y = d * column + e * row + f`."""

    @cached_property
    def _to_degrees(self) -> Transformer:
        return Transformer.from_crs(CRS.from_user_input(self.crs), 4326, always_xy=True)

    @property
    def leads_to_degrees(self) -> bool:
        """False for the grid of a building site, whose place on the Earth is not told."""
        try:
            return bool(self._to_degrees)
        except ProjError:
            return False

    def xy(self, pixel_N2: npt.ArrayLike) -> Numbers:
        """Return coordinates in its system [N, 2] of (column, row) [N, 2]."""
        column, row = np.atleast_2d(np.asarray(pixel_N2, dtype=np.float64)).T
        a, b, c, d, e, f = self.matrix
        return np.column_stack([a * column + b * row + c, d * column + e * row + f])

    def pixel(self, xy_N2: Numbers) -> Numbers:
        """Return (column, row) [N, 2] of coordinates in its system [N, 2]."""
        a, b, c, d, e, f = self.matrix
        return np.asarray(np.linalg.solve([[a, b], [d, e]], (xy_N2 - (c, f)).T).T)

    def lat_lon(self, pixel_N2: npt.ArrayLike) -> Numbers:
        """Return (latitude, longitude) in degrees [N, 2] of (column, row) [N, 2].

        Longitudes are -180 to below 180; what lies off the Earth is not a number.
        """
        lon, lat = self._to_degrees.transform(*self.xy(pixel_N2).T)
        degrees = np.column_stack([lat, lon])
        degrees[~np.isfinite(degrees)] = np.nan
        degrees[:, 1] = (degrees[:, 1] + 180) % 360 - 180
        return degrees

    def scale(self, column: float, row: float) -> tuple[float, float, float]:
        """Return metres on the ground per column and per row at a pixel, and where its top points.

        The last in degrees from north, clockwise: -180 to 180.
        """
        here, right, below = self.lat_lon([(column, row), (column + 1, row), (column, row + 1)])
        across_m, along_m = distance_m(here, [right, below])
        top_deg, *_ = GEOD.inv(below[1], below[0], here[1], here[0])
        return float(across_m), float(along_m), float(top_deg)


def ground_here(place: Place, *, width: int, height: int, footprint_m: float) -> Ground:
    """Return how a picture lies that looks straight down, north up, its width on the ground."""
    metres = footprint_m / width
    crs = f"+proj=aeqd +lat_0={place[0]!r} +lon_0={place[1]!r} +datum=WGS84 +units=m"
    matrix = (metres, 0.0, -footprint_m / 2, 0.0, -metres, metres * height / 2)
    return Ground(crs=crs, matrix=matrix)


def distance_m(from_N2: npt.ArrayLike, to_N2: npt.ArrayLike) -> Numbers:
    """Return metres on the ellipsoid between pairs of (latitude, longitude) in degrees [N]."""
    one, other = np.broadcast_arrays(np.atleast_2d(from_N2), np.atleast_2d(to_N2))
    return np.asarray(GEOD.inv(one[:, 1], one[:, 0], other[:, 1], other[:, 0])[2])


def in_metres(lat_lon_N2: npt.ArrayLike, *, around: Place) -> Numbers:
    """Return (east, north) in metres [N, 2] of (latitude, longitude), seen from `around`."""
    lat, lon = np.atleast_2d(np.asarray(lat_lon_N2, dtype=np.float64)).T
    from_lat, from_lon = (np.full(len(lat), angle) for angle in around)
    azimuth, _, metres = GEOD.inv(from_lon, from_lat, lon, lat)
    towards = np.array([np.sin(np.radians(azimuth)), np.cos(np.radians(azimuth))])
    return np.asarray((towards * metres).T)
