"""Locks between processes of one machine, which the system lets go of when their holder is gone."""

import fcntl
import logging
import os
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from data_shards.errors import SkyDistillError

log = logging.getLogger(__name__)


@contextmanager
def only_writer(folder: Path, *, taken: SkyDistillError) -> Iterator[None]:
    """Create `folder` and hold a lock on it.

    Raises:
        taken: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(_lock(folder, os.O_RDONLY, fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise taken from error
        except OSError as error:
            # Some network file systems have no locks; there, two writers at once are not noticed.
            log.info("%s cannot be locked (%s)", folder, error.strerror)
        yield


class HeldLock:
    """A lock file that is held until `release`, or until nobody refers to this object any more."""

    def __init__(self, handle: int) -> None:
        self.release = weakref.finalize(self, os.close, handle)
        """Let go; a second call does nothing."""

    def __enter__(self) -> "HeldLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def hold(path: Path, *, is_shared: bool = False) -> HeldLock:
    """Wait for a lock file, with any number of `is_shared` holders or a single other one.

    Raises:
        OSError: it cannot be made, or the file system has no locks.
    """
    how = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    return _lock(path, os.O_RDWR | os.O_CREAT, how)


def hold_if_free(path: Path) -> HeldLock | None:
    """Return the lock on a file, or None when any other process (or object of this one) has it.

    Raises:
        OSError: it cannot be made, or the file system has no locks.
    """
    try:
        return _lock(path, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _lock(path: Path, flags: int, how: int) -> HeldLock:
    """Open and lock, or close at once where there is no lock to have."""
    handle = os.open(path, flags, 0o666)
    try:
        fcntl.flock(handle, how)
    except BaseException:
        os.close(handle)
        raise
    return HeldLock(handle)
