"""Bytes from servers, object stores and commands, through webdataset's openers.

The only file that imports webdataset, and only when a stream is opened: it brings torch along.
"""

import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit, urlunsplit

from data_shards.errors import ShardError
from data_shards.remote.fetch import CHUNK_BYTES, BrokenOffError

PIPE = "pipe:"
NAME_FIELD = "{name}"

SILENCE_S = 60.0
"""A source that sends nothing for so long is given up."""

MILLISECONDS_BETWEEN_LOOKS = 200

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FINAL = re.compile(r"returned error: (?!408|429)4\d\d|curl: \((?:1|3|60)\)")
"""How curl tells what would be the same another time: most 4xx, a wrong address, a certificate."""

_COMMAND_OF = {"http": "curl", "https": "curl", "s3": "aws", "gs": "gsutil"}
_NOT_FOUND = (126, 127)
"""What a shell says of a command that cannot be run."""


def is_remote(source: str) -> bool:
    """Return whether `source` is an address or a command, not a folder."""
    return source.startswith(PIPE) or _SCHEME.match(source) is not None


class RemoteFolder:
    """A shard folder behind an address, or behind a command that writes one file of it."""

    def __init__(self, address: str) -> None:
        """Look at the address; nothing is opened yet.

        Raises:
            ShardError: a command has no place for the name, or the program it needs is missing.
        """
        self.address, self.shown = address, shown_address(address)
        """The address, and as it may be told."""

        if address.startswith(PIPE):
            if NAME_FIELD not in address:
                raise ShardError(
                    f"{address} does not say which file to write; put {NAME_FIELD} where the "
                    f"file's name belongs, such as pipe:ssh HOST cat FOLDER/{NAME_FIELD}"
                )
            return
        needed = _COMMAND_OF.get(address.partition(":")[0].lower())
        if needed is not None and shutil.which(needed) is None:
            raise ShardError(
                f"{self.shown} is read by the program {needed}, which is not there; install it, or "
                f"give a command that writes a file: pipe:COMMAND {NAME_FIELD}"
            )

    def describe(self, name: str) -> str:
        """Name one file for a sentence."""
        return self._locate(name) if self.address.startswith(PIPE) else f"{self.shown}/{name}"

    def _locate(self, name: str) -> str:
        """Return the address or the command of one file."""
        if self.address.startswith(PIPE):
            return self.address.replace(NAME_FIELD, shlex.quote(name))
        parts = urlsplit(self.address)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))

    def chunks(self, name: str, stop: threading.Event) -> Iterator[bytes]:
        """Yield the content of one file.

        Raises:
            BrokenOffError: it cannot be opened, broke off, fell silent, or `stop` was set.
        """
        with tempfile.TemporaryFile() as complaints, Path(os.devnull).open("rb") as nothing:
            stream = _open(self._locate(name), stdin=nothing, stderr=complaints)
            with _ended(stream, complaints) as handle:
                yield from _read(handle, stop)


def _open(where: str, **streams: BinaryIO) -> Any:
    """Open what webdataset opens: a program that writes the file, or a file of this machine."""
    from webdataset.gopen import Pipe, gopen, rewrite_url

    try:
        if not where.startswith(PIPE):
            where = rewrite_url(where)
        command = _command(where)
        if command is None:
            return gopen(where)
        is_shell = isinstance(command, str)
        return Pipe(command, mode="rb", shell=is_shell, start_new_session=True, **streams)
    except Exception as error:
        # The client of every store has a family of errors of its own, and all are the store's.
        told = " ".join(str(error).split())
        is_final = isinstance(error, FileNotFoundError | ImportError | ValueError)
        raise BrokenOffError(f"it cannot be opened ({told})", is_final=is_final) from error


def _command(where: str) -> str | list[str] | None:
    """Return what writes a file to its standard output; None leaves it to `gopen`."""
    if where.startswith(PIPE):
        return where.removeprefix(PIPE)
    scheme = where.partition(":")[0].lower()
    if scheme in ("http", "https"):
        options = ["--fail", "--silent", "--show-error", "--location", "--netrc-optional"]
        patience = ["--connect-timeout", "30", "--speed-limit", "1"]
        return ["curl", *options, *patience, "--speed-time", f"{SILENCE_S:.0f}", "--", where]
    if scheme == "s3":
        return ["aws", "s3", "cp", "--only-show-errors", where, "-"]
    return None


@contextmanager
def _ended(stream: Any, complaints: BinaryIO) -> Iterator[int]:
    """Hand out the stream's descriptor; afterwards its program has ended, and well."""
    process, pipe = getattr(stream, "proc", None), getattr(stream, "stream", stream)
    try:
        yield pipe.fileno()
        pipe.close()
        if process is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(SILENCE_S)
            _kill(process)
    except BaseException:
        pipe.close()
        if process is not None:
            _kill(process)
        raise
    if process is not None and process.returncode not in stream.ignore_status:
        _complain(process.returncode, complaints)


def _read(handle: int, stop: threading.Event) -> Iterator[bytes]:
    """Yield what comes, until it ends; look at the clock and at `stop` while nothing does."""
    poll = select.poll()
    poll.register(handle, select.POLLIN | select.POLLHUP)
    heard = time.monotonic()
    while not stop.is_set():
        if poll.poll(MILLISECONDS_BETWEEN_LOOKS):
            chunk = os.read(handle, CHUNK_BYTES)
            if not chunk:
                return
            heard = time.monotonic()
            yield chunk
        elif time.monotonic() - heard > SILENCE_S:
            raise BrokenOffError(f"nothing came for {SILENCE_S:.0f} s")
    raise BrokenOffError("it was stopped")


def _kill(process: Any) -> None:
    """End a program, and what it has started if it was given a session of its own."""
    if process.poll() is None:
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _complain(code: int, complaints: BinaryIO) -> None:
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    told = lines[-1].strip()[:300] if lines else f"its program ended with status {code}"
    raise BrokenOffError(told, is_final=code in _NOT_FOUND or bool(_FINAL.search(told)))


def shown_address(address: str) -> str:
    """Return an address without user, password and query, which may be secrets."""
    if address.startswith(PIPE):
        return address
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
