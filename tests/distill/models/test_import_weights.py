"""Weights of others have the same function here, and go wherever ours go."""

import os
import re
from dataclasses import replace

import pytest
import torch

from distill.config import ModelConfig
from distill.models import RetrievalModel, build_model
from distill.models.backbones import BNEXTS, stage_ends
from distill.models.heads import MccgHead
from distill.models.import_weights import find_network, import_network, their_names
from distill.teacher.source import class_places, load_teacher
from distill.weights_file import TrainingData, load_student
from launch.main import main
from tests.distill.conftest import run_alone
from tests.distill.models.authors import (
    BUFFERS,
    LARGE,
    MIDDLE,
    SMALL,
    TINY,
    bnext,
    bnext_map,
    descriptor,
    drawn,
    student,
    student_parts,
    teacher,
    teacher_parts,
)

STEM, DEPTHS = BNEXTS["bnext_micro"]
MICRO = (STEM, tuple(STEM * 2 ** (n + 1) for n, depth in enumerate(DEPTHS) for _ in range(depth)))
"""A size of our own: no paper has it, and it is quick."""

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)).double()


def of_no_memory(shapes):
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def imported(state):
    """Return the network of a state, to be looked at in double."""
    return import_network(state, find_network(state, what="net.pth")).double().eval()


def in_double(state):
    return {name: value.double() for name, value in state.items()}


# Names and sizes.


@pytest.mark.parametrize(
    ("shapes", "published"),
    [(bnext(TINY), 30_862_236), (student(TINY, 701), 33_518_747), (teacher(701), 30_852_423)],
)
def test_these_files_are_as_large_as_the_published_ones(shapes, published):
    values = of_no_memory(shapes).items()
    assert sum(v.numel() for name, v in values if not name.endswith(BUFFERS)) == published


@pytest.mark.parametrize(
    ("shapes", "name", "arch", "places"),
    [
        (bnext(MICRO), "BNext checkpoint", "bnext_micro", 0),
        (bnext(TINY), "BNext checkpoint", "bnext_tiny", 0),
        (bnext(SMALL), "BNext checkpoint", "bnext_small", 0),
        (bnext(MIDDLE), "BNext checkpoint", "bnext_middle", 0),
        (bnext(LARGE), "BNext checkpoint", "bnext_large", 0),
        (student(TINY, 120), "BiCrossNet student", "bnext_tiny", 120),
        (teacher(701), "MCCG teacher", "convnext_tiny", 701),
    ],
)
def test_kind_size_and_places_are_found_out(shapes, name, arch, places):
    found = find_network(of_no_memory(shapes), what="net.pth")
    assert (found.kind.name, found.config.arch, found.num_places) == (name, arch, places)


@pytest.mark.parametrize("shapes", [bnext(TINY), student(TINY, 5), teacher(5)])
def test_what_is_left_out_is_dead(shapes):
    """Nothing but classifiers of ImageNet, temperatures and PReLUs that no block has."""
    found = find_network(of_no_memory(shapes), what="net.pth")
    with torch.device("meta"):
        own = found.build().state_dict()
    translated = their_names(own, kind=found.kind)
    assert len(set(translated.values())) == len(own)
    left = {name.removeprefix("model_1.convnext.") for name in shapes.keys() - translated.values()}
    dead = r"(fc|head)\.(weight|bias)|.*\.temperature|feature\.0\.prelu\.weight"
    dead += r"|feature\.\d*[13579]\.Attention\.activation1\.weight|.*FFN.*activation1\.weight"
    assert {name for name in left if not re.fullmatch(dead, name)} == set()


# The function.


