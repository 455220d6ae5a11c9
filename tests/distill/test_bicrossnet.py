"""BiCrossNet's recipes and teachers: what is refused, and what a cached teacher says."""

import pytest
import torch
from torch import nn

from data_shards.errors import CheckpointError, RecipeError, WorldSizeError
from distill.config import DistillConfig
from distill.methods import METHODS
from distill.run_folder import RunPaths
from distill.session import join_ranks, make_accelerator
from distill.teacher.source import LiveTeacher, load_teacher
from tests.distill.conftest import (
    BRANCHES,
    MakeConfig,
    merge,
    open_alone,
    save_newborn,
    tiny_config,
)
from tests.distill.test_teacher_cache import build, losses
from tests.evaluation.conftest import sharded, write_sues

NARROW = {"method": "bicrossnet", "model": {"arch": "convnext_micro", "bottleneck": 8}}
"""A teacher whose branches are as wide as the student's."""


@pytest.fixture
def student(make_config: MakeConfig) -> MakeConfig:
    """A function from changes to the recipe of a student of three steps."""

    def make(**changes) -> DistillConfig:
        values = {
            **BRANCHES,
            "optimizer": {"rule": "adam", "weight_decay": 0},
            "schedule": {"num_steps": 3, "warmup_steps": 0},
        }
        return make_config(**merge(values, changes))

    return make


@pytest.fixture
def taught(student, tmp_path) -> MakeConfig:
    """The same with a teacher, live unless told otherwise."""

    def make(run, **changes) -> DistillConfig:
        values = {
            "role": "distilled",
            "teacher": {"run": str(run), "source": "live", "cache": str(tmp_path / "cache")},
            "objectives": {
                "logit_distillation": {"weight": 2.0},
                "feature_distillation": {"weight": 1.0},
            },
        }
        return student(**merge(values, changes))

    return make


@pytest.fixture(scope="module")
def narrow_run(tmp_path_factory, tiny_shards):
    return save_newborn(tmp_path_factory.mktemp("narrow") / "run", tiny_shards, seed=5, **NARROW)


def phases(*trains: str) -> list[dict[str, object]]:
    """Phases of one step each; the last reaches to the end."""
    return [{"trains": one, "steps": 1} for one in trains[:-1]] + [{"trains": trains[-1]}]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"phases": phases("real", "head", "all")}, "train real, head, all; their order is head"),
        ({"phases": phases("real", "real")}, "train real, real; their order is head, real, all"),
        ({"phases": [{"trains": "head", "steps": 2}]}, "every phase but the last has steps"),
        ({"model": {"anneal_steps": 3}}, r"model.anneal_steps \(3\) must be below"),
        ({"phases": [{"trains": "head"}, {"trains": "all"}]}, "every phase but the last has steps"),
        (
            {"phases": [{"trains": "real", "steps": 3}, {"trains": "all"}]},
            r"last phase begins at step 3 and trains nothing; raise schedule.num_steps \(3\)",
        ),
        (
            {"objectives": {"uapa": {"weight": 0.2}}},
            r"objectives.uapa.weight \(0.2\) is nothing that bicrossnet has",
        ),
        ({"model": {"pool": "mean"}}, r"model.pool \(mean\) is nothing that bicrossnet has"),
        ({"teacher": {"mode": "train"}}, "teacher.mode is train, and a cache holds eval"),
    ],
)
def test_a_recipe_is_refused_in_a_sentence(student, changes, says):
    with pytest.raises(RecipeError, match=says):
        student(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"phases": phases("head", "all")}, "phases .* is nothing that pfed has; leave it out"),
        ({"objectives": {"cross_view": {"weight": 1.0}}}, "objectives.cross_view.weight"),
        ({"optimizer": {"binary_rule": "adam"}}, r"optimizer.binary_rule \(adam\)"),
        ({"schedule": {"binary_drop_steps": [3]}}, "schedule.binary_drop_steps"),
        ({"model": {"anneal_steps": 3}}, r"model.anneal_steps \(3\)"),
        ({"model": {"attention_map": "pooled"}}, r"model.attention_map \(pooled\)"),
        ({"teacher": {"mode": "train", "source": "live"}}, r"teacher.mode \(train\)"),
    ],
)
def test_what_only_bicrossnet_has_is_refused_to_pfed(make_config, changes, says):
    with pytest.raises(RecipeError, match=says):
        make_config(**changes)


@pytest.mark.parametrize(
    ("arch", "limits"), [("bnext_micro", (-1.5, 1.5)), ("recu_resnet34", None)]
)
def test_only_bnext_limits_its_latent_weights(student, arch, limits):
    config = student(model={"arch": arch, "weights": "none"})
    model = METHODS["bicrossnet"].build(config.model, num_places=2)
    step = nn.ModuleDict({"model": model})
    groups = {group.name: group for group in METHODS["bicrossnet"].groups(step, config)}
    assert groups["binary"].params and groups["binary"].clamp == limits
    assert groups["mixing"].clamp == (0, 1) and groups["head"].clamp is None


