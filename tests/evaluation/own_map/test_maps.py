"""Maps of every kind: where tiles lie, how wide they are on the ground, and what shows nothing."""

import os
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.shutil import copy
from rasterio.transform import from_origin
from rasterio.windows import Window

from data_shards.decode import resize
from data_shards.errors import LayoutError
from evaluation.own_map.ground import distance_m
from evaluation.own_map.maps import Map, open_map, open_sources
from tests.evaluation.own_map.conftest import as_bands, ground_picture, write_map

PICTURE = ground_picture(300, 260)
HALF_DEGREE_PIXELS = 1 / 111_320 / 2
TURNED = Affine.translation(587_500, 3_338_300) @ Affine.rotation(-30) @ Affine.scale(0.5, -0.5)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32614", None),
        ("EPSG:32614", TURNED),
        ("EPSG:3857", from_origin(1_000_000, 8_400_000, 1, 1)),  # 60 degrees north, twice too wide
        ("EPSG:4326", from_origin(10, 60, HALF_DEGREE_PIXELS, HALF_DEGREE_PIXELS)),
        ("EPSG:2263", from_origin(980_000, 200_000, 2, 2)),  # feet
    ],
)
def test_a_tile_has_its_footprint_on_the_ground(tmp_path: Path, crs: str, transform: Any) -> None:
    one = open_map(write_map(tmp_path / "a.tif", as_bands(PICTURE), crs=crs, transform=transform))
    tiles = one.tiles(40, overlap=0.5)
    assert len(tiles) > 4
    for tile in tiles[:: len(tiles) // 4]:
        left, top = int(tile["col"]), int(tile["row"])
        right, bottom = left + int(tile["width"]), top + int(tile["height"])
        corner, along, down, across = one.ground.lat_lon(
            [(left, top), (right, top), (left, bottom), (right, bottom)]
        )
        assert distance_m(corner, along)[0] == pytest.approx(40, abs=0.6)
        assert distance_m(corner, down)[0] == pytest.approx(40, abs=0.6)
        halfway = distance_m(tile["place"], [corner, across])
        assert halfway == pytest.approx(40 / 2**0.5, abs=0.6)


def test_pixels_come_back_from_degrees(the_map: Map) -> None:
    pixels = np.array([(0, 0), (17.5, 400), (600, 480)])
    back = the_map.ground.pixel(the_map.ground.xy(pixels))
    assert np.allclose(back, pixels, atol=1e-4)


@pytest.mark.parametrize("transform", [from_origin(587_500, 3_338_300, 0.5, 0.5), TURNED])
def test_a_map_that_begins_in_the_south_is_no_mirror_image(tmp_path: Path, transform: Any) -> None:
    picture = PICTURE.copy()
    picture[:90, 30:] = 0
    bands, profile = as_bands(picture), {"transform": transform, "nodata": 0}
    north = open_map(write_map(tmp_path / "n.tif", bands, **profile))
    profile["transform"] = transform @ Affine.translation(0, 260) @ Affine.scale(1, -1)
    south = open_map(write_map(tmp_path / "s.tif", bands[:, ::-1], **profile))
    assert np.allclose(south.ground.lat_lon([(9, 40)]), north.ground.lat_lon([(9, 40)]), atol=1e-12)
    both = zip(*(each.read((20, 30, 100, 90), (50, 30)) for each in (south, north)), strict=True)
    assert all(np.array_equal(one, other) for one, other in both)
    one, other = (each.around((60, 70, 90, 50), margin=0.5, side=90) for each in (south, north))
    assert np.array_equal(one[0], other[0])
    assert np.allclose(one[1].matrix, other[1].matrix)


def test_windows_have_square_pixels_on_the_ground_where_degrees_are_not(tmp_path: Path) -> None:
    at = from_origin(20, 65, HALF_DEGREE_PIXELS, HALF_DEGREE_PIXELS)
    one = open_map(write_map(tmp_path / "a.tif", as_bands(PICTURE), crs="EPSG:4326", transform=at))
    for side in (50, 1000):
        pixels, ground = one.around((50, 50, 100, 100), margin=0.5, side=side)
        across_m, along_m, _ = ground.scale(10, 10)
        assert across_m == pytest.approx(along_m, rel=0.03)
        centre = ground.lat_lon(np.array(pixels.shape[1::-1]) / 2)
        assert distance_m(centre, one.ground.lat_lon((100, 100)))[0] < 0.01
        assert max(pixels.shape) == min(side, 200)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32601"])
def test_longitudes_end_where_the_day_begins(tmp_path: Path, crs: str) -> None:
    degrees, metres = from_origin(179.9995, 0.5, 4e-6, 4e-6), from_origin(166_000, 55_000, 0.5, 0.5)
    at = degrees if crs == "EPSG:4326" else metres
    one = open_map(write_map(tmp_path / "a.tif", as_bands(PICTURE), crs=crs, transform=at))
    longitudes = one.tiles(40, overlap=0.5)["place"][:, 1]
    assert longitudes.min() < -179.9
    assert 179.9 < longitudes.max() < 180


def test_tiles_off_the_earth_are_left_out(tmp_path: Path) -> None:
    at = from_origin(-17_200_000, 8_600_000, 1e5, 1e5)
    world = as_bands(ground_picture(344, 172))
    one = open_map(write_map(tmp_path / "a.tif", world, crs="ESRI:54030", transform=at))
    tiles = one.tiles(2e6, overlap=0.5)
    assert len(tiles) > 100
    assert np.isfinite(tiles["place"]).all()
    above = at @ Affine.translation(0, -999)
    off = open_map(write_map(tmp_path / "b.tif", world, crs="ESRI:54030", transform=above))
    assert not len(off.tiles(2e6, overlap=0.5))


def test_tiles_cover_the_map_to_its_edges(the_map: Map) -> None:
    tiles = the_map.tiles(50, overlap=0.3)
    covered = np.zeros((the_map.height, the_map.width), dtype=np.int64)
    for tile in tiles:
        col, row = int(tile["col"]), int(tile["row"])
        covered[row : row + int(tile["height"]), col : col + int(tile["width"])] += 1
    assert covered.min() == 1
    assert (tiles["col"] + tiles["width"]).max() == the_map.width
    assert not len(the_map.tiles(260, overlap=0.5)), "the map is 240 m high"


def test_the_pictures_of_tiles_are_those_of_the_file(tif: Path, the_map: Map) -> None:
    tiles = the_map.tiles(50, overlap=0.5)
    row = tiles[tiles["row"] == tiles["row"][0]]
    images, content = the_map.images(row, image_size=64, resampling="opencv-linear")
    with rasterio.open(tif) as file:
        picture = file.read().transpose(1, 2, 0)
    for tile, image in zip(row, images, strict=True):
        col, top = int(tile["col"]), int(tile["row"])
        cut = picture[top : top + int(tile["height"]), col : col + int(tile["width"])]
        cut = np.ascontiguousarray(cut)
        assert np.array_equal(image, resize(cut, size=64, resampling="opencv-linear"))
    assert (content == 1).all()


def test_tiles_much_finer_than_the_model_sees_are_read_smaller_and_look_the_same(
    tif: Path, the_map: Map
) -> None:
    tiles = the_map.tiles(120, overlap=0.5)[:3]
    images, _ = the_map.images(tiles, image_size=16, resampling="opencv-area")
    with rasterio.open(tif) as file:
        picture = file.read().transpose(1, 2, 0)
    for tile, image in zip(tiles, images, strict=True):
        col, side = int(tile["col"]), int(tile["width"])
        cut = np.ascontiguousarray(picture[:side, col : col + side])
        told = resize(cut, size=16, resampling="opencv-area").astype(int)
        assert np.abs(told - image).mean() < 1.5


EMPTY = np.s_[:, :130]
"""The left part, of which nothing is shown."""


def emptied(fill: int) -> np.ndarray:
    picture = PICTURE.copy()
    picture[EMPTY] = fill
    return as_bands(picture)


def with_transparency(*, value: int = 255) -> np.ndarray:
    """Four bands, the last of them 0 on the left; what lies there is not black."""
    last = np.full((1, *PICTURE.shape[:2]), value, dtype=np.uint8)
    last[0][EMPTY] = 0
    return np.concatenate([as_bands(PICTURE), last])


GRAY_TWICE = {"photometric": "MINISBLACK", "alpha": "unspecified"}
RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
MORE: dict[str, Any] = {"photometric": "RGB", "alpha": "unspecified"}
"""As a fourth band is written of which nobody says what it is."""


@pytest.mark.parametrize(
    ("bands", "profile"),
    [
        (emptied(0), {}),
        (emptied(255), {}),
        (emptied(7), {"nodata": 7}),
        (with_transparency(), {"colorinterp": RGBA}),
        (with_transparency(), MORE),
        (emptied(0)[:1], {}),
        (
            np.concatenate([as_bands(PICTURE)[:1], with_transparency()[3:]]),
            GRAY_TWICE,
        ),
        (emptied(0).astype(np.uint16) * 40, {"nodata": 0}),
        (
            np.where(emptied(0) == 0, np.nan, emptied(0) / 255).astype(np.float32),
            {"nodata": np.nan},
        ),
    ],
    ids="black white nodata alpha unlabelled gray gray+alpha 16-bits floats".split(),
)
def test_ground_is_told_from_nothing(tmp_path: Path, bands: np.ndarray, profile: Any) -> None:
    one = open_map(write_map(tmp_path / "a.tif", bands, **profile))
    assert (one.bands.transparency is not None) == (profile in (MORE, GRAY_TWICE))
    pixels, shows = one.read((0, 0, 300, 260), (300, 260))
    assert not shows[EMPTY].any()
    assert shows[:, 130:].mean() > 0.95
    assert pixels.shape == (260, 300, 3)
    assert pixels[:, 130:].std() > 20, "levels of any depth become a picture"


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.float32])
def test_pale_and_dark_ground_of_many_levels_is_ground(tmp_path: Path, kind: Any) -> None:
    bands = as_bands(PICTURE).astype(kind) * 4 + 40
    bands[:, :30, :30], bands[:, -30:, -30:] = 3000, 5
    bands[:, :30, -30:] = np.iinfo(kind).max if kind != np.float32 else np.nan
    _, shows = open_map(write_map(tmp_path / "a.tif", bands)).read((0, 0, 300, 260), (300, 260))
    assert not shows[:30, -30:].any()
    assert shows.sum() == 300 * 260 - 30 * 30


