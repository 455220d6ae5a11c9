"""The commands of evaluation; `evaluate` and `index` alone or under `accelerate launch`."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from data_shards.errors import DescriptorError, RecipeError, SkyDistillError
from data_shards.manifest import write_text_aside
from data_shards.recipe import parse_command
from data_shards.verbs import run_verb
from distill.collectives import destroy_process_group, is_first_to_fail
from distill.launched import launched_rank, launched_world_size
from evaluation.config import CompareConfig, EvaluateConfig, ModelsConfig
from evaluation.output_files import writing
from evaluation.own_map.config import IndexConfig, QueryConfig
from evaluation.report import read_report

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

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
            is_path = Path(word).exists() and ("/" in word or name != "dataset")
            if is_path and not config.reports:
                raise RecipeError(
                    f"{word} was taken for a word of --{name}; give reports before the options"
                )
    from evaluation.compare.collect import collect
    from evaluation.compare.comparison import compare_runs
    from evaluation.compare.tables import written

    entries, left_out = collect(config)
    table = compare_runs(entries, config, left_out)
    is_styled = config.out is None and sys.stdout.isatty()
    text = written(table, config.chosen_format, left_out=left_out, is_styled=is_styled)
    if config.out is None:
        sys.stdout.write(text)
    else:
        _write_file(text, config.out, option="--out")
    if config.html is not None:
        from evaluation.compare.page import html

        _write_file(html(table, config.metrics[0], left_out), config.html, option="--html")
    for line in left_out:
        log.info("%s", line)
    if config.figures is not None:
        from evaluation.compare.page import draw

        draw(table, config.metrics[0], folder=config.figures)
    return 0


def _write_file(text: str, path: Path, *, option: str) -> None:
    """Write a comparison to a file, aside first; never over a report."""
    with suppress(DescriptorError):  # which says that it is none
        read_report(path)
        raise RecipeError(f"{path} is a report of an evaluation; give another {option}")
    with writing(path, option=option):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_aside(path, text)
    log.info("comparison: %s", path)


def models(argv: Sequence[str]) -> int:
    """List every model with what it costs."""
    config = parse_command(ModelsConfig, argv, prog="skydistill models", positionals=["names"])
    from evaluation.efficiency.models import list_models

    list_models(config)
    return 0


def index(argv: Sequence[str]) -> int:
    """Describe the tiles of maps, for `query`."""
    with one_rank_speaks():
        names = ["maps", "out"]
        config = parse_command(IndexConfig, argv, prog="skydistill index", positionals=names)
        with extra_maps():
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
    with extra_maps():
        from evaluation.own_map.answers import tell_places

    tell_places(config, join_launched_ranks())
    return 0


@contextmanager
def extra_maps() -> Iterator[None]:
    """Say in one sentence which library of the extra `maps` is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"maps need {error.name}, which is not installed; install skydistill[maps]"
        ) from error


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
