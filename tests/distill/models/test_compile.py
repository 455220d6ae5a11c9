"""A backbone that is compiled block by block, in training alone."""

import shutil
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from data_shards.errors import RecipeError
from distill.models import inference
from distill.models.backbones import compile_units
from tests.distill.conftest import metric_lines, run_alone


def test_a_compiled_run_is_the_eager_one_and_its_weights_have_their_names(
    make_config, tmp_path, monkeypatch
):
    # Without g++, which takes minutes; the test below compiles something smaller by it.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    seen = []

    def probe(model, step):
        before = counters["stats"]["unique_graphs"]
        with inference(model):
            model.describe(torch.zeros(3, 3, 32, 32))
        seen.append(counters["stats"]["unique_graphs"] - before)
        return {}

    eager, compiled = (
        run_alone(
            make_config(
                out=str(tmp_path / f"{is_on}"),
                model={"compile": is_on, "drop_path": 0.2, "dropout_by_sample": True},
                schedule={"num_steps": 3, "warmup_steps": 1},
                probe_every_steps=2,
            ),
            probes=[probe],
        )
        for is_on in (False, True)
    )
    assert counters["stats"]["unique_graphs"] == 4, "one graph for each stage"
    assert seen == [0] * 4, "what is looked at is not compiled"
    assert eager.model.state_dict().keys() == compiled.model.state_dict().keys()
    for one, other in zip(metric_lines(eager.paths), metric_lines(compiled.paths), strict=True):
        for name in {"train/total", "train/grad_norm"} & one["metrics"].keys():
            assert other["metrics"][name] == pytest.approx(one["metrics"][name], rel=1e-4)


@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs g++, which is not here")
def test_inductor_compiles_a_stage_to_the_same_outputs_and_gradients():
    torch.manual_seed(1)
    eager = nn.Module()
    eager.stages = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU()))
    compiled, pixels, seen = deepcopy(eager), torch.randn(2, 3, 8, 8), []
    before = counters["aot_autograd"]["ok"], sum(counters["inductor"].values())
    compile_units(compiled, arch="tiny")
    for network in (eager, compiled):
        outputs = network.stages(pixels)
        gradients = torch.autograd.grad(outputs.square().sum(), [*network.parameters()])
        seen.append([outputs, *gradients])
    assert counters["aot_autograd"]["ok"] == before[0] + 1
    assert sum(counters["inductor"].values()) > before[1]
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_compiled_is_refused(make_config):
    with pytest.raises(RecipeError, match="model.compile would compile anew in each of model.ann"):
        make_config(method="bicrossnet", model={"compile": True, "anneal_steps": 2})
    with pytest.raises(RecipeError, match="model.compile: such has no blocks"):
        compile_units(torch.nn.Linear(1, 1), arch="such")
