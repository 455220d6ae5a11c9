"""The hall of the verdict: `skydistill evaluate`, alone or under `accelerate launch`."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data_shards.recipe import parse_command
from data_shards.verbs import run_verb
from distill.collectives import destroy_process_group, rank, wait_for_slow_ranks
from distill.launched import launched_rank
from evaluation.config import EvaluateConfig
from evaluation.launched_ranks import join_launched_ranks, one_rank_speaks

if TYPE_CHECKING:
    from evaluation.efficiency.cost import Cost
    from evaluation.judging import Described, Judged
    from evaluation.setting import Setting


def run_evaluate() -> int:
    """Be `evaluation/run.py`."""
    return run_verb(lambda: evaluate(sys.argv[1:]))


def evaluate(argv: Sequence[str]) -> int:
    """Measure a trained model on a test set, in every direction, or the descriptors of a file."""
    with one_rank_speaks():
        config = parse_command(EvaluateConfig, argv, prog="skydistill evaluate")
        if config.features is None:
            return _evaluate(config)
        if launched_rank():
            return 0
        from evaluation.descriptor_files import evaluate_features

        return evaluate_features(config)


def _evaluate(config: EvaluateConfig) -> int:
    from evaluation.judging import describe_all, judge_all
    from evaluation.measuring import measure_cost
    from evaluation.record import refuse_unfit_destinations
    from evaluation.setting import open_setting
    from evaluation.telling import tell_plan, tell_replaced

    setting = open_setting(config, join_launched_ranks())
    wait_for_slow_ranks("shards")
    refuse_unfit_destinations(setting)
    tell_replaced(setting)
    if config.dry_run:
        tell_plan(setting)
        destroy_process_group()
        return 0
    cost = measure_cost(setting)
    described = describe_all(setting)
    judged = judge_all(setting, described)
    if rank() == 0:
        _tell_and_write(setting, described, judged, cost=cost)
    destroy_process_group()
    return 0


def _tell_and_write(
    setting: "Setting", described: "Described", judged: "Judged", *, cost: "Cost"
) -> None:
    """Tell the numbers as soon as they are there, then write: files may fail that numbers need not.

    Raises:
        SkyDistillError: the first file that cannot be written.
    """
    from evaluation.exports import write_exports
    from evaluation.measuring import measure_speeds
    from evaluation.record import make_report, record, write_figures, write_tables
    from evaluation.telling import tell_paths, tell_report

    if not setting.searches.answered:
        tell_paths(write_exports(setting, described))
        return
    speed = measure_speeds(setting)
    report = make_report(setting, described, judged, cost=cost, speed=speed)
    try:
        tell_report(report, as_json=setting.config.json)
    finally:  # numbers that cannot be printed are still written
        files = write_tables(setting, report)
        exports = write_exports(setting, described)
        try:
            files += write_figures(setting, report, judged)
        finally:
            record(setting, report, files)
        tell_paths([*files, *exports])
