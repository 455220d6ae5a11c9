"""Goal E4: memory beyond the descriptors' own at 37,855 x 168,437, D = 512: the whole search."""

import sys
import time

import torch
from line import report
from resident import forget_peak, peak_gib
from retrieval import assert_like_the_loop, drone_to_satellite, keywords

from evaluation.ranking import metrics, rank

MUST_GIB, SEED, QUERIES = 1.0, 0, 37_855


def main() -> int:
    """Rank with an eye on the memory, and print one line."""
    search = drone_to_satellite("realistic", seed=SEED, num_queries=QUERIES)
    assert_like_the_loop(search, range(2))
    torch.set_num_threads(2)
    before, processor, wall = forget_peak(), time.process_time(), time.perf_counter()
    ranking = rank(search.query_QD, search.gallery_GD, **keywords(search))
    extra = peak_gib() - before
    value = {
        "extra GiB": round(extra, 3),
        "resident before, GiB": round(before, 3),
        "cpu_s": round(time.process_time() - processor, 1),
        "wall_s": round(time.perf_counter() - wall, 1),
        "recall@1": round(metrics(ranking)["recall@1"], 4),
    }
    passed = extra <= MUST_GIB
    return report("E4", value=value, must=f"<= {MUST_GIB} GiB", passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
