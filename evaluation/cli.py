"""The commands `skydistill evaluate`, alone or by `accelerate launch`, `compare` and `models`."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from data_shards.errors import RecipeError, SkyDistillError, require_known
from data_shards.layouts.published import PUBLISHED
from data_shards.recipe import parse_command
from data_shards.verbs import run_verb
from distill.collectives import destroy_process_group, is_first_to_fail
from distill.launched import launched_rank, launched_world_size
from evaluation.config import CompareConfig, EvaluateConfig, ModelsConfig
from evaluation.report import METRICS

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


def compare(argv: Sequence[str]) -> int:
    """Put finished runs side by side and beside the published numbers."""
    config = parse_command(CompareConfig, argv, prog="skydistill compare", positionals=["reports"])
    for name in ("dataset", "results", "metrics"):
        for word in getattr(config, name):
            if not config.reports and word not in PUBLISHED and Path(word).exists():
                raise RecipeError(
                    f"{word} was taken for a word of --{name}; give reports before the options"
                )
    for metric in config.metrics:
        require_known(metric, METRICS, what="metric", error=RecipeError)
    from evaluation.compare.comparison import write_comparison

    write_comparison(config)
    return 0


def models(argv: Sequence[str]) -> int:
    """List every model with what it costs."""
    config = parse_command(ModelsConfig, argv, prog="skydistill models", positionals=["names"])
    from evaluation.efficiency.models import list_models

    list_models(config)
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
