"""One image of one place: what it is called, what is known of it, and the schema version."""

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from pathlib import Path
from unicodedata import normalize

SCHEMA_VERSION = 2
"""Raised whenever key, JSON, index or manifest change meaning; readers refuse another version."""

IMAGE_SUFFIXES = {".jpg": "jpg", ".jpeg": "jpg", ".png": "png", ".webp": "webp"}
"""File suffix, lower case, to the suffix used in the tar."""


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
        """Suffix of the image in the tar: `jpg`, `png` or `webp`."""
        return IMAGE_SUFFIXES[self.path[self.path.rfind(".") :].lower()]

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
    """What a user called it; where nothing was said, shards are called after the raw folder."""

    split: str = "folders"
    """What decided which places train: `folders`, `official`, or the name of a split file."""

    deviations: tuple[str, ...] = ()
    """How the counts differ from those published, one sentence each; never hidden."""

    compared: str = ""
    """Digest of the files that were read and found equal, so that the next run need not."""

    coordinates: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Place to (latitude, longitude) in degrees, WGS 84; of as many places as are known."""
