"""What is written, looked at before hours are spent; a folder is there whole or not at all."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_shards.errors import DescriptorError

WRITTEN = {"report", "metrics", "figures", "descriptors", "submission"}
"""How the names in such a folder begin."""


def refuse_unfit(
    path: Path, *, overwrite: bool, option: str = "--out", is_folder: bool = True
) -> None:
    """Refuse a place that cannot be written or is taken already; nothing is left on the disk.

    Raises:
        DescriptorError: it is, or, though it may be replaced, holds what no evaluation wrote.
    """
    with writing(path, option=option):
        if path.exists() and not overwrite:
            raise DescriptorError(
                f"{path} exists; give --overwrite to replace it, or another place with {option}"
            )
        for one in path.iterdir() if is_folder and path.exists() else ():
            if re.split(r"[._]", one.name)[0] not in WRITTEN:
                raise DescriptorError(
                    f"{one} was written by no evaluation and would be lost; give another place "
                    f"with {option}"
                )
        parent = next(parent for parent in path.absolute().parents if parent.exists())
        tempfile.TemporaryFile(dir=parent).close()


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder that takes the place of `folder` once the block has filled it.

    Raises:
        DescriptorError: for an `OSError` within.
    """
    aside = folder.with_name(f".{folder.name}.partial")
    with writing(folder, option="--out"):
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir(parents=True)
            yield aside
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def writing(path: Path, *, option: str) -> Iterator[None]:
    """Say in one sentence that a place cannot be written, and which option names another.

    Raises:
        DescriptorError: for an `OSError` within.
    """
    try:
        yield
    except OSError as error:
        raise DescriptorError(
            f"{path} cannot be written ({error.strerror}); give another place with {option}"
        ) from error
