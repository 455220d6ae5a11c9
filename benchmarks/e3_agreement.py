"""Goal E3: the numbers of 1,000 random cases without ties against a plain sorted reference.

Junk, queries without positives, 1 to 54 positives, one query or one image, three strengths, three
kinds of numbers. The reference sorts float64 scores and walks over the field's curve.
"""

import sys

import numpy as np
import torch
from line import report

from evaluation.ranking import metrics, rank
from evaluation.ranking.metrics import JUNK

CASES, SEED, MUST_AP = 1000, 0, 1e-12
KINDS = (torch.float16, torch.float32, torch.float64)
RECALLS = {"recall@1": 0, "recall@5": 4, "recall@10": 9}


def reference(
    score_QG: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray
) -> dict[str, float]:
    """Sort, drop junk, look where the positives are, and average over all queries."""
    curve, ap = np.zeros(score_QG.shape[1]), 0.0
    for scores, label in zip(score_QG, query_labels, strict=True):
        order = np.argsort(scores)[::-1]
        order = order[gallery_labels[order] != JUNK]
        places = np.flatnonzero(gallery_labels[order] == label)
        if not len(places):
            continue
        curve[places[0] :] += 1
        for number, place in enumerate(places):
            before = number / place if place else 1.0
            ap += (before + (number + 1) / (place + 1)) / 2 / len(places)
    last = RECALLS | {"recall@1%": round(0.01 * len(curve))}
    found = {name: curve[min(at, len(curve) - 1)] / len(score_QG) for name, at in last.items()}
    return found | {"ap": ap / len(score_QG)}


def case(number: int) -> tuple[float, int]:
    """Return the error of AP and how many recalls differ."""
    generator = np.random.default_rng((SEED, number))
    num_queries, positives = int(generator.integers(1, 25)), int(generator.integers(1, 55))
    num_places = int(generator.integers(1, 30))
    labels = generator.permutation(np.arange(num_places).repeat(positives))
    labels[generator.random(len(labels)) < generator.choice([0, 0.1, 0.5])] = JUNK
    query_labels = generator.integers(0, num_places + 2, num_queries)
    width = int(generator.integers(8, 200))
    centre = generator.normal(size=(num_places + 2, width))
    strength = generator.choice([0, 0.3, 1.5])
    kind = KINDS[number % 3]
    query, gallery = (
        torch.from_numpy(strength * centre[which] + generator.normal(size=(len(which), width)))
        for which in (query_labels, labels)
    )
    query, gallery = query.to(kind), gallery.to(kind)
    score_QG = query.double().numpy() @ gallery.double().numpy().T
    ranking = rank(
        query,
        gallery,
        query_labels_Q=torch.from_numpy(query_labels),
        gallery_labels_G=torch.from_numpy(labels),
    )
    found, expected = metrics(ranking), reference(score_QG, query_labels, labels)
    differ = sum(bool(found[name] != expected[name]) for name in expected if name != "ap")
    return float(abs(found["ap"] - expected["ap"])), differ


def main() -> int:
    """Compare all cases, and print one line."""
    torch.set_num_threads(1)
    errors, differing = zip(*(case(number) for number in range(CASES)), strict=True)
    value = {
        "cases": CASES,
        "largest error of ap": max(errors),
        "recalls differing": sum(differing),
    }
    passed = max(errors) <= MUST_AP and not sum(differing)
    must = f"ap <= {MUST_AP}, recalls identical"
    return report("E3", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
