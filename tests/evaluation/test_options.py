"""What an evaluation can be asked beside the plain protocol, each option from its command line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from data_shards.errors import CheckpointError, DescriptorError, RecipeError, ShardError
from data_shards.recipe import build_config, parse_command
from data_shards.schema import Role, View
from data_shards.shards import ShardSet
from distill.config import DistillConfig
from distill.run_folder import RunPaths
from distill.weights_file import WEIGHTS_FORMAT, TrainingData, load_student, save_weights
from evaluation.cli import evaluate
from evaluation.config import EvaluateConfig
from evaluation.inputs import open_inputs
from evaluation.ranking.rerank import RerankSettings
from evaluation.ranking.top_k import TopK, top_k
from evaluation.report import read_report
from tests.evaluation.conftest import TRAIN, Command, Evaluated, save_image, sharded


def rows(report: dict) -> dict[str, dict]:
    return {row["name"]: row for row in report["results"]}


def test_a_data_set_never_trained_on_is_zero_shot(
    evaluated: Evaluated, run: RunPaths, sues_shards: ShardSet
) -> None:
    report = evaluated(on=sues_shards)
    how = report["measurement"]
    assert (how["dataset"], how["trained_on"]) == ("sues200", "university1652")
    assert report["absent"] == [], "heights are those of the shards"
    headlines = ["d2s/150m", "d2s/300m", "s2d/150m", "s2d/300m"]
    parted = ["d2s/150m/no-distractors", "d2s/300m/no-distractors"]
    assert list(rows(report))[:6] == headlines + parted
    # Beside the report on its own data set, not over it.
    assert [path.name for path in (run.folder / "evaluations").iterdir()] == ["sues200"]
    report = read_report(run.folder / "evaluations/sues200/report.json")
    assert report.measurement.zero_shot


def test_what_was_trained_on_is_told_by_shards_names_and_places_not_by_the_layout(
    command: Command, shards: ShardSet
) -> None:
    config = parse_command(EvaluateConfig, command(), prog="test")
    inputs = open_inputs(config, torch.device("cpu"))
    of_these, loaded = TrainingData.of(shards), inputs.loaded

    def asked(places: tuple[str, ...] = loaded.places, **other: Any) -> tuple[bool | None, int]:
        model = replace(loaded, places=places, trained_on=replace(of_these, **other))
        one = replace(inputs, loaded=model)
        return one.measurement.zero_shot, one.seen_places

    tested = loaded.places + shards.places[TRAIN : TRAIN + 2]
    assert asked() == (False, 0)
    assert asked(dataset="toledo") == (False, 0), "the very same shards"
    assert asked(fingerprint="others") == (False, 0), "others of the same data set"
    assert asked(tested, fingerprint="others") == (False, 2)
    # The same ground under another name; other ground, numbered alike, under the same one.
    assert asked(dataset="toledo", fingerprint="others") == (False, 0)
    alien: dict[str, Any] = {"fingerprint": "others", "satellites": "00" * 8}
    assert asked(tested, **alien) == (True, 0)
    of_the_tested = shards.images.digest[shards.images.place == TRAIN].astype("<u8")
    alien["satellites"] = of_the_tested.tobytes().hex()
    assert asked(dataset="toledo", **alien) == (False, 1)
    # Shards stored in another way have other digests; older weights know none.
    alien["satellites"] = "00" * 8
    assert asked(profile="resized", **alien) == (False, 0)
    assert asked(tested, profile="resized", **alien) == (True, 0)
    assert asked(tested, fingerprint="others", satellites="") == (False, 2)
    # An id names a place in its own data set alone; a layout names none.
    assert asked(tested, dataset="toledo", **alien) == (True, 0)
    assert asked(tested, dataset="", fingerprint="", satellites="") == (None, 0)


def test_flip_size_and_resampling_stand_in_the_report(evaluated: Evaluated) -> None:
    plain = evaluated()
    told = evaluated("--flip", "--image-size", "48", "--resampling", "pillow-bicubic")
    assert (plain["measurement"]["flip"], plain["image_size"]) == (False, 32)
    how = told["measurement"]
    assert (how["flip"], told["image_size"], how["resampling"]) == (True, 48, "pillow-bicubic")
    assert told["cost"]["image_size"] == 48
    mirrored = evaluated("--flip")
    assert mirrored["cost"]["macs"] == 2 * plain["cost"]["macs"], "two passes per image"
    assert mirrored["cost"]["parameters"] == plain["cost"]["parameters"]


def test_images_become_square_as_they_did_in_training(
    evaluated: Evaluated, command: Command, run: RunPaths
) -> None:
    assert evaluated()["measurement"]["aspect"] == "squeeze"
    values, loaded = yaml.safe_load(run.recipe.read_text()), load_student(run.folder)
    values["data"]["aspect"] = "crop"
    config = build_config(DistillConfig, values, where="test")
    known = {"places": loaded.places, "trained_on": loaded.trained_on, "step": 10}
    save_weights(run.weights, run.card, loaded.model, config, **known)
    asked = parse_command(EvaluateConfig, command("--gallery-checkpoint", run.folder), prog="test")
    inputs = open_inputs(asked, torch.device("cpu"))
    assert inputs.gallery is not None
    assert inputs.shards.aspect == inputs.gallery.shards.aspect == "crop"
    assert evaluated()["measurement"]["aspect"] == "crop"
    table = (run.folder / "evaluations/university1652/report.md").read_text()
    assert "32 px, opencv-linear, crop" in table


def test_flip_adds_before_it_scales(run: RunPaths) -> None:
    model = load_student(run.folder).model
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        both = [model(each)["descriptor"].flatten(1) for each in (images, images.flip(3))]
        added = both[0] + both[1]
        mirrored = model.describe(images.flip(3), flip=True)
        assert torch.allclose(model.describe(images, flip=True), added / added.norm(dim=1)[:, None])
        assert torch.allclose(model.describe(images, flip=True), mirrored, atol=1e-6)
        assert not torch.allclose(model.describe(images), mirrored, atol=1e-4)


def test_distractors_make_the_gallery_larger(evaluated: Evaluated, sues_shards: ShardSet) -> None:
    report = evaluated("--distractors", sues_shards.folder)
    assert report["measurement"]["distractors"] == [sues_shards.fingerprint]
    assert rows(report)["d2s"]["metrics"]["num_gallery"] == 9 + 7
    plain = rows(evaluated())
    for name in ("d2s/no-distractors", "s2d/no-distractors"):
        assert rows(report)[name] == plain[name]
    assert rows(report)["s2d"]["metrics"]["ap"] <= plain["s2d"]["metrics"]["ap"]


def test_street_images_are_searched_too(evaluated: Evaluated, street_shards: ShardSet) -> None:
    report = evaluated(on=street_shards)
    headlines = ["d2s", "s2d", "street2s", "s2street", "street2d", "d2street"]
    assert list(rows(report))[:6] == headlines
    assert report["absent"] == []
    assert rows(report)["street2d"]["metrics"]["num_gallery"] == 18


def test_metres_to_the_truth_are_told_where_places_are_known(
    evaluated: Evaluated, shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {place: (52.0, 0.001 * int(place)) for place in shards.places}
    manifest = replace(shards.manifest, coordinates=known)
    located = ShardSet(shards.folder, manifest, shards.images)
    monkeypatch.setattr(ShardSet, "fingerprint", shards.fingerprint)
    monkeypatch.setattr("evaluation.inputs.open_shards", lambda *words, **facts: located)
    report = evaluated()
    assert report["distances"]["d2s"]["num_known"] == 12
    found = rows(report)["d2s"]["metrics"]["recall@1"]
    assert report["distances"]["d2s"]["within_10m"] == pytest.approx(found)


def test_weather_is_laid_over_drone_queries_alone(evaluated: Evaluated) -> None:
    report = evaluated("--conditions", "fog", "dark")
    assert {"d2s/fog", "d2s/dark"} <= rows(report).keys()
    assert not any(name.startswith("s2d/fog") for name in rows(report))
    assert rows(report)["d2s/fog"]["metrics"] != rows(report)["d2s"]["metrics"]
    assert report["measurement"]["conditions_version"] >= 1
    assert rows(evaluated("--conditions", "fog"))["d2s/fog"] == rows(report)["d2s/fog"]


def test_fused_and_reranked_rows_are_labelled(evaluated: Evaluated) -> None:
    report = evaluated("--multi-view", "1", "--rerank", "--rerank-top", "7", "--rerank-k1", "3")
    named = rows(report)
    fused = {"mean", "refined-1", *(f"random-1/seed{seed}" for seed in range(5))}
    for way in ("d2s", "s2d"):
        assert {f"{way}/{kind}" for kind in fused} <= named.keys()
        assert "top 7" in named[f"{way}/reranked"]["rerank"]
        assert "k1 3" in named[f"{way}/reranked"]["rerank"]
    assert named["d2s/refined-1"]["metrics"]["num_queries"] == 6
    assert named["s2d/refined-1"]["metrics"]["num_gallery"] == 9
    headlines = [row["name"] for row in report["results"][:2]]
    assert headlines == ["d2s", "s2d"]


def test_descriptors_and_submission_are_written(
    evaluated: Evaluated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = evaluated("--descriptors", "--submission", "--out", tmp_path / "out")
    assert len((tmp_path / "out/submission.txt").read_text().split("\n")) >= 12
    folder = tmp_path / "out/descriptors"
    assert evaluate(["--features", str(folder / "d2s.mat"), "--json"]) == 0
    read_back = json.loads(capsys.readouterr().out)
    assert read_back == pytest.approx(rows(report)["d2s"]["metrics"])
    assert (folder / "s2d.mat").is_file()


def test_a_submission_follows_the_ranking_that_was_asked_for(
    evaluated: Evaluated, shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, again = (tmp_path / name / "submission.txt" for name in ("plain", "again"))
    evaluated("--submission", "--out", plain.parent)
    numbers = ["--rerank-k1", "3", "--rerank-k2", "2", "--rerank-lambda", "0"]
    words = ["--rerank", *numbers, "--submission", "--out", again.parent]
    report = evaluated(*words)
    first = [line.split("\t")[0] for line in again.read_text().splitlines()]
    images = shards.images
    asked = images.place[images.where(role=Role.QUERY, view=View.DRONE)]
    right = np.mean(
        [shards.places[place] == name for place, name in zip(asked, first, strict=True)]
    )
    assert right == pytest.approx(rows(report)["d2s/reranked"]["metrics"]["recall@1"], abs=1e-9)

    # Fresh weights are re-ranked by rounding alone, and on some processors not at all.
    def backwards(query_QD: Tensor, gallery_GD: Tensor, settings: RerankSettings) -> TopK:
        assert (settings.k1, settings.k2) == (3, 2)
        best = top_k(query_QD, gallery_GD, k=len(gallery_GD))
        return replace(best, index_QK=best.index_QK.flip(1))

    monkeypatch.setattr("evaluation.feature_files.reorder", backwards)
    evaluated(*words)
    names = [line.split("\t") for line in plain.read_text().splitlines()]
    assert again.read_text() == "".join("\t".join(line[::-1]) + "\n" for line in names)


def test_a_challenge_without_answers_gets_a_submission_and_no_report(
    evaluated: Evaluated, run: RunPaths, tmp_path: Path
) -> None:
    raw = tmp_path / "challenge" / "raw"
    for place in range(3):
        save_image(raw / f"gallery_satellite_160k/tile{place}.jpg", place, 9)
    for number, place in enumerate((2, 0)):
        save_image(raw / f"query_drone_160k/q{number}.jpeg", place, 8)
    (raw / "query_drone_name.txt").write_text("q1.jpeg\nq0.jpeg\n")
    challenge = sharded(raw, "university160k")
    words = ["--checkpoint", run.folder, "--shards", challenge.folder]
    with pytest.raises(DescriptorError, match="nothing to measure; give --submission"):
        evaluate([str(word) for word in words])
    assert evaluate([str(word) for word in [*words, "--submission"]]) == 0
    folder = run.folder / "evaluations/university160k"
    (answer,) = folder.iterdir()
    lines = [line.split("\t") for line in answer.read_text().splitlines()]
    assert [sorted(line) for line in lines] == [["tile0", "tile1", "tile2"]] * 2
    # Pictures of one colour are alike even to a model that never learned: q1 shows place 0.
    assert [line[0] for line in lines] == ["tile0", "tile2"]
    assert answer.name == "submission.txt"


def test_everything_asked_for_is_told_and_nothing_written(
    run: RunPaths, shards: ShardSet, caplog: pytest.LogCaptureFixture
) -> None:
    before = sorted(run.folder.rglob("*"))
    words = ["--checkpoint", run.folder, "--shards", shards.folder, "--dry-run", "--conditions"]
    words += ["all", "--multi-view", "1", "--rerank", "--submission"]
    with caplog.at_level("INFO"):
        assert evaluate([str(word) for word in words]) == 0
    told = caplog.text
    assert "would describe 27 images" in told
    assert "would search s2d, satellite to drone: 6 queries, 18 images, 12 without" in told
    assert "12 drone queries again in each of fog, rain" in told
    assert "no images for: street2s" in told
    assert f"would write {run.folder / 'evaluations/university1652'}" in told
    assert sorted(run.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--conditions", "fogg"], "'fog'"),
        (["--image-size", "8"], "larger --image-size"),
        (["--normalize"], "--normalize says nothing without --features"),
        (["--distractors", "nowhere"], "no shards at nowhere"),
        (["--dry-run", "--multi-view", "1", "--view-distance", "pose"], "are not known"),
        (["--multi-view", "2"], "has more than 2 drone views; give a smaller number"),
        (["--multi-view", "500"], "--multi-view 500 leaves nothing to choose"),
        (["--conditions"], "--conditions names none"),
        (["--distractors", ""], "--distractors names none"),
        (["--resampling", "bicubic"], r"resampling 'bicubic' is unknown .*mean 'pillow-bicubic'"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    words: list[str], sentence: str, evaluated: Evaluated, run: RunPaths
) -> None:
    with pytest.raises((DescriptorError, RecipeError, ShardError), match=sentence) as refused:
        evaluated(*words)
    assert "\n" not in str(refused.value)
    assert not list(run.folder.glob("evaluations"))


def test_views_are_not_fused_where_each_place_has_one(
    evaluated: Evaluated, shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_first = shards.images.position == 1
    single = replace(shards.images, roles=np.where(is_first, shards.images.roles, 0))
    alone = ShardSet(shards.folder, shards.manifest, single)
    monkeypatch.setattr("evaluation.inputs.open_shards", lambda *words, **facts: alone)
    with pytest.raises(DescriptorError, match="--multi-view 2 leaves nothing to choose"):
        evaluated("--multi-view", "2")
    assert rows(evaluated())["d2s"]["metrics"]["num_queries"] == 6


def test_no_drone_queries_no_submission(
    evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.protocols.Searches.drone_to_satellite", ())
    with pytest.raises(DescriptorError, match="--submission is about drone queries"):
        evaluated("--submission")


@pytest.mark.parametrize("damage", ["renamed", "format", "cut", "foreign"])
def test_weights_of_another_model_are_refused(
    damage: str, evaluated: Evaluated, run: RunPaths
) -> None:
    with safe_open(run.weights, framework="pt") as opened:
        metadata = opened.metadata()
    state = load_file(run.weights)
    if damage == "renamed":
        state["other.weight"] = state.pop(next(iter(state)))
    if damage == "format":
        metadata = {WEIGHTS_FORMAT: '{"recipe": {}}'}
    if damage == "foreign":
        metadata = {"format": "pt"}
    save_file(state, run.weights, metadata=metadata)
    if damage == "cut":
        run.weights.write_bytes(run.weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors") as refused:
        evaluated()
    assert "\n" not in str(refused.value)


def test_a_report_of_another_schema_is_refused(evaluated: Evaluated, run: RunPaths) -> None:
    report = evaluated()
    path = run.folder / "evaluations/university1652/report.json"
    path.write_text(json.dumps(report | {"schema_version": 1}))
    with pytest.raises(DescriptorError, match="schema version 1, this program reads 3"):
        read_report(path)
    path.write_text(json.dumps(report | {"results": [{"name": "d2s"}]}))
    with pytest.raises(DescriptorError, match="damaged report"):
        read_report(path)


def test_views_of_distractors_are_no_views_to_choose_from(
    evaluated: Evaluated, sues_shards: ShardSet
) -> None:
    """At both heights together a place of SUES-200 has 4, and one of the test set 2."""
    with pytest.raises(DescriptorError, match="has more than 2 drone views"):
        evaluated("--multi-view", "2", "--distractors", sues_shards.folder)
