"""Goal E8: k-reciprocal re-ranking, its time over that of the nearest neighbours, its memory.

The reference is checked first: on a small set, lists of everything must give the distances of the
formulas on whole matrices. Then 2,000 queries and 18,000 gallery images (`--full`: 1,563 and
168,437 of University-160k's size, some 20 minutes on two cores), 512 numbers each, around random
centres. What 170,000 images take is *modelled* from two sizes: neighbours grow with the square of
the images, all else in proportion; the line says so. Memory is that of the whole process.
"""

import math
import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from line import report
from torch import Tensor
from torch.nn.functional import normalize

from evaluation.ranking.rerank import RerankSettings, reorder
from evaluation.ranking.top_k import top_k

MUST_RATIO, MUST_GIB, SEED = 3.0, 4.0, 0
WIDTH, GOAL = 512, 170_000
SETTINGS = RerankSettings()
SCALED, FULL = (2_000, 18_000), (1_563, 168_437)


def images(num_queries: int, num_gallery: int, width: int) -> tuple[Tensor, Tensor]:
    """Return unit vectors of queries and gallery; a centre has about 20 images."""
    generator = torch.Generator().manual_seed(SEED)
    centre = torch.randn(max(1, (num_queries + num_gallery) // 20), width, generator=generator)
    sides = []
    for count in (num_queries, num_gallery):
        place = torch.randint(len(centre), (count,), generator=generator)
        noise = torch.randn(count, width, generator=generator)
        sides.append(normalize(centre[place] + noise, dim=1))
    return sides[0], sides[1]


def dense(query: Tensor, gallery: Tensor, settings: RerankSettings) -> np.ndarray:
    """The distances of the paper's formulas, on matrices of all images with all images."""
    distance = 1 - (image := torch.cat([query, gallery]).double()) @ image.T
    order = distance.fill_diagonal_(-1).argsort(dim=1, stable=True)
    distance.fill_diagonal_(0)

    def mutual(k: int) -> Tensor:
        listed = torch.zeros_like(distance).scatter_(1, order[:, : k + 1], 1)
        return listed * listed.T

    own, nearer = mutual(settings.k1), mutual(max(1, round(settings.k1 / 2)))
    joins = own * (3 * (own @ nearer.T) >= 2 * nearer.sum(1))
    weight = ((own + joins @ nearer) > 0) * (-distance).exp()
    sets = torch.stack([weight[row].mean(0) for row in order[:, : settings.k2]])
    ours, theirs = sets[: len(query)], sets[len(query) :]
    both = torch.stack([torch.minimum(row, theirs).sum(1) for row in ours])
    jaccard = 1 - both / (ours.sum(1)[:, None] + theirs.sum(1) - both)
    original = distance[: len(query), len(query) :]
    return ((1 - settings.lambda_) * jaccard + settings.lambda_ * original).numpy()


def agrees() -> bool:
    """Tell whether lists of everything give the dense distances."""
    query, gallery = (side.double() for side in images(40, 400, 32))
    query, gallery = normalize(query, dim=1), normalize(gallery, dim=1)
    lists = reorder(query, gallery, RerankSettings(top=len(gallery)))
    found = np.zeros((len(query), len(gallery)))
    np.put_along_axis(found, lists.index_QK.numpy(), -lists.score_QK.numpy(), axis=1)
    return bool(np.abs(found - dense(query, gallery, SETTINGS)).max() < 1e-10)


def cpu_seconds(run: Callable[[], object], rounds: int) -> float:
    """Return the least processor seconds of a few runs."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


def measure(num_queries: int, num_gallery: int, *, rounds: int) -> dict[str, float]:
    """Return processor seconds of the neighbours of all images, and of the whole re-ranking."""
    query, gallery = images(num_queries, num_gallery, WIDTH)
    together = torch.cat([query, gallery])
    neighbours = cpu_seconds(lambda: top_k(together, together, k=SETTINGS.k1 + 1), rounds)
    whole = cpu_seconds(lambda: reorder(query, gallery, SETTINGS), rounds)
    return {
        "images": len(together),
        "neighbours_cpu_s": round(neighbours, 2),
        "rerank_cpu_s": round(whole, 2),
        "ratio": round(whole / neighbours, 3),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def modelled(small: dict[str, float], large: dict[str, float]) -> dict[str, float]:
    """Return what the goal's number of images would take, and say how it was found."""
    scale = GOAL / large["images"]
    neighbours = large["neighbours_cpu_s"] * scale**2
    rest = (large["rerank_cpu_s"] - large["neighbours_cpu_s"]) * scale
    gib_per_image = (large["peak_gib"] - small["peak_gib"]) / (large["images"] - small["images"])
    gib = large["peak_gib"] + gib_per_image * (GOAL - large["images"])
    return {
        "images": GOAL,
        "neighbours_cpu_s": round(neighbours),
        "ratio": round((neighbours + rest) / neighbours, 3),
        "peak_gib": math.ceil(gib * 100) / 100,
    }


def main() -> int:
    """Check, measure, and print the line."""
    if not agrees():
        sys.stderr.write("E8: the lists disagree with the formulas on whole matrices\n")
        return 1
    if "--full" in sys.argv[1:]:
        value: dict[str, object] = {"measured": (found := measure(*FULL, rounds=1))}
    else:
        queries, gallery = SCALED
        small = measure(queries // 2, gallery // 2, rounds=2)
        large = measure(queries, gallery, rounds=2)
        found = modelled(small, large)
        value = {"measured": [small, large], f"modelled for {GOAL} images": found}
    return report(
        "E8",
        value=value,
        must=f"ratio <= {MUST_RATIO} and peak <= {MUST_GIB} GiB at {GOAL} images",
        passed=found["ratio"] <= MUST_RATIO and found["peak_gib"] <= MUST_GIB,
        seed=SEED,
    )


if __name__ == "__main__":
    sys.exit(main())
