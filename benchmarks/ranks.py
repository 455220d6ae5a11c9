"""Processes that are the ranks of one job, as `accelerate launch` starts them on a CPU."""

import ctypes
import fcntl
import multiprocessing
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

from data_shards.shards import ShardSet
from distill.config import DataConfig, DistillConfig, ModelConfig, ObjectivesConfig, ScheduleConfig
from distill.config.objectives import CrossEntropyConfig, InfoNceConfig
from distill.session import Session, make_accelerator
from distill.tracking import Tracker

ARCH, IMAGE_SIZE = "convnext_micro", 64


def on_ranks(world: int, work: Callable[..., Any], *given: object) -> list[Any]:
    """Return what `work` says on each of so many ranks, one thread each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ProcessPoolExecutor(world, multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_be_rank, rank, world, port, work, *given) for rank in range(world)]
        return [job.result() for job in jobs]


def _be_rank(rank: int, world: int, port: int, work: Callable[..., Any], *given: object) -> Any:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ |= {name: str(value) for name, value in numbers.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    import torch

    torch.set_num_threads(1)
    return work(*given)


def recipe(shards: ShardSet, out: Path, *, rows: int, num_steps: int) -> DistillConfig:
    """Return a small student alone, `rows` pairs a step over all ranks; its only line is last."""
    return DistillConfig(
        name="benchmark",
        out=out,
        role="alone",
        data=DataConfig(
            shards=str(shards.folder),
            image_size=IMAGE_SIZE,
            global_batch=rows,
            validation_fraction=0.0,
            threads=1,
        ),
        model=ModelConfig(arch=ARCH, weights="none", bottleneck=0, dropout=0.0),
        objectives=ObjectivesConfig(
            info_nce=InfoNceConfig(weight=1.0), cross_entropy=CrossEntropyConfig(weight=0.2)
        ),
        schedule=ScheduleConfig(num_steps=num_steps, warmup_steps=1),
        log_every_steps=num_steps,
        save_every_steps=num_steps,
    )


def open_untracked(config: DistillConfig) -> Session:
    """Open a session of this rank, without MLflow."""
    with mock.patch.object(Tracker, "start", lambda self, **facts: None):
        shards = ShardSet.open(config.data.shards)
        return Session(config, make_accelerator(config), shards, recipe="benchmark")


def bytes_per_step(session: Session) -> float:
    """Return what one rank sends in a step, by formula: its share of two rings and a gather.

    Gradients in float32, and descriptors, logits or entropies with the place of each row that the
    terms gather; backward, what all ranks say of the gathered rows. An all-reduce of n bytes sends
    2 (W - 1) / W of them from each rank, a gather of n bytes from each W - 1 times these.
    """
    step, data = session.whole, session.config.data
    world = session.accelerator.num_processes
    gathered = {name for term in step.terms.values() for name in term.gathers}
    numbers = {"unit": session.model.width, "entropy": 1}
    width = sum(numbers[name] for name in gathered)
    own_rows = 4 * data.global_batch // world * (1 + (1 + data.drones_per_row) * width)
    gradients = 4 * sum(p.numel() for p in step.parameters() if p.requires_grad)
    reduced = gradients + (world * own_rows if gathered else 0)
    sent: float = 2 * (world - 1) / world * reduced + (world - 1) * own_rows * bool(gathered)
    return sent


def leave_the_network() -> bool:
    """Give this process and its children a loopback of their own, if they may; return that."""
    libc, new_net, up, get, set_ = ctypes.CDLL(None), 0x40000000, 0x1, 0x8913, 0x8914
    if libc.unshare(new_net):
        return False
    with socket.socket() as any_socket:
        asked = fcntl.ioctl(any_socket, get, struct.pack("16sh", b"lo", 0) + b"\0" * 22)
        flags = struct.unpack_from("16sh", asked)[1] | up
        fcntl.ioctl(any_socket, set_, struct.pack("16sh", b"lo", flags) + b"\0" * 22)
    return True


def loopback_bytes() -> int:
    """Return what was sent over the loopback so far, headers of TCP included."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    return next(int(line.split()[9]) for line in lines if line.strip().startswith("lo:"))
