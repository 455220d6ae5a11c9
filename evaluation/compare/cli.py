"""The command `skydistill compare`."""

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from data_shards.errors import DescriptorError, RecipeError, require_known
from data_shards.layouts.published import PUBLISHED
from data_shards.manifest import write_text_aside
from data_shards.recipe import parse_command
from evaluation.compare.collect import collect, listed
from evaluation.compare.comparison import compare_runs
from evaluation.compare.config import CompareConfig
from evaluation.compare.table import WIDTH, Table, latex, markdown, print_table, to_csv, to_json
from evaluation.output_files import writing
from evaluation.report import METRICS, read_report

log = logging.getLogger(__name__)


def compare(argv: Sequence[str]) -> int:
    """Put finished runs side by side and beside the published numbers."""
    config = parse_command(CompareConfig, argv, prog="skydistill compare", positionals=["reports"])
    _refuse_unusable_words(config)
    entries, left_out = collect(config)
    comparison = compare_runs(entries, config)
    if missing := comparison.without_rows:
        left_out.append(f"{len(missing)} reports have none of these rows: {listed(missing)}")
    _write(comparison.table, config, left_out=left_out)
    if config.html is not None:
        from evaluation.compare.page import html

        _write_file(html(comparison, config.metrics[0], left_out), config.html, option="--html")
    for line in left_out:
        log.info("%s", line)
    if config.figures is not None:
        from evaluation.compare.charts import draw

        for path in draw(comparison, config.metrics[0], folder=config.figures):
            log.info("figure: %s", path)
    return 0


def _refuse_unusable_words(config: CompareConfig) -> None:
    """Refuse an unknown metric, and a report that an option before it took for one of its words.

    Raises:
        RecipeError: which word of which option it is.
    """
    for name in ("dataset", "results", "metrics"):
        for word in getattr(config, name):
            if not config.reports and word not in PUBLISHED and Path(word).exists():
                raise RecipeError(
                    f"{word} was taken for a word of --{name}; give reports before the options"
                )
    for metric in config.metrics:
        require_known(metric, METRICS, what="metric", error=RecipeError)


def _write(table: Table, config: CompareConfig, *, left_out: Sequence[str]) -> None:
    """Write a table in the format that is asked for, to where it is asked for."""
    form = config.chosen_format
    if form == "table":
        wide = max(Console(file=sys.stdout).width, WIDTH)
        console = Console(file=sys.stdout, width=wide, record=True, quiet=config.out is not None)
        print_table(table, console)
        text = console.export_text()
    elif form == "json":
        text = to_json(table, left_out=left_out)
    else:
        text = {"markdown": markdown, "latex": latex, "csv": to_csv}[form](table)
    if config.out is None:
        sys.stdout.write("" if form == "table" else text)
    else:
        _write_file(text, config.out, option="--out")


def _write_file(text: str, path: Path, *, option: str) -> None:
    """Write a comparison to a file, aside first; never over a report.

    Raises:
        SkyDistillError: the file is a report, or cannot be written.
    """
    with suppress(DescriptorError):  # which says that it is none
        read_report(path)
        raise RecipeError(f"{path} is a report of an evaluation; give another {option}")
    with writing(path, option=option):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_aside(path, text)
    log.info("comparison: %s", path)
