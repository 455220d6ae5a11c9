"""A confidence that means something: fitted on one half of the places, told of the other."""

import logging
from pathlib import Path

import numpy as np
import pytest

from data_shards.errors import DescriptorError
from data_shards.shards import ShardSet
from evaluation.own_map.confidence import BINS, LEVELS, _fitted
from evaluation.own_map.index import read_manifest
from tests.evaluation.own_map.conftest import MakePhoto, asked, index_of

PLACES, QUERIES = 100, 5


def made_scores(*, signal: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores of queries whose own tile is better by `signal` deviations."""
    random = np.random.default_rng(0)
    place_Q = np.repeat(np.arange(PLACES), QUERIES)
    score_QG = random.normal(0, 0.1, (len(place_Q), PLACES))
    score_QG[np.arange(len(place_Q)), place_Q] += 0.1 * signal * random.uniform(0, 2, len(place_Q))
    return score_QG.astype(np.float32), place_Q, np.arange(PLACES)


def test_the_curve_keeps_its_word_on_places_it_was_not_fitted_on() -> None:
    weights, told = _fitted(*made_scores(signal=4))
    assert told["error"] < 0.05
    assert len(told["reliability"]) == BINS
    assert sum(count for *_, count in told["reliability"]) == 2 * PLACES * QUERIES / 2
    lowest, highest = told["reliability"][0], told["reliability"][-1]
    assert highest[1] > lowest[1] + 0.5
    assert weights[2] > 0, "a clear first answer is surer"
    half = LEVELS.index(0.5)
    assert told["accepted_here"][half] > 0.4
    assert told["accepted_elsewhere"][half] < 0.15


def test_a_model_that_tells_nothing_is_never_sure() -> None:
    _, told = _fitted(*made_scores(signal=0))
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
    assert index_of(tif, out, weights, calibrate=shards.folder) == 0
    calibrations = read_manifest(out).calibrations
    assert [one.rotations for one in calibrations] == [1, 2, 4, 8]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert index_of(tif, out, weights, calibrate=shards.folder) == 0
    assert "calibrating" not in caplog.text, "it is calibrated on these already"
    assert read_manifest(out).calibrations == calibrations
    make_photo(tmp_path / "a.png", col=180, row=240)
    told = asked(capsys, out, tmp_path / "a.png", "--least-confidence", "0.3")
    photo, of = told["photos"][0], told["calibration"]
    assert (of["rotations"], of["num_photos"], of["least_confidence"]) == (8, 12, 0.3)
    assert photo["confidence"] == pytest.approx(
        calibrations[3].confidence(photo["tiles"][0]["score"], 0), abs=1
    )
    assert photo["on_map"] == (photo["confidence"] >= 0.3)
    never = asked(capsys, out, tmp_path / "a.png", "--least-confidence", "1")
    assert not never["photos"][0]["on_map"]