def test_a_bnext_has_the_same_map():
    state = drawn(bnext(MICRO))
    backbone = imported(state).backbone
    (last,) = backbone.forward_intermediates(IMAGES, indices=stage_ends(backbone)[-1:])
    expected = bnext_map(in_double(state), IMAGES, MICRO)
    torch.testing.assert_close(last, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("attention_map", ["pooled", "whole"])
def test_a_student_has_the_same_descriptors(attention_map):
    state = drawn(student(MICRO, 5))
    model = imported(state)
    found = find_network(state, what="net.pth")
    assert found.config.attention_map == "pooled", "as the released code runs it"
    config = replace(found.config, attention_map=attention_map)
    model = RetrievalModel(config, num_places=5, head=MccgHead)
    model.load_state_dict(import_network(state, found).state_dict())
    parts = [
        student_parts(in_double(state), images, MICRO, attention_map=attention_map)
        for images in (IMAGES, IMAGES.flip(3))
    ]
    check_descriptors(model, *parts)


def test_a_teacher_has_the_same_descriptors():
    state = drawn(teacher(5))
    model = import_network(state, find_network(state, what="net.pth"))
    parts = [teacher_parts(in_double(state), images) for images in (IMAGES, IMAGES.flip(3))]
    check_descriptors(model, *parts)
    head = in_double(state)
    logits = [
        part @ head[f"model_1.{name}.classifier.0.weight"].T
        + head[f"model_1.{name}.classifier.0.bias"]
        for name, part in zip(
            ("classifier_mcb1", "classifier_mcb2", "classifier1"), parts[0].unbind(2), strict=True
        )
    ]
    torch.testing.assert_close(model(IMAGES)["logits"], torch.stack(logits, dim=1))


def check_descriptors(model, parts, mirrored):
    model.double().eval()
    with torch.no_grad():
        torch.testing.assert_close(model.describe(IMAGES), descriptor(parts))
        flipped = model.describe(IMAGES, flip=True)
    torch.testing.assert_close(flipped, descriptor(parts + mirrored), rtol=1e-9, atol=1e-9)
    assert parts.unbind(2)[0].std() > 0.1, "the parts are told apart"
    assert not torch.allclose(parts[:, :, 0], parts[:, :, 1], rtol=0.1)


# Files.


@pytest.fixture
def told(tmp_path, capsys):
    """Import a state dict; return exit code and what was said."""

    def run(state, *words, name="net.pth"):
        torch.save(state, tmp_path / name)
        code = main(
            ["import-weights", str(tmp_path / name), str(tmp_path / "of/o.safetensors"), *words]
        )
        shown = capsys.readouterr()
        return code, shown.out or shown.err

    return run


def test_a_checkpoint_becomes_a_backbone(told, tmp_path):
    state = drawn(bnext(MICRO))
    code, sentence = told(
        {f"module.{name}": value for name, value in state.items()}, name="bnext.pth.tar"
    )
    out = tmp_path / "of/o.safetensors"
    assert code == 0 and sentence.count("\n") == 1
    assert "is read as BNext checkpoint: bnext_micro, " in sentence and str(out) in sentence
    model = build_model(ModelConfig(arch="bnext_micro", weights=str(out)), num_places=3)
    expected = imported(state).backbone.float().state_dict()
    assert all(torch.equal(value, expected[n]) for n, value in model.backbone.state_dict().items())
    assert model.origin.source == str(out)


def test_a_student_is_evaluated_teaches_and_is_started_from(
    told, tmp_path, tiny_shards, make_config, capsys
):
    places = class_places(tiny_shards)
    state = drawn(student(MICRO, len(places)))
    shards, out = str(tiny_shards.folder), tmp_path / "of/o.safetensors"
    code, sentence = told(state, "--shards", shards, "--image-size", "64")
    assert code == 0, sentence
    loaded = load_student(out)
    assert (loaded.places, loaded.image_size, loaded.role) == (places, 64, "alone")
    assert (
        loaded.trained_on == TrainingData.of(tiny_shards) and loaded.resampling == "pillow-bicubic"
    )
    images = IMAGES.float()
    expected = imported(state).float().describe(images)
    assert torch.equal(loaded.model.describe(images), expected)
    card = out.with_suffix(".md").read_text()
    assert "net.pth (sha256 " in card and "licence: not stated" in card and "elsewhere" in card

    assert main(["evaluate", "--checkpoint", str(out), "--shards", shards]) == 0
    assert "bnext_micro" in next(out.parent.glob("evaluations/*/report.json")).read_text()
    recipe = {"method": "bicrossnet", "objectives": {"info_nce": {"weight": 0.0}}}
    recipe["model"] = {"arch": "bnext_micro", "attention_map": "pooled", "bottleneck": 512}
    recipe["objectives"]["triplet"] = {"weight": 1.0}
    config = make_config(**recipe, schedule={"num_steps": 1, "warmup_steps": 0}, start=str(out))
    teaching = replace(config, teacher=replace(config.teacher, run=out))
    assert load_teacher(teaching, tiny_shards).sha256 == loaded.sha256
    session = run_alone(config)
    assert session.model.origin.source == str(tmp_path / "net.pth")
    before, after = (m.state_dict()["backbone.act.weight"] for m in (loaded.model, session.model))
    assert 0 < (before - after).abs().max() < 0.01, "one step away"


def test_without_shards_places_are_numbered(told, tmp_path):
    code, sentence = told(drawn(student(MICRO, 3)))
    assert code == 0 and "import it with --shards" in sentence
    assert load_student(tmp_path / "of/o.safetensors").places == ("0", "1", "2")


def test_the_heights_of_a_teacher_can_be_told(told, tmp_path):
    assert told(drawn(student(MICRO, 3)), "--altitudes", "150", "200")[0] == 0
    recipe = load_student(tmp_path / "of/o.safetensors").recipe
    assert recipe["data"]["altitudes"] == [150, 200]


def test_shards_of_another_data_set_are_refused(told, tiny_shards, tmp_path):
    state = drawn(student(MICRO, 99))
    code, sentence = told(state, "--shards", str(tiny_shards.folder))
    assert code == 2 and "tells 99 places apart" in sentence
    assert not (tmp_path / "of/o.safetensors").exists()


class Told:
    """What says so when it is unpickled."""

    def __reduce__(self):
        return os.abort, ()


def halved(state, name):
    return state | {name: state[name][::2]}


def without(state, *names):
    return {name: value for name, value in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: without(s, "feature.2.FFN_2.scale"), "1 keys missing ['feature.2.FFN_2.scale']"),
        (lambda s: s | {"feature.2.x": s["fc.bias"]}, "1 keys unexpected ['feature.2.x']"),
        (
            lambda s: halved(s, "feature.1.Attention.norm1.weight"),
            "1 keys of another shape ['feature.1.Attention.norm1.weight']",
        ),
        (lambda s: s | {"feature.1.Attention.scale": torch.zeros(16)}, "1 keys of another shape"),
        (
            lambda s: s | {"feature.1.FFN_1.binary_conv.temperature": torch.tensor([1e-7])},
            "not binary yet: 1 layers (feature.1.FFN_1.binary_conv.temperature is first)",
        ),
        (lambda s: {"conv1.weight": s["fc.bias"]}, "holds 1 tensors of no kind known here (BNext"),
        (
            lambda s: {"state_dict": s, "epoch": Told()},
            "cannot be read (it holds other objects than tensors",
        ),
        (lambda s: {"feature.0": {"a": 1}}, "holds other things than tensors"),
        (lambda s: {0: s["fc.bias"]}, "cannot be read"),
        (lambda s: [s], "cannot be read"),
    ],
)
def test_a_bad_file_is_one_sentence(told, change, says, tmp_path):
    code, sentence = told(change(drawn(bnext(MICRO))))
    assert code == 2 and sentence.count("\n") == 1
    assert says in sentence
    assert not (tmp_path / "of").exists()


def test_a_weight_file_has_a_name_of_its_own(tmp_path, capsys):
    assert main(["import-weights", "net.pth", str(tmp_path / "o.pth")]) == 2
    assert "end it in .safetensors" in capsys.readouterr().err
