"""Photographs cut out of a map and found on it again, and everything that is told of them."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from data_shards.errors import DescriptorError, LayoutError, RecipeError
from evaluation.cli import query
from evaluation.own_map.ground import distance_m
from evaluation.own_map.maps import Map, open_map
from tests.evaluation.own_map.conftest import (
    Capture,
    MakePhoto,
    as_bands,
    asked,
    born,
    gps,
    ground_picture,
    index_of,
    write_map,
    write_truth,
)

SIDE = 120
"""Pixels of a tile of 60 m, and of a photograph."""


def test_a_photograph_of_a_tile_is_found_there_whichever_way_it_lies(
    indexed: Path, make_photo: MakePhoto, tmp_path: Path, capsys: Capture
) -> None:
    places = {
        f"{heading}.png": make_photo(
            tmp_path / f"{heading}.png", col=180, row=240, heading_deg=heading
        )
        for heading in (0, 90, 225)
    }
    (tmp_path / "._0.png").write_bytes(b"what a Mac leaves beside a photograph")
    told = asked(capsys, indexed, tmp_path)
    assert [photo["photo"] for photo in told["photos"]] == list(places), "in their natural order"
    for photo in told["photos"]:
        first = photo["tiles"][0]
        assert distance_m(first["place"], places[photo["photo"]])[0] < 1
        assert first["footprint_m"] == 60
        assert first["heading_deg"] == pytest.approx(int(photo["photo"][:-4]), abs=0.5)
        assert (photo["by"], photo["on_map"]) == ("tile", True)
        assert (photo["latitude"], photo["longitude"]) == tuple(first["place"])
        scores = [tile["score"] for tile in photo["tiles"]]
        assert scores == sorted(scores, reverse=True)


def test_matching_says_where_the_centre_lies_which_way_it_looks_and_what_it_shows(
    indexed: Path, the_map: Map, make_photo: MakePhoto, tmp_path: Path, capsys: Capture
) -> None:
    place = make_photo(tmp_path / "a.jpg", col=311.5, row=207.25, heading_deg=37, side=150)
    (photo,) = asked(capsys, indexed, tmp_path / "a.jpg", "--refine")["photos"]
    assert photo["by"] == "match"
    assert distance_m((photo["latitude"], photo["longitude"]), place)[0] < 0.25
    assert photo["error_m"] < 0.75
    assert photo["heading_deg"] == pytest.approx(37, abs=1.5)
    sides = distance_m(photo["corners"], np.roll(photo["corners"], -1, axis=0))
    assert sides == pytest.approx(75, abs=1.5), "150 pixels of half a metre"


def test_a_photograph_of_other_ground_is_not_on_this_map(
    indexed: Path, tmp_path: Path, capsys: Capture
) -> None:
    for seed in (8, 9):
        Image.fromarray(ground_picture(200, 150, seed=seed)).save(tmp_path / f"{seed}.png")
    for photo in asked(capsys, indexed, tmp_path, "--refine")["photos"]:
        assert not photo["on_map"]
    assert query([str(indexed), str(tmp_path), "--refine"]) == 0
    assert capsys.readouterr().out.count("not on this map") == 2


def test_what_the_camera_says_narrows_the_search(
    indexed: Path, make_photo: MakePhoto, tmp_path: Path, capsys: Capture
) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 24
    heading = b'<x drone-dji:FlightYawDegree="+90.0" drone-dji:RelativeAltitude="+60.0"/>'
    path = tmp_path / "a.jpg"
    place = make_photo(path, col=180, row=240, heading_deg=90, exif=exif, xmp=heading)
    photo = asked(capsys, indexed, path)["photos"][0]
    headings = {round(tile["heading_deg"]) for tile in photo["tiles"]}
    assert headings == {90}, "one rotation; the grid of the map lies half a degree off north"
    # 60 m high, the short side of a square at 24 mm is 60 * 43.27 / 24 / sqrt(2) = 76 m.
    assert {tile["footprint_m"] for tile in photo["tiles"]} == {60.0}
    assert distance_m(photo["tiles"][0]["place"], place)[0] < 1
    plain = tmp_path / "b.png"
    make_photo(plain, col=180, row=240)
    wide = asked(capsys, indexed, plain, "--altitude-m", "80", "--fov-deg", "70")["photos"][0]
    assert {tile["footprint_m"] for tile in wide["tiles"]} == {120.0}
    turned = asked(capsys, indexed, path, "--rotations", "2")["photos"][0]
    assert {round(tile["heading_deg"]) for tile in turned["tiles"]} <= {90, 270}


def test_only_tiles_around_a_place_are_looked_among(
    indexed: Path, the_map: Map, make_photo: MakePhoto, tmp_path: Path, capsys: Capture
) -> None:
    corner = the_map.ground.lat_lon([(500, 400)])[0].tolist()
    path = tmp_path / "a.jpg"
    make_photo(path, col=180, row=240, exif=gps(*corner))
    near = f"--near={corner[0]},{corner[1]}"
    for words in ((near,), ("--near", f"{corner[0]}, {corner[1]}"), ("--near", "photo")):
        (photo,) = asked(capsys, indexed, path, *words, "--within", "60")["photos"]
        for tile in photo["tiles"]:
            assert distance_m(tile["place"], corner)[0] <= 60 + tile["footprint_m"] / 2
    inside = the_map.ground.lat_lon([(200, 200)])[0].tolist()
    (narrow,) = asked(capsys, indexed, path, f"--near={inside[0]},{inside[1]}", "--within", "1")[
        "photos"
    ]
    assert narrow["tiles"], "a circle between the centres of tiles is on the map"
    (free,) = asked(capsys, indexed, path)["photos"]
    assert distance_m(free["tiles"][0]["place"], corner)[0] > 100, "GPS is not used unless asked"


def test_a_circle_off_the_map_is_refused_and_a_photo_that_lies_off_it_is_not_found(
    indexed: Path, make_photo: MakePhoto, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "a.jpg"
    make_photo(path, col=180, row=240, exif=gps(31.0, -98.0))
    with pytest.raises(DescriptorError, match="no tile of .* lies within 500 m of --near -31,98"):
        query([str(indexed), str(path), "--near", "-31,98"])
    (photo,) = asked(capsys, indexed, path, "--near", "photo", "--refine")["photos"]
    assert (photo["by"], photo["on_map"], photo["latitude"]) == ("nothing", False, None)
    truth = write_truth(tmp_path / "t.csv", {"a": (31.0, -98.0)})
    told = asked(capsys, indexed, path, "--near", "photo", "--truth", truth)["truth"]
    assert "guessing" not in told, "there is no tile to guess"


def test_what_cannot_be_used_is_said(
    indexed: Path,
    make_photo: MakePhoto,
    tmp_path: Path,
    capsys: Capture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_photo(tmp_path / "plain.png", col=180, row=240)
    asked(capsys, indexed, tmp_path / "plain.png", "--near", "photo")
    assert "1 photograph without GPS: looked for on the whole map" in caplog.text
    pitch = b'<x drone-dji:GimbalPitchDegree="-15.0" drone-dji:RelativeAltitude="+80.0"/>'
    make_photo(tmp_path / "oblique.jpg", col=180, row=240, xmp=pitch)
    for words in (
        (tmp_path / "plain.png", "--altitude-m", 50),
        (tmp_path / "plain.png", "--altitude-m", 500, "--fov-deg", 80),
        (tmp_path / "oblique.jpg", "--fov-deg", 70),
    ):
        caplog.clear()
        (photo,) = asked(capsys, indexed, *words, "--top", 50)["photos"]
        assert "1 photograph looked for among tiles of every side" in caplog.text
        assert {tile["footprint_m"] for tile in photo["tiles"]} == {60.0, 120.0}


def test_what_cannot_be_asked_is_refused_in_a_sentence(
    indexed: Path, weights: Path, make_photo: MakePhoto, tmp_path: Path
) -> None:
    make_photo(tmp_path / "a.png", col=180, row=240)
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff no photograph")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "t.csv").write_text("photo,latitude,longitude\na.png,1,2\nb.png,north,3\n")
    other = born(tmp_path / "other.safetensors", seed=1)
    photo = tmp_path / "a.png"
    cases: list[tuple[type[Exception], str, tuple[object, ...]]] = [
        (DescriptorError, r"photograph .*cut\.jpg cannot be read", (tmp_path / "cut.jpg",)),
        (DescriptorError, r"absent\.jpg cannot be read \(No such", (tmp_path / "absent.jpg",)),
        (DescriptorError, "holds no photograph", (tmp_path / "empty",)),
        (DescriptorError, "was made with another model", (photo, "--checkpoint", other)),
        (
            LayoutError,
            r"t\.csv, line 3: latitude 'north' is not a number of degrees",
            (photo, "--truth", tmp_path / "t.csv"),
        ),
        (RecipeError, "--near 'here' must be LATITUDE,LONGITUDE", (photo, "--near", "here")),
        (RecipeError, "--near '95,3' must be", (photo, "--near", "95,3")),
        (RecipeError, "--top", (photo, "--top", "0")),
        (DescriptorError, r"pipe\.jpg cannot be read \(it is no plain", (tmp_path / "pipe.jpg",)),
        (RecipeError, "say which photographs", ()),
    ]
    for error, sentence, words in cases:
        with pytest.raises(error, match=sentence):
            query([str(indexed), *map(str, words)])


def test_all_photographs_are_looked_at_before_the_first_is_described(
    indexed: Path, make_photo: MakePhoto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photo(tmp_path / "1.png", col=180, row=240)
    make_photo(tmp_path / "499.jpg", col=180, row=240)
    (tmp_path / "499.jpg").write_bytes((tmp_path / "499.jpg").read_bytes()[:-900])
    monkeypatch.setattr("evaluation.own_map.query.answer_one", lambda *_: pytest.fail("described"))
    with pytest.raises(DescriptorError, match=r"499\.jpg cannot be read \(the JPEG is cut"):
        query([str(indexed), str(tmp_path)])


def test_a_library_that_is_not_installed_is_told_in_a_sentence(
    indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("answers", "query", "index", "refine", "maps", "ground"):
        monkeypatch.delitem(sys.modules, f"evaluation.own_map.{name}")
    monkeypatch.setitem(sys.modules, "pyproj", None)
    with pytest.raises(RecipeError, match=r"maps need pyproj, which is not .* skydistill\[maps\]"):
        query([str(indexed), str(tmp_path)])


REAL_PHOTOS = os.environ.get("SKYDISTILL_REAL_PHOTOS", "")


@pytest.mark.skipif(not REAL_PHOTOS, reason="SKYDISTILL_REAL_PHOTOS names no folder")
def test_real_photographs_are_matched_with_a_real_map(
    weights: Path, tmp_path: Path, capsys: Capture
) -> None:
    real = Path(REAL_PHOTOS, "own_map")
    assert index_of(real / "map.tif", tmp_path / "index", weights) == 0
    words = ("--refine", "--truth", real / "truth.csv")
    told = asked(capsys, tmp_path / "index", real / "photos", *words)
    assert told["truth"]["num_known"] == 12
    assert told["truth"]["answers"]["within_10m"] == 1.0
    elsewhere = sorted(Path(REAL_PHOTOS, "university1652/test/query_drone").rglob("*.JPG"))[:3]
    for photo in asked(capsys, tmp_path / "index", *elsewhere, "--refine")["photos"]:
        assert not photo["on_map"]


def test_a_map_far_from_north_is_searched_in_every_direction(
    weights: Path, make_photo: MakePhoto, tmp_path: Path, capsys: Capture
) -> None:
    from tests.evaluation.own_map.test_maps import TURNED

    picture = ground_picture(400, 400, seed=5)
    tif = write_map(tmp_path / "map.tif", as_bands(picture), transform=TURNED)
    assert index_of(tif, tmp_path / "index", weights) == 0
    cut = np.rot90(picture[120:240, 120:240], -1).copy()  # its top where the map's left is
    heading = b'<x drone-dji:FlightYawDegree="-60.0"/>'
    Image.fromarray(cut).save(tmp_path / "a.png")
    Image.fromarray(cut).save(tmp_path / "b.jpg", quality=95, xmp=heading)
    for path in (tmp_path / "a.png", tmp_path / "b.jpg"):
        (photo,) = asked(capsys, tmp_path / "index", path, "--refine", "--top", 50)["photos"]
        assert photo["heading_deg"] == pytest.approx(360 - 90 + 30, abs=1)
        headings = {round(tile["heading_deg"]) for tile in photo["tiles"]}
        assert (headings == {300}) == (path.suffix == ".jpg"), "one direction where it is known"
        assert photo["tiles"][0]["heading_deg"] == pytest.approx(360 - 90 + 30, abs=1)
        # A tile lies as the map does, not with north up.
        first = photo["tiles"][0]
        there = open_map(tif).ground.lat_lon([(180, 180), (120, 120)])
        assert distance_m([first["place"], first["corners"][0]], there).max() < 0.5
