"""The commands `evaluate` and `index`, alone or under `accelerate launch`, and `query`."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from data_shards.errors import SkyDistillError
from data_shards.recipe import parse_command
from data_shards.verbs import run_verb
from distill.collectives import destroy_process_group, is_first_to_fail
from distill.launched import launched_rank, launched_world_size
from evaluation.config import EvaluateConfig
from evaluation.own_map.config import IndexConfig, QueryConfig

if TYPE_CHECKING:
    import torch

BUG = 1
"""Exit code of a mistake of ours."""


def run_evaluate() -> int:
    """Be `evaluation/run.py`."""
    return run_verb(lambda: evaluate(sys.argv[1:]))


def evaluate(argv: Sequence[str]) -> int:
    """Measure a trained model on a test set, in every direction, or the descriptors of a file."""
    with one_rank_speaks():
        config = parse_command(EvaluateConfig, argv, prog="skydistill evaluate")
        if config.features is None:
            from evaluation.evaluate import evaluate_model

            evaluate_model(config, join_launched_ranks())
            destroy_process_group()
        elif launched_rank() == 0:
            from evaluation.features import evaluate_features

            evaluate_features(config)
    return 0


def index(argv: Sequence[str]) -> int:
    """Describe the tiles of maps, for `query`."""
    with one_rank_speaks():
        names = ["maps", "out"]
        config = parse_command(IndexConfig, argv, prog="skydistill index", positionals=names)
        from evaluation.own_map.index import index_maps

        index_maps(config, join_launched_ranks())
        destroy_process_group()
    return 0


def query(argv: Sequence[str]) -> int:
    """Say where photographs were taken, by an index of the map."""
    # A latitude in the south looks like an option.
    words = [f"{a}={b}" if a == "--near" else a for a, b in zip(argv, [*argv[1:], ""], strict=True)]
    words = [word for word, before in zip(words, ["", *argv], strict=False) if before != "--near"]
    names = ["index", "photos"]
    config = parse_command(QueryConfig, words, prog="skydistill query", positionals=names)
    from evaluation.own_map.answers import tell_places

    tell_places(config, join_launched_ranks())
    return 0


def join_launched_ranks() -> "torch.device":
    """Join the other processes if this one was launched with some; return where to compute.

    Raises:
        WorldSizeError: the processes that run are not those launched.
    """
    import torch

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
