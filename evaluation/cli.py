"""The hall of the verdict: `skydistill evaluate`, alone or under `accelerate launch`."""

import sys
from collections.abc import Sequence

from data_shards.recipe import parse_command
from data_shards.verbs import run_verb
from distill.collectives import launched_rank, leave, rank, wait_for_slow_ranks
from evaluation.config import EvaluateConfig
from evaluation.launched_ranks import join_launched_ranks, one_rank_speaks


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
    from evaluation.exports import write_exports
    from evaluation.judging import describe_all, judge_all
    from evaluation.measuring import measure_cost, measure_speeds
    from evaluation.record import make_report, record, write_files
    from evaluation.setting import open_setting
    from evaluation.telling import tell_paths, tell_plan, tell_report

    setting = open_setting(config, join_launched_ranks())
    wait_for_slow_ranks("shards")
    if config.dry_run:
        tell_plan(setting)
        leave()
        return 0
    cost = measure_cost(setting)
    described = describe_all(setting)
    judged = judge_all(setting, described)
    if rank() == 0:
        paths = write_exports(setting, described)
        if setting.searches.answered:
            speed = measure_speeds(setting)
            report = make_report(setting, described, judged, cost=cost, speed=speed)
            files = write_files(setting, report, judged)
            record(setting, report, files)
            tell_report(report, as_json=config.json)
            paths = [*files, *paths]
        tell_paths(paths)
    leave()
    return 0
