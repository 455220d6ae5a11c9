"""Vision transformers as backbones: the real classes, tiny, since no weights can be had here."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from data_shards.errors import RecipeError
from distill.config import ModelConfig
from distill.models import ARCHS, RetrievalModel, backbones, build_model
from distill.models.heads import GeM
from distill.models.preprocess import normalize, renormalize

TINY = {"embed_dim": 24, "depth": 4, "num_heads": 2}
DINOV2, DINOV3 = "vit_small_patch14_reg4_dinov2.lvd142m", "vit_small_patch16_dinov3.lvd1689m"


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Shrink every transformer that timm builds; its class and everything else stays."""
    create = timm.create_model

    def small(name, **options):
        return create(name, **options, **(TINY if name.startswith("vit_") else {}))

    monkeypatch.setattr(backbones.timm, "create_model", small)


def build(arch: str, **changes) -> RetrievalModel:
    torch.manual_seed(0)
    values = {"arch": arch, "weights": "none", "bottleneck": 0, "dropout": 0.0} | changes
    return build_model(ModelConfig(**values), num_places=5)


@pytest.mark.parametrize(("arch", "patch"), [(DINOV2, 14), (DINOV3, 16)])
@pytest.mark.parametrize("final_norm", [False, True])
def test_the_descriptor_is_the_generalized_mean_of_the_patches(arch, patch, final_norm):
    model = build(arch, final_norm=final_norm).eval()
    images = torch.randn(2, 3, 3 * patch, 2 * patch)
    network = model.backbone
    tokens = network.forward_features(images)  # behind the final norm, where there is one
    grid = tokens[:, network.num_prefix_tokens :]
    assert grid.shape == (2, 6, TINY["embed_dim"]) and network.num_prefix_tokens == 5
    expected = GeM()(grid.permute(0, 2, 1).unflatten(2, (3, 2)))
    assert torch.allclose(model(images)["descriptor"][:, 0], expected, atol=1e-6)
    assert any(name.startswith("norm.") for name in network.state_dict()) == final_norm


@pytest.mark.parametrize("arch", [DINOV2, DINOV3, "convnext_micro"])
def test_what_comes_before_the_last_blocks_keeps_its_weights_and_stores_nothing(arch):
    def stored(count: int | None) -> int:
        model = build(arch, train_blocks=count)
        sizes = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            outputs = model(torch.randn(4, 3, 112, 112))
        outputs["logits"].square().sum().backward()
        units = getattr(model.backbone, "blocks", None) or model.backbone.stages
        learning = [any(p.grad is not None for p in unit.parameters()) for unit in units]
        wanted = len(units) if count is None else count
        assert learning == [False] * (len(units) - wanted) + [True] * wanted
        if count is not None:
            frozen = [p for p in model.backbone.parameters() if not p.requires_grad]
            assert all(p.grad is None for p in frozen)
        return sum(sizes)

    assert stored(1) < stored(2) < stored(None)
    assert stored(0) < 0.25 * stored(None)


def test_more_blocks_than_there_are_is_refused():
    with pytest.raises(RecipeError, match=r"train_blocks is 5 and vit_small.* has 4 blocks; give"):
        build(DINOV2, train_blocks=5)


def test_sizes_that_the_patches_do_not_divide_are_refused_and_others_are_not():
    model = build(DINOV2).eval()
    with pytest.raises(
        RecipeError, match=r"data.image_size 384 is no multiple .* 14 px; give 378 or"
    ):
        model.refuse_size(384, key="data.image_size")
    model.refuse_size(392, key="data.image_size")
    assert model(torch.randn(1, 3, 392, 392))["descriptor"].shape == (1, 1, 24)
    build("convnext_micro").refuse_size(97, key="data.image_size")


