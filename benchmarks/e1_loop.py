"""Goal E1: time of the sort-per-query loop over that of the counts, in two shapes.

Satellite to drone: 701 x 51,355, 54 positives; drone to satellite of University-160k: 500 of its
queries x 168,437, one positive. CPU time on one thread, wall on two, per query: the loop runs a few
queries, since each costs the same. The goal is asked of a realistic model; the other two are told
beside, with what they score.
"""

import sys
from collections.abc import Callable

from clock import interleaved, ratio, threads
from line import report
from retrieval import (
    JUDGED,
    STRENGTHS,
    Search,
    assert_like_the_loop,
    drone_to_satellite,
    keywords,
    satellite_to_drone,
    sort_per_query,
)

from evaluation.ranking import metrics, rank

MUST_CPU, SEED, ROUNDS, LOOPED = 12, 0, 5, 8
SHAPES = {"701 x 51,355": satellite_to_drone, "500 x 168,437": drone_to_satellite}


def looping(search: Search) -> Callable[[], None]:
    """Return what ranks a few queries by the loop."""

    def loop() -> None:
        for _ in sort_per_query(search, range(LOOPED)):
            pass

    return loop


def counting(search: Search) -> Callable[[], None]:
    """Return what ranks all queries by counts."""

    def count() -> None:
        rank(search.query_QD, search.gallery_GD, **keywords(search))

    return count


def measure(search: Search, *, num_threads: int, kind: str) -> dict[str, float]:
    """Return the ratio of the two per query."""
    runs = {"loop": looping(search), "counts": counting(search)}
    with threads(num_threads):
        seconds = interleaved(runs, rounds=ROUNDS)
    shares = len(search.query_QD) / LOOPED
    return ratio([shares * s for s in seconds["loop"][kind]], seconds["counts"][kind])


def main() -> int:
    """Compare the two, and print one line."""
    value: dict[str, object] = {}
    judged = []
    for shape, build in SHAPES.items():
        for strength in STRENGTHS:
            search = build(strength, seed=SEED)
            assert_like_the_loop(search, range(3))
            found = metrics(rank(search.query_QD, search.gallery_GD, **keywords(search)))
            cpu = measure(search, num_threads=1, kind="cpu")
            value[f"{shape}, {strength}"] = {
                "cpu, 1 thread": cpu,
                "wall, 2 threads": measure(search, num_threads=2, kind="wall"),
                "scores": {name: round(found[name], 4) for name in ("recall@1", "ap")},
            }
            if strength == JUDGED:
                judged.append(cpu["median"])
    must = f"{JUDGED}: cpu >= {MUST_CPU} in both shapes; wall >= 20 told"
    return report("E1", value=value, must=must, passed=min(judged) >= MUST_CPU, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
