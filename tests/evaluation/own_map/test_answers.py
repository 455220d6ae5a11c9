"""What a query tells: distances from the truth, files for other programs, the page."""

import csv
import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data_shards.errors import DescriptorError, LayoutError
from evaluation.cli import query
from evaluation.own_map.answers import read_truth, ring
from evaluation.own_map.ground import distance_m
from evaluation.own_map.maps import Map
from tests.evaluation.own_map.conftest import (
    Capture,
    MakePhoto,
    asked,
    ground_picture,
    index_of,
    write_truth,
)


def test_what_is_not_on_the_map_has_no_place_in_any_file(
    indexed: Path, make_photo: MakePhoto, tmp_path: Path, capsys: Capture
) -> None:
    for folder in ("flight1", "flight2"):
        (tmp_path / folder).mkdir()
    place = make_photo(tmp_path / "flight1/DJI_0001.png", col=180, row=240)
    Image.fromarray(ground_picture(200, 150, seed=8)).save(tmp_path / "flight2/DJI_0001.png")
    names = [f"flight{number}/DJI_0001" for number in (1, 2)]
    truth = write_truth(tmp_path / "t.csv", dict.fromkeys(names, place))
    forms = {form: tmp_path / f"out.{form}" for form in ("csv", "geojson", "kml", "html")}
    words = [word for form, path in forms.items() for word in (f"--{form}", path)]
    told = asked(capsys, indexed, tmp_path, "--refine", "--truth", truth, *words)
    here, elsewhere = told["photos"]
    assert [Path(one["photo"]).parent.name for one in (here, elsewhere)] == ["flight1", "flight2"]
    assert (here["on_map"], elsewhere["on_map"]) == (True, False)
    assert (elsewhere["by"], elsewhere["latitude"], elsewhere["distance_m"]) == ("nothing",) + (
        None,
    ) * 2
    assert elsewhere["tiles"], "what it is most like is told all the same"
    assert told["truth"]["answers"]["within_100m"] == 0.5, "no answer is a wrong one"
    rows = list(csv.DictReader(forms["csv"].open()))
    assert [bool(row["latitude"]) for row in rows] == [True, False]
    for form in ("geojson", "kml"):
        assert "flight1" in forms[form].read_text()
        assert "flight2" not in forms[form].read_text()


def test_rings_go_round_against_the_clock_and_across_the_date_line() -> None:
    corners = [(1.0, 179.9), (1.0, -179.9), (0.0, -179.9), (0.0, 179.9)]
    points = ring(corners)
    assert points[0] == points[-1]
    lon, lat = np.array(points).T
    assert np.ptp(lon) == pytest.approx(0.2)
    assert (lon[:-1] * lat[1:] - lon[1:] * lat[:-1]).sum() > 0, "counterclockwise"


