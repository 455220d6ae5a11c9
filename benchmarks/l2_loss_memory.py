"""Goals L2 and T5 (GPU): the contrastive loss in chunks, its memory and its time.

L2 compares the peak memory of loss and gradients with that of the dense formula, and the processor
time of one thread with that of the three matrix products that no exact formula avoids. Where the
dense one does not fit into memory it is measured at a fraction of the batch and multiplied: all
that it holds is as large as the matrix of similarities. The products are timed at a smaller batch,
in the same chunks; more rows take more of the same.

`--gpu` prints T5: one direction, forward and backward, bfloat16 descriptors whose products are
summed in float32. `--toy` shrinks everything: it shows that the script is right.
"""

import os
import sys
import time
from dataclasses import dataclass
from statistics import median
from unittest import mock

import torch
import torch.nn.functional as F
from line import report
from resident import forget_peak, peak_gib
from torch import Tensor

from distill.objectives import info_nce as contrast

WIDTH, SEED, SCALE = 512, 0, 14.0
MUST_MEMORY, MUST_TIME = 1 / 16, 1.3
MUST_SECONDS, MUST_GB = 0.30, 4.0
ALL_AT_ONCE = 2**62
DENSE_MATRICES = 6
"""More than what the dense formula holds at once, in matrices of similarities."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large everything is."""

    batch: int = 32_768
    timed: int = 8_192
    gpu_batch: int = 131_072
    rounds: int = 5


TOY = Scale(batch=4_096, timed=512, gpu_batch=1_024, rounds=1)


def pairs(batch: int, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return unit descriptors of queries and gallery, the scale, and the places of both."""
    numbers = torch.Generator(device).manual_seed(SEED)
    units = [
        F.normalize(torch.randn(batch, WIDTH, generator=numbers, device=device), dim=1)
        .to(dtype)
        .requires_grad_()
        for _ in range(2)
    ]
    scale = torch.tensor(SCALE, device=device, requires_grad=True)
    place = torch.arange(batch, device=device) // 2  # two positives each
    return [*units, scale, place]


def loss_and_gradients(parts: list[Tensor]) -> list[Tensor]:
    """Return the loss and its gradients."""
    query, gallery, scale, place = parts
    for part in parts[:3]:
        part.grad = None
    loss = contrast.info_nce(query, gallery, place, place, scale=scale, label_smoothing=0.1)
    loss.backward()
    return [loss.detach(), *(part.grad for part in parts[:3] if part.grad is not None)]


def products(parts: list[Tensor]) -> None:
    """Multiply as every exact formula does: similarities, and the gradients of both sides."""
    query, gallery = (part.detach() for part in parts[:2])
    for chunk in query.split(contrast.rows_at_once(gallery)):
        similarity = chunk @ gallery.T
        similarity @ gallery
        similarity.T @ chunk


def assert_equal_to_dense(*, device: str = "cpu") -> None:
    """Compare loss and gradients of both ways."""
    seen = []
    for most in (ALL_AT_ONCE, 0):
        with mock.patch.multiple(contrast, MOST_AT_ONCE=most, CHUNK=100):
            seen.append(loss_and_gradients(pairs(512, device=device)))
    for dense, chunked in zip(*seen, strict=True):
        assert (dense - chunked).abs().max() <= 1e-5 * dense.abs().max(), "not the dense gradient"


def peak_bytes(batch: int, most: int) -> float:
    """Return by how much this process grows at most for one loss and its gradients."""
    parts = pairs(batch)
    with mock.patch.object(contrast, "MOST_AT_ONCE", most):
        loss_and_gradients(pairs(256))  # libraries and their buffers
        before = forget_peak()
        loss_and_gradients(parts)
    return (peak_gib() - before) * 2**30


def measure_memory(scale: Scale) -> dict[str, object]:
    """Return peak memory of both ways and their ratio, and how the dense one was measured."""
    matrix = scale.batch**2 * 4
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    parts = next(n for n in (1, 2, 4, 8) if DENSE_MATRICES * matrix < n**2 * available)
    chunked = peak_bytes(scale.batch, 0)
    dense = peak_bytes(scale.batch // parts, ALL_AT_ONCE) * parts**2
    how = "measured" if parts == 1 else f"measured at 1/{parts} of the batch, times {parts**2}"
    return {
        "chunked MiB": round(chunked / 2**20),
        "dense MiB": round(dense / 2**20),
        "dense is": how,
        "dense matrices": round(dense / matrix, 2),
        "chunked / dense": round(chunked / dense, 4),
    }


def l2(scale: Scale) -> int:
    """Measure on the CPU, and print the line of L2."""
    from clock import interleaved, ratios  # no part of what T5 finds on its machine

    assert_equal_to_dense()
    memory = measure_memory(scale)
    parts = pairs(scale.timed)
    torch.set_num_threads(1)  # of several, those that wait for a core spin, and that counts as work
    with mock.patch.object(contrast, "MOST_AT_ONCE", 0):
        seconds = interleaved(
            {"loss": lambda: loss_and_gradients(parts), "gemm": lambda: products(parts)},
            rounds=scale.rounds,
        )
    slower = ratios(seconds["loss"], seconds["gemm"])
    value = {"batch": scale.batch, **memory, "timed at": scale.timed, "time / GEMMs": slower}
    return report(
        "L2",
        value=value,
        must=f"memory <= 1/16; time <= {MUST_TIME} of the GEMMs by CPU",
        passed=float(str(memory["chunked / dense"])) <= MUST_MEMORY
        and slower["cpu"]["median"] <= MUST_TIME,
        seed=SEED,
    )


def t5(scale: Scale, *, is_toy: bool) -> int:
    """Time one direction on the GPU, and print the line of T5; a toy does so without one too."""
    has_gpu = torch.cuda.is_available()
    if not (has_gpu or is_toy):
        print("T5 needs a CUDA device, and there is none here", file=sys.stderr)
        return 0
    device = "cuda" if has_gpu else "cpu"
    dtype = torch.bfloat16 if has_gpu else torch.float32  # a CPU has no such product
    assert_equal_to_dense(device=device)
    parts = pairs(scale.gpu_batch, device=device, dtype=dtype)
    taken, peak = [], 0
    with mock.patch.object(contrast, "MOST_AT_ONCE", 0):
        for _ in range(scale.rounds + 2):  # the first two compile and warm up
            if has_gpu:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            begun = time.perf_counter()
            loss_and_gradients(parts)
            if has_gpu:
                torch.cuda.synchronize()
                peak = torch.cuda.max_memory_allocated()
            taken.append(time.perf_counter() - begun)
    seconds = median(taken[2:])
    value = {
        "device": torch.cuda.get_device_name() if has_gpu else "cpu, float32",
        "batch": scale.gpu_batch,
        "seconds": round(seconds, 4),
        "least": round(min(taken[2:]), 4),
        "GB": round(peak / 1e9, 3),
        "TFLOP/s": round(3 * 2 * scale.gpu_batch**2 * WIDTH / seconds / 1e12, 1),
    }
    must = f"<= {MUST_SECONDS} s and <= {MUST_GB} GB at 131,072"
    passed = seconds <= MUST_SECONDS and peak <= MUST_GB * 1e9
    return report("T5", value=value, must=must, passed=has_gpu and passed, seed=SEED)


def main() -> int:
    """Print the line of L2, or of T5."""
    is_toy = "--toy" in sys.argv
    scale = TOY if is_toy else Scale()
    status = t5(scale, is_toy=is_toy) if "--gpu" in sys.argv else l2(scale)
    return 0 if is_toy else status


if __name__ == "__main__":
    sys.exit(main())