@pytest.mark.parametrize(
    ("kind", "fill"),
    [(np.uint16, 65_535), (np.int16, -32_768), (np.float32, np.finfo(np.float32).min)],
)
def test_levels_are_those_of_ground_whatever_the_rest_is_filled_with(
    tmp_path: Path, kind: Any, fill: float
) -> None:
    bands = as_bands(PICTURE).astype(kind) * 20
    plain = open_map(write_map(tmp_path / "a.tif", bands)).read((130, 0, 170, 260), (170, 260))[0]
    bands[(slice(None), *EMPTY)] = fill
    filled = open_map(write_map(tmp_path / "b.tif", bands))
    pixels, shows = filled.read((0, 0, 300, 260), (300, 260))
    assert not shows[EMPTY].any()
    assert shows[:, 130:].all()
    assert np.abs(pixels[:, 130:].astype(int) - plain).mean() < 5


def test_a_fourth_band_of_values_is_no_transparency(tmp_path: Path) -> None:
    infrared = np.concatenate([as_bands(PICTURE), as_bands(PICTURE)[:1] // 2])
    one = open_map(write_map(tmp_path / "a.tif", infrared, **MORE))
    pixels, shows = one.read((0, 0, 300, 260), (300, 260))
    assert shows.all()
    assert np.array_equal(pixels, PICTURE)


def test_labelled_colours_are_found_in_any_order(tmp_path: Path) -> None:
    order = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    path = write_map(tmp_path / "a.tif", as_bands(PICTURE)[::-1].copy(), colorinterp=order)
    pixels, _ = open_map(path).read((0, 0, 300, 260), (300, 260))
    assert np.array_equal(pixels, PICTURE)


def test_a_palette_becomes_colours(tmp_path: Path) -> None:
    numbers = np.ones((1, 60, 60), dtype=np.uint8)
    path = write_map(tmp_path / "a.tif", numbers, colorinterp=(ColorInterp.palette,))
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0), 1: (10, 200, 30)})
    pixels, _ = open_map(path).read((0, 0, 60, 60), (60, 60))
    assert (pixels == (10, 200, 30)).all()


