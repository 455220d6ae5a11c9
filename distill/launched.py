"""What the launcher's environment says of this process, before any group of ranks exists."""

import logging
import os

log = logging.getLogger(__name__)


def launched_rank() -> int:
    """Return the rank the launcher gave this process."""
    return int(os.environ.get("RANK", "0"))


def launched_world_size() -> int:
    """Return how many processes the launcher says it started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_one_of_several_unstarted() -> bool:
    """Return whether accelerate was asked for several processes and started only this one.

    `accelerate launch --cpu --num_processes 2` does so without a word (1.15); what betrays it is
    a meeting point in the environment and no world size.
    """
    env = os.environ
    return "ACCELERATE_MIXED_PRECISION" in env and "MASTER_ADDR" in env and "WORLD_SIZE" not in env


def is_launched_by_deepspeed() -> bool:
    """Return whether accelerate was told to train by DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true"


def ranks_on_this_node() -> int:
    """Return how many ranks share this machine's processors."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def log_on_rank_zero(line: str) -> None:
    if launched_rank() == 0:
        log.info("%s", line)
