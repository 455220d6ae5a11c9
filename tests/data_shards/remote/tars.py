"""Which tars have come."""

from pathlib import Path


def tars_in(folder: Path) -> set[str]:
    """Return the names of the tars in a folder."""
    return {path.name for path in folder.glob("*.tar")}
