"""What the loop waits for and how it is stopped: a part of what on_two_ranks.py sees."""

import os
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.ranks import open_untracked
from data_shards.errors import CheckpointError
from data_shards.progress import show_progress
from distill import attempt, checkpoint_writer
from distill import train as loop
from distill.config import DistillConfig, ModelConfig, ObjectivesConfig, ScheduleConfig
from distill.config.objectives import CrossEntropyConfig, InfoNceConfig, TripletConfig
from distill.preemption import SIGNALS, StopFlag
from distill.run_folder import RunPaths, read_exit
from distill.train import train

READS = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2")
COLLECTIVES = (
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "gather_object",
    "monitored_barrier",
    "reduce",
    "reduce_scatter_tensor",
)


def stop_answers(accelerator: Accelerator, out: Path) -> tuple[list[bool], float]:
    """Ask four times, rank 1 raised from the second on and late; and how long this rank asked."""
    flag, answers = StopFlag(out / "STOP" if accelerator.is_main_process else None), []
    answers.append(flag.seen_by_any_rank())
    accelerator.wait_for_everyone()
    if accelerator.process_index == 1:
        time.sleep(1.0)
        flag.raised = True
    started = time.monotonic()
    answers.append(flag.seen_by_any_rank())
    seconds = time.monotonic() - started
    answers.append(flag.seen_by_any_rank())
    return answers, seconds


class HostReads(TorchDispatchMode):
    """Counts what would stop the host on a GPU: numbers read, and shapes that depend on them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in READS:
            ours = [f for f in traceback.extract_stack() if "/distill/" in f.filename]
            frames = {frame.filename.rpartition("/")[2] for frame in traceback.extract_stack()}
            # Adam counts its steps in a tensor that lies on the host wherever the parameters are.
            if "adam.py" not in frames:
                self.seen.append(f"{name} below {ours[-2].name}: {ours[-2].line}")
        return func(*args, **(kwargs or {}))


def short_run(config: DistillConfig, out: Path, *, num_steps: int) -> DistillConfig:
    """Return a recipe whose only line is its last."""
    terms = {"info_nce": InfoNceConfig(weight=1.0), "triplet": TripletConfig(weight=1.0)}
    return replace(
        config,
        out=out,
        role="alone",
        data=replace(config.data, global_batch=8, validation_fraction=0, threads=1),
        model=ModelConfig(arch="convnext_micro", weights="none", bottleneck=0),
        objectives=ObjectivesConfig(**terms, cross_entropy=CrossEntropyConfig(weight=1.0)),
        schedule=ScheduleConfig(num_steps=num_steps, warmup_steps=1),
        log_every_steps=num_steps,
        save_every_steps=num_steps,
    )


def stopped_runs(config: DistillConfig, out: Path) -> list[dict[str, object]]:
    """Stop one run in every way there is, behind steps 2, 5, 8, 11; tell how each attempt ended.

    Signals reach rank 1 alone, which writes no record; the file is there for all to see.
    """
    config = replace(short_run(config, out / "stopped", num_steps=14), probe_every_steps=1)
    paths, ends = RunPaths(config.run_folder), []
    for how in (*SIGNALS, "STOP", None):
        session = open_untracked(config)
        is_rank_1, begun = session.accelerator.process_index == 1, session.state.step

        def stop(
            model: nn.Module,
            step: int,
            how: object = how,
            at: int = begun + 2,
            is_rank_1: bool = is_rank_1,
        ) -> dict[str, float]:
            if step == at and is_rank_1 and isinstance(how, signal.Signals):
                os.kill(os.getpid(), how)
            elif step == at and is_rank_1 and how == "STOP":
                paths.stop.touch()
            return {}

        is_done = attempt._run(session, [stop])
        record, saved = read_exit(paths.folder), sorted(paths.checkpoints.iterdir())[-1].name
        assert record is not None
        ends.append(
            {"begun": begun, "is_done": is_done, "step": session.state.step, "saved": saved}
            | {"code": record["code"], "recorded": record["step"]}
            | {"file": paths.stop.exists()}
        )
        session.accelerator.wait_for_everyone()
    return ends


def run_on_a_full_disk(config: DistillConfig, out: Path) -> list[str]:
    """Train on while rank 0, which writes, has no room; tell the checkpoints there are in the end.

    And what every rank is told when it must save and cannot.
    """
    config = replace(short_run(config, out / "full", num_steps=4), save_every_steps=1)
    session = open_untracked(config)
    write = checkpoint_writer.save_file

    def write_or_not(tensors: dict[str, Tensor], path: Path) -> None:
        if path.parent.name.removesuffix(".partial")[-1] in "239":
            raise OSError(28, "No space left on device")
        write(tensors, path)

    with (
        mock.patch.object(checkpoint_writer, "save_file", write_or_not),
        show_progress("training", enabled=False) as progress,
    ):
        train(session, probes=[], progress=progress, flag=StopFlag())
        told = "it was saved"
        try:
            session.checkpoints.save(replace(session.state, step=9), must_succeed=True)
        except CheckpointError as error:
            told = str(error)
    session.accelerator.wait_for_everyone()
    return [*sorted(path.name for path in session.paths.checkpoints.iterdir()), told]


def waits_of_the_loop(config: DistillConfig, out: Path) -> dict[str, object]:
    """Train 21 steps without a line before the last; tell what the host waited for meanwhile."""
    config = short_run(config, out / "waits", num_steps=21)
    called: Counter[str] = Counter()
    per_step: list[dict[str, int]] = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **kwargs: Any) -> Any:
            called[name + (" begun" if kwargs.get("async_op") else "")] += 1
            return call(*args, **kwargs)

        return count

    class Watch(StopFlag):
        def seen_by_any_rank(self) -> bool:
            stopped = super().seen_by_any_rank()
            per_step.append(dict(called))
            called.clear()
            return stopped

    with ExitStack() as stack:
        progress = stack.enter_context(show_progress("training", enabled=False))
        session = open_untracked(config)
        for name in COLLECTIVES:
            stack.enter_context(mock.patch.object(dist, name, counted(name, getattr(dist, name))))
        reads = stack.enter_context(HostReads())
        before_the_line: list[str] = []
        finite = loop._finite_means

        def look(*args: Any) -> Any:
            before_the_line.extend(reads.seen)
            return finite(*args)

        stack.enter_context(mock.patch.object(loop, "_finite_means", look))
        train(session, probes=[], progress=progress, flag=Watch())
    return {"per_step": per_step[:20], "reads": before_the_line}
