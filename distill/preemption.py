"""SIGTERM, SIGUSR1 and SIGUSR2 become a flag that the loop asks for; all ranks stop at one step."""

import signal
from types import FrameType

from accelerate import Accelerator

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class StopFlag:
    """Raised by a signal on any rank, seen by every rank in the same step."""

    def __init__(self) -> None:
        """Take over the signals of this process."""
        self.raised = False
        for name in SIGNALS:
            signal.signal(name, self._raise)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.raised = True

    def seen_by_any_rank(self, accelerator: Accelerator) -> bool:
        """Return whether a rank was told to stop; every rank must ask in every step."""
        if self.raised:
            accelerator.set_trigger()
        return bool(accelerator.check_trigger())
