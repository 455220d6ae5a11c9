"""What is written, looked at before hours are spent; a folder is there whole or not at all."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_shards.errors import DescriptorError

ROW = "[a-z]+2[a-z]+(_[0-9]+m)?"
"""A search, as names of files have it: `d2s`, `s2d_150m`."""

WRITTEN = re.compile(
    rf"report\.(json|md|tex)|metrics\.json|submission(_{ROW})?\.txt"
    rf"|descriptors/({ROW}|pytorch_result)\.mat"
    rf"|figures/(retrieval_{ROW}|heat_maps|condition_images)\.png"
    r"|figures/(recall_curves|similarity|distances|altitudes|conditions|multi_view)\.(png|pdf)"
    r"|panel_[0-9]+_[^/]+\.jpg"
)
"""What such a folder holds."""


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
        has_files = is_folder and path.exists() and any(path.iterdir())  # refuses a plain file
        for one in path.rglob("*") if has_files else ():
            if not (one.is_dir() or WRITTEN.fullmatch(one.relative_to(path).as_posix())):
                raise DescriptorError(
                    f"{one} was written by no evaluation and would be lost; give another place "
                    f"with {option}"
                )
        parent = next(parent for parent in path.absolute().parents if parent.exists())
        tempfile.TemporaryFile(dir=parent).close()


@contextmanager
def new_folder(folder: Path, *, option: str = "--out") -> Iterator[Path]:
    """Yield a folder that takes the place of `folder` once the block has filled it.

    Raises:
        DescriptorError: for an `OSError` within.
    """
    aside = folder.with_name(f".{folder.name}.partial")
    with writing(folder, option=option):
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
