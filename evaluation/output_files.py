"""Files that an evaluation writes: looked at before anything is described, whole or not at all."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from data_shards.errors import DescriptorError


def refuse_unfit(files: Mapping[Path, str], *, overwrite: bool) -> None:
    """Refuse files that cannot be written, or are there already; nothing is left on the disk.

    Args:
        files: each with the option that would name another place, such as `--out`.
        overwrite: whether files that are there may be replaced.

    Raises:
        DescriptorError: the first of them.
    """
    for path, option in files.items():
        with writing(path, option=option):
            if path.is_dir() or (path.exists() and not overwrite):
                raise DescriptorError(
                    f"{path} exists; give --overwrite to replace it, or another place with {option}"
                )
            folder = next(parent for parent in path.absolute().parents if parent.exists())
            tempfile.TemporaryFile(dir=folder).close()


@contextmanager
def writing(path: Path, *, option: str) -> Iterator[None]:
    """Say in one sentence that a file cannot be written, and which option names another place.

    Raises:
        DescriptorError: for an `OSError` within.
    """
    try:
        yield
    except OSError as error:
        raise DescriptorError(
            f"{path} cannot be written ({error.strerror}); give another place with {option}"
        ) from error
