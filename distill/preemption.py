"""SIGTERM, SIGUSR1 and SIGUSR2 become a flag that the loop asks for; all ranks stop at one step."""

import signal
from types import FrameType
from typing import Any, Self

from accelerate import Accelerator

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class StopFlag:
    """Raised by a signal on any rank, seen by every rank in the same step.

    Inside `with`, the signals raise the flag; behind it they mean again what they meant before.
    """

    def __init__(self) -> None:
        """Start lowered."""
        self.raised = False
        self._before: dict[signal.Signals, Any] = {}

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

    def seen_by_any_rank(self, accelerator: Accelerator) -> bool:
        """Return whether a rank was told to stop; every rank must ask in every step."""
        if self.raised:
            accelerator.set_trigger()
        return bool(accelerator.check_trigger())
