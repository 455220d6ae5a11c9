import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_shards.errors import CheckpointError, DivergedError, RecipeError
from distill import train as loop
from distill.models import RetrievalModel, inference
from distill.models.weights import Origin
from distill.weights_file import load_student
from tests.distill.conftest import OF_THE_MACHINE, metric_lines, run_alone, save_newborn
from tests.distill.test_teacher_cache import build


def test_metric_lines_have_the_names_of_the_recipe(distilled, make_config):
    session = run_alone(distilled(teacher={"source": "live"}, log_every_steps=3))
    lines = metric_lines(session.paths)
    assert [line["step"] for line in lines] == [3, 6]
    terms = {f"train/{name}" for name in session.config.objectives.weights}
    assert set(lines[0]["metrics"]) == terms | {
        "train/total",
        "train/grad_norm",
        "train/learning_rate",
        *(f"train/learning_rate/{group['name']}" for group in session.groups.param_groups),
        *OF_THE_MACHINE,
        "train/triplet_active",
        "train/uapa_temperature",
    }
    assert 0 <= lines[0]["metrics"]["train/triplet_active"] <= 1
    assert 4 < lines[0]["metrics"]["train/uapa_temperature"] < 8
    weights = session.config.objectives.weights
    for metrics in (line["metrics"] for line in lines):
        total = sum(weight * metrics[f"train/{name}"] for name, weight in weights.items())
        assert metrics["train/total"] == pytest.approx(total, rel=1e-6)


def test_probe_is_called_at_its_steps_and_the_end(make_config):
    seen = []

    def probe(model: RetrievalModel, step: int) -> dict[str, float]:
        with inference(model):
            assert not model.training
        assert model.training
        seen.append(step)
        return {"probe/d2s/recall_at_1": 0.5}

    session = run_alone(make_config(probe_every_steps=4), probes=[probe])
    assert seen == [4, 6]
    lines = metric_lines(session.paths)
    probed = [line["step"] for line in lines if "probe/d2s/recall_at_1" in line["metrics"]]
    assert probed == [4, 6]
    assert session.step.training


def test_the_best_checkpoint_and_its_weights_are_kept_beside_the_last(make_config):
    recall = {1: 0.25, 2: 0.5, 3: 0.375, 4: 0.5, 5: 0.125, 6: 0.0}

    def probe(model: RetrievalModel, step: int) -> dict[str, float]:
        both = {"d2s": recall[step] + 0.125, "s2d": recall[step] - 0.125}
        return {f"probe/{way}/recall_at_1": value for way, value in both.items()}

    config = make_config(
        keep_best=True,
        probe_every_steps=1,
        keep_checkpoints=1,
        data={"validation_fraction": 0.2},
    )
    for stop, last in ((4, 4), (None, 6)):
        session = run_alone(config, probes=[probe], stop_after=stop)
        names = sorted(path.name for path in session.paths.checkpoints.iterdir())
        assert names == ["step-00000002", f"step-{last:08d}"]
        state = json.loads((session.paths.checkpoints / names[-1] / "state.json").read_text())
        assert (state["state"]["best_step"], state["state"]["best_recall"]) == (2, 0.5)
    best = load_student(session.paths.best.folder)
    assert best.step == 2 and load_student(session.paths.folder).step == 6
    saved = load_file(session.paths.checkpoints / names[0] / "model.safetensors")
    assert all(
        torch.equal(value, saved[f"model.{name}"])
        for name, value in best.model.state_dict().items()
    )
    with pytest.raises(RecipeError, match="keep_best chooses by probes on held-out places"):
        make_config(keep_best=True)