def test_a_teacher_of_another_method_is_refused(taught, narrow_run, distilled, teacher_run):
    with pytest.raises(RecipeError, match="method pfed, and bicrossnet compares other"):
        open_alone(taught(teacher_run))
    with pytest.raises(RecipeError, match="method bicrossnet, and pfed compares other"):
        open_alone(distilled(teacher={"run": str(narrow_run), "source": "live"}))


def test_the_command_for_a_missing_teacher_is_of_this_method(taught):
    with pytest.raises(CheckpointError, match="train configs/bicrossnet/demo_teacher.yaml --out"):
        open_alone(taught("nowhere"))


def test_a_teacher_of_wider_branches_is_refused(taught, tiny_shards, tmp_path):
    wide = save_newborn(
        tmp_path / "wide", tiny_shards, seed=5, **merge(NARROW, {"model": {"bottleneck": 16}})
    )
    with pytest.raises(RecipeError, match="branches are 16 wide and the student's 8; set model.bo"):
        open_alone(taught(wide))


def test_a_teacher_of_another_height_is_refused_unless_any_will_do(tmp_path):
    raw = write_sues(tmp_path / "sues/raw")
    shards = sharded(raw, "sues200", split=raw / "split.yaml")

    def look(seen: list[int], wanted: list[int], **teacher: object) -> None:
        run = tmp_path / f"teacher_{seen}"
        if not run.exists():
            save_newborn(run, shards, seed=5, **merge(NARROW, {"data": {"altitudes": seen}}))
        config = tiny_config(
            shards,
            tmp_path / "run",
            method="bicrossnet",
            role="distilled",
            data={"altitudes": wanted},
            teacher={"run": str(run), "source": "live", **teacher},
            objectives={"info_nce": {"weight": 0}, "logit_distillation": {"weight": 1.0}},
        )
        load_teacher(config, shards)

    with pytest.raises(RecipeError, match="of 150 m alone, and this recipe's are of 300 m; train "):
        look([150], [300])
    with pytest.raises(RecipeError, match="of 150 m alone, and this recipe's are of 150 m, 300 m"):
        look([150], [150, 300])
    with pytest.raises(RecipeError, match="of 150 m alone, and this recipe's are of all heights"):
        look([150], [])
    look([150], [300], any_altitude=True)
    look([150], [150])
    look([], [300])


def test_fp16_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RecipeError, match="fp16 needs a GPU.*set precision to bf16 or fp32"):
        join_ranks(precision="fp16")


def test_training_from_the_cache_is_training_with_the_live_teacher(taught, narrow_run, tmp_path):
    cached, live = (
        taught(
            narrow_run,
            out=str(tmp_path / source),
            teacher={"source": source, "codec": "float32"},
            data={"drones_per_row": 2},
        )
        for source in ("cache", "live")
    )
    build(cached)
    found = losses(live)
    assert len(found) == 3 and len(found[0]) == 5 and all(map(all, found))
    assert losses(cached) == found


@pytest.mark.parametrize(
    ("arch", "precision"), [("convnext_micro", "fp32"), ("bnext_micro", "bf16")]
)
def test_a_teacher_as_released_is_in_train_mode_and_learns_nothing(
    taught, tiny_shards, tmp_path, arch, precision
):
    run = save_newborn(
        tmp_path / "teacher", tiny_shards, seed=5, **merge(NARROW, {"model": {"arch": arch}})
    )
    session = open_alone(taught(run, teacher={"mode": "train", "precision": precision}))
    calm = open_alone(taught(run, out=str(tmp_path / "calm"))).teacher
    teacher, model = session.teacher, session.teacher.model
    assert isinstance(teacher, LiveTeacher) and isinstance(calm, LiveTeacher)
    (planned,) = session.loader.batches(first_step=0, num_steps=1)
    batch = session.on_device(planned)
    model.train(mode=False)
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in calm.model.modules())
    before = {name: value.clone() for name, value in model.named_parameters()}
    said, again, calmly = batch.teacher, teacher(batch), calm(batch)
    for name, values in said.items():
        assert values.shape == calmly[name].shape and values.dtype == torch.float32
        assert not values.requires_grad
        assert not torch.allclose(values, calmly[name], rtol=1e-2)
        assert not torch.equal(values, again[name])  # other masks of dropout
        assert torch.equal(calmly[name], calm(batch)[name])
    terms, _ = session.step(batch, list(session.config.objectives.weights))
    sum(terms.values()).backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_a_rank_with_one_tile_is_refused(student, monkeypatch):
    with pytest.raises(WorldSizeError, match=r"data.global_batch 1 leaves each rank one tile"):
        make_accelerator(student(data={"global_batch": 1}))


def test_a_start_whose_attention_looks_elsewhere_is_refused(student, tiny_shards, tmp_path):
    narrow = {**NARROW, "model": {**NARROW["model"], "attention_map": "pooled"}}
    run = save_newborn(tmp_path / "pooled", tiny_shards, seed=5, **narrow)
    with pytest.raises(CheckpointError, match="set model.attention_map to pooled"):
        open_alone(student(start=str(RunPaths(run).weights)))
