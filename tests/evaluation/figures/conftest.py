"""Reports with numbers as papers have them, and searches small enough to check by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.efficiency.cost import Cost
from evaluation.ranking import metrics, rank
from evaluation.report import Report, Result
from evaluation.retrieval import Retrieval

TITLES = {"d2s": "drone to satellite", "s2d": "satellite to drone"}

MakeResult = Callable[..., Result]
MakeReport = Callable[..., Report]
MakeRetrieval = Callable[[list[list[float]], list[int], list[list[float]], list[int]], Retrieval]


@pytest.fixture
def result() -> MakeResult:
    """A function from recall@1 and what is unusual to a row."""

    def result(recall: float, direction: str = "d2s", **unusual: Any) -> Result:
        found = {"recall@1": recall, "recall@5": 0.9, "recall@10": 0.95, "recall@1%": 0.97}
        return Result(
            direction=direction,
            title=TITLES[direction],
            metrics=found | {"ap": recall + 0.01, "num_queries": 37_855, "num_gallery": 951},
            chance=1 / 951,
            **unusual,
        )

    return result


@pytest.fixture
def report() -> MakeReport:
    """A function from rows and what is unusual to a report."""

    def report(*results: Result, **unusual: Any) -> Report:
        usual: dict[str, Any] = {
            "name": "student_a&b",
            "method": "pfed",
            "role": "student",
            "arch": "convnext_tiny",
            "seed": 0,
            "step": 10,
            "dataset": "university1652",
            "trained_on": "university1652",
            "cost": Cost(
                image_size=224, parameters=27_820_128, binary_parameters=0, macs=10**9, bops=0
            ),
            "image_size": 224,
            "descriptor_width": 768,
            "flip": False,
            "resampling": "pillow-bicubic",
            "decoder": "simplejpeg",
            "checkpoint": "model.safetensors",
            "checkpoint_sha256": "0",
            "shards": "shards",
            "shards_fingerprint": "0",
            "ranks": 1,
            "seconds": 12.34,
            "ranking_seconds": 0.5,
        }
        return Report(results=results, **usual | unusual)

    return report


@pytest.fixture
def retrieval() -> MakeRetrieval:
    """A function from descriptors and places to a retrieval; queries are the first image rows."""

    def retrieval(
        queries: list[list[float]],
        query_places: list[int],
        gallery: list[list[float]],
        gallery_places: list[int],
    ) -> Retrieval:
        query_QD, gallery_GD = (
            torch.nn.functional.normalize(torch.tensor(rows), dim=1) for rows in (queries, gallery)
        )
        ranking = rank(
            query_QD,
            gallery_GD,
            query_labels_Q=torch.tensor(query_places),
            gallery_labels_G=torch.tensor(gallery_places),
        )
        return Retrieval(
            query_rows=np.arange(len(queries)),
            gallery_rows=len(queries) + np.arange(len(gallery)),
            query_QD=query_QD,
            gallery_GD=gallery_GD,
            ranking=ranking,
            metrics=metrics(ranking),
        )

    return retrieval
