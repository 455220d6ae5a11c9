import numpy as np
import pytest

from data_shards.errors import PlanError
from data_shards.recipe import build_config
from data_shards.schema import View
from distill.config import DistillConfig
from distill.inputs import make_plan
from evaluation.probe import RetrievalProbe
from tests.data_shards.conftest import make_table


def recipe(**data) -> DistillConfig:
    values = {"role": "alone", "objectives": {"info_nce": {"weight": 1.0}}}
    data = {"global_batch": 8, "validation_fraction": 0.25} | data
    return build_config(DistillConfig, values | {"data": data}, where="test")


def test_the_plan_is_that_of_the_recipe() -> None:
    shards = make_table([8] * 20, altitudes=(150, 200))
    plan = make_plan(recipe(altitudes=[200], drones_per_row=2), shards)
    rows = plan.epoch(0)
    assert (len(plan.places), plan.drones_per_row, plan.neighbours) == (15, 2, None)
    assert set(shards.images.altitude_m[rows.drone].reshape(-1).tolist()) == {200.0}
    assert len(np.unique(rows.drone)) == rows.drone.size == 24 * 2


def test_a_height_that_no_image_has_is_refused() -> None:
    with pytest.raises(PlanError, match="at 300 m; choose among 150, 200$"):
        make_plan(recipe(altitudes=[300]), make_table([8] * 20, altitudes=(150, 200)))


def test_the_probe_looks_at_the_heights_of_the_recipe() -> None:
    shards = make_table([8] * 20, altitudes=(150, 200))
    probe = RetrievalProbe(shards, recipe(altitudes=[200]).data)
    assert set(shards.images.altitude_m[probe.rows[View.DRONE]].tolist()) == {200.0}
    assert len(probe.rows[View.DRONE]) == 5 * 4 and len(probe.rows[View.SATELLITE]) == 5
