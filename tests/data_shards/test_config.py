import re
from pathlib import Path

import pytest

from data_shards.augment.config import AugmentConfig
from data_shards.config import PlanConfig, ShardConfig, SynthConfig
from data_shards.errors import RecipeError

REQUIRED = {
    SynthConfig: {"out": Path("out")},
    ShardConfig: {"raw": Path("raw"), "out": Path("out"), "layout": "university1652"},
    PlanConfig: {"shards": Path("shards")},
    AugmentConfig: {},
}


@pytest.mark.parametrize(
    ("config", "values", "sentence"),
    [
        (SynthConfig, {"places": 0}, "--places (0) must be at least 1 and at most 4999"),
        (SynthConfig, {"test_places": 0}, "--test-places (0) must be at least 1 and at most 4999"),
        (
            SynthConfig,
            {"distractors": -1},
            "--distractors (-1) must be at least 0",
        ),
        (
            SynthConfig,
            {"test_places": 4000, "distractors": 1000},
            "--test-places and --distractors together (5000) must be at most 4999",
        ),
        (SynthConfig, {"views": 0}, "--views (0) must be at least 1 and at most 999"),
        (
            SynthConfig,
            {"layout": "sues200", "distractors": 5},
            "--distractors (5) must be 0 for sues200, whose galleries hold the training places",
        ),
        (SynthConfig, {"image_size": 8}, "--image-size (8) must be at least 16 and at most 4096"),
        (SynthConfig, {"seed": -1}, "--seed (-1) must be at least 0 and at most 4294967295"),
        (SynthConfig, {"workers": -1}, "--workers (-1) must be at least 0 and at most 4096"),
        (
            SynthConfig,
            {"places": 0, "image_size": 0},
            "--places (0) must be at least 1 and at most 4999; --image-size (0) must be at least",
        ),
        (ShardConfig, {"workers": -1}, "--workers (-1) must be at least 0 and at most 4096"),
        (PlanConfig, {"world_size": 0}, "--world-size (0) must be at least 1"),
        (PlanConfig, {"global_batch": 0}, "--global-batch (0) must be at least 1"),
        (PlanConfig, {"drones_per_row": 0}, "--drones-per-row (0) must be at least 1"),
        (
            PlanConfig,
            {"drones_per_row": 10**20},
            "--drones-per-row (100000000000000000000) must be at most 2147483647",
        ),
        (
            PlanConfig,
            {"seed": 2**32},
            "--seed (4294967296) must be at least 0 and",
        ),
        (
            PlanConfig,
            {"validation_seed": -1},
            "--validation-seed (-1) must be at least 0 and at most 4294967295",
        ),
        (PlanConfig, {"epoch": -1}, "--epoch (-1) must be at least 0"),
        *(
            (
                PlanConfig,
                {"validation_fraction": value},
                f"--validation-fraction ({value}) must be at least 0 and below 1",
            )
            for value in (-0.5, 1, 2, float("nan"))
        ),
        (AugmentConfig, {"slots": 0}, "augment.slots (0) must be at least 1"),
        (
            AugmentConfig,
            {"seed": -1},
            "augment.seed (-1) must be at least 0 and",
        ),
        (AugmentConfig, {"min_crop_area": 0}, "augment.min_crop_area (0) must be above 0 and"),
        (AugmentConfig, {"flip_probability": 2}, "augment.flip_probability (2) must be at least"),
        (
            AugmentConfig,
            {"brightness": -0.1},
            "augment.brightness (-0.1) must be at least 0 and",
        ),
    ],
)
def test_a_number_out_of_bounds_is_told_as_typed(config, values, sentence: str) -> None:
    with pytest.raises(RecipeError, match="^" + re.escape(sentence)):
        config(**REQUIRED[config] | values)


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (SynthConfig, {"places": 1, "test_places": 1, "distractors": 0, "seed": 2**32 - 1}),
        (SynthConfig, {"places": 4999, "test_places": 4999, "distractors": 0}),
        (SynthConfig, {"layout": "sues200", "places": 4999, "test_places": 4999}),
        (PlanConfig, {"seed": 2**32 - 1, "epoch": 2**31 - 1, "validation_fraction": 0.0}),
        (AugmentConfig, {"min_crop_area": 1.0, "flip_probability": 1.0, "brightness": 0.0}),
    ],
)
def test_the_bounds_themselves_are_allowed(config, values) -> None:
    config(**REQUIRED[config] | values)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["synth", "out", "--places", "0", "--test-places", "0"], "--places (0) must be"),
        (["shard", "raw", "out", "--quality", "80"], "--quality must go with --image-size"),
        (
            ["shard", "tars", "--index-only", "--image-size", "256", "--split", "a.yaml"],
            "--image-size and --split cannot go with --index-only",
        ),
        (["synth", "out", "--seed", "-1"], "--seed (-1) must be"),
        (["shard", "raw", "out", "--layout", "x", "--workers", "-1"], "--workers (-1) must be"),
        (["plan", "--shards", "s", "--seed", "99999999999999999999"], "--seed (9999999999999999"),
        (["plan", "--shards", "s", "--epoch", "-1"], "--epoch (-1) must be at least 0"),
        (["evaluate", "--checkpoint", "c", "--shards", "s", "--batch-size", "0"], "--batch-size"),
    ],
)
def test_a_verb_tells_it_in_one_sentence(skydistill, words, sentence: str) -> None:
    assert sentence in skydistill(*words).sentence
