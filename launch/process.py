"""Child processes: the only file that starts any."""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any

from data_shards.progress import PROGRESS_VARIABLE

OnProgress = Callable[[dict[str, Any]], None]
"""Called with every progress line of a child: title, unit, done, total, facts."""


def run_logged(
    argv: Sequence[str],
    *,
    log_file: Path,
    environment: Mapping[str, str],
    on_progress: OnProgress,
) -> int:
    """Run a command to its end, its output in `log_file`, and return its exit code.

    Ctrl-C and SIGTERM reach the child as SIGTERM, which makes a training save what it has; its
    output is read until it is gone.
    """
    variables = {**os.environ, **environment, PROGRESS_VARIABLE: "json", "PYTHONUNBUFFERED": "1"}
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("a") as log, _sigterm_as_interrupt():
        log.write(f"$ {shlex.join(argv)}\n")
        child = subprocess.Popen(
            argv,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert child.stdout is not None, "asked for a pipe"
        try:
            _read(child.stdout, log, on_progress)
        except KeyboardInterrupt:
            os.killpg(child.pid, signal.SIGTERM)
            _read(child.stdout, log, on_progress)
            raise
        finally:
            child.wait()
        return child.returncode


def run_captured(argv: Sequence[str], *, text: str = "") -> tuple[int, str]:
    """Run a short command that reads `text`, and return its exit code and all that it said.

    A command that is not installed ends as in a shell, with 127.
    """
    try:
        ended = subprocess.run(
            argv, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError:
        return 127, f"{argv[0]}: command not found"
    return ended.returncode, ended.stdout.strip()


def _read(output: IO[str], log: IO[str], on_progress: OnProgress) -> None:
    """Read a child's output to its end: progress to its listener, all else to the log."""
    for line in output:
        try:
            progress = json.loads(line) if line.startswith('{"progress"') else None
        except ValueError:
            progress = None
        if progress is None:
            log.write(line)
            log.flush()
        else:
            on_progress(progress)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let a SIGTERM to this process end it as Ctrl-C does, child included."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
