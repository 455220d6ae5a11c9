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
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from mmap import mmap
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from weakref import finalize

import numpy as np

from data_shards.augment.variations import Variations
from data_shards.batch_memory import BatchMemory, Piece
from data_shards.config import Resampling
from data_shards.decode import Scratch
from data_shards.decoders import Decoders, ImageBatch, ImageTask, bring
from data_shards.errors import ProcessEndedError, ShardError
from data_shards.manifest import read_manifest
from data_shards.shards import ImageTable, ShardSet

MOST_THREADS = 4
"""Above so many, images are decoded by processes."""

CHUNK = 8
"""Images that are sent at once, at most."""

AHEAD = 2
"""Chunks that a process has, so that it decodes one while a thread here waits for the lock."""

MOST_MAPPED = 16
"""Pieces of memory that a process looks at, those of a few batches."""

NOT_MEANT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that a launcher or a batch system sends to all processes of a job: the training decides,
and a decoding process ends with it."""


@dataclass(frozen=True, kw_only=True)
class SharedImages:
    """Where images lie in memory that processes share."""

    file: str
    piece: int
    """Number of the piece of memory, which is never given twice."""

    start: int
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some images of a task, as they are sent."""

    folder: Path
    fingerprint: str
    images: ImageTable
    """Rows of these images alone [N]."""

    into: tuple[SharedImages, ...]
    variations: tuple[Variations, ...]
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

    def fill(self, chunks: Iterable[Chunk]) -> None:
        """Have it fill chunks, one after the other, and wait for the last.

        Raises:
            ShardError: an image cannot be decoded; the sentence names tar and key.
            ProcessEndedError: the process is no more.
        """
        in_work = 0
        try:
            for chunk in chunks:
                self._line.send(chunk)
                in_work += 1
                if in_work == AHEAD:
                    in_work -= 1
                    self._receive()
            while in_work:
                in_work -= 1
                self._receive()
        except (EOFError, ConnectionError) as error:
            raise ProcessEndedError(
                f"a decoding process ended with status {self._process.wait()}, as when memory is "
                "short; ask for more memory or fewer data.threads, and start again"
            ) from error
        finally:
            with suppress(Exception):  # one that failed is told; what was sent behind it is not
                for _ in range(in_work):
                    self._receive()

    def forget(self) -> bool:
        """Have it let go of all memory, and return whether it still runs."""
        with suppress(ConnectionError):
            self._line.send(None)
        return self._process.poll() is None

    def end(self) -> None:
        """End it, and wait."""
        self._line.close()
        self._process.wait()

    def _receive(self) -> None:
        if (error := self._line.recv()) is not None:
            raise error


_idle: list[DecoderProcess] = []
"""Processes that wait for the next loader: a probe of a second should not start its own."""


@atexit.register
def _end_idle() -> None:
    for process in _idle:
        process.end()


os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's

_numbers = count()
_files: dict[int, tuple[str, int]] = {}
"""What others open a piece of memory by, and its number, by the piece's identity."""


def shared_piece(size: int) -> Piece:
    """Return fresh memory of `size` bytes that other processes can open while it is held here."""
    descriptor = os.memfd_create("skydistill-batch")  # no limit of /dev/shm holds for it
    os.ftruncate(descriptor, size)
    piece = np.frombuffer(mmap(descriptor, size), dtype=np.uint8)
    _files[id(piece)] = f"/proc/{os.getpid()}/fd/{descriptor}", next(_numbers)

    def forget(identity: int) -> None:
        del _files[identity]
        os.close(descriptor)

    finalize(piece, forget, id(piece))
    return piece


def _whereabouts(images: ImageBatch) -> SharedImages:
    """Return where images lie of which the first owner is a shared piece."""
    piece: Any = images.base
    file, number = _files[id(piece)]
    start = images.ctypes.data - piece.ctypes.data
    return SharedImages(file=file, piece=number, start=start, shape=images.shape)


