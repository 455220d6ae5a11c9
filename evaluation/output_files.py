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
)
"""What the folder of an evaluation holds."""

PANELS = re.compile(r"panel_[0-9]+_[^/]+\.jpg")
"""What the folder of `query --panels` holds."""


def refuse_unfit(
    path: Path, *, overwrite: bool, option: str = "--out", holds: re.Pattern[str] | None = WRITTEN
) -> None:
    """Refuse a folder, without `holds` a file, that cannot be written or is taken already.

    Raises:
        DescriptorError: it is, or, though it may be replaced, holds more than what it `holds`.
    """
    with writing(path, option=option):
        if path.exists() and not overwrite:
            raise DescriptorError(
                f"{path} exists; give --overwrite to replace it, or another place with {option}"
            )
        inside = any(path.iterdir()) if holds and path.exists() else False  # refuses a plain file
        for one in path.rglob("*") if inside else ():
            name = one.relative_to(path).as_posix()
            if not (one.is_dir() or (holds and holds.fullmatch(name))):
                raise DescriptorError(
                    f"{one} was not written by this command and would be lost; give another place "
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
