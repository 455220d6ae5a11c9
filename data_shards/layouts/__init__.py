"""Raw folders in, image records out: one module per public data set."""

from collections.abc import Callable
from pathlib import Path

from data_shards.errors import LayoutError
from data_shards.layouts.university1652 import read_university1652
from data_shards.nearest import choose
from data_shards.schema import ImageRecord

LAYOUTS: dict[str, Callable[[Path], list[ImageRecord]]] = {
    "university1652": read_university1652,
}
"""Name of a layout to the function that reads it."""


def read_layout(raw: Path, *, layout: str) -> list[ImageRecord]:
    """List every image below `raw`, sorted by key.

    Raises:
        LayoutError: the layout is unknown, or the folders are not in it or not readable.
    """
    read = LAYOUTS[choose(layout, LAYOUTS, what="layout", error=LayoutError)]
    if not raw.is_dir():
        raise LayoutError(f"{raw} is not a folder; give the folder that holds train/ and test/")
    try:
        return sorted(read(raw), key=lambda record: record.key)
    except OSError as error:
        raise LayoutError(
            f"{error.filename} cannot be read ({error.strerror}); make it readable or remove it"
        ) from error
