"""The refinement behind whole networks: images in, rows out, against spec pfed 6 place by place."""

import numpy as np
import pytest
import timm
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from data_shards.errors import CheckpointError, RecipeError
from data_shards.recipe import build_config
from data_shards.schema import View
from data_shards.shards import ShardSet
from distill.config import DistillConfig
from distill.models import backbones, build_model
from distill.run_folder import RunPaths
from distill.weights_file import load_student, save_weights
from evaluation.protocols import DRONE_TO_SATELLITE, SATELLITE_TO_DRONE
from tests.evaluation.conftest import TRAIN, Evaluated, save_image, sharded
from tests.evaluation.test_asymmetric import described, measured, searched
from tests.evaluation.test_view_weights import slow_pose, slow_refinement

QUERIES, DISTRACTORS, VIEWS = 9, 3, 54
POSES = range(1, VIEWS + 1)
TINY = {"embed_dim": 24, "depth": 3, "num_heads": 2}
TEACHER = {"arch": "vit_base_patch14_reg4_dinov2.lvd142m", "train_blocks": 2}
STUDENT = {"arch": "convnext_micro", "descriptor_width": 24}


@pytest.fixture(scope="module")
def helix_shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Places with the 54 views of University-1652's helix; nobody asks for the last three."""
    raw = tmp_path_factory.mktemp("helix") / "raw"
    for place in range(QUERIES + DISTRACTORS):
        for role in ("query", "gallery") if place < QUERIES else ("gallery",):
            for view, count in (("satellite", 1), ("drone", VIEWS)):
                for number in range(1, count + 1):
                    folder = raw / f"test/{role}_{view}/{place:04d}"
                    save_image(folder / f"image-{number:02d}.jpg", 0, place, number, count, size=28)
    for view in ("satellite", "drone"):
        save_image(raw / f"train/{view}/0099/image-01.jpg", 99, size=28)
    return sharded(raw, "university1652")


def rebuild(run: RunPaths, model: dict[str, object], *, image_size: int) -> None:
    """Give a run folder another newborn model."""
    values = yaml.safe_load(run.recipe.read_text())
    values["model"] |= {"weights": "none"} | model
    values["data"]["image_size"] = image_size
    config = build_config(DistillConfig, values, where="test")
    torch.manual_seed(1)
    old = load_student(run.weights)
    facts = {"places": old.places, "step": old.step, "trained_on": old.trained_on}
    newborn = build_model(config.model, num_places=TRAIN)
    save_weights(run.weights, run.card, newborn, config, **facts)


def test_weights_that_are_not_numbers_are_told_as_such(run: RunPaths) -> None:
    with safe_open(run.weights, framework="pt") as opened:
        metadata = opened.metadata()
    state = load_file(run.weights)
    first = next(iter(state))
    save_file({**state, first: state[first] * torch.nan}, run.weights, metadata=metadata)
    with pytest.raises(CheckpointError, match=f"holds NaN or infinity in 1 tensors .{first} is"):
        load_student(run.folder)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink every transformer that timm builds; its class and everything else stays."""
    create = timm.create_model
    monkeypatch.setattr(
        backbones.timm,
        "create_model",
        lambda name, **options: create(name, **options | (TINY if name[:4] == "vit_" else {})),
    )


@pytest.mark.parametrize(
    ("model", "image_size", "form", "view_distance"),
    [
        (TEACHER, 56, "entropy", "auto"),
        (TEACHER, 28, "distance", "descriptor"),
        (STUDENT, 32, "entropy", "descriptor"),
        (STUDENT, 32, "agreement", "auto"),
    ],
)
def test_the_rows_of_a_network_are_those_of_the_formulas(
    model: dict[str, object],
    image_size: int,
    form: str,
    view_distance: str,
    evaluated: Evaluated,
    run: RunPaths,
    helix_shards: ShardSet,
) -> None:
    rebuild(run, model, image_size=image_size)
    words = ["--multi-view", 10, "--information", form, "--view-distance", view_distance]
    report = evaluated(*words, on=helix_shards)
    assert report["image_size"] == image_size
    found = {row["name"]: row for row in report["results"]}

    images = helix_shards.images
    places = np.unique(images.place[SATELLITE_TO_DRONE.rows(images)[1]])
    asked = np.unique(images.place[DRONE_TO_SATELLITE.rows(images)[0]])
    assert np.array_equal(asked, places[:QUERIES])
    fused: dict[str, list[np.ndarray]] = {"mean": [], "refined-10": []}
    pose = np.array([[slow_pose(j, s) for s in POSES] for j in POSES])
    for place in places:
        rows = np.flatnonzero((images.place == place) & (images.view == View.DRONE))
        rows = rows[images.position[rows].argsort()]
        view_ND = described(run, helix_shards, rows)
        assert view_ND.shape == (VIEWS, 24)
        apart = np.linalg.norm(view_ND[:, None] - view_ND, axis=2)
        distance = pose if view_distance == "auto" else apart
        total = view_ND.sum(axis=0)
        fused["mean"].append(total / np.linalg.norm(total))
        fused["refined-10"].append(slow_refinement(view_ND, distance, form, 10))
    tiles = [np.flatnonzero((images.place == p) & (images.view == View.SATELLITE)) for p in places]
    tile_PD = described(run, helix_shards, np.concatenate(tiles))
    is_right = np.eye(len(places), dtype=bool)[:QUERIES]
    for way, fused_PD in fused.items():
        fused_PD = np.stack(fused_PD)
        d2s, s2d = (found[f"{name}/{way}"] for name in ("d2s", "s2d"))
        assert measured(d2s) == pytest.approx(searched(fused_PD[:QUERIES], tile_PD, is_right))
        assert measured(s2d) == pytest.approx(searched(tile_PD[:QUERIES], fused_PD, is_right))
    assert len({row["metrics"]["ap"] for name, row in found.items() if "d2s/" in name}) > 3


def test_images_that_a_transformer_cannot_cut_are_refused(
    evaluated: Evaluated, run: RunPaths, helix_shards: ShardSet
) -> None:
    rebuild(run, TEACHER, image_size=28)
    with pytest.raises(RecipeError, match="50 is no multiple of the model's grid of 14 px"):
        evaluated("--multi-view", 10, "--image-size", 50, on=helix_shards)
