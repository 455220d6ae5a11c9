"""A confidence that means something: fitted on one half of the places, told of the other."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_shards.errors import DescriptorError
from data_shards.shards import ShardSet
from distill.weights_file import TrainingData
from evaluation.own_map.confidence import (
    BINS,
    LEVELS,
    by_tile,
    fitted,
    fitted_curve,
    halves,
    held_out_pairs,
)
from evaluation.own_map.index import read_manifest
from tests.data_shards.remote.shard_server import serving
from tests.evaluation.conftest import sharded
from tests.evaluation.own_map.conftest import MakePhoto, asked, born, ground_picture, index_of

PLACES, QUERIES = 100, 5


def made_scores(*, signal: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores of queries whose own tile is better by `signal` deviations."""
    random = np.random.default_rng(0)
    place_Q = np.repeat(np.arange(PLACES), QUERIES)
    score_QG = random.normal(0, 0.1, (len(place_Q), PLACES))
    score_QG[np.arange(len(place_Q)), place_Q] += 0.1 * signal * random.uniform(0, 2, len(place_Q))
    return score_QG.astype(np.float32), place_Q, np.arange(PLACES)


def curve_of_tiles(*, signal: float) -> dict[str, Any]:
    score_QG, place_Q, place_G = made_scores(signal=signal)
    return fitted_curve(*by_tile(score_QG, place_Q, place_G), place_Q)


def test_the_curve_keeps_its_word_on_places_it_was_not_fitted_on() -> None:
    told = curve_of_tiles(signal=4)
    assert told["error"] < 0.05
    assert len(told["reliability"]) == BINS
    assert sum(count for *_, count in told["reliability"]) == 2 * PLACES * QUERIES / 2
    lowest, highest = told["reliability"][0], told["reliability"][-1]
    assert highest[1] > lowest[1] + 0.5
    assert told["weights"][2] > 0, "a clear first answer is surer"
    half = LEVELS.index(0.5)
    assert told["accepted_here"][half] > 0.4
    assert told["accepted_elsewhere"][half] < 0.15


def test_a_model_that_tells_nothing_is_never_sure() -> None:
    told = curve_of_tiles(signal=0)
    assert max(mean for mean, *_ in told["reliability"]) < 0.2
    assert told["accepted_here"][LEVELS.index(0.5)] == 0


