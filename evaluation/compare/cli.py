"""The hall of comparison: `skydistill compare`."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from data_shards.errors import DescriptorError, RecipeError
from data_shards.layouts.published import PUBLISHED
from data_shards.manifest import write_text_aside
from data_shards.nearest import choose
from data_shards.recipe import parse_command
from evaluation.compare.config import CompareConfig
from evaluation.compare.export import to_csv, to_json
from evaluation.compare.gather import gather, listed
from evaluation.compare.in_print import tables_in_print
from evaluation.compare.pages import WIDTH
from evaluation.compare.render import latex, markdown, terminal
from evaluation.compare.table import Table
from evaluation.compare.tables import compare_runs, without_rows
from evaluation.destinations import is_report
from evaluation.result import METRICS

log = logging.getLogger(__name__)


def compare(argv: Sequence[str]) -> int:
    """Put finished runs side by side and beside the published numbers."""
    config = parse_command(CompareConfig, argv, prog="skydistill compare", positionals=["reports"])
    _refuse_reports_behind_lists(config)
    for metric in config.metrics:
        choose(metric, METRICS, what="metric", error=RecipeError)
    if config.only_published:
        _write(tables_in_print(config), config, left_out=())
        return 0
    gathered = gather(config)
    comparisons = compare_runs(gathered.entries, config)
    left_out = list(gathered.left_out)
    if missing := without_rows(gathered.entries, comparisons):
        left_out.append(f"{len(missing)} reports have none of these rows: {listed(missing)}")
    _write([one.table for one in comparisons], config, left_out=left_out)
    for line in left_out:
        log.info("%s", line)
    if config.figures is not None:
        from evaluation.compare.pictures import draw

        for path in draw(comparisons, config.metrics[0], folder=config.figures):
            log.info("figure: %s", path)
    return 0


def _refuse_reports_behind_lists(config: CompareConfig) -> None:
    """Refuse a report that an option before it took for one of its words.

    Raises:
        RecipeError: which word of which option it is.
    """
    for name in ("dataset", "results", "metrics"):
        for word in getattr(config, name):
            if not config.reports and word not in PUBLISHED and Path(word).exists():
                raise RecipeError(
                    f"{word} was taken for a word of --{name}; give reports before the options"
                )


def _write(tables: Sequence[Table], config: CompareConfig, *, left_out: Sequence[str]) -> None:
    """Write tables in the format that is asked for, to where they are asked for."""
    if config.chosen_format == "table" and config.out is None:
        wide = Console(file=sys.stdout)
        terminal(tables, console=Console(file=sys.stdout, width=max(wide.width, WIDTH)))
        return
    text = {
        "table": lambda: terminal(tables),
        "markdown": lambda: markdown(tables),
        "latex": lambda: latex(tables),
        "csv": lambda: to_csv(tables),
        "json": lambda: to_json(tables, left_out=left_out),
    }[config.chosen_format]()
    if config.out is None:
        sys.stdout.write(text)
        return
    if is_report(config.out):
        raise RecipeError(f"{config.out} is a report of an evaluation; give another --out")
    try:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        write_text_aside(config.out, text)
    except OSError as error:
        raise DescriptorError(
            f"{config.out} cannot be written ({error.strerror}); give another place with --out"
        ) from error
    log.info("comparison: %s", config.out)
