"""What one description costs, measured: milliseconds, images per second, peak memory."""

import ctypes
import gc
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from data_shards.usable_cpus import usable_cpus
from distill.models import inference, normalize
from evaluation.efficiency.config import Precision
from evaluation.efficiency.cost import Speed

WARM_UP, RUNS, LEAST_RUNS = 50, 200, 3
MOST_SECONDS = 60.0
ROTATING_INPUTS = 4
"""Batches in turn, so that no image is still in a cache."""

MIB = 2**20


def measure_speed(
    model: nn.Module,
    *,
    image_size: int,
    batch_size: int,
    precision: Precision = "float32",
    threads: int = 0,
    warm_up: int = WARM_UP,
    runs: int = RUNS,
    most_seconds: float = MOST_SECONDS,
) -> Speed:
    """Time the description of random images, on the device where the model lies.

    Reading and decoding are not part of it; bringing a batch to the device is. The model and
    torch's threads are left as they were.

    Args:
        model: what has `describe`.
        image_size: width and height in pixels.
        batch_size: images described at once.
        precision: float32 as stored, or autocast to another type.
        threads: of torch on a CPU; 0 means one per processor.
        warm_up: batches before the first that counts.
        runs: batches that count.
        most_seconds: after this long no further batch is begun, but `LEAST_RUNS` are finished;
            a tenth of it is for the warm-up.
    """
    describer: Any = model
    device = next(model.parameters()).device
    batches = [
        torch.randint(0, 256, (batch_size, image_size, image_size, 3), dtype=torch.uint8)
        for _ in range(ROTATING_INPUTS)
    ]
    dtype = getattr(torch, precision)

    def describe(images: Tensor) -> object:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            return describer.describe(normalize(images.to(device)))

    timed = partial(_timed, _on_gpu if device.type == "cuda" else _on_cpu, describe, batches)
    with inference(model), _threads(threads or usable_cpus()) as used:
        # What libraries keep from the first batch on is no part of what describing takes.
        warmed = timed(1, most_seconds / 10, least=1)
        with _peak(device) as peak:
            warmed += timed(warm_up - 1, most_seconds / 10, least=0)
            milliseconds = timed(runs, most_seconds, least=LEAST_RUNS)
    return Speed(
        device=device_name(device),
        precision=precision,
        threads=used if device.type == "cpu" else 0,
        image_size=image_size,
        batch_size=batch_size,
        warm_up=len(warmed),
        runs=len(milliseconds),
        median_ms=round(median(milliseconds), 4),
        least_ms=round(min(milliseconds), 4),
        most_ms=round(max(milliseconds), 4),
        peak_memory_mib=None if peak[0] is None else round(peak[0], 1),
    )


def device_name(device: torch.device) -> str:
    """Return what the device is sold as."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError):
        named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if named:
            return named[1]
    return device.type


def _timed(
    clock: Callable[..., float],
    describe: Callable[[Tensor], object],
    batches: Sequence[Tensor],
    runs: int,
    most_seconds: float,
    *,
    least: int,
) -> list[float]:
    """Return the milliseconds of each batch."""
    milliseconds: list[float] = []
    begin = time.perf_counter()
    while len(milliseconds) < runs:
        if len(milliseconds) >= least and time.perf_counter() - begin > most_seconds:
            break
        milliseconds.append(clock(describe, batches[len(milliseconds) % len(batches)]))
    return milliseconds


def _on_cpu(describe: Callable[[Tensor], object], batch: Tensor) -> float:
    start = time.perf_counter()
    describe(batch)
    return 1000 * (time.perf_counter() - start)


def _on_gpu(describe: Callable[[Tensor], object], batch: Tensor) -> float:
    """Ask the GPU's own clock."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    describe(batch)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


@contextmanager
def _threads(count: int) -> Iterator[int]:
    """Let torch compute with `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before)


@contextmanager
def _peak(device: torch.device) -> Iterator[list[float | None]]:
    """Yield what will hold, at the end, the MiB at most in use above those in use now."""
    found: list[float | None] = [None]
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield found
        found[0] = (torch.cuda.max_memory_allocated(device) - before) / MIB
        return
    resident = _fresh_resident_mib()
    yield found
    highest = _status_mib("VmHWM")
    if resident is not None and highest is not None and highest > resident:
        found[0] = highest - resident  # else more was taken from the process than it took


def _fresh_resident_mib() -> float | None:
    """Hand freed memory back, let Linux forget the process's peak, and return what is resident."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    return _status_mib("VmRSS")


def _status_mib(name: str) -> float | None:
    """Read one amount of memory of this process, where the system tells it."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(rf"^{name}:\s*(\d+) kB$", status, re.MULTILINE)
    return None if found is None else int(found[1]) / 1024
