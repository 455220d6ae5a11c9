"""How a verb ends: its mistakes become one sentence on stderr and an exit code."""

import atexit
import gc
import logging
import os
import sys
from collections.abc import Callable

from data_shards.errors import SkyDistillError

OUR_PACKAGES = ("data_shards", "distill", "evaluation", "launch")
"""Their log lines are shown; of libraries only warnings are."""


def run_verb(verb: Callable[[], int]) -> int:
    """Call a verb with logging set up, and tell a `SkyDistillError` without a traceback."""
    # A process that has imported torch and mlflow spends over a second looking for garbage in them
    # before it ends; the system frees it all at once.
    atexit.register(gc.freeze)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    for package in OUR_PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO)
    try:
        return verb()
    except SkyDistillError as error:
        sys.stderr.write(f"skydistill: {error}\n")
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("skydistill: stopped\n")
        return 130
