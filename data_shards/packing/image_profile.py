"""What becomes of an image file on its way into a shard: kept byte for byte, or resized once."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

CHROMA = "420"
"""Colour at half the resolution, as every camera and both public data sets store it."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Original bytes, or JPEGs of one size; stands in the manifest, so that no cache mixes them."""

    image_size: int = 0
    """Width and height of every stored image in pixels; 0 keeps the original bytes."""

    quality: int = 95
    """JPEG quality of resized images."""

    resampling: str = "lanczos"
    """Filter of the one resize; antialiased, on uint8, by Pillow."""

    @property
    def keeps_bytes(self) -> bool:
        """Whether images are stored as they are."""
        return self.image_size == 0

    @property
    def choice(self) -> dict[str, Any]:
        """What a user chose, as it stands in the manifest."""
        if self.keeps_bytes:
            return {"bytes": "original"}
        return {
            "bytes": "resized",
            "image_size": self.image_size,
            "quality": self.quality,
            "resampling": f"pillow-{self.resampling}",
            "chroma": CHROMA,
        }

    @property
    def facts(self) -> dict[str, Any]:
        """The choice, and the libraries whose versions decide the bytes of resized images."""
        if self.keeps_bytes:
            return self.choice
        libraries = {name: version(name) for name in ("pillow", "simplejpeg")}
        return self.choice | {"libraries": libraries}


def chosen(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a manifest's profile that a user chose: all but the libraries."""
    return {name: value for name, value in facts.items() if name != "libraries"}
