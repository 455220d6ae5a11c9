"""SIGTERM, SIGUSR1, SIGUSR2 or a file raise a flag; all ranks stop at one step."""

import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Self

from distill.collectives import begin_any, world_size

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class StopFlag:
    """Raised by a signal on any rank, or by a file, and seen by every rank in the same step.

    Inside `with`, the signals raise the flag; behind it they mean again what they meant before.
    """

    def __init__(self, file: Path | None = None, *, timeout: timedelta | None = None) -> None:
        """Start lowered; on the rank that is given one, `file` raises the flag as a signal does.

        A rank that hears nothing of the others for longer than `timeout` fails.
        """
        self.raised = False
        self._file, self._timeout = file, timeout
        self._before: dict[signal.Signals, Any] = {}
        self._answer: Callable[[], bool] = lambda: False

    def __enter__(self) -> Self:
        """Take over the signals of this process."""
        self._before = {name: signal.signal(name, self._raise) for name in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for name, handler in self._before.items():
            # None is a handler that was not set from Python, so Python cannot set it again.
            signal.signal(name, signal.SIG_DFL if handler is None else handler)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.raised = True

    def seen_by_any_rank(self) -> bool:
        """Return whether a rank was told to stop; every rank must ask in every step.

        Ranks hear of each other a step late, so that none waits for another: all see a signal in
        the step that follows the one it came in.
        """
        self.raised = self.raised or (self._file is not None and self._file.exists())
        before, self._answer = self._answer, begin_any(self.raised, self._timeout)
        return self._answer() if world_size() == 1 else before()
