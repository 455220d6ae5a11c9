"""What an evaluation writes: one folder, whole or not at all."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_shards.errors import DescriptorError

WRITTEN = {"report", "metrics", "figures", "descriptors", "submission"}
"""How the names in such a folder begin."""


def refuse_unfit(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that cannot be written or is there already; nothing is left on the disk.

    Raises:
        DescriptorError: it is, or, though it may be replaced, holds what no evaluation wrote.
    """
    with _written(folder):
        if folder.exists() and not overwrite:
            raise DescriptorError(
                f"{folder} exists; give --overwrite to replace it, or another folder with --out"
            )
        for path in folder.iterdir() if folder.exists() else ():
            if re.split(r"[._]", path.name)[0] not in WRITTEN:
                raise DescriptorError(
                    f"{path} was written by no evaluation and would be lost; give another folder "
                    "with --out"
                )
        parent = next(parent for parent in folder.absolute().parents if parent.exists())
        tempfile.TemporaryFile(dir=parent).close()


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder that takes the place of `folder` once the block has filled it.

    Raises:
        DescriptorError: for an `OSError` within.
    """
    aside = folder.with_name(f".{folder.name}.partial")
    with _written(folder):
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir(parents=True)
            yield aside
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DescriptorError(
            f"{folder} cannot be written ({error.strerror}); give another folder with --out"
        ) from error
