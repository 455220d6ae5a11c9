"""Goal E2: CPU time of the counts over that of a bare float32 product of the same shapes.

The product is tiled too (512 x 8192, into one buffer): whole, it would write 25 GB at the larger
shape. Models and shapes are those of E1. With a matrix unit for bfloat16 the counts may take less
than the product, which is float32's.
"""

import sys
from collections.abc import Callable

import torch
from clock import interleaved, ratios, threads
from e1_loop import SHAPES, counting
from line import report
from retrieval import JUDGED, STRENGTHS, Search, assert_like_the_loop

from evaluation.ranking.screen import fastest_screen

MUST, SEED, ROUNDS, TILE = 1.20, 0, 9, (512, 8192)


def multiplying(search: Search) -> Callable[[], None]:
    """Return what multiplies queries and gallery in float32, and throws the scores away."""
    room = torch.empty(TILE[0] * TILE[1])

    def multiply() -> None:
        for query in search.query_QD.split(TILE[0]):
            for gallery in search.gallery_GD.split(TILE[1]):
                shape = len(query), len(gallery)
                torch.mm(query, gallery.T, out=room[: shape[0] * shape[1]].view(shape))

    return multiply


def main() -> int:
    """Compare the two, and print one line."""
    value: dict[str, object] = {"screen": str(fastest_screen(torch.device("cpu")).kind)}
    judged = []
    for shape, build in SHAPES.items():
        for strength in STRENGTHS:
            search = build(strength, seed=SEED)
            assert_like_the_loop(search, range(2))
            with threads(1):
                runs = {"product": multiplying(search), "counts": counting(search)}
                seconds = interleaved(runs, rounds=ROUNDS)
            found = ratios(seconds["counts"], seconds["product"])
            value[f"{shape}, {strength}"] = found["cpu"]
            if strength == JUDGED:
                judged.append(found["cpu"]["median"])
    must = f"{JUDGED} <= {MUST} by CPU in both shapes"
    return report("E2", value=value, must=must, passed=max(judged) <= MUST, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
