"""Goal E6 (H100): University-160k, both directions, from descriptors to metrics, exact.

Descriptors are on the device; time is from there to the metrics, the least of several runs after
one that warms up. The ranks of some queries are compared with those that the CPU finds. `--toy`
takes few queries, on a CPU where there is no GPU: it shows that the script is right.
"""

import sys
import time
from dataclasses import replace

import torch
from line import report
from retrieval import Search, drone_to_satellite, keywords, satellite_to_drone

from evaluation.ranking import metrics, rank

MUST_SECONDS, SEED, RUNS, CHECKED = 0.5, 0, 5, 20
TOY_QUERIES = 40


def on_device(search: Search) -> Search:
    """Copy a search to the device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Search(**{name: part.to(device) for name, part in vars(search).items()})


def wait() -> None:
    """Return when the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def first(search: Search, count: int) -> Search:
    """Return a search of the first queries alone."""
    return replace(
        search,
        query_QD=search.query_QD[:count],
        query_labels_Q=search.query_labels_Q[:count],
    )


def assert_like_the_cpu(search: Search) -> None:
    """Compare the first queries' ranks with those of the CPU."""
    few = first(search, CHECKED)
    there = on_device(few)
    expected = rank(few.query_QD, few.gallery_GD, **keywords(few))
    found = rank(there.query_QD, there.gallery_GD, **keywords(there))
    assert torch.equal(found.ranks_P.cpu(), expected.ranks_P)


def seconds(search: Search) -> float:
    """Return the least time of several runs."""
    taken = []
    for _ in range(RUNS + 1):
        wait()
        begun = time.perf_counter()
        metrics(rank(search.query_QD, search.gallery_GD, **keywords(search)))
        wait()
        taken.append(time.perf_counter() - begun)
    return min(taken[1:])


def main() -> int:
    """Time both directions, and print one line."""
    is_toy = "--toy" in sys.argv[1:]
    if not (torch.cuda.is_available() or is_toy):
        print("E6 needs a CUDA device, and there is none here", file=sys.stderr)
        return 0
    searches = {"satellite to drone": satellite_to_drone("realistic", seed=SEED)}
    if is_toy:
        searches = {name: first(search, TOY_QUERIES) for name, search in searches.items()}
    else:
        searches["drone to satellite"] = drone_to_satellite(
            "realistic", seed=SEED, num_queries=37_855
        )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    value: dict[str, object] = {"device": device, "toy": is_toy}
    total = 0.0
    for name, search in searches.items():
        assert_like_the_cpu(search)
        taken = seconds(on_device(search))
        value[name] = round(taken, 4)
        total += taken
    value["both"] = round(total, 4)
    must = f"<= {MUST_SECONDS} s for both"
    code = report("E6", value=value, must=must, passed=total <= MUST_SECONDS, seed=SEED)
    return 0 if is_toy else code


if __name__ == "__main__":
    sys.exit(main())
