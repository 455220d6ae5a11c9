"""One image of one place: what it is called, what is known of it, and the schema version."""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path

SCHEMA_VERSION = 1
"""Raised whenever key, JSON, index or manifest change meaning; readers refuse another version."""

IMAGE_SUFFIXES = {".jpg": "jpg", ".jpeg": "jpg", ".png": "png"}
"""File suffix, lower case, to the suffix used in the tar."""


class View(IntEnum):
    """Where a picture was taken from."""

    SATELLITE = 0
    DRONE = 1
    STREET = 2

    @property
    def word(self) -> str:
        """The view as it stands in keys, JSON and file names."""
        return self.name.lower()


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

    source: Path
    """File to read."""

    name: str
    """Last part of the key: the file's stem without dots, unique within place and view."""

    @property
    def key(self) -> str:
        """WebDataset key: `PLACE/VIEW/NAME`."""
        return f"{self.place}/{self.view.word}/{self.name}"

    @property
    def suffix(self) -> str:
        """Suffix of the image in the tar: `jpg` or `png`."""
        return IMAGE_SUFFIXES[self.source.suffix.lower()]
