"""What importing weights of others can be told."""

from dataclasses import dataclass
from pathlib import Path

from data_shards.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Write weights of BNext's, MCCG's or BiCrossNet's authors as SkyDistill reads them."""

    file: Path
    """State dict as the authors saved it: a BNext checkpoint, an MCCG teacher or a BiCrossNet
    student, which is found out."""

    out: Path
    """Weight file to be written (`.safetensors`); its card is put beside it."""

    shards: str | None = None
    """Shards of the data set that a teacher or student was trained on, whose sorted training places
    name its classes; without, they are numbered, and no student can be taught by it."""

    altitudes: tuple[float, ...] = ()
    """Heights in metres of the drone views that it was trained on (SUES-200): a student of another
    height is then refused; all heights if empty."""

    image_size: int = 384
    """Width and height in pixels of the images that a teacher or student was trained on."""

    def __post_init__(self) -> None:
        """Refuse what cannot be read again."""
        if self.out.suffix != ".safetensors":
            raise RecipeError(f"{self.out} is no name for a weight file; end it in .safetensors")
