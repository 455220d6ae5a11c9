"""Command lines, as pure functions: what a person would type."""

import sys
from collections.abc import Sequence
from pathlib import Path

CPU_LAUNCH = Path("configs/accelerate/cpu.yaml")


def verb_argv(verb: str, *words: object) -> list[str]:
    """Return the command of one verb in one process."""
    return [sys.executable, "-m", "launch.main", verb, *map(str, words)]


def accelerate_argv(
    module: str, words: Sequence[object], *, config: Path, processes: int
) -> list[str]:
    """Return `accelerate launch` of a door, as a module so that it needs no checkout."""
    return [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(config), "--num_processes", str(processes)),
        *("-m", module),
        *map(str, words),
    ]


def as_typed(argv: Sequence[str]) -> str:
    """Return a command as the README would print it."""
    line = " ".join(argv)
    line = line.replace(f"{sys.executable} -m launch.main", "skydistill")
    return line.replace(f"{sys.executable} -m accelerate.commands.launch", "accelerate launch")