def test_weights_of_the_authors_names_are_translated_and_their_origin_travels(tmp_path):
    born = build(DINOV2).backbone.state_dict()
    theirs = {key.replace("reg_token", "register_tokens"): value for key, value in born.items()}
    # The authors' position of the class token stands before those of the patches.
    position = torch.cat([torch.zeros(1, 1, 24), theirs["pos_embed"]], dim=1)
    theirs |= {"pos_embed": position, "mask_token": torch.zeros(1, 24)}
    theirs |= {"norm.weight": torch.ones(24), "norm.bias": torch.zeros(24)}
    path = tmp_path / "dinov2.pth"
    torch.save(theirs, path)
    model = build(DINOV2, weights=str(path))
    loaded = model.backbone.state_dict()
    assert loaded.keys() == born.keys()
    assert torch.equal(loaded["blocks.3.mlp.fc1.weight"], born["blocks.3.mlp.fc1.weight"])
    assert (model.origin.source, model.origin.licence) == (str(path), "")
    assert len(model.origin.sha256) == 64
    del theirs["blocks.0.mlp.fc1.weight"]
    torch.save(theirs, path)
    with pytest.raises(RecipeError, match=r"1 keys missing \['blocks.0.mlp.fc1.weight'\]"):
        build(DINOV2, weights=str(path))


def test_nobody_s_licence_is_not_guessed(tmp_path):
    save_file(build("convnext_micro").backbone.state_dict(), tmp_path / "own.safetensors")
    model = build("convnext_micro", weights=str(tmp_path / "own.safetensors"))
    assert model.origin.licence == "" and model.origin.source.endswith("own.safetensors")
    assert build("convnext_micro").origin.source == "none"


@pytest.mark.parametrize("arch", ["mobilenetv3_small_050", "efficientnet_b0", "fastvit_t8"])
def test_weights_of_a_whole_network_fit_what_its_maps_need(arch, tmp_path):
    torch.manual_seed(1)
    whole = timm.create_model(arch).state_dict()
    save_file({key: value.contiguous() for key, value in whole.items()}, tmp_path / "w.safetensors")
    loaded = build(arch, weights=str(tmp_path / "w.safetensors")).backbone.state_dict()
    assert all(torch.equal(value, whole[key]) for key, value in loaded.items())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"arch": "vit_base_patch14_dinov2.lvd142"}, "cannot be built by timm .*lvd142"),
        ({"arch": "densenet121", "drop_path": 0.1}, "cannot be built by timm .*drop_path"),
        ({"arch": "resnet10t", "train_blocks": 1}, "resnet10t has 0 blocks; give"),
        ({"arch": "beit_base_patch16_224", "final_norm": True}, "has none; leave it out"),
    ],
)
def test_what_timm_cannot_do_is_told(changes, sentence):
    with pytest.raises(RecipeError, match=sentence):
        build(**changes)


def test_a_backbone_of_other_pixels_gets_them():
    sat = build("vit_large_patch16_dinov3.sat493m")
    images = torch.randint(0, 256, (1, 4, 4, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.43, 0.411, 0.296]), torch.tensor([0.213, 0.156, 0.143])
    expected = ((images / 255 - mean) / std).permute(0, 3, 1, 2)
    assert torch.allclose(sat.pixels(normalize(images)), expected, atol=1e-5)
    assert not any(name.startswith("pixels") for name in sat.state_dict())
    assert isinstance(renormalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), nn.Identity)


def test_any_timm_model_with_maps_can_be_named_and_others_are_told(monkeypatch):
    model = build("resnet10t")
    assert model.stage_widths == [64, 128, 256, 512] and model.width == 512
    model.num_stages = 4
    outputs = model(torch.randn(2, 3, 64, 64))
    assert [outputs[f"stage_{n}"].shape[1] for n in (1, 2, 3)] == [64, 128, 256]
    with pytest.raises(RecipeError, match="convnext_tiny"):
        build("convnext_tinny")
    assert "vit_base_patch14_dinov2" in ARCHS
