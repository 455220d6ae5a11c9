"""The same in processes of their own, for whoever may use more processors than a few.

Threads give up the interpreter's lock while they decode, and wait for it in between: a few wait
little, sixteen wait for most of the time. Here each thread sends images, a chunk at a time, to a
process that does nothing else. Pixels come back in memory that both see; only what says which
images, and how to vary them, is pickled. A process serves one loader after the other, and ends
when the one that started it does, however that ends.
"""

import atexit
import math
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from mmap import ACCESS_READ, ACCESS_WRITE, mmap
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple
from weakref import finalize

import numpy as np

from data_shards.augment.variations import Variations
from data_shards.batch_memory import BatchMemory, Piece
from data_shards.config import Aspect, Resampling
from data_shards.decode import DecodeError, Scratch
from data_shards.decoders import Decoders, ImageTask, bring, unreadable
from data_shards.errors import ProcessEndedError, ShardError, SkyDistillError
from data_shards.shards import OpenTar, RowNumbers, ShardSet

MOST_THREADS = 4
"""Above so many, images are decoded by processes."""

CHUNK = 16
"""Images that are sent at once, at most."""

AHEAD = 2
"""Chunks that a process has, so that it decodes one while a thread here waits for the lock."""

MOST_MAPPED = 128
"""Tars, and pieces of memory, that a process looks at: those used last."""

NOT_MEANT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that a launcher or a batch system sends to all processes of a job: the training decides,
and a decoding process ends with it."""


class SharedPiece(NamedTuple):
    """Memory that processes share."""

    path: str
    number: int
    """Of this piece and no other."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some images of a task, as they are sent; N images."""

    stored: list[tuple[OpenTar, int, int]]
    """Tar, offset and size of each [N]."""

    orientation: list[int]
    into: list[tuple[SharedPiece, int, tuple[int, ...]]]
    """Piece, first byte and shape [N, S, S, 3] of each memory that they are brought into."""

    variations: tuple[Variations, ...]
    aspect: Aspect
    resampling: Resampling


