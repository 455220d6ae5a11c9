"""The command `skydistill VERB`: finds the verb, runs it, and turns mistakes into one sentence."""

import sys
from collections.abc import Callable, Sequence

from data_shards.errors import RecipeError
from data_shards.nearest import choose
from data_shards.verbs import run_verb

Verb = Callable[[Sequence[str]], int]


def _demo() -> Verb:
    from launch.cli import demo

    return demo


def _synth() -> Verb:
    from data_shards.cli import synth

    return synth


def _shard() -> Verb:
    from data_shards.cli import shard

    return shard


def _verify() -> Verb:
    from data_shards.cli import verify

    return verify


def _plan() -> Verb:
    from data_shards.cli import plan

    return plan


def _train() -> Verb:
    from distill.cli import train

    return train


def _cache() -> Verb:
    from distill.cli import cache

    return cache


def _evaluate() -> Verb:
    from evaluation.cli import evaluate

    return evaluate


def _models() -> Verb:
    from evaluation.efficiency.cli import models

    return models


def _compare() -> Verb:
    from evaluation.compare.cli import compare

    return compare


VERBS: dict[str, tuple[Callable[[], Verb], str]] = {
    "demo": (
        _demo,
        "the whole journey on a synthetic world, on two processes, with a table and figures",
    ),
    "synth": (_synth, "render a synthetic world in the folder layout of a public data set"),
    "shard": (_shard, "raw folders to verified tar shards with index and manifest"),
    "verify": (_verify, "whether a shard folder is whole: every tar, index, pair and count"),
    "plan": (_plan, "the order of every sample of an epoch, for any number of ranks"),
    "train": (
        _train,
        "train one teacher or student as a recipe says (also: accelerate launch distill/run.py)",
    ),
    "cache": (
        _cache,
        "run a teacher once over the shards (also: accelerate launch distill/cache.py)",
    ),
    "evaluate": (
        _evaluate,
        "both retrieval directions on the test set, as table, JSON and MLflow metrics",
    ),
    "compare": (
        _compare,
        "finished runs in one table, mean and deviation over seeds, beside the published numbers",
    ),
    "models": (_models, "every model a recipe can name: parameters, operations, and its speed"),
}
"""Verb to the function that imports it, and its sentence."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; exit code 0 done, 2 the user's mistake, 75 preempted, 1 a bug."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0
    return run_verb(lambda: _find(words[0])(words[1:]))


def usage() -> str:
    """Return the list of verbs with a sentence each."""
    lines = "".join(f"  {name:<10}{sentence}\n" for name, (_, sentence) in VERBS.items())
    return (
        "skydistill VERB ...: small drone-satellite geo-localization models, distilled from "
        "large ones\n\n"
        f"{lines}\nskydistill VERB --help explains every option.\n"
    )


def _find(name: str) -> Verb:
    importer, _ = VERBS[choose(name, VERBS, what="verb", error=RecipeError)]
    return importer()


if __name__ == "__main__":
    sys.exit(main())
