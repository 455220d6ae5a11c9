"""One evaluation on several ranks: joined if they were launched, and one of them speaks."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from data_shards.errors import SkyDistillError
from distill.collectives import is_first_to_fail
from distill.launched import launched_world_size

BUG = 1
"""Exit code of a mistake of ours."""


def join_launched_ranks() -> torch.device:
    """Join the other processes if this one was launched with some; return where to compute.

    Raises:
        WorldSizeError: the processes that run are not those launched.
    """
    if launched_world_size() > 1:
        from distill.session import join_ranks

        device: torch.device = join_ranks().device
        return device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def one_rank_speaks() -> Iterator[None]:
    """Let the first rank that fails tell why; what follows on the others is its echo."""
    try:
        yield
    except Exception as error:
        if is_first_to_fail():
            raise
        code = error.exit_code if isinstance(error, SkyDistillError) else BUG
        raise SystemExit(code) from error
