"""Bytes from folders and, through webdataset's openers, from servers, stores and commands.

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
from contextlib import suppress
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit, urlunsplit

from data_shards.errors import ShardError

CHUNK_BYTES = 2**20
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


class BrokenOffError(Exception):
    """A file that did not come; `is_final` when another try would end the same."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class ShardSource:
    """A shard folder: by its path, behind an address, or behind a command that writes one file."""

    def __init__(self, address: str) -> None:
        """Look at the address; nothing is opened yet.

        Raises:
            ShardError: a command has no place for the name, or the program it needs is missing.
        """
        self.address, self.shown = address, shown_address(address)
        """The address, and as it may be told."""

        if address.startswith(PIPE) or not is_remote(address):
            if is_remote(address) and NAME_FIELD not in address:
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
        is_address = is_remote(self.address) and not self.address.startswith(PIPE)
        return f"{self.shown}/{name}" if is_address else self._locate(name)

    def _locate(self, name: str) -> str:
        """Return the address or the command of one file."""
        if self.address.startswith(PIPE):
            return self.address.replace(NAME_FIELD, shlex.quote(name))
        if not is_remote(self.address):
            return f"{self.address}/{name}"
        parts = urlsplit(self.address)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))

    def chunks(self, name: str, stop: threading.Event) -> Iterator[bytes]:
        """Yield the content of one file; afterwards its program has ended, and well.

        Raises:
            BrokenOffError: it cannot be opened, broke off, fell silent, or `stop` was set.
        """
        with tempfile.TemporaryFile() as complaints:
            stream = _open(self._locate(name), complaints)
            process, pipe = getattr(stream, "proc", None), getattr(stream, "stream", stream)
            try:
                yield from _read(pipe.fileno(), stop)
                pipe.close()
                if process is not None:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(SILENCE_S)
            finally:
                pipe.close()
                if process is not None and process.poll() is None:
                    # With what it has started, if it was given a session of its own.
                    has_session = os.getpgid(process.pid) == process.pid
                    end = os.killpg if has_session else os.kill
                    end(process.pid, signal.SIGKILL)
                    process.wait()
            if process is not None and process.returncode not in stream.ignore_status:
                complaints.seek(0)
                lines = complaints.read().decode(errors="replace").strip().splitlines()
                told = f"its program ended with status {process.returncode}"
                told = lines[-1].strip()[:300] if lines else told
                is_final = process.returncode in _NOT_FOUND or bool(_FINAL.search(told))
                raise BrokenOffError(told, is_final=is_final)


def _open(where: str, complaints: BinaryIO) -> Any:
    """Open what webdataset opens: a program that writes the file, or a file of this machine."""
    if not is_remote(where):
        try:
            return open(where, "rb", buffering=0)
        except OSError as error:
            is_final = isinstance(error, FileNotFoundError | PermissionError)
            raise BrokenOffError(f"it cannot be read ({error})", is_final=is_final) from error
    from webdataset.gopen import Pipe, gopen, rewrite_url

    try:
        if not where.startswith(PIPE):
            where = rewrite_url(where)
        scheme, _, rest = where.partition(":")
        command: str | list[str] = rest
        if scheme.lower() in ("http", "https"):
            options = ["--fail", "--silent", "--show-error", "--location", "--netrc-optional"]
            options += ["--connect-timeout", "30", "--speed-limit", "1"]
            command = ["curl", *options, "--speed-time", f"{SILENCE_S:.0f}", "--", where]
        elif scheme.lower() == "s3":
            command = ["aws", "s3", "cp", "--only-show-errors", where, "-"]
        elif not where.startswith(PIPE):
            return gopen(where)
        return Pipe(
            command,
            mode="rb",
            shell=isinstance(command, str),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stderr=complaints,
        )
    except Exception as error:
        # The client of every store has a family of errors of its own, and all are the store's.
        told = " ".join(str(error).split())
        is_final = isinstance(error, FileNotFoundError | ImportError | ValueError)
        raise BrokenOffError(f"it cannot be opened ({told})", is_final=is_final) from error


def _read(handle: int, stop: threading.Event) -> Iterator[bytes]:
    """Yield what comes, until it ends; look at the clock and at `stop` while nothing does."""
    poll = select.poll()
    poll.register(handle, select.POLLIN | select.POLLHUP)
    heard = time.monotonic()
    while not stop.is_set():
        if poll.poll(MILLISECONDS_BETWEEN_LOOKS):
            try:
                chunk = os.read(handle, CHUNK_BYTES)
            except OSError as error:  # of a folder; a program's complaints come another way
                raise BrokenOffError(f"it cannot be read ({error})") from error
            if not chunk:
                return
            heard = time.monotonic()
            yield chunk
        elif time.monotonic() - heard > SILENCE_S:
            raise BrokenOffError(f"nothing came for {SILENCE_S:.0f} s")
    raise BrokenOffError("it was stopped")


def shown_address(address: str) -> str:
    """Return an address without user, password and query, which may be secrets."""
    if address.startswith(PIPE):
        return address
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
