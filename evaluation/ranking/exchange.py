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


def work_and_meet(exchange: Exchange, work: Callable[[], T]) -> T:
    """Do this rank's work; when a rank's fails, all raise its error instead of waiting for it.

    Raises:
        ValueError: that of the lowest rank that failed.
    """
    problem, done = None, None
    try:
        done = work()
    except ValueError as error:
        problem = str(error)
    problem = exchange.first_problem(problem)
    if problem is not None:
        raise ValueError(problem)
    return cast(T, done)
