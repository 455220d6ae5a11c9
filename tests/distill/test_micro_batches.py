"""Batches that are described in parts, by one process; two ranks are in test_exactness.py."""

import pytest
import torch

from data_shards.errors import RecipeError
from distill.step import divide
from tests.distill.conftest import metric_lines, open_alone, run_alone
from tests.distill.test_step import batch as make_batch

OBJECTIVES = {name: {"weight": 1.0} for name in ("info_nce", "triplet", "proxy_anchor")}
DROPPING = {"dropout": 0.5, "drop_path": 0.3, "dropout_by_sample": True}

batch = make_batch


@pytest.mark.parametrize(
    ("precision", "num_steps", "tolerance"), [("fp32", 6, 1e-4), ("bf16", 2, 1e-2)]
)
def test_a_run_in_micro_batches_is_the_undivided_one(
    make_config, tmp_path, precision, num_steps, tolerance
):
    whole, divided = (
        run_alone(
            make_config(
                out=str(tmp_path / f"{rows}"),
                data={"micro_batch": rows, "drones_per_row": 2},
                objectives=OBJECTIVES,
                model=DROPPING,
                precision=precision,
                schedule={"num_steps": num_steps, "warmup_steps": 1},
            )
        )
        for rows in (None, 3)
    )
    assert divided.micro_batches is not None
    for one, other in zip(metric_lines(whole.paths), metric_lines(divided.paths), strict=True):
        for name in ("total", "grad_norm", "triplet_active"):
            key = f"train/{name}"
            assert other["metrics"][key] == pytest.approx(one["metrics"][key], rel=tolerance)
    scale = divided.whole.log_scale.item()
    assert scale == pytest.approx(whole.whole.log_scale.item(), rel=tolerance)


def test_parts_hold_every_image_once_with_its_key(batch):
    parts = list(divide(batch, 2))
    assert [len(part.place) for part, _ in parts] == [2, 1]
    images = torch.cat([batch.satellite, batch.drone])
    for part, numbers in parts:
        assert torch.equal(torch.cat([part.satellite, part.drone]), images[numbers])
        assert part.keys.tolist() == numbers.tolist()
    assert sorted(torch.cat([numbers for _, numbers in parts]).tolist()) == [*range(len(images))]


def test_what_cannot_be_divided_is_refused(make_config):
    micro = {"data": {"micro_batch": 2}}
    with pytest.raises(RecipeError, match="micro_batch.*set model.dropout_by_sample to true"):
        make_config(**micro)
    labelled = make_config(
        **micro, model={"dropout": 0.0}, objectives={"cross_entropy": {"weight": 1.0}}
    )
    with pytest.raises(RecipeError, match=r"micro_batch.*model.head.classifier.0 learns"):
        open_alone(labelled)