def test_an_index_is_calibrated_for_every_number_of_rotations(
    tif: Path,
    weights: Path,
    make_photo: MakePhoto,
    shards: ShardSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "index"
    with pytest.raises(DescriptorError, match="12 drone queries with a tile, too few to calibrate"):
        index_of(tif, out, weights, calibrate=shards.folder)
    monkeypatch.setattr("evaluation.own_map.confidence.LEAST_QUERIES", 12)
    aspects = []

    def looked(shards: ShardSet, *given: Any) -> Any:
        aspects.append(shards.aspect)
        return fitted(shards, *given)

    monkeypatch.setattr("evaluation.own_map.confidence.fitted", looked)
    with caplog.at_level(logging.INFO):
        assert index_of(tif, out, weights, calibrate=shards.folder) == 0
    assert aspects == ["crop"], "as query looks at photographs"
    calibrations = read_manifest(out).calibrations
    assert [(one.by, one.rotations) for one in calibrations] == [("tile", n) for n in (1, 2, 4, 8)]
    assert "no confidence of matches: 0 of 12 photographs match a tile" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert index_of(tif, out, weights, calibrate=shards.folder) == 0
    assert "calibrating" not in caplog.text, "it is calibrated on these already"
    assert read_manifest(out).calibrations == calibrations
    assert "no confidence of matches" not in caplog.text
    make_photo(tmp_path / "a.png", col=180, row=240)
    told = asked(capsys, out, tmp_path / "a.png", "--least-confidence", "0.3")
    (photo,), (of,) = told["photos"], told["calibrations"]
    assert (of["by"], of["rotations"], of["num_photos"]) == ("tile", 8, 12)
    assert 0 < photo["confidence"] < 1
    assert photo["on_map"] == (photo["confidence"] >= 0.3)
    never = asked(capsys, out, tmp_path / "a.png", "--least-confidence", "1")
    assert not never["photos"][0]["on_map"]


def test_an_index_is_calibrated_on_the_very_shards_of_the_training_wherever_it_is_called(
    tif: Path,
    shards: ShardSet,
    sues_shards: ShardSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, named = tmp_path / "X/outputs/demo/runs/student", "outputs/demo/shards"
    run.mkdir(parents=True)
    trained_on = TrainingData.of(shards)
    weights = born(run / "born.safetensors", seed=0, shards=named, trained_on=trained_on)
    shutil.copytree(sues_shards.folder, tmp_path / "here" / named)
    monkeypatch.chdir(tmp_path / "here")
    with caplog.at_level(logging.INFO):
        assert index_of(tif, tmp_path / "without", weights) == 0
    assert not read_manifest(tmp_path / "without").calibrations, "they are a stranger's"
    assert f"no confidence: the shards that the model was trained on ({named}) are" in caplog.text
    theirs = shutil.copytree(shards.folder, tmp_path / "X" / named)
    monkeypatch.setattr("evaluation.own_map.confidence.LEAST_QUERIES", 12)
    with caplog.at_level(logging.INFO):
        assert index_of(tif, tmp_path / "without", weights) == 0
    calibrations = read_manifest(tmp_path / "without").calibrations
    assert {one.shards_fingerprint for one in calibrations} == {shards.fingerprint}
    assert f"calibrating on the test images of {theirs}" in caplog.text


MATCHING_PLACES, OTHERS = 24, 6


@pytest.fixture(scope="module")
def matching(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Shards of places whose drone images show their tile turned, and of some that show others."""
    raw = tmp_path_factory.mktemp("matching") / "raw"
    for number in range(MATCHING_PLACES + OTHERS):
        ground = ground_picture(150, 150, seed=number)
        seen = ground if number < MATCHING_PLACES else ground_picture(150, 150, seed=1000 + number)
        for view, picture in {"satellite": ground, "drone": np.rot90(seen)[10:130, 10:130]}.items():
            path = raw / view / f"place_{number:02d}" / "1.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.ascontiguousarray(picture)).save(path)
    return sharded(raw, "folders")


def test_a_match_is_calibrated_on_shards_from_an_address(
    tif: Path,
    weights: Path,
    make_photo: MakePhoto,
    matching: ShardSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SKYDISTILL_CACHE", str(tmp_path / "cache"))
    with serving(matching.folder) as server:
        assert index_of(tif, tmp_path / "index", weights, calibrate=server.address) == 0
    *of_tiles, of = read_manifest(tmp_path / "index").calibrations
    assert {one.by for one in of_tiles} == {"tile"}
    assert (of.by, of.num_photos) == ("match", MATCHING_PLACES + OTHERS)
    half = LEVELS.index(0.5)
    assert of.accepted_here[half] == pytest.approx(MATCHING_PLACES / of.num_photos, abs=0.15)
    assert of.accepted_elsewhere[half] == 0
    assert sum(count for *_, count in of.reliability) == pytest.approx(MATCHING_PLACES / 2, abs=3)
    few, many = (of.confidence((np.log1p(pairs),)) for pairs in (5, 200))
    assert few < 0.5 < 0.8 < many < 0.999, "a dozen photographs do not make certainty"
    make_photo(tmp_path / "a.png", col=311, row=207, heading_deg=37, side=150)
    words = (tmp_path / "index", tmp_path / "a.png", "--refine")
    told = asked(capsys, *words)
    (photo,), (used,) = told["photos"], told["calibrations"]
    assert (photo["by"], photo["on_map"], used["by"]) == ("match", True, "match")
    assert 0.5 < photo["confidence"] < 1
    assert not asked(capsys, *words, "--least-confidence", "1")["photos"][0]["on_map"]


def test_matches_must_be_in_both_halves_of_the_places(matching: ShardSet) -> None:
    drone, satellite = held_out_pairs(matching.images)
    place_Q = matching.images.place[drone]
    is_first_Q, is_second_Q = halves(place_Q)
    assert (is_first_Q ^ is_second_Q).all() and is_first_Q.sum() == len(drone) / 2
    score_RQG = np.zeros((8, len(drone), len(satellite)), dtype=np.float32)
    own_QG = place_Q[:, None] == matching.images.place[satellite]
    # The own tile comes first of all for one half, and last, behind 20 others, for the other.
    score_RQG[:] = np.where(is_first_Q[:, None], own_QG, -1.0 * own_QG)
    assert {one.by for one in fitted(matching, drone, satellite, score_RQG)} == {"tile"}
    score_RQG[:] = own_QG
    assert fitted(matching, drone, satellite, score_RQG)[-1].by == "match"