def test_distances_from_the_truth_are_measured(
    indexed: Path, make_photo: MakePhoto, tmp_path: Path, capsys: Capture
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    places = {
        name: make_photo(photos / name, col=col, row=240)
        for name, col in (("a.png", 180), ("b.png", 360), ("c.png", 420))
    }
    off = (places["b.png"][0] + 30 / 111_000, places["b.png"][1])
    truth = write_truth(tmp_path / "t.csv", {"a": places["a.png"], "b.png": off})
    told = asked(capsys, indexed, photos, "--truth", truth)
    found = told["truth"]
    assert (found["num_known"], found["num_unknown"], found["num_not_on_map"]) == (2, 1, 0)
    off_m = [photo["distance_m"] for photo in told["photos"]]
    assert off_m[0] < 1
    assert off_m[1] == pytest.approx(30, abs=1)
    assert off_m[2] is None
    tiles = found["tiles"]
    assert tiles["median_m"] == pytest.approx(np.median(off_m[:2]))
    assert [tiles[f"within_{most}m"] for most in (10, 25, 50, 100)] == [0.5, 0.5, 1.0, 1.0]
    assert tiles["sdm@1"] == pytest.approx((1 + math.exp(-5000 * 30 / 111_000)) / 2, abs=0.01)
    # The second of three tiles weighs 2/3, by the truth of each photograph.
    by_hand = []
    for photo, place in zip(told["photos"], (places["a.png"], off), strict=False):
        degrees = [math.dist(tile["place"], place) for tile in photo["tiles"][:3]]
        parts = [w * math.exp(-5000 * d) for w, d in zip((1, 2 / 3, 1 / 3), degrees, strict=True)]
        by_hand.append(sum(parts) / 2)
    assert tiles["sdm@3"] == pytest.approx(np.mean(by_hand))
    assert found["guessing"]["within_25m"] < 0.2
    assert "prior" not in found
    assert found["answers"]["median_m"] == tiles["median_m"], "all are on the map"
    near = ("--near", f"{off[0]},{off[1]}", "--within", 100, "--refine")
    narrowed = asked(capsys, indexed, photos, "--truth", truth, *near)["truth"]
    assert narrowed["prior"]["within_10m"] == 0.5, "it is the truth of one of both"
    assert narrowed["guessing"]["median_m"] < found["guessing"]["median_m"]
    assert narrowed["answers"]["median_m"] <= 16


def test_rows_of_the_truth_tell_photographs_of_one_name_apart(tmp_path: Path) -> None:
    photos = [tmp_path / name for name in ("f1/1.jpg", "f2/1.jpg", "place/2.jpg", "place/3.jpg")]
    table = tmp_path / "t.csv"

    def read(*lines: str) -> list[object]:
        table.write_text("\n".join(lines))
        truth = read_truth(table, photos)
        return [truth.get(photo) for photo in photos]

    others, place = "other.jpg,9,9", "place,3,4"
    both = read("photo,latitude,longitude", "f1/1,1,2", "f2/1.jpg,2,3", place, others)
    assert both == [(1, 2), (2, 3), (3, 4), (3, 4)]
    assert read("lon,name,LAT,file", "2,a flight,1,f1/1.jpg") == [(1, 2), None, None, None]
    for sentence, lines in {
        "line 2: 2 photographs are called '1.jpg'; give more": ("photo,lat,lon", "1.jpg,1,2"),
        "2.jpg stands there twice": ("photo,lat,lon", "2.jpg,1,2", "place/2,1,2"),
        "longitude 'nan' is not a number": ("photo,lat,lon", "2.jpg,1,nan"),
        "latitude '-98.1' is not a number of degrees": ("photo,lat,lon", "2.jpg,-98.1,30"),
        "no column is called": ("title,lat,lon", "2.jpg,1,2"),
        "calls none of the photographs, such as": ("photo,lat,lon", "9.jpg,1,2"),
    }.items():
        with pytest.raises(LayoutError, match=sentence):
            read(*lines)


def test_files_for_other_programs_and_the_page_hold_what_was_found(
    indexed: Path, make_photo: MakePhoto, tmp_path: Path, capsys: Capture
) -> None:
    place = make_photo(tmp_path / "a & b.png", col=180, row=240)
    truth = write_truth(tmp_path / "t.csv", {"a & b.png": place})
    forms = {form: tmp_path / f"out.{form}" for form in ("csv", "geojson", "kml", "html")}
    words = [word for form, path in forms.items() for word in (f"--{form}", path)]
    words += ["--panels", tmp_path / "panels"]
    told = asked(capsys, indexed, tmp_path / "a & b.png", "--refine", "--truth", truth, *words)
    (photo,) = told["photos"]
    header, line = forms["csv"].read_text().splitlines()
    assert dict(zip(header.split(","), line.split(","), strict=True))["latitude"] == str(
        photo["latitude"]
    )
    features = json.loads(forms["geojson"].read_text())["features"]
    kinds = [one["properties"]["what"] for one in features]
    assert kinds == ["photo", "footprint", *["tile"] * len(photo["tiles"])]
    assert features[0]["geometry"]["coordinates"] == [photo["longitude"], photo["latitude"]]
    ring = features[1]["geometry"]["coordinates"][0]
    assert (len(ring), ring[0]) == (5, ring[-1])
    kml = ElementTree.fromstring(forms["kml"].read_text())
    point = next(kml.iter("{http://www.opengis.net/kml/2.2}Point"))
    assert point[0].text == f"{photo['longitude']},{photo['latitude']}"
    page = forms["html"].read_text()
    assert "a &amp; b.png" in page
    assert page.count("data:image/jpeg") == 2, "the map and the panel"
    (panel,) = (tmp_path / "panels").iterdir()
    assert panel.name == "panel_1_a & b.jpg"
    with Image.open(panel) as picture:
        assert picture.width > 4 * picture.height, "the photograph and five tiles"
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    with pytest.raises(DescriptorError, match=r"out\.csv exists; give --overwrite"):
        query([str(indexed), str(tmp_path), "--csv", str(forms["csv"])])
    with pytest.raises(DescriptorError, match="panels exists; .* another place with --panels"):
        query([str(indexed), str(tmp_path), "--panels", str(tmp_path / "panels")])
    asked(capsys, indexed, tmp_path / "a & b.png", "--overwrite", *words)
    assert "footprint</name>" not in forms["kml"].read_text(), "nothing was matched"
    features = json.loads(forms["geojson"].read_text())["features"]
    assert [one["properties"]["what"] for one in features] == ["photo", *kinds[2:]]


def test_photographs_are_found_in_a_folder_of_tiles(
    the_map: Map, weights: Path, make_photo: MakePhoto, tmp_path: Path, capsys: Capture
) -> None:
    folder, lines = tmp_path / "tiles", ["file,latitude,longitude,footprint_m"]
    folder.mkdir()
    for number, col in enumerate((100, 300, 500)):
        lat, lon = make_photo(folder / f"{number}.png", col=col, row=240)
        lines.append(f"{number}.png,{lat!r},{lon!r},60")
    (folder / "tiles.csv").write_text("\n".join(lines))
    assert index_of(folder, tmp_path / "index", weights) == 0
    place = make_photo(tmp_path / "a.png", col=310, row=236, heading_deg=180)
    page = tmp_path / "page.html"
    words = (tmp_path / "index", tmp_path / "a.png", "--refine", "--html", page)
    (photo,) = asked(capsys, *words)["photos"]
    assert distance_m((photo["latitude"], photo["longitude"]), place)[0] < 0.5
    assert page.read_text().count("data:image/jpeg") == 4, "three tiles, and a panel"


def test_panels_take_the_place_of_panels_alone_and_files_may_lie_beside_them(
    indexed: Path, make_photo: MakePhoto, tmp_path: Path, capsys: Capture
) -> None:
    make_photo(tmp_path / "a.png", col=180, row=240)
    report = tmp_path / "evaluation/report.json"
    report.parent.mkdir()
    report.write_text("{}")
    with pytest.raises(DescriptorError, match=r"report\.json was not written by this command"):
        words = ("--panels", report.parent, "--overwrite")
        query([str(word) for word in (indexed, tmp_path / "a.png", *words)])
    new = tmp_path / "new"
    asked(capsys, indexed, tmp_path / "a.png", "--panels", new, "--csv", new / "deep/a.csv")
    assert (new / "deep/a.csv").exists() and len(list(new.glob("panel_*.jpg"))) == 1


def test_sdm_counts_across_the_date_line() -> None:
    from evaluation.own_map.answers import _sdm
    from evaluation.own_map.maps import TILE

    tiles = np.zeros(1, dtype=TILE)
    tiles["place"] = (0.0, -179.999999)
    found = SimpleNamespace(found=SimpleNamespace(tiles=tiles))
    assert _sdm(found, (0.0, 179.999999), 1) == pytest.approx(np.exp(-5000 * 2e-6))