class DecoderProcess:
    """One process, and the line to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        package = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        serving = f"from {__name__} import serve; serve({theirs.fileno()})"
        with theirs:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_MEANT)  # it inherits this
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", serving],
                    pass_fds=[theirs.fileno()],
                    env=os.environ | {"PYTHONPATH": path},
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._line = Connection(ours.detach())

    def send(self, chunk: Chunk | None) -> None:
        """Have it fill a chunk behind those sent before, or let go of all memory.

        Raises:
            ProcessEndedError: the process is no more.
        """
        with self._told():
            self._line.send(chunk)

    def receive(self) -> tuple[int, str] | None:
        """Wait for the first chunk not yet received; return which image is no image, and why.

        Raises:
            ProcessEndedError: the process is no more.
        """
        with self._told():
            answer: tuple[int, str] | Exception | None = self._line.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            raise ProcessEndedError(
                f"a decoding process ended with status {self._process.wait()}, as when memory is "
                "short; ask for more memory or fewer data.threads, and start again"
            ) from error

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """End it: it has nothing to lose."""
        self._line.close()
        self._process.kill()
        self._process.wait()


_idle: list[DecoderProcess] = []
"""Processes that wait for the next loader: a probe of a second should not start its own."""


@atexit.register
def _end_idle() -> None:
    for process in _idle:
        process.end()


os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's

_numbers = count()
_shared: dict[int, SharedPiece] = {}
"""Pieces of memory by the identity of what looks at them here."""


def shared_piece(size: int) -> Piece:
    """Return fresh memory of `size` bytes that other processes can open while it is held here."""
    descriptor = os.memfd_create("skydistill-batch")  # no limit of /dev/shm holds for it
    os.ftruncate(descriptor, size)
    piece = np.frombuffer(mmap(descriptor, size), dtype=np.uint8)
    _shared[id(piece)] = SharedPiece(f"/proc/{os.getpid()}/fd/{descriptor}", next(_numbers))

    def forget(identity: int) -> None:
        del _shared[identity]
        os.close(descriptor)

    finalize(piece, forget, id(piece))
    return piece


class DecoderProcesses(Decoders):
    """Processes that fill image tasks, each fed by a thread of this one."""

    def __init__(self, shards: ShardSet, *, threads: int, resampling: Resampling) -> None:
        super().__init__(shards, threads=threads, resampling=resampling)
        self.memory = BatchMemory(shared_piece)
        self.in_work = threads * CHUNK * AHEAD
        self._processes: SimpleQueue[DecoderProcess] = SimpleQueue()
        alive = [process for process in _idle if process.is_alive]  # not those killed meanwhile
        _idle[:] = alive[threads:]
        for process in alive[:threads]:
            self._processes.put(process)
        for _ in range(threads - len(alive)):
            self._processes.put(DecoderProcess())

    def fill(self, tasks: Sequence[ImageTask]) -> "list[Future[None]]":
        """Start filling `tasks`, a chunk at a time."""
        chunks = [
            (task, slice(start, start + CHUNK))
            for task in tasks
            for start in range(0, len(task.rows), CHUNK)
        ]
        return self.shared(self._send, chunks)

    def end(self) -> None:
        """Stop behind the images in work; the processes wait for the next loader."""
        super().end()
        for _ in range(self.threads):
            process = self._processes.get()
            if process.is_alive:
                process.send(None)
                _idle.append(process)

    def _send(self, chunks: Iterator[tuple[ImageTask, slice]]) -> None:
        """Have one process fill chunks, and wait for the last.

        Raises:
            ShardError: an image cannot be decoded; the sentence names tar and key.
        """
        process, sent = self._processes.get(), deque[RowNumbers]()

        def receive() -> None:
            rows = sent.popleft()
            if (found := process.receive()) is not None:
                raise unreadable(self.shards, rows[found[0]], found[1])

        try:
            for task, part in chunks:
                process.send(self._chunk(task, part))
                sent.append(task.rows[part])
                if len(sent) == AHEAD:
                    receive()
            while sent:
                receive()
        finally:
            for _ in sent:
                with suppress(Exception):  # one failure is told; what was sent behind it is not
                    process.receive()
            self._processes.put(process)

    def _chunk(self, task: ImageTask, part: slice) -> Chunk:
        rows = task.rows[part]
        into = []
        for images in task.into:
            piece: Any = images.base  # all of it: of a view of views, NumPy keeps the first
            start = images[part.start :].ctypes.data - piece.ctypes.data
            into.append((_shared[id(piece)], start, (len(rows), *images.shape[1:])))
        return Chunk(
            stored=[self.shards.locate(row) for row in rows.tolist()],
            orientation=self.shards.images.orientation[rows].tolist(),
            into=into,
            variations=tuple(varied[part] for varied in task.variations),
            aspect=self.shards.aspect,
            resampling=self.resampling,
        )


def open_decoders(shards: ShardSet, *, threads: int, resampling: Resampling) -> Decoders:
    """Return what decodes with so many threads, or as many processes where those would wait."""
    is_many = threads > MOST_THREADS and hasattr(os, "memfd_create")  # else no Linux
    kind = DecoderProcesses if is_many else Decoders
    return kind(shards, threads=threads, resampling=resampling)


def serve(descriptor: int) -> None:
    """Fill chunks until the process at the other end of the line ends.

    The answer to a chunk is None, or the number of an image in it and why it cannot be decoded, or
    an error of ours.
    """
    line, scratch = Connection(descriptor), Scratch()
    with suppress(EOFError, ConnectionError):
        while True:
            chunk: Chunk | None = line.recv()
            if chunk is None:
                _mapped.cache_clear()
                continue
            try:
                line.send(_fill(chunk, scratch))
            except Exception as error:  # noqa: BLE001 - whatever it is, the training tells it
                if not isinstance(error, SkyDistillError):
                    error.add_note(traceback.format_exc())
                line.send(error)


@lru_cache(MOST_MAPPED)
def _mapped(file: OpenTar | SharedPiece) -> mmap:
    """Return a file's content, writable where it is memory.

    Raises:
        ShardError: it is another file than that which was mapped by who asks.
    """
    inode = file.inode if isinstance(file, OpenTar) else None
    with open(file.path, "r+b" if inode is None else "rb") as opened:
        if inode not in (None, os.fstat(opened.fileno()).st_ino):
            raise ShardError(f"{file.path} was replaced while it was read; start again")
        access = ACCESS_WRITE if inode is None else ACCESS_READ
        return mmap(opened.fileno(), 0, access=access)


def _fill(chunk: Chunk, scratch: Scratch) -> tuple[int, str] | None:
    """Fill the images of a chunk; return which cannot be decoded, and why."""
    memories = []
    for piece, start, shape in chunk.into:
        there = np.frombuffer(_mapped(piece), np.uint8, math.prod(shape), start)
        memories.append(there.reshape(shape))
    into = zip(*memories, strict=True)
    for at, (stored, turned, places) in enumerate(
        zip(chunk.stored, chunk.orientation, into, strict=True)
    ):
        tar, offset, size = stored
        content = memoryview(_mapped(tar))[offset : offset + size]
        try:
            bring(
                content,
                (turned, places, chunk.variations, at),
                aspect=chunk.aspect,
                resampling=chunk.resampling,
                scratch=scratch,
            )
        except DecodeError as error:
            return at, str(error)
    return None
