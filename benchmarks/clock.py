"""Interleaved timing: A, B, A, B, and the median of what each round says."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median

import torch
from threadpoolctl import threadpool_limits

ROUNDS = 5


def interleaved(
    runs: Mapping[str, Callable[[], object]], *, rounds: int = ROUNDS
) -> dict[str, dict[str, list[float]]]:
    """Return the wall and CPU seconds of each run, `rounds` times, in turn; one more warms up."""
    seconds = {name: {"wall": list[float](), "cpu": list[float]()} for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if number:
                seconds[name]["wall"].append(time.perf_counter() - wall)
                seconds[name]["cpu"].append(time.process_time() - cpu)
    return seconds


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads, in torch and in the BLAS of numpy, which torch does not ask.

    The second spins while it waits: its idle threads would count as CPU seconds.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    """Return median, least and most of the ratios of each round."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return {
        "median": round(median(ratios), 3),
        "min": round(min(ratios), 3),
        "max": round(max(ratios), 3),
    }


def ratios(
    above: dict[str, list[float]], below: dict[str, list[float]]
) -> dict[str, dict[str, float]]:
    """Return the ratios of two runs, by wall and by CPU seconds."""
    return {kind: ratio(above[kind], below[kind]) for kind in ("wall", "cpu")}