def test_with_a_decay_probes_and_weights_are_the_average_that_training_does_not_see(
    make_config, tmp_path
):
    looked = []

    def probe(model: RetrievalModel, step: int) -> dict[str, float]:
        looked.append(model.head.pool.power.item())
        return {}

    plain, averaged, resumed = (
        run_alone(
            make_config(out=str(tmp_path / name), optimizer={"ema_decay": decay}),
            probes=[probe] * (name == "averaged"),
            stop_after=stop,
        )
        for name, decay, stop in (
            ("plain", 0, None),
            ("averaged", 0.5, None),
            ("resumed", 0.5, 2),
        )
    )
    resumed = run_alone(resumed.config)
    for one, other in zip(plain.model.parameters(), averaged.model.parameters(), strict=True):
        assert torch.equal(one, other)
    whole = averaged.gather()
    written = load_student(averaged.paths.folder).model.state_dict()
    power = whole.model.head.pool.power
    assert looked == [power.item()] and power.item() != averaged.model.head.pool.power.item()
    assert whole.log_scale.item() != averaged.step.log_scale.item()
    for one, other in zip(written.values(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(
        whole.state_dict().values(), resumed.gather().state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)
    assert torch.equal(
        whole.model.head.classifier[0].running_mean, averaged.model.head.classifier[0].running_mean
    )
    assert "weights averaged over steps, decay 0.5" in averaged.paths.card.read_text()
    assert "averaged" not in plain.paths.card.read_text()


def test_a_step_that_is_logged_and_saved_is_looked_at_once(make_config, monkeypatch):
    looked = []
    look = loop._finite_means

    def count(session, terms, **rest):
        looked.append(session.state.step)
        return look(session, terms, **rest)

    monkeypatch.setattr(loop, "_finite_means", count)
    run_alone(make_config(log_every_steps=2, save_every_steps=3))
    assert looked == [2, 3, 4, 6]


@pytest.mark.parametrize("log_every", [1, 1000])
def test_a_diverging_term_is_named_and_never_saved(make_config, monkeypatch, log_every):
    def explode(logits: torch.Tensor, target: torch.Tensor, **_: float) -> torch.Tensor:
        return logits.mean() * float("inf")

    monkeypatch.setattr("distill.methods.pfed.cross_entropy", explode)
    config = make_config(
        objectives={"cross_entropy": {"weight": 1.0}},
        log_every_steps=log_every,
        save_every_steps=1,
    )
    with pytest.raises(DivergedError, match=r"step 1: cross_entropy.* not finite") as told:
        run_alone(config)
    assert "info_nce" not in str(told.value) and "total" not in str(told.value)
    assert not list((config.run_folder / "checkpoints").iterdir())


def test_a_gradient_that_is_not_finite_is_never_saved(make_config, monkeypatch):
    def flat(query: torch.Tensor, *_: torch.Tensor, **__: object):
        return (query - query).abs().sqrt().sum()  # zero, with an infinite slope

    monkeypatch.setattr("distill.methods.pfed.info_nce", flat)
    config = make_config(log_every_steps=1000, save_every_steps=1)
    with pytest.raises(DivergedError, match=r"step 1: grad_norm not finite"):
        run_alone(config)
    assert not list((config.run_folder / "checkpoints").iterdir())


def test_the_recipe_is_saved_beside_the_weights(make_config):
    session = run_alone(make_config())
    assert "arch: convnext_micro" in session.paths.recipe.read_text()
    assert json.loads(session.paths.environment.read_text())["world_size"] == 1


def test_a_run_starts_from_the_model_and_the_stage_heads_of_another(make_config, tmp_path):
    stages = {"deep_supervision": {"weight": 1.0}}
    first = run_alone(make_config(objectives=stages, out=str(tmp_path / "first")))
    second = make_config(
        seed=7,
        start=str(tmp_path / "first"),
        objectives={**stages, "proxy_anchor": {"weight": 1.0}},
        schedule={"num_steps": 1, "warmup_steps": 0},
        optimizer={"learning_rate": 1e-30, "weight_decay": 0.0},
    )
    ended, begun = first.step.state_dict(), run_alone(second).step.state_dict()
    assert begun.keys() - ended.keys() == {"parts.proxies"}
    moved = {name for name in ended if not torch.allclose(ended[name].float(), begun[name].float())}
    assert all("running" in name or "num_batches" in name for name in moved)
    # Stopped and resumed, it does not ask for that run again.
    third = make_config(out=str(tmp_path / "third"), start=str(tmp_path / "first"))
    assert run_alone(third, stop_after=2).state.step == 2
    (tmp_path / "first").rename(tmp_path / "moved")
    assert run_alone(third).state.step == 6
    (tmp_path / "moved").rename(tmp_path / "first")
    with pytest.raises(CheckpointError, match="no trained model at"):
        run_alone(make_config(start=str(tmp_path / "nowhere"), out=str(tmp_path / "fourth")))
    other = {"arch": "convnext_milli"}
    with pytest.raises(CheckpointError, match="is another"):
        run_alone(make_config(start=str(tmp_path / "first"), out=str(tmp_path / "x"), model=other))


def test_a_student_in_its_teacher_s_space_keeps_the_projection_and_says_so(distilled, teacher_run):
    config = distilled(
        teacher={"source": "live"}, model={"descriptor_width": "teacher"}, save_every_steps=3
    )
    run_alone(config, stop_after=4)
    session = run_alone(config)  # resumed, by the recipe as it was written
    teacher, student = load_student(teacher_run), load_student(session.paths.folder)
    assert student.descriptor_space == teacher.descriptor_space == teacher.sha256
    assert student.model.width == teacher.model.width != student.model.stage_widths[-1]
    assert student.model.head.projection.weight.shape == (teacher.model.width, 192)
    assert f"descriptor_space: {teacher.sha256}" in session.paths.card.read_text()
    assert "descriptor_width: teacher" in session.paths.recipe.read_text()


def test_the_same_recipe_gives_the_same_losses_to_the_last_bit(distilled, tmp_path):
    def losses(name: str, **changes) -> list[dict[str, float]]:
        paths = run_alone(distilled(out=str(tmp_path / name), **changes)).paths
        lines = [line["metrics"] for line in metric_lines(paths)]
        return [{k: v for k, v in line.items() if k not in OF_THE_MACHINE} for line in lines]

    live = {"teacher": {"source": "live"}}
    assert losses("one", **live) == losses("two", **live)
    assert losses("three", seed=1, **live)[0] != losses("four", **live)[0]


def test_the_origin_of_first_weights_travels_through_every_start(make_config, tmp_path):
    weights = tmp_path / "pretrained.safetensors"
    fresh = run_alone(make_config(out=str(tmp_path / "fresh")))
    state = {k: v.contiguous() for k, v in fresh.model.backbone.state_dict().items()}
    save_file(state, weights)
    one = make_config(out=str(tmp_path / "one"), model={"weights": str(weights)})
    run_alone(one)
    two = make_config(out=str(tmp_path / "two"), start=str(tmp_path / "one"))
    run_alone(two, stop_after=3)
    session = run_alone(two)
    origin = load_student(tmp_path / "two").model.origin
    assert origin.source == str(weights) and len(origin.sha256) == 64
    card = session.paths.card.read_text()
    assert f"started from: run {tmp_path / 'one'}, {weights}" in card and "not stated" in card


@pytest.mark.parametrize("source", ["live", "cache"])
def test_a_student_s_card_tells_where_its_teacher_started(
    distilled, make_config, tiny_shards, tmp_path, source
):
    origin = Origin(source="timm/some.tag", sha256="ab" * 32, licence="apache-2.0")
    save_newborn(tmp_path / "teacher", tiny_shards, seed=5, origin=origin)
    config = distilled(teacher={"run": str(tmp_path / "teacher"), "source": source})
    if source == "cache":
        build(config)
    told = f"teacher: {tmp_path / 'teacher'}, started from: timm/some.tag (sha256 abababababab), "
    assert f"{told}licence: apache-2.0\n" in run_alone(config).paths.card.read_text()
    alone = make_config(out=str(tmp_path / "alone"), teacher={"run": str(tmp_path / "teacher")})
    assert "- teacher: none\n" in run_alone(alone).paths.card.read_text()


def test_a_last_stage_that_only_teaches_its_logits_is_no_trouble(make_config):
    objectives = {
        "deep_supervision": {"weight": 1.0},
        "self_distillation": {"weight": 1.0, "direction": "ordinary"},
    }
    session = run_alone(make_config(objectives=objectives))
    learning = [p for p in session.step.parameters() if p.requires_grad]
    assert all(parameter in session.groups.state for parameter in learning)
    with pytest.raises(RecipeError, match="only stages before the last are trained"):
        make_config(objectives=objectives | {"info_nce": {"weight": 0}})


def test_frozen_units_keep_their_weights_and_batch_statistics(make_config):
    seen = {}

    def look(model: RetrievalModel, step: int) -> dict[str, float]:
        seen[step] = {name: value.clone() for name, value in model.state_dict().items()}
        with inference(model):
            pass  # as a probe does
        return {}

    model = {"arch": "mobilenetv3_small_050", "train_blocks": 2}
    session = run_alone(make_config(model=model, probe_every_steps=1), probes=[look])
    first, last = seen[1], seen[6]
    moved = {name for name, value in first.items() if not torch.equal(value, last[name])}
    number = len(session.model.backbone.blocks)
    learning = tuple(f"backbone.blocks.{n}." for n in (number - 2, number - 1))
    assert {name for name in moved if name.startswith("backbone.")} == {
        name for name in first if name.startswith(learning)
    }
    assert any("running_mean" in name for name in first if not name.startswith(learning))
    assert any("running_mean" in name for name in moved)
