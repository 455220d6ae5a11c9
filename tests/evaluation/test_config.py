import re
from pathlib import Path

import pytest

from data_shards.errors import RecipeError
from evaluation.config import EvaluateConfig


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"batch_size": 0}, "--batch-size (0) must be at least 1"),
        ({"image_size": -1}, "--image-size (-1) must be at least 0 and at most 4096"),
        ({"threads": -1}, "--threads (-1) must be at least 0 and at most 4096"),
        (
            {"batch_size": -2, "threads": -1},
            "--batch-size (-2) must be at least 1; --threads (-1) must be at least 0",
        ),
    ],
)
def test_numbers_that_describe_nothing_are_refused(values, sentence: str) -> None:
    with pytest.raises(RecipeError, match="^" + re.escape(sentence)):
        EvaluateConfig(checkpoint=Path("run"), shards=Path("shards"), **values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rerank_k1": 5}, "--rerank-k1 says nothing without --rerank"),
        ({"rerank_lambda": 0.5}, "--rerank-lambda says nothing without --rerank"),
        ({"information": "distance"}, "--information says nothing without --multi-view"),
        ({"view_distance": "pose"}, "--view-distance says nothing without --multi-view"),
        (
            {"rerank": True, "rerank_top": 9, "submission": True},
            "--submission takes 10 names per query and --rerank-top is 9",
        ),
        (
            {"submission": True, "distractors": ("more",)},
            "--submission names tiles of --shards alone",
        ),
    ],
)
def test_options_that_say_nothing_alone_are_refused(values, sentence: str) -> None:
    with pytest.raises(RecipeError, match="^" + re.escape(sentence)):
        EvaluateConfig(checkpoint=Path("run"), shards="shards", **values)
