"""What indexing and querying a map can be told. No torch: a login node reads this in a blink."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_shards.config import bounded, refuse_out_of_bounds
from data_shards.errors import RecipeError

Rotations = Literal[1, 2, 4, 8]
"""Directions in which a photograph is looked for; each number divides the next."""

OWN_PLACE = "photo"
"""What `--near` is told for the GPS of each photograph."""

DEGREES = re.compile(r"\s*([-+]?\d+(?:\.\d*)?)\s*,\s*([-+]?\d+(?:\.\d*)?)\s*")


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Maps cut into overlapping tiles and described, for `skydistill query`.

    Killed and started again it goes on; another map is added to those that are there.
    """

    maps: tuple[Path, ...] = ()
    """GeoTIFF or whatever else GDAL reads, MBTiles, a folder of them, or a folder of tiles with a
    tiles.csv of file,latitude,longitude,footprint_m."""

    out: Path
    """Folder of the index."""

    checkpoint: Path
    """Run folder of a finished training, or a weight file (`.safetensors`)."""

    footprint_m: tuple[float, ...] = bounded((40.0, 80.0, 160.0), at_least=1, at_most=1e6)
    """Sides of the tiles on the ground, in metres: about what photographs show."""

    overlap: float = bounded(0.5, at_least=0, at_most=0.9)
    """Part of a tile that the next one shows again."""

    codec: Literal["float16", "int8"] = "float16"
    """How numbers of descriptors are kept."""

    image_size: int = bounded(0, at_least=0, at_most=4096)
    """Width and height of model inputs in pixels; 0 takes the size the model was trained at."""

    calibrate: str = ""
    """Shards, a folder or an address, on whose test pairs the confidence is calibrated; by default
    those of the model's training, where their folder is still there."""

    batch_size: int = bounded(64, at_least=1)
    """Tiles described at once."""

    threads: int = bounded(0, at_least=0, at_most=4096)
    """Threads that read the map; 0 means one per processor."""

    def __post_init__(self) -> None:
        """Refuse numbers with which no map can be cut, and none to cut."""
        refuse_out_of_bounds(self)
        if not self.maps:
            raise RecipeError("say which map: skydistill index MAP OUT --checkpoint RUN")


@dataclass(frozen=True, kw_only=True)
class QueryConfig:
    """Where photographs were taken: the most similar tiles of an index, and how sure that is."""

    index: Path
    """Folder that `skydistill index` made."""

    photos: tuple[Path, ...] = ()
    """Photographs, or folders of them."""

    checkpoint: Path | None = None
    """The model of the index, where it is no longer where it was."""

    near: str = ""
    """Look only around LATITUDE,LONGITUDE, or around the GPS of each photograph: `photo`."""

    within: float = bounded(500.0, at_least=1, at_most=1e7)
    """Metres around `--near`."""

    rotations: Rotations | None = None
    """Directions in which a photograph may lie on the map; by default 8, and 1 where it says which
    way it looks."""

    altitude_m: float = bounded(0.0, at_least=0, at_most=1e5)
    """Height above ground, where photographs do not say theirs; with the field of view it tells
    which footprint to look among. 0 is unknown."""

    fov_deg: float = bounded(0.0, at_least=0, at_most=170)
    """Horizontal field of view of the camera, where photographs do not say theirs; 0 is unknown."""

    top: int = bounded(5, at_least=1)
    """Places to answer with, best first."""

    refine: bool = False
    """Match the best places pixel by pixel with the map: the answer becomes the ground position of
    the photograph's centre, its footprint, and an estimate of the error."""

    least_confidence: float = bounded(0.5, at_least=0, at_most=1)
    """An answer less sure than this is called "not on this map"."""

    truth: Path | None = None
    """CSV file of photo,latitude,longitude: where photographs show the ground; errors are told."""

    json: bool = False
    """Print all as one JSON line, and nothing else, on standard output."""

    csv: Path | None = None
    """File for a table, a line per photograph."""

    geojson: Path | None = None
    """File for points, footprints and tiles, as GIS programs read them."""

    kml: Path | None = None
    """The same for Google Earth."""

    panels: Path | None = None
    """Folder for a picture per photograph: beside it the tiles it is most like, with score, place
    and side."""

    html: Path | None = None
    """File for one page that needs no network: map, places, tiles found."""

    overwrite: bool = False
    """Replace those files where they are there already."""

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        refuse_out_of_bounds(self)
        if not self.photos:
            raise RecipeError("say which photographs: skydistill query INDEX PHOTO...")
        if self.near not in ("", OWN_PLACE) and not self.near_degrees:
            raise RecipeError(
                f"--near {self.near!r} must be LATITUDE,LONGITUDE in degrees, or {OWN_PLACE}"
            )

    @property
    def near_degrees(self) -> tuple[float, float] | None:
        """The place of `--near`, if it names one."""
        found = DEGREES.fullmatch(self.near)
        lat, lon = (float(found[1]), float(found[2])) if found else (91, 0)
        return (lat, lon) if abs(lat) <= 90 and abs(lon) <= 180 else None
