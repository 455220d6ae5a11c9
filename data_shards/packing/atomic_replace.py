"""A finished folder takes its place in one step, also where an older one stands."""

import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2

REPLACED_SUFFIX = ".replaced"


def atomic_replace(new: Path, out: Path) -> None:
    """Move the folder `new` to `out`, and remove the folder that stood there.

    Where the system can exchange two names in one step, `out` is at every moment the old folder or
    the new one. Elsewhere it is missing between two renames; `recover` mends what a crash leaves.
    """
    sync_folder(new)
    if not out.exists():
        new.rename(out)
    elif _exchange(new, out):
        shutil.rmtree(new)
    else:
        old = replaced(out)
        out.rename(old)
        new.rename(out)
        shutil.rmtree(old)
    sync_folder(out.parent)


def recover(out: Path) -> None:
    """Put back, or remove, the older folder that a crash between two renames left aside."""
    old = replaced(out)
    if out.exists():
        shutil.rmtree(old)
    else:
        old.rename(out)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replaced(out: Path) -> Path:
    """Where the older folder stands between two renames."""
    return out.with_name(out.name + REPLACED_SUFFIX)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where system or file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    names = os.fsencode(one), os.fsencode(other)
    if library.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0:
        return True
    failure = ctypes.get_errno()
    if failure in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(failure, os.strerror(failure), str(other))