def test_mbtiles_are_a_map(tmp_path: Path) -> None:
    at = from_origin(-10_919_000, 3_526_000, 0.5971642834779395, 0.5971642834779395)
    path = write_map(tmp_path / "a.tif", as_bands(PICTURE), crs="EPSG:3857", transform=at)
    copy(path, tmp_path / "a.mbtiles", driver="MBTiles", TILE_FORMAT="PNG")
    (one,) = open_sources(tmp_path / "a.mbtiles", footprint_m=40)
    tiles = one.tiles((40,), overlap=0)
    here = open_map(path).tiles(40, overlap=0)
    assert distance_m(tiles["place"][0], here["place"][0])[0] < 60


@pytest.mark.parametrize(
    "header",
    [
        "file,latitude,longitude,footprint_m",
        "Filename, Lat, Lon, Footprint_M",
        "File , Latitude , Longitude , Footprint_m ",
        "id,lat,lon,footprint",
    ],
)
def test_a_folder_of_tiles_has_their_places(tmp_path: Path, header: str) -> None:
    for name in ("a.jpg", "b.png"):
        Image.fromarray(PICTURE[:100, :100]).save(tmp_path / name)
    lines = f"{header}\na.jpg,30.1,-98.2,50\n,,,\n\nb.png,-30.2,98.1, \n"
    (tmp_path / "tiles.csv").write_text(lines, encoding="utf-8-sig")
    (source,) = open_sources(tmp_path, footprint_m=70)
    tiles = source.tiles((70,), overlap=0.5)
    assert tiles["footprint_m"].tolist() == [50, 70]
    assert np.allclose(tiles["place"], [(30.1, -98.2), (-30.2, 98.1)])
    images, _ = source.maps[1].images(tiles[1:], image_size=100, resampling="opencv-linear")
    assert np.array_equal(images[0], PICTURE[:100, :100])
    ends = source.maps[0].ground.lat_lon([(0, 50), (100, 50)])
    assert distance_m(*ends)[0] == pytest.approx(50, abs=0.01)


