"""How many processors this process may use: one answer for every stage."""

import os


def usable_cpus() -> int:
    """Return the processors of this process: its own share where the system grants one, else all.

    A batch system gives a job some of a machine's processors; counting them all would start too
    many threads.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
