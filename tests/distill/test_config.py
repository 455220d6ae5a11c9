from pathlib import Path

import pytest

from data_shards.errors import RecipeError
from data_shards.recipe import load_recipe
from distill.config import DistillConfig
from distill.run_folder import open_run_folder

ROOT = Path(__file__).parents[2]


def test_default_recipe_loads():
    from distill.cli import DEFAULT_RECIPE

    config = load_recipe(DistillConfig, ROOT / DEFAULT_RECIPE)
    assert config.role == "distilled" and config.objectives.needs_teacher


def test_contradictions_are_told_all_at_once(make_config):
    with pytest.raises(RecipeError) as told:
        make_config(
            role="teacher",
            objectives={
                "feature_distillation": {"weight": 1.0},
                "info_nce": {"temperature": 0.001},
            },
            schedule={"warmup_steps": 6},
            data={"validation_fraction": 1.0, "global_batch": 0},
            keep_checkpoints=0,
            optimizer={"learning_rate": 0},
        )
    for key in (
        "teacher.run",
        "teacher.cache",
        "role is teacher",
        "schedule.warmup_steps (6)",
        "data.validation_fraction (1.0)",
        "data.global_batch (0)",
        "objectives.info_nce.temperature (0.001)",
        "keep_checkpoints (0)",
        "optimizer.learning_rate (0.0)",
    ):
        assert key in str(told.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"objectives": {"info_nce": {"weight": 0}}}, "no objective has a weight"),
        ({"role": "distilled"}, "no distillation objective has a weight"),
        ({"expected_world_size": 0}, "expected_world_size"),
        ({"model": {"dropout": 1.0}}, "model.dropout"),
        ({"objectives": {"info_nce": {"weight": -1}}}, "objectives.info_nce.weight"),
        (
            {"objectives": {"deep_supervision": {"stage_weights": [0.1, -0.2, 0.3]}}},
            r"deep_supervision.stage_weights \(\(0.1, -0.2, 0.3\)\) must be at least 0",
        ),
        ({"objectives": {"self_distillation": {"stage_weights": [-1, 0, 0]}}}, "stage_weights"),
        ({"data": {"drones_per_row": 0}}, "data.drones_per_row"),
        ({"seed": -1}, r"seed \(-1\) must be"),
        ({"seed": 2**32}, r"seed \(4294967296\) must be"),
        ({"data": {"validation_seed": -1}}, r"data.validation_seed \(-1\) must be"),
    ],
)
def test_a_contradiction_is_refused(make_config, changes, says):
    with pytest.raises(RecipeError, match=says):
        make_config(**changes)


def test_a_run_folder_of_another_recipe_is_refused_naming_the_key(make_config):
    open_run_folder(make_config(), world_size=1)
    # What does not change the training may change.
    open_run_folder(make_config(log_every_steps=3, tracking={"experiment": "b"}), world_size=1)
    with pytest.raises(RecipeError, match=r"differs in model\.dropout, seed\)"):
        open_run_folder(make_config(seed=1, model={"dropout": 0.1}), world_size=1)
