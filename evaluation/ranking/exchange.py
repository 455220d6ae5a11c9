"""What ranks tell each other while they count; one that counts alone tells nobody."""

from collections.abc import Callable
from typing import Protocol, TypeVar, cast

from torch import Tensor


class Exchange(Protocol):
    """Meetings of all ranks, the same on each; every rank comes to all of them."""

    def gather(self, part: Tensor) -> Tensor:
        """Concatenate every rank's tensor [any, ...] in the order of ranks."""

    def sum(self, part: Tensor) -> Tensor:
        """Add every rank's integers, exactly."""

    def first_problem(self, problem: str | None) -> str | None:
        """Return the problem of the lowest rank that has one, the same on every rank."""


class Alone:
    """The exchange of one process."""

    def gather(self, part: Tensor) -> Tensor:
        """Return the only part there is."""
        return part

    def sum(self, part: Tensor) -> Tensor:
        """Return the only summand there is."""
        return part

    def first_problem(self, problem: str | None) -> str | None:
        """Return the only problem there is."""
        return problem


T = TypeVar("T")

FAILURES = (ValueError, OSError, RuntimeError, MemoryError, AssertionError)
"""What a rank tells the others before it ends, or they would wait for it."""


def work_and_meet(exchange: Exchange, work: Callable[[], T]) -> T:
    """Do this rank's work; when a rank's fails, all raise its error instead of waiting for it.

    Raises:
        ValueError: that of the lowest rank that failed, whatever kind of error it was there.
        Exception: this rank's own, where it is of another kind.
    """
    problem, own, done = None, None, None
    try:
        done = work()
    except FAILURES as error:
        own, problem = error, str(error) or type(error).__name__
    problem = exchange.first_problem(problem)
    if own is not None and not isinstance(own, ValueError):
        raise own
    if problem is not None:
        raise ValueError(problem)
    return cast(T, done)
