"""What one description costs: parameters and operations counted, time and memory measured.

Convention: one multiply-accumulate (MAC) is two floating-point operations; convolutions, matrix
products and attention count (`torch.utils.flop_counter`). MACs inside a `OneBitLayer` are binary
(BOPs). Elementwise work is counted apart, as ptflops does it. What only training needs, such as
class heads and projections towards a teacher, is not on the path. Nothing is computed with numbers
to count, so a model on the meta device will do.
"""

import ctypes
import gc
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from data_shards.usable_cpus import usable_cpus
from distill.models import OneBitLayer, binary_parameters, inference, normalize
from evaluation.config import Precision
from evaluation.efficiency import Cost, Speed

aten = torch.ops.aten

FLOPS_PER_MAC = 2

PTFLOPS = {
    aten.native_batch_norm.default: 2,
    aten.cudnn_batch_norm.default: 2,
    aten.native_layer_norm.default: 1,
    aten._prelu_kernel.default: 2,
    aten.relu.default: 2,
    aten.gelu.default: 2,
    aten.avg_pool2d.default: 2,
    aten.max_pool2d_with_indices.default: 2,
    aten.mean.dim: 2,
}
"""Operations per number that goes in, by ptflops 0.7.1 to 0.7.4 (backend `pytorch`), which count an
activation and a pooling twice: as the module, and as the function that the module calls."""


def cost(model: nn.Module, *, image_size: int, flip: bool = False) -> Cost:
    """Count what describing one image of `image_size` x `image_size` takes, `flip` its mirror too.

    Frozen parameters count, shared ones count once; the model is left as it was.
    """
    image = torch.zeros(1, 3, image_size, image_size, device=next(model.parameters()).device)
    counter, layers = _Counter(), [one for one in model.modules() if isinstance(one, OneBitLayer)]
    with ExitStack() as hooks, inference(model):
        for layer in layers:
            hooks.callback(layer.register_forward_pre_hook(lambda *_: counter.step(1)).remove)
            hooks.callback(layer.register_forward_hook(lambda *_: counter.step(-1)).remove)
        with counter:
            cast(Any, model).describe(image, flip=flip)

    def numbers(tensors: Iterable[Tensor]) -> int:
        return sum(tensor.numel() for tensor in set(tensors) if id(tensor) in counter.seen)

    parameters = numbers(model.parameters())
    return Cost(
        image_size=image_size,
        parameters=parameters,
        binary_parameters=numbers(binary_parameters(model).values()),
        macs=counter.macs,
        bops=counter.bops,
        elementwise=counter.elementwise,
        buffers=numbers(model.state_dict(keep_vars=True).values()) - parameters,
    )


class _Counter(TorchDispatchMode):
    """Counts operations, and remembers which tensors they read; parameters outlive it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[int] = set()
        self.macs = self.bops = self.elementwise = 0
        self.depth = 0
        """One-bit layers that the current operation is inside of."""

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        result: Any = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs))
        self.seen.update(id(leaf) for leaf in leaves if isinstance(leaf, Tensor))
        if formula := flop_registry.get(func.overloadpacket):
            macs = formula(*args, **(kwargs or {}), out_val=result) // FLOPS_PER_MAC
            self.bops += macs if self.depth else 0
            self.macs += 0 if self.depth else macs
        is_plane_mean = func is aten.mean.dim and len(args[1]) == 1  # no pooling
        if func in PTFLOPS and not is_plane_mean:
            self.elementwise += PTFLOPS[func] * args[0].numel()
        has_bias = func is aten.convolution.default and args[2] is not None
        if has_bias or func is aten.addmm.default:
            self.elementwise += result.numel()
        return result

    def step(self, change: int) -> None:
        """Enter a one-bit layer, or leave it."""
        self.depth += change


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
    flip: bool = False,
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
        flip: whether the mirrored image is described too.
        precision: float32 as stored, or autocast to another type.
        threads: of torch on a CPU; 0 means one per processor.
        warm_up: batches before the first of the `runs` that count.
        most_seconds: after this long no further batch is begun, but `LEAST_RUNS` are finished;
            a tenth of it is for the warm-up.
    """
    device, threads = next(model.parameters()).device, threads or usable_cpus()
    size = (ROTATING_INPUTS, batch_size, image_size, image_size, 3)
    batches = torch.randint(0, 256, size, dtype=torch.uint8)
    dtype = getattr(torch, precision)

    def describe(number: int) -> None:
        images = batches[number % ROTATING_INPUTS]
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            cast(Any, model).describe(normalize(images.to(device)), flip=flip)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with inference(model), ExitStack() as afterwards:
        afterwards.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(threads)
        # What libraries keep from the first batch on is no part of what describing takes.
        warmed = _timed(describe, 1, most_seconds / 10, least=1)
        with _peak(device) as peak:
            warmed += _timed(describe, warm_up - 1, most_seconds / 10, least=0)
            milliseconds = _timed(describe, runs, most_seconds, least=LEAST_RUNS)
    return Speed(
        device=device_name(device),
        precision=precision,
        threads=threads if device.type == "cpu" else 0,
        image_size=image_size,
        batch_size=batch_size,
        warm_up=len(warmed),
        runs=len(milliseconds),
        median_ms=round(median(milliseconds), 4),
        least_ms=round(min(milliseconds), 4),
        most_ms=round(max(milliseconds), 4),
        peak_memory_mib=None if peak[0] is None else round(peak[0], 1),
    )


def _timed(
    describe: Callable[[int], None], runs: int, most_seconds: float, *, least: int
) -> list[float]:
    """Return the milliseconds of each batch."""
    milliseconds: list[float] = []
    begin = time.perf_counter()
    while len(milliseconds) < runs:
        start = time.perf_counter()
        if len(milliseconds) >= least and start - begin > most_seconds:
            break
        describe(len(milliseconds))
        milliseconds.append(1000 * (time.perf_counter() - start))
    return milliseconds


def device_name(device: torch.device) -> str:
    """Return what the device is sold as."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError):
        named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if named:
            return named[1]
    return device.type


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
    before_mib = None
    with suppress(OSError, AttributeError):
        # Hand freed memory back, and let Linux forget the process's peak.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before_mib = _status_mib("VmRSS")
    yield found
    highest = _status_mib("VmHWM")
    if before_mib is not None and highest is not None and highest > before_mib:
        found[0] = highest - before_mib  # else more was taken from the process than it took


def _status_mib(name: str) -> float | None:
    """Read one amount of memory of this process, where the system tells it."""
    with suppress(OSError):
        status = Path("/proc/self/status").read_text()
        if found := re.search(rf"^{name}:\s*(\d+) kB$", status, re.MULTILINE):
            return int(found[1]) / 1024
    return None
