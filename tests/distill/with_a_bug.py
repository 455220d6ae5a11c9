"""Started by `accelerate launch` in test_cli.py: training in which rank 1 meets a bug of ours."""

import os
import sys
from unittest import mock

from data_shards.verbs import run_verb
from distill import cli, step


def stumble(*_: object) -> None:
    if os.environ["RANK"] == "1":
        raise ZeroDivisionError("a bug on rank 1")


if __name__ == "__main__":
    with mock.patch.object(step, "weigh", stumble), mock.patch("distill.train.weigh", stumble):
        sys.exit(run_verb(lambda: cli.train(sys.argv[1:])))
