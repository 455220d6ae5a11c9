"""One image of one place: what it is called, what is known of it, and the schema version."""

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from pathlib import Path
from unicodedata import normalize

SCHEMA_VERSION = 2
"""Raised whenever key, JSON, index or manifest change meaning; readers refuse another version."""

IMAGE_SUFFIXES = {".jpg": "jpg", ".jpeg": "jpg", ".png": "png", ".webp": "webp"}
"""Suffix of an image in a tar, lower case, to the one that we give it."""


class View(IntEnum):
    """Where a picture was taken from."""

    word: str
    """The view as it stands in keys, JSON and file names."""

    SATELLITE = 0
    DRONE = 1
    STREET = 2
    GOOGLE = 3
    """Street photographs that University-1652 found by an image search; noisy."""

    def __init__(self, _: int) -> None:
        self.word = self.name.lower()  # once: keys of many images are made of it


class Role(IntFlag):
    """What an image is used for; a test image can be query and gallery at once."""

    TRAIN = 1
    QUERY = 2
    GALLERY = 4

    @property
    def words(self) -> list[str]:
        """The roles as they stand in JSON."""
        return [role.name.lower() for role in Role if role & self and role.name]


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a camera was, and where it looked; what is not known is None."""

    lat: float | None = None
    lon: float | None = None
    """Degrees, WGS 84; both or neither."""

    altitude_m: float | None = None
    """Metres above ground: to be exact above the point of take-off, which is what a drone knows."""

    heading_deg: float | None = None
    """Where the camera looks, and straight down where the top of the photograph points: from north,
    clockwise, 0 to 360."""

    gimbal_pitch_deg: float | None = None
    """-90 straight down, 0 to the horizon."""


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One image file of a raw data set, as a layout found it."""

    place: str
    """Identifier of the location, as the folder is called."""

    view: View
    roles: Role

    position: int
    """Place on the flight or in the folder, counted from 1."""

    altitude_m: float | None
    """Height of the drone above ground in metres, where the data set tells it."""

    path: str
    """File to read; text, because a `Path` of every image takes as long as to list the folders."""

    name: str
    """Last part of the key: the file's stem without dots, unique within place and view."""

    camera: Position | None = None
    """Where a table or the data set says that it was taken; goes before what stands in the file."""

    def __post_init__(self) -> None:
        """Write the place as one: `é` is two letters where a Mac made a folder, one elsewhere."""
        if not self.place.isascii():
            object.__setattr__(self, "place", normalize("NFC", self.place))

    @property
    def key(self) -> str:
        """WebDataset key: `PLACE/VIEW/NAME`."""
        return f"{self.place}/{self.view.word}/{self.name}"

    @property
    def suffix(self) -> str:
        """Suffix of the file in lower case, in which `jpeg` is `jpg`."""
        suffix = self.path[self.path.rfind(".") :].lower()
        return IMAGE_SUFFIXES.get(suffix, suffix[1:])

    @property
    def source(self) -> Path:
        return Path(self.path)


@dataclass(frozen=True, kw_only=True)
class RawDataset:
    """What a layout found in a raw folder."""

    layout: str
    """Name of the layout, detected or told: `university1652`, `sues200`."""

    records: tuple[ImageRecord, ...]
    """Every image, sorted by key."""

    name: str = ""
    """What a user called it, if anything was said."""

    folder: str = ""
    """The raw folder, after which shards are called where nothing was said."""

    split: str = "folders"
    """What decided which places train: `folders`, `official`, or the name of a split file."""

    deviations: tuple[str, ...] = ()
    """How the counts differ from those published, one sentence each; never hidden."""

    files: frozenset[str] = frozenset()
    """Paths of all that were taken, so that others can be named."""

    left_out: str = ""
    """What was not taken, with counts per reason; empty for nothing."""

    compared: str = ""
    """Digest of the files that were read and found equal, so that the next run need not."""

    coordinates: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Place to (latitude, longitude) in degrees, WGS 84; of as many places as are known."""
