"""The command `skydistill VERB`: finds the verb, runs it, and turns mistakes into one sentence."""

import sys
from collections.abc import Callable, Sequence

from data_shards.errors import RecipeError, require_known
from data_shards.verbs import run_verb

Verb = Callable[[Sequence[str]], int]


def demo(words: Sequence[str]) -> int:
    from launch.cli import demo

    return demo(words)


def sweep(words: Sequence[str]) -> int:
    from launch.cli import sweep

    return sweep(words)


def doctor(words: Sequence[str]) -> int:
    from launch.cli import doctor

    return doctor(words)


def synth(words: Sequence[str]) -> int:
    from data_shards.cli import synth

    return synth(words)


def shard(words: Sequence[str]) -> int:
    from data_shards.cli import shard

    return shard(words)


def verify(words: Sequence[str]) -> int:
    from data_shards.cli import verify

    return verify(words)


def plan(words: Sequence[str]) -> int:
    from data_shards.cli import plan

    return plan(words)


def train(words: Sequence[str]) -> int:
    from distill.cli import train

    return train(words)


def cache(words: Sequence[str]) -> int:
    from distill.cli import cache

    return cache(words)


def evaluate(words: Sequence[str]) -> int:
    from evaluation.cli import evaluate

    return evaluate(words)


def index(words: Sequence[str]) -> int:
    from evaluation.cli import index

    return index(words)


def query(words: Sequence[str]) -> int:
    from evaluation.cli import query

    return query(words)


def models(words: Sequence[str]) -> int:
    from evaluation.cli import models

    return models(words)


def compare(words: Sequence[str]) -> int:
    from evaluation.cli import compare

    return compare(words)


def mlflow(words: Sequence[str]) -> int:
    from launch.cli import mlflow

    return mlflow(words)


def import_weights(words: Sequence[str]) -> int:
    from distill.cli import import_weights

    return import_weights(words)


VERBS: dict[str, tuple[Verb, str]] = {
    "demo": (
        demo,
        "the whole journey on a synthetic world, on two processes, with a table and figures",
    ),
    "sweep": (sweep, "the rows of a sweep file, here or as Slurm jobs: teachers, caches, students"),
    "synth": (synth, "render a synthetic world in the folder layout of a public data set"),
    "shard": (shard, "raw folders to verified tar shards with index and manifest"),
    "verify": (verify, "whether a shard folder is whole: every tar, index, pair and count"),
    "plan": (plan, "the order of every sample of an epoch, for any number of ranks"),
    "train": (
        train,
        "train one teacher or student as a recipe says (also: accelerate launch distill/run.py)",
    ),
    "cache": (
        cache,
        "run a teacher once over the shards (also: accelerate launch distill/cache.py)",
    ),
    "evaluate": (
        evaluate,
        "both retrieval directions on the test set, as table, JSON and MLflow metrics",
    ),
    "index": (index, "a map of your own cut into tiles and described, for query"),
    "query": (query, "where photographs were taken, on a map of your own: coordinates, a page"),
    "compare": (
        compare,
        "finished runs in one table, mean and deviation over seeds, beside the published numbers",
    ),
    "mlflow": (mlflow, "sync: bring what runs spooled to MLflow, once"),
    "models": (models, "every model a recipe can name: parameters, operations, and its speed"),
    "import-weights": (
        import_weights,
        "weights of BNext, MCCG and BiCrossNet as their authors saved them, made ours",
    ),
    "doctor": (doctor, "whether this machine can train: libraries, GPUs, disk, MLflow, Slurm"),
}
"""Verb to its function, which imports what it needs, and its sentence."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; exit code 0 done, 2 the user's mistake, 75 preempted, 1 a bug."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0

    def run() -> int:
        verb, _ = VERBS[require_known(words[0], VERBS, what="verb", error=RecipeError)]
        return verb(words[1:])

    return run_verb(run)


def usage() -> str:
    """Return the list of verbs with a sentence each."""
    lines = "".join(f"  {name:<15}{sentence}\n" for name, (_, sentence) in VERBS.items())
    return (
        "skydistill VERB ...: small drone-satellite geo-localization models, distilled from "
        "large ones\n\n"
        f"{lines}\nskydistill VERB --help explains every option.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
