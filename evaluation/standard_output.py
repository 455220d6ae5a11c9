"""What the numbers are told on."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from data_shards.errors import DescriptorError


@contextmanager
def standard_output() -> Iterator[TextIO]:
    """Yield standard output, and see that what was written has left this process.

    Who reads it may leave early: files are still to be written, so that is no error.

    Raises:
        DescriptorError: its disk is full.
    """
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        # What is left would be written once more at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise DescriptorError(
                f"the numbers cannot be printed ({error.strerror}); print them elsewhere, or read "
                "them in the report"
            ) from error