class DecoderProcesses(Decoders):
    """Processes that fill image tasks, each fed by a thread of this one."""

    def __init__(self, shards: ShardSet, *, threads: int, resampling: Resampling) -> None:
        super().__init__(shards, threads=threads, resampling=resampling)
        self.memory, self._fingerprint = BatchMemory(shared_piece), shards.fingerprint
        self.in_work = threads * CHUNK * AHEAD
        self._processes: SimpleQueue[DecoderProcess] = SimpleQueue()
        for _ in range(threads):
            self._processes.put(_idle.pop() if _idle else DecoderProcess())

    def fill(self, tasks: Sequence[ImageTask]) -> "list[Future[None]]":
        """Start filling `tasks`, a chunk at a time."""
        chunks = [
            (task, slice(start, start + CHUNK))
            for task in tasks
            for start in range(0, len(task.rows), CHUNK)
        ]
        return self.shared(self._send, chunks)

    def end(self) -> None:
        super().end()
        for _ in range(self.threads):
            process = self._processes.get()
            if process.forget():
                _idle.append(process)

    def _send(self, chunks: Iterator[tuple[ImageTask, slice]]) -> None:
        process = self._processes.get()
        try:
            process.fill(
                Chunk(
                    folder=self.shards.folder,
                    fingerprint=self._fingerprint,
                    images=self.shards.images[task.rows[part]],
                    into=tuple(_whereabouts(images[part]) for images in task.into),
                    variations=tuple(varied[part] for varied in task.variations),
                    resampling=self.resampling,
                )
                for task, part in chunks
            )
        finally:
            self._processes.put(process)


def open_decoders(shards: ShardSet, *, threads: int, resampling: Resampling) -> Decoders:
    """Return what decodes with so many threads, or as many processes where those would wait."""
    is_many = threads > MOST_THREADS and hasattr(os, "memfd_create")  # else no Linux
    kind = DecoderProcesses if is_many else Decoders
    return kind(shards, threads=threads, resampling=resampling)


def serve(descriptor: int) -> None:
    """Fill chunks until the process at the other end of the line ends."""
    line, scratch = Connection(descriptor), Scratch()
    opened: dict[tuple[Path, str], ShardSet] = {}
    mapped: OrderedDict[int, Piece] = OrderedDict()
    while True:
        try:
            chunk: Chunk | None = line.recv()
        except (EOFError, ConnectionError):
            return
        if chunk is None:
            mapped.clear()
            continue
        try:
            _fill(chunk, opened, mapped, scratch)
            line.send(None)
        except Exception as error:  # noqa: BLE001 - whatever it is, the training tells it
            if not isinstance(error, ShardError):
                error.add_note(traceback.format_exc())
            line.send(error)


def _fill(
    chunk: Chunk,
    opened: dict[tuple[Path, str], ShardSet],
    mapped: OrderedDict[int, Piece],
    scratch: Scratch,
) -> None:
    """Fill the images of a chunk, among shards that were opened and pieces mapped before."""
    key = chunk.folder, chunk.fingerprint
    if key not in opened:
        opened[key] = ShardSet(chunk.folder, read_manifest(chunk.folder), chunk.images)
    shards = opened[key]
    shards.images = chunk.images
    into = []
    for place in chunk.into:
        if place.piece not in mapped:
            with open(place.file, "r+b") as file:
                mapped[place.piece] = np.frombuffer(mmap(file.fileno(), 0), dtype=np.uint8)
        mapped.move_to_end(place.piece)
        size = math.prod(place.shape)
        into.append(mapped[place.piece][place.start : place.start + size].reshape(place.shape))
    while len(mapped) > MOST_MAPPED:
        mapped.popitem(last=False)
    task = ImageTask(
        rows=np.arange(len(chunk.images)), into=tuple(into), variations=chunk.variations
    )
    for image in task.images(shards):
        bring(shards, image, resampling=chunk.resampling, scratch=scratch)
