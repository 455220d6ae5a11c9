"""Ranks as forks of one process that has imported everything: quick to start, and really killed.

They find each other as those of `accelerate launch` do, in a store that outlives each of them.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

import numpy as np
from torch.distributed import TCPStore

from data_shards.loader import Batch
from data_shards.recipe import load_recipe
from data_shards.verbs import run_verb
from distill import cli, train  # noqa: F401 - imported once, not by every fork
from distill.batches import DeviceBatch
from distill.config import DistillConfig
from distill.session import Session
from distill.tracking import Tracker
from evaluation import probe  # noqa: F401

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 300.0


@dataclass
class Job:
    """One attempt at a run; ranks append step and samples of every batch to `rankN.txt`."""

    recipe: Path
    world_size: int = 2
    engine: Path | None = None
    """Settings of DeepSpeed; DDP without."""

    words: tuple[str, ...] = ()
    pids: list[int] = field(default_factory=list)
    started: float = 0.0

    @property
    def run(self) -> Path:
        return load_recipe(DistillConfig, self.recipe).run_folder

    def __enter__(self) -> Self:
        """Start every rank."""
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.started = time.monotonic()
        for rank in range(self.world_size):
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                os._exit(self._be(rank))
            self.pids.append(pid)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave no rank behind."""
        for pid in self.pids:
            if self.code(pid) is None:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _be(self, rank: int) -> int:
        """Be this rank; return its exit code."""
        try:
            output = os.open(self.recipe.parent / f"rank{rank}.log", os.O_CREAT | os.O_WRONLY)
            os.lseek(output, 0, os.SEEK_END)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.environ.update(self._environment(rank))
            to_device = Session.on_device
            record = (self.recipe.parent / f"rank{rank}.txt").open("a", buffering=1)

            def recorded(session: Session, planned: Batch) -> DeviceBatch:
                rows = np.column_stack([planned.satellite_rows, planned.drone_rows])
                record.write(f"{planned.step} {rows.ravel().tolist()}\n")
                return to_device(session, planned)

            with (
                mock.patch.object(Tracker, "start", lambda self, **facts: None),
                mock.patch.object(Session, "on_device", recorded),
            ):
                return run_verb(lambda: cli.train([str(self.recipe), *self.words]))
        except SystemExit as error:  # another rank has told why
            return int(error.code or 0)
        except BaseException:  # noqa: BLE001 - nothing of the parent may run in a fork
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            return 1
        finally:
            sys.stderr.flush()

    def _environment(self, rank: int) -> dict[str, str]:
        if self.world_size == 1:
            return {}
        environment = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_WORLD_SIZE": str(self.world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "ACCELERATE_MIXED_PRECISION": "no",
        }
        if self.engine is None:
            return environment | {"ACCELERATE_USE_CPU": "True"}
        return environment | {
            "ACCELERATE_USE_DEEPSPEED": "true",
            "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(self.engine),
            "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false",
            "ACCELERATE_CONFIG_DS_FIELDS": "deepspeed_config_file,zero3_init_flag",
        }

    def code(self, pid: int) -> int | None:
        """Return how a rank ended, its code or the negative number of a signal; None while not."""
        if pid not in self.codes:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self.codes[pid] = os.waitstatus_to_exitcode(status)
        return self.codes.get(pid)

    codes: dict[int, int] = field(default_factory=dict)

    def wait(self, *ranks: int) -> list[int]:
        """Return how these ranks ended, or all, when they have."""
        pids = [self.pids[rank] for rank in ranks or range(self.world_size)]
        until(lambda: all(self.code(pid) is not None for pid in pids), self)
        return [self.codes[pid] for pid in pids]

    def lines(self, rank: int = 0) -> list[tuple[int, list[int]]]:
        """Return step and rows of every batch that a rank has had in any attempt."""
        path = self.recipe.parent / f"rank{rank}.txt"
        lines = path.read_text().splitlines() if path.is_file() else []
        return [
            (int(step), [int(row) for row in rows.strip("[]").split(", ")])
            for step, _, rows in (line.partition(" ") for line in lines if line.endswith("]"))
        ]

    def wait_for_step(self, step: int, *, after: int) -> None:
        """Return when rank 0 has had the batch of a step, behind so many lines."""
        until(lambda: any(at >= step for at, _ in self.lines()[after:]), self)


def until(condition: Callable[[], Any], job: Job) -> None:
    """Return when a condition holds; fail after a long time, with what the ranks said."""
    deadline = time.monotonic() + MOST_SECONDS
    while not condition():
        have_ended = all(job.code(pid) is not None for pid in job.pids)
        if time.monotonic() > deadline or (have_ended and not condition()):
            logs = [path.read_text()[-2000:] for path in job.recipe.parent.glob("rank*.log")]
            raise TimeoutError("what is waited for never comes:\n" + "\n".join(logs))
        time.sleep(0.002)
