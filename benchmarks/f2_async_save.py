"""Goal F2: how long training stands still for a checkpoint, against `torch.save` and a memcpy.

ConvNeXt-T with the moments of AdamW, on the CPU. The stall is what `CheckpointWriter.save` takes
where nothing is pending, with the buffers of the snapshot before, and what the optimizer's next
step then waits for the copy; between them lie the forward and backward passes of the next batch, of
one small image. How much longer these take beside the copy is told too, and the longest time that
the main thread did not get to run while the checkpoint was written.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import timm
import torch
from accelerate import Accelerator
from clock import ratio, threads
from line import report
from torch import Tensor, nn
from torch.optim import Optimizer

from distill.checkpoint import RunState, load_checkpoint
from distill.checkpoint_writer import CheckpointWriter
from distill.run_folder import RunPaths

SEED, ROUNDS = 0, 7
MUST_SAVE, MUST_COPY = 0.1, 2.0


def tensors(value: object) -> list[Tensor]:
    """Return every tensor of a nested state."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [tensor for part in parts for tensor in tensors(part)]


def longest_gap(writer: CheckpointWriter) -> tuple[float, float]:
    """Return the longest time without this thread until a checkpoint is written, and that time."""
    begun = before = time.perf_counter()
    gap, pending = 0.0, writer._pending
    assert pending is not None
    while not pending.done():
        now = time.perf_counter()
        gap, before = max(gap, now - before), now
        time.sleep(0.0005)
    return gap, time.perf_counter() - begun


def forward_and_backward(model: nn.Module) -> None:
    """Compute the gradient of a batch."""
    model(torch.ones(1, 3, 128, 128)).square().mean().backward()


def measured(model: nn.Module, optimizer: Optimizer, folder: Path) -> dict[str, list[float]]:
    """Save, save by `torch.save` and copy by turns; return the seconds of each round.

    The first round, in which the writer allocates its buffers, comes first.
    """
    accelerator, paths = Accelerator(cpu=True), RunPaths(folder)
    writer = CheckpointWriter(accelerator, model, optimizer, paths, keep=1)
    state = {"weights": model.state_dict(), "optimizer": optimizer.state_dict()}
    source = tensors(state)
    target = [tensor.clone() for tensor in source]
    names = ("stall", "torch.save", "memcpy", "passes longer by", "gap", "written")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(ROUNDS + 1):
        begun = time.perf_counter()
        forward_and_backward(model)
        alone = time.perf_counter() - begun
        begun = time.perf_counter()
        writer.save(RunState(step=number + 1))
        stall = time.perf_counter() - begun
        begun = time.perf_counter()
        forward_and_backward(model)
        beside = time.perf_counter() - begun - alone
        begun = time.perf_counter()
        writer._wait_for_copy()  # as the optimizer's step does first
        stall += time.perf_counter() - begun
        gap, written = longest_gap(writer)
        assert writer.wait() is None
        begun = time.perf_counter()
        torch.save(state, folder / "sync.pt")
        saved = time.perf_counter()
        for one, other in zip(target, source, strict=True):
            one.copy_(other)
        copied = time.perf_counter()
        values = (stall, saved - begun, copied - saved, beside, gap, written)
        for name, value in zip(names, values, strict=True):
            seconds[name].append(value)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    (newest,) = paths.checkpoints.iterdir()
    load_checkpoint(accelerator, model, optimizer, newest, seed=SEED)
    loaded = model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in expected.items())
    return seconds


def main() -> int:
    """Save by turns and print one line."""
    torch.manual_seed(SEED)
    model = timm.create_model("convnext_tiny", num_classes=701)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    with tempfile.TemporaryDirectory() as folder, threads(1):
        seconds = measured(model, optimizer, Path(folder))
    first, seconds = seconds["stall"][0], {name: all_[1:] for name, all_ in seconds.items()}
    state = tensors({"weights": model.state_dict(), "optimizer": optimizer.state_dict()})
    megabytes = sum(tensor.nbytes for tensor in state) / 1e6
    of_save = ratio(seconds["stall"], seconds["torch.save"])
    of_copy = ratio(seconds["stall"], seconds["memcpy"])
    value = {
        "state MB": round(megabytes),
        "stall / torch.save": of_save,
        "stall / memcpy": of_copy,
        "median ms": {name: round(1000 * median(all_), 1) for name, all_ in seconds.items()},
        "first stall ms": round(1000 * first, 1),
    }
    passed = of_save["median"] <= MUST_SAVE and of_copy["median"] <= MUST_COPY and megabytes >= 300
    must = f"<= {MUST_SAVE} of torch.save and <= {MUST_COPY} memcpy, at least 300 MB"
    return report("F2", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
