"""Command lines, as pure functions: what a person would type."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CPU_LAUNCH = Path("configs/accelerate/cpu.yaml")

SKYDISTILL = (sys.executable, "-m", "launch.main")
ACCELERATE_LAUNCH = (sys.executable, "-m", "accelerate.commands.launch")


def verb_argv(verb: str, *words: object) -> list[str]:
    """Return the command of one verb in one process."""
    return [*SKYDISTILL, verb, *map(str, words)]


def accelerate_argv(
    module: str, words: Sequence[object], *, config: Path, processes: int
) -> list[str]:
    """Return `accelerate launch` of a door, as a module so that it needs no checkout."""
    launch = ("--config_file", str(config), "--num_processes", str(processes), "-m", module)
    return [*ACCELERATE_LAUNCH, *launch, *map(str, words)]


def as_typed(argv: Sequence[str], *, environment: Mapping[str, str]) -> str:
    """Return a command as the README would print it, quoted for a shell."""
    words, long = list(argv), len(SKYDISTILL)
    for started, typed in (
        (SKYDISTILL, ["skydistill"]),
        (ACCELERATE_LAUNCH, ["accelerate", "launch"]),
    ):
        if tuple(words[:long]) == started:
            words = [*typed, *words[long:]]
    return " ".join(
        [*(f"{name}={value}" for name, value in environment.items()), shlex.join(words)]
    )
