"""Goal T6 (GPU): seconds until a compiled training step is as fast as it stays.

Two fresh processes, one after the other: the first compiles, the second finds what torch kept on
disk (in `--kept FOLDER`, which is empty before, else in one that is removed). Counted from the
first step, after model and batches lie on the device, to the end of the first of three steps in a
row that take at most 1.1 times the median of the last ten. `--toy` shrinks the model; a CPU
compiles nothing.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from c1_training import SEED, TOY, Scale, Trainer, unchanged
from line import report

FIRST_MUST, SECOND_MUST = 60.0, 20.0
STEPS, LAST, STEADY, IN_A_ROW = 40, 10, 1.1, 3


def start(scale: Scale, *, num_steps: int) -> dict[str, float]:
    """Train for some steps; return when they became steady, and how fast they then are."""
    trainer = Trainer(scale, image_size=scale.sizes[0], teacher=None)
    trainer.wait()
    ends = [time.perf_counter()]
    for number in range(num_steps):
        trainer.train(number, unchanged)
        trainer.wait()
        ends.append(time.perf_counter())
    steps = [end - begin for begin, end in zip(ends, ends[1:], strict=False)]
    bound = STEADY * median(steps[-LAST:])
    steady = next(
        (at for at in range(num_steps - IN_A_ROW + 1) if max(steps[at : at + IN_A_ROW]) <= bound),
        num_steps - 1,
    )
    return {
        "seconds": round(ends[steady + 1] - ends[0], 2),
        "first step s": round(steps[0], 2),
        "steps": steady + 1,
        "ms": round(1000 * median(steps[-LAST:]), 1),
    }


def in_a_fresh_process(words: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Run this script once more; it prints what `start` returns."""
    begun = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, __file__, "--one-start", *words],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found | {"process s": round(time.perf_counter() - begun, 2)}


def main() -> int:
    """Start twice, and print one line."""
    words = sys.argv[1:]
    has_gpu, is_toy = torch.cuda.is_available(), "--toy" in words
    if "--one-start" in words:
        scale, num_steps = (TOY, IN_A_ROW) if is_toy else (Scale(), STEPS)
        print(json.dumps(start(scale, num_steps=num_steps)))
        return 0
    if not (has_gpu or is_toy):
        print("T6 needs a CUDA device, and there is none here", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(words[words.index("--kept") + 1] if "--kept" in words else folder)
        assert not kept.is_dir() or not any(kept.iterdir()), f"{kept} must be empty"
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(kept)}
        first, second = (in_a_fresh_process(words, environment) for _ in range(2))
    device = torch.cuda.get_device_name() if has_gpu else "cpu"
    value = {"device": device, "torch": torch.__version__, "toy": is_toy}
    value |= {"first start": first, "second start": second}
    must = f"first <= {FIRST_MUST:.0f} s, second <= {SECOND_MUST:.0f} s"
    passed = first["seconds"] <= FIRST_MUST and second["seconds"] <= SECOND_MUST
    code = report("T6", value=value, must=must, passed=passed, seed=SEED)
    return 0 if is_toy else code


if __name__ == "__main__":
    sys.exit(main())
