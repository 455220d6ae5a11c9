"""Files from a source into a folder: several at once, hashed on the way, whole or not there."""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from data_shards.errors import ShardError
from data_shards.progress import Tally, show_progress
from data_shards.remote.transport import BrokenOffError, ShardSource

log = logging.getLogger(__name__)

FETCHES_AT_ONCE = 4
FETCHED_SUFFIX = ".partial"

PAUSES_S = (1.0, 4.0)
"""Seconds before the second and the third try."""

MEBIBYTE = 2**20

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class WantedFile:
    """One file of a data set, as its manifest knows it."""

    name: str
    sha256: str
    bytes: int | None = None
    """None for a small file whose length the manifest does not tell."""

    def is_in(self, folder: Path) -> bool:
        """Return whether a file of that name is there, in full length or else with its digest."""
        path = folder / self.name
        if not path.is_file():
            return False
        if self.bytes is not None:
            return path.stat().st_size == self.bytes
        return hashlib.sha256(path.read_bytes()).hexdigest() == self.sha256


def fetch_files(
    files: Sequence[WantedFile], source: ShardSource, folder: Path, *, title: str
) -> None:
    """Fetch every file into `folder`; the first that fails stops the others.

    Raises:
        ShardError: a file cannot be had, or is not what its digest says.
        OSError: `folder` cannot be written to.
    """
    total, stop = sum(file.bytes or 0 for file in files), threading.Event()
    with (
        show_progress(title, unit="MiB", enabled=total > MEBIBYTE) as progress,
        ThreadPoolExecutor(FETCHES_AT_ONCE) as pool,
    ):
        count = Tally(progress, total, per=MEBIBYTE).add
        futures = [pool.submit(_fetch, file, source, folder, stop, count) for file in files]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def fetch_text(name: str, source: ShardSource) -> bytes:
    """Return the content of one small file.

    Raises:
        ShardError: it cannot be had.
    """
    stop = threading.Event()
    return _persist(lambda: b"".join(source.chunks(name, stop)), source.describe(name), stop)


def _fetch(
    file: WantedFile,
    source: ShardSource,
    folder: Path,
    stop: threading.Event,
    count: Callable[[int], None],
) -> None:
    where, aside = source.describe(file.name), folder / (file.name + FETCHED_SUFFIX)

    def attempt() -> str:
        """Write the file aside and return its digest; take back what was counted if it breaks."""
        digest, got = hashlib.sha256(), 0
        try:
            with aside.open("wb") as out:
                for chunk in source.chunks(file.name, stop):
                    got += len(chunk)
                    count(len(chunk))
                    if file.bytes is not None and got > file.bytes:
                        break  # the digest will differ
                    out.write(chunk)
                    digest.update(chunk)
                out.flush()
                os.fsync(out.fileno())
            if file.bytes is not None and got < file.bytes:
                raise BrokenOffError("it ended early")
        except BrokenOffError as error:
            count(-got)
            whole = "" if file.bytes is None else f" of {file.bytes:,}"
            told = f"{error} after {got:,}{whole} bytes"
            raise BrokenOffError(told, is_final=error.is_final) from error
        return digest.hexdigest()

    try:
        found = _persist(attempt, where, stop)
        if found != file.sha256:
            raise ShardError(
                f"{where} is not the file that its manifest names (SHA-256 {found[:12]}..., not "
                f"{file.sha256[:12]}...): the source was changed or is damaged; copy the whole "
                "folder there again"
            )
        aside.replace(folder / file.name)
    finally:
        aside.unlink(missing_ok=True)


def _persist(attempt: Callable[[], Result], where: str, stop: threading.Event) -> Result:
    """Try again after a pause, unless it would end the same."""
    for tries, pause in enumerate((*PAUSES_S, None), start=1):
        try:
            return attempt()
        except BrokenOffError as error:
            if stop.is_set() or error.is_final:
                raise ShardError(
                    f"{where} cannot be fetched: {error}; see that the address is right and that "
                    "the whole folder is there"
                ) from error
            if pause is None:
                raise ShardError(
                    f"{where} cannot be fetched, tried {tries} times: {error}; see that the source "
                    "is well and start again: files that are whole are kept"
                ) from error
            log.info("%s: %s; trying again", where, error)
            stop.wait(pause)
    raise AssertionError("the last try returns or raises")
