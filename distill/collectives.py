"""Where ranks meet: the only file that speaks torch.distributed; alone, all is the identity."""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx

from data_shards.errors import SkyDistillError
from distill.launched import launched_rank

_FAILED_RANKS = "failed_ranks"

MOST_SECONDS_BETWEEN_LOOKS = 1.0


def world_size() -> int:
    """Return the number of ranks that run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, 0 to `world_size()` - 1."""
    return dist.get_rank() if dist.is_initialized() else 0


def available_backends() -> list[str]:
    """Return through what ranks can talk with this torch, of `gloo` and `nccl`."""
    return [name for name in ("gloo", "nccl") if dist.is_backend_available(name)]


def gather_with_grad(part: Tensor) -> Tensor:
    """Concatenate every rank's [B, ...] to [W * B, ...], with gradients back to every rank.

    Each rank's loss is the mean over its own rows; DDP averages gradients over ranks, and the
    backward pass here sums what all ranks say of this rank's rows, so the result is the gradient
    of the mean over the global batch, exactly (spec performance 4.1).
    """
    return cast(Tensor, _Gather.apply(part)) if world_size() > 1 else part


class _Gather(torch.autograd.Function):
    """All-gather forward; all-reduce of the gradients, then this rank's slice, backward."""

    @staticmethod
    def forward(ctx: FunctionCtx, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part) for _ in range(world_size())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ANN401 - torch types ctx as Any
        # A copy: autograd may hand the same tensor to others.
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        own = len(grad) // world_size()
        return grad[rank() * own : (rank() + 1) * own]


def average(tensors: Sequence[Tensor]) -> None:
    """Give every rank the mean over ranks of each of these tensors, of one type; one collective."""
    if world_size() > 1 and tensors:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        means = (flat / world_size()).split([tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean.view_as(tensor))


def gather_objects(part: Any) -> list[Any]:  # noqa: ANN401 - whatever a rank says
    """Return what every rank passed, in the order of ranks."""
    parts = [part] * world_size()
    if len(parts) > 1:
        dist.all_gather_object(parts, part)
    return parts


def gather_arrays(part: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Return every rank's array, in the order of ranks; their lengths may differ."""
    return gather_objects(np.ascontiguousarray(part))


def sum_integers(part: Tensor) -> Tensor:
    """Return the sum of every rank's integers, exactly; all ranks pass the same shape."""
    assert not part.is_floating_point(), "sums of floats depend on the order of ranks"
    if world_size() == 1:
        return part
    total = part.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def begin_any(
    said: bool,  # noqa: FBT001 - it is what is asked
    timeout: timedelta | None = None,
) -> Callable[[], bool]:
    """Begin to ask whether any rank says so; the answer is what is returned, called a step later.

    By then every rank has begun its own step, so nobody waits for the answer. It never touches a
    GPU, whose queue the host would have to wait for. The answer raises a RuntimeError when another
    rank is silent for longer than `timeout`.
    """
    if world_size() == 1:
        return lambda: said
    answer = torch.tensor([said], dtype=torch.uint8)
    work = dist.all_reduce(answer, op=dist.ReduceOp.MAX, group=_host_group(timeout), async_op=True)
    assert work is not None, "this rank is of the group"

    def read() -> bool:
        work.wait()
        return answer.tolist() == [1]

    return read


@cache
def _host_group(timeout: timedelta | None) -> dist.ProcessGroup:
    """Return a group of all ranks that talks between hosts; the first call is one of all ranks."""
    return cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=timeout))


def first_problem(problem: str | None) -> str | None:
    """Return the problem of the lowest rank that has one, the same on every rank; None if none."""
    return next((found for found in gather_objects(problem) if found is not None), None)


def broadcast_object(value: Any) -> Any:  # noqa: ANN401 - whatever rank 0 says
    """Return what rank 0 passed, on every rank: one look at a disk decides for all."""
    said = [value]
    if world_size() > 1:
        dist.broadcast_object_list(said, src=0)
    return said[0]


def is_first_to_fail() -> bool:
    """Return whether no other rank asked this before; ranks that never met leave it to rank 0.

    The store the ranks met at lives in the launcher, so it answers when a rank has gone.
    """
    if not dist.is_initialized():
        return launched_rank() == 0
    try:
        return bool(dist.distributed_c10d._get_default_store().add(_FAILED_RANKS, 1) == 1)
    except RuntimeError:  # the launcher is gone too: better told twice than never
        return True


def wait_for_slow_ranks(what: str) -> None:
    """Return when every rank has come here, however long one takes over something of its own.

    A barrier gives up after some minutes, and a node with a slow line may fetch for an hour. Each
    `what` is waited for once in a process. When a rank fails meanwhile, the others leave.
    """
    if world_size() == 1:
        return
    store = dist.distributed_c10d._get_default_store()
    pause_s, there = 0.01, store.add(what, 1)
    while there < world_size():
        if store.add(_FAILED_RANKS, 0):
            raise SkyDistillError(f"another rank failed before all had their {what}")
        time.sleep(pause_s)
        pause_s, there = min(2 * pause_s, MOST_SECONDS_BETWEEN_LOOKS), store.add(what, 0)


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Give every rank what rank 0 has in these tensors, as DDP does with weights and buffers."""
    if world_size() > 1 and (values := [tensor.detach() for tensor in tensors]):
        everyone = dist.distributed_c10d._get_default_group()
        dist._broadcast_coalesced(everyone, values, 2**28, 0)  # type: ignore[attr-defined]


def wait_for_all() -> None:
    """Return when every rank has come here."""
    if world_size() > 1:
        dist.barrier()


def destroy_process_group() -> None:
    """Take the process group down, so that no rank waits for another at exit."""
    if dist.is_initialized():
        _host_group.cache_clear()
        dist.destroy_process_group()