def test_a_folder_of_maps_is_each_of_them(tmp_path: Path) -> None:
    for name in ("b.tif", "a.tif"):
        write_map(tmp_path / name, as_bands(PICTURE))
    (tmp_path / "notes.txt").write_text("not a map")
    assert [one.path.name for one in open_sources(tmp_path, footprint_m=40)] == ["a.tif", "b.tif"]


def test_a_copy_is_the_same_map_and_an_edited_one_is_another(tmp_path: Path) -> None:
    def key(path: Path) -> str:
        return open_sources(path, footprint_m=40)[0].key

    one = write_map(tmp_path / "a.tif", as_bands(ground_picture(900, 900)))
    other = Path(copyfile(one, tmp_path / "b.tif"))
    os.utime(other, ns=(0, 10**18))
    assert key(other) == key(one)
    field = Window(300, 300, 300, 300)
    with rasterio.open(other, "r+") as file:
        file.write(255 - file.read(window=field), window=field)
    assert other.stat().st_size == one.stat().st_size
    assert key(other) != key(one)


def test_maps_of_a_mosaic_are_not_opened_again(tmp_path: Path) -> None:
    part = write_map(tmp_path / "part.tif", as_bands(PICTURE))
    write_map(tmp_path / "other.tif", as_bands(PICTURE))
    copy(part, tmp_path / "whole.vrt", driver="VRT")
    opened = open_sources(tmp_path, footprint_m=40)
    assert [one.path.name for one in opened] == ["whole.vrt", "other.tif"]
    write_map(part, 255 - as_bands(PICTURE))
    assert open_sources(tmp_path, footprint_m=40)[0].key != opened[0].key
    assert open_sources(part, footprint_m=40)[0].path == part, "who asks for it gets it"
    part.unlink()
    with pytest.raises(LayoutError, match=r"whole\.vrt cannot be read as a map \(.*part\.tif"):
        opened[0].maps[0].read((0, 0, 9, 9), (9, 9))


