"""Processes of their own that open shards: what several ranks of a node do at once."""

import hashlib
import multiprocessing
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from data_shards.remote.local_cache import LocalCache
from data_shards.remote.sources import open_shards
from data_shards.schema import Role


class Opening:
    """A process that opens the training images of an address and reads them all."""

    def __init__(self, address: str, cache: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        # The fork server imports what is slow to import once; each process is a fork of it.
        context.set_forkserver_preload(["webdataset", "data_shards.remote.sources"])
        self._answer, theirs = context.Pipe(duplex=False)
        self.process: ForkServerProcess = context.Process(
            target=_open, args=(address, cache, theirs)
        )
        self.process.start()
        theirs.close()

    def digest(self) -> str:
        """Wait for its end, and return the digest over all that it has read."""
        digest = self._answer.recv()
        self.process.join()
        assert self.process.exitcode == 0
        assert isinstance(digest, str)
        return digest


def _open(address: str, cache: Path, answer: Any) -> None:
    shards = open_shards(address, roles=Role.TRAIN, cache=LocalCache(cache, gib=1))
    digest = hashlib.sha256()
    for row in range(len(shards.images)):
        if shards.images.roles[row] & Role.TRAIN:
            digest.update(shards.read(row))
    answer.send(digest.hexdigest())
