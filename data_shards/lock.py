"""One writer at a time: a lock on a folder, which the system lets go of when its holder is gone."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
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
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise taken from error
        except OSError as error:
            # Some network file systems have no locks; there, two writers at once are not noticed.
            log.info("%s cannot be locked (%s)", folder, error.strerror)
        yield
    finally:
        os.close(handle)
