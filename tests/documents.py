"""The fenced blocks of README.md and docs/: commands as words, and files that a reader saves."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(document: Path) -> list[tuple[str, str]]:
    """Return language and text of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(), re.S | re.M)


def commands(text: str) -> list[list[str]]:
    """Return the commands of a block of `sh`, as words."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def file_named_in(text: str) -> str | None:
    """Return the path that the first line of a block names, where it is a file to be saved."""
    named = re.match(r"# ([\w./]+\.(?:yaml|env))\b", text)
    return named[1] if named else None
