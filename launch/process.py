"""Child processes: the only file that starts any."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_shards.progress import PROGRESS_VARIABLE

OnProgress = Callable[[dict[str, Any]], None]
"""Called with every progress line of a child: title, unit, done, total, facts."""


def run_logged(
    argv: Sequence[str], *, log_file: Path, environment: Mapping[str, str], on_progress: OnProgress
) -> int:
    """Run a command to its end, its output in `log_file`, and return its exit code.

    A child that is interrupted with us is given the time to save what it has.
    """
    variables = {**os.environ, **environment, PROGRESS_VARIABLE: "json", "PYTHONUNBUFFERED": "1"}
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("a") as log:
        log.write(f"$ {' '.join(argv)}\n")
        child = subprocess.Popen(
            argv, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert child.stdout is not None, "asked for a pipe"
        try:
            for line in child.stdout:
                progress = _progress(line)
                if progress is None:
                    log.write(line)
                    log.flush()
                else:
                    on_progress(progress)
            return child.wait()
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                child.wait()


def _progress(line: str) -> dict[str, Any] | None:
    """Return the progress that a line tells, or None for any other line."""
    if not line.startswith('{"progress"'):
        return None
    try:
        return dict(json.loads(line))
    except ValueError:
        return None
