import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from data_shards.errors import RecipeError
from distill.config import ModelConfig
from distill.models import ARCHS, RetrievalModel, build_model, normalize, weights
from distill.models.backbones import TIMM_ARCHS
from distill.models.heads import GeM, Mean
from distill.models.weights import load_backbone
from distill.teacher.source import freeze

SMALL = ("convnext_micro", "convnext_milli", "convnext_atto")


def small(**changes) -> RetrievalModel:
    values = {"arch": "convnext_micro", "weights": "none", "bottleneck": 0} | changes
    return RetrievalModel(ModelConfig(**values), num_places=5).eval()


@pytest.mark.parametrize("arch", SMALL)
def test_arch_describes_and_classifies(arch):
    model = small(arch=arch)
    images = torch.randn(2, 3, 64, 64)
    outputs = model(images)
    assert {name: (2, *shape) for name, shape in model.shapes.items()} == {
        name: tuple(tensor.shape) for name, tensor in outputs.items()
    }
    assert model.shapes == {"descriptor": (1, model.width), "logits": (5,)}
    assert torch.allclose(model.describe(images).norm(dim=1), torch.ones(2), atol=1e-6)


@pytest.mark.parametrize("arch", TIMM_ARCHS)
def test_large_arch_is_built(arch):
    with torch.device("meta"):
        network = ARCHS[arch](0.0)
    assert isinstance(network.head, nn.Identity)
    assert network.num_features >= 320


def test_inference_never_enters_the_class_head():
    model = small(bottleneck=8)
    model.head.classifier.register_forward_hook(
        lambda *_: pytest.fail("the class head was entered")
    )
    model.describe(torch.zeros(1, 3, 32, 32))


def test_unknown_arch_names_the_nearest():
    with pytest.raises(RecipeError, match="convnext_tiny"):
        small(arch="convnext_tinny")


def test_gem_is_its_formula():
    values = torch.randn(2, 3, 4, 5)
    expected = values.clamp(min=1e-6).pow(3).mean(dim=(2, 3)).pow(1 / 3)
    assert torch.allclose(GeM()(values), expected)
    positive = values.abs() + 0.1
    assert torch.allclose(GeM(power=1.0)(positive), Mean()(positive))
    power = GeM().power
    assert isinstance(power, nn.Parameter) and power.requires_grad


def test_images_are_normalized_as_torchvision_does():
    images = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (images / 255 - mean) / std
    assert torch.allclose(normalize(images), expected.permute(0, 3, 1, 2), atol=1e-5)


def build(weights: object) -> RetrievalModel:
    config = ModelConfig(arch="convnext_micro", weights=str(weights), bottleneck=0)
    return build_model(config, num_places=5)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_a_file_are_loaded(tmp_path, suffix):
    born = small().backbone.state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{key}": value for key, value in born.items()}}, path)
    else:
        save_file({**born, "head.fc.weight": torch.zeros(2, 2)}, path)
    loaded = build(path).backbone.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in born.items())


def test_weights_that_do_not_fit_are_named(tmp_path):
    state = small().backbone.state_dict()
    gone = sorted(state)[0]
    others = {key: value for key, value in state.items() if key != gone}
    save_file({**others, "odd": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(RecipeError, match=rf"(?s)1 keys missing.*{gone}.*1 keys unexpected.*odd"):
        build(tmp_path / "w.safetensors")
    save_file({**state, gone: torch.zeros(2, 2)}, tmp_path / "s.safetensors")
    with pytest.raises(RecipeError, match=gone):
        build(tmp_path / "s.safetensors")


class Harmful:
    """What a pickle could smuggle in."""


@pytest.mark.parametrize("content", ["missing", "noise", "empty", "object", "list", "cut"])
def test_a_file_that_is_no_weights_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content == "noise":
        path.write_bytes(b"no weights at all")
    elif content == "empty":
        path.touch()
    elif content == "object":
        torch.save({"a": Harmful()}, path)
    elif content == "list":
        torch.save([torch.zeros(1)], path)
    elif content == "cut":
        torch.save(small().backbone.state_dict(), path)
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RecipeError, match=r"weights\.pth"):
        build(path)


def test_an_object_is_refused_without_the_advice_to_run_it(tmp_path):
    torch.save({"a": Harmful()}, tmp_path / "w.pth")
    with pytest.raises(RecipeError, match="holds other objects than tensors") as told:
        build(tmp_path / "w.pth")
    assert "weights_only" not in str(told.value)


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model."])
def test_weights_of_a_network_within_another_are_taken(tmp_path, prefix):
    state = small().backbone.state_dict()
    save_file({prefix + name: value for name, value in state.items()}, tmp_path / "w.safetensors")
    found = build(tmp_path / "w.safetensors").backbone.state_dict()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_weights_that_are_not_numbers_are_told_as_such(tmp_path):
    state = small().backbone.state_dict()
    (first, *_) = (name for name, value in state.items() if value.is_floating_point())
    save_file({**state, first: state[first] * torch.nan}, tmp_path / "w.safetensors")
    with pytest.raises(RecipeError, match=f"NaN or infinity in 1 tensors .{first} is first"):
        build(tmp_path / "w.safetensors")


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch):
    asked = []

    def refuse(*_, **__):
        asked.append(1)
        raise OSError("no network")

    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(weights, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(weights, "hf_hub_download", lambda *_: pytest.fail("asked again"))
    with pytest.raises(RecipeError, match="are not on this machine and could not be fetched"):
        load_backbone(nn.Identity(), arch="convnext_tiny", weights="timm")
    with pytest.raises(RecipeError, match="are not on this machine and could not be fetched"):
        weights.require_weights(ModelConfig(arch="convnext_tiny", weights="timm"))
    assert len(asked) == 2


def test_timm_weights_offline_say_what_to_fetch(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RecipeError, match=r"fetch timm/convnext_tiny\..* and give its path"):
        load_backbone(nn.Identity(), arch="convnext_tiny", weights="timm")
    with pytest.raises(RecipeError, match="timm has no weights of convnext_micro"):
        build("timm")


def test_a_teacher_cannot_be_trained_by_accident():
    model = small().train()
    freeze(model)
    parent = nn.Sequential(model).train()
    model.train()
    assert parent.training
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
