import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_shards import decoder_processes
from data_shards.augment.config import AugmentConfig
from data_shards.augment.variations import FAMILIES
from data_shards.decoder_processes import Chunk, DecoderProcess, DecoderProcesses, open_decoders
from data_shards.decoders import Decoders
from data_shards.errors import ProcessEndedError, ShardError
from data_shards.loader import TrainLoader, image_batches
from data_shards.planning.plan import Plan
from data_shards.shards import OpenTar, ShardSet

THREADS = 2


@pytest.fixture(autouse=True)
def processes_from_one_thread_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_processes, "MOST_THREADS", 0)
    monkeypatch.setattr(decoder_processes, "CHUNK", 3)


def pixels(shards: ShardSet, rows: np.ndarray, *, batch_size: int = 8) -> np.ndarray:
    batches = image_batches(
        shards,
        rows,
        image_size=16,
        resampling="opencv-linear",
        batch_size=batch_size,
        threads=THREADS,
    )
    return np.concatenate([images.copy() for _, images in batches])


def running() -> list[DecoderProcess]:
    return decoder_processes._idle


def process_ids() -> list[int]:
    return [process._process.pid for process in running()]


def test_many_threads_are_processes(tiny_shards: ShardSet, monkeypatch) -> None:
    monkeypatch.setattr(decoder_processes, "MOST_THREADS", 1)
    for threads, kind in ((1, Decoders), (2, DecoderProcesses)):
        decoders = open_decoders(tiny_shards, threads=threads, resampling="opencv-linear")
        decoders.end()
        assert type(decoders) is kind


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_are_those_of_threads(tiny_shards: ShardSet, monkeypatch, family) -> None:
    plan = Plan(tiny_shards, tiny_shards.train_places, seed=1, global_batch=8, drones_per_row=2)
    loader = TrainLoader(
        tiny_shards,
        plan,
        augment=AugmentConfig(family=family, device=True),
        image_size=16,
        resampling="opencv-linear",
        rank=0,
        world_size=1,
        threads=THREADS,
        teacher_size=24,
        crops_per_decode=2,
    )
    found = list(loader.batches(first_step=1, num_steps=9))
    monkeypatch.setattr(decoder_processes, "MOST_THREADS", THREADS)
    for by_processes, by_threads in zip(
        found, loader.batches(first_step=1, num_steps=9), strict=True
    ):
        for name in ("satellite", "drone", "teacher_satellite", "teacher_drone"):
            assert (getattr(by_processes, name) == getattr(by_threads, name)).all(), name


def test_a_process_serves_one_loader_after_the_other(tiny_shards: ShardSet) -> None:
    rows = np.arange(20)
    first, before = pixels(tiny_shards, rows), process_ids()
    files = len(os.listdir("/proc/self/fd"))
    assert (pixels(tiny_shards, rows) == first).all()
    assert sorted(process_ids()) == sorted(before)
    assert len(os.listdir("/proc/self/fd")) == files, "the memory of a loader that ended is closed"


def test_an_image_that_is_none_is_named(tiny_shards: ShardSet, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(tiny_shards.folder, folder)
    shards, row = ShardSet.open(folder), 11
    tar, offset, size = shards.locate(row)
    with open(tar.path, "r+b") as file:
        file.seek(offset + 2)
        file.write(bytes(size - 2))
    with pytest.raises(ShardError, match="cannot be decoded") as raised:
        pixels(shards, np.arange(20))
    assert str(raised.value).startswith(shards.describe(row))
    assert len(pixels(shards, np.arange(10))) == 10, "the processes go on"


def test_another_tar_in_its_place_is_not_read(tiny_shards: ShardSet, monkeypatch) -> None:
    monkeypatch.setattr(ShardSet, "locate", lambda shards, row: (OpenTar(__file__, inode=0), 0, 10))
    with pytest.raises(ShardError, match=f"{Path(__file__).name} was replaced"):
        pixels(tiny_shards, np.arange(5))


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_of_a_job_do_not_end_it(tiny_shards: ShardSet, sent: signal.Signals) -> None:
    pixels(tiny_shards, np.arange(5))
    before = process_ids()
    for process in before:
        os.kill(process, sent)
    assert len(pixels(tiny_shards, np.arange(20))) == 20
    assert sorted(process_ids()) == sorted(before)


def test_one_that_was_killed_is_told(
    tiny_shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels(tiny_shards, np.arange(20))
    send = DecoderProcess.send

    def kill_and_send(process: DecoderProcess, chunk: Chunk | None) -> None:
        process._process.kill()
        process._process.wait()
        send(process, chunk)

    with monkeypatch.context() as unlucky:
        unlucky.setattr(DecoderProcess, "send", kill_and_send)
        with pytest.raises(ProcessEndedError, match="a decoding process ended with status -9"):
            pixels(tiny_shards, np.arange(20))
    assert len(pixels(tiny_shards, np.arange(20))) == 20, "another takes its place"


KILLED = """
import sys, time
from data_shards import decoder_processes
process = decoder_processes.DecoderProcess()
print(process._process.pid, flush=True)
time.sleep(60)
"""


def test_it_ends_with_the_process_that_started_it() -> None:
    parent = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 20
    while (
        Path(f"/proc/{process}/cmdline").is_file()
        and b"decoder" in Path(f"/proc/{process}/cmdline").read_bytes()
    ):
        assert time.monotonic() < deadline, "it outlives what started it"
        time.sleep(0.05)
