"""Text that people write: recipes, splits, tables and lists, saved by whatever editor they have."""

from pathlib import Path


def read_text(path: Path) -> str:
    """Return a file's text, without the byte-order mark that editors of Windows put first.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    return path.read_text(encoding="utf-8-sig")