@pytest.mark.parametrize("outer", ["a.vrt", "z.vrt"])
def test_a_mosaic_of_mosaics_is_the_only_map(tmp_path: Path, outer: str) -> None:
    part = write_map(tmp_path / "part.tif", as_bands(PICTURE))
    copy(part, tmp_path / "inner.vrt", driver="VRT")
    told = (tmp_path / "inner.vrt").read_text().replace("part.tif", "inner.vrt")
    (tmp_path / outer).write_text(told)
    (opened,) = open_sources(tmp_path, footprint_m=40)
    assert opened.path.name == outer
    write_map(part, 255 - as_bands(PICTURE))
    assert open_sources(tmp_path, footprint_m=40)[0].key != opened.key


def test_a_tile_of_less_than_a_pixel_is_refused(the_map: Map) -> None:
    with pytest.raises(LayoutError, match=r"0\.5 m per pixel, so a tile of 0\.2 m is less than"):
        the_map.tiles(0.2, overlap=0.5)


def test_what_has_no_place_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = write_map(tmp_path / "a.tif", as_bands(PICTURE), crs=None)
    with pytest.raises(LayoutError, match="has no coordinate system of the Earth, so nothing.*tfw"):
        open_map(path)
    (tmp_path / "b.tif").write_bytes(b"no map")
    with pytest.raises(LayoutError, match=r"b\.tif cannot be read as a map"):
        open_map(tmp_path / "b.tif")
    with pytest.raises(LayoutError, match=r"c\.tif cannot be read as a map"):
        open_sources(tmp_path / "c.tif", footprint_m=40)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LayoutError, match="holds no map"):
        open_sources(tmp_path / "empty", footprint_m=40)
    site = 'LOCAL_CS["site grid",UNIT["metre",1]]'
    write_map(path, as_bands(PICTURE), crs=site)
    with pytest.raises(LayoutError, match="has no coordinate system of the Earth"):
        open_map(path)
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(LayoutError, match="it is no plain file"):
        open_map(tmp_path / "pipe.tif")


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("a.jpg,north,3,9", r"tiles\.csv, line 2: latitude 'north' is not a number of degrees"),
        ("a.jpg,-98.1,30.2,9", "line 2: latitude '-98.1' is not"),
        ("a.jpg,1,180.5,9", "line 2: longitude '180.5' is not"),
        *(
            (f"a.jpg,1,2,{side}", f"line 2: footprint_m '{side}' is")
            for side in ("0", "-3", "inf", "x")
        ),
        ("", "names no tile"),
        ("pipe.jpg,1,2,9", "it is no plain file"),
    ],
)
def test_a_line_of_tiles_that_says_no_place_is_refused(
    lines: str, sentence: str, tmp_path: Path
) -> None:
    Image.fromarray(PICTURE[:9, :9]).save(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "tiles.csv").write_text(f"file,latitude,longitude,footprint_m\n{lines}")
    with pytest.raises(LayoutError, match=sentence):
        open_sources(tmp_path, footprint_m=40)
    (tmp_path / "tiles.csv").write_text("file,north,east,footprint_m\na.jpg,1,2,9\n")
    with pytest.raises(LayoutError, match=r"tiles\.csv, line 1: no column is called latitude"):
        open_sources(tmp_path, footprint_m=40)


def test_a_map_of_16_bits_that_shows_nothing_is_no_damage(tmp_path: Path) -> None:
    empty = np.zeros((1, 90, 90), dtype=np.uint16)
    one = open_map(write_map(tmp_path / "a.tif", empty, nodata=0))
    assert not one.read((0, 0, 90, 90), (90, 90))[1].any()
