"""The data sets that come with coordinates, in folders as their own pages show them."""

import json
from pathlib import Path

import pytest

from data_shards.errors import LayoutError
from data_shards.layouts import found_lines, read_layout
from data_shards.schema import ImageRecord, Position, Role
from tests.data_shards.layouts.conftest import image_bytes


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image_bytes(name.replace("gallery", "query")))


def read(raw: Path, layout: str, **options: object) -> dict[str, ImageRecord]:
    dataset = read_layout(raw, **options)
    assert dataset.layout == layout
    return {record.key: record for record in dataset.records}


@pytest.fixture
def denseuav(tmp_path: Path) -> Path:
    raw, heights = tmp_path / "DenseUAV", (80, 90, 100)
    for place, folders in {
        "000001": ["train/{}", "test/gallery_{}"],
        "002257": ["test/query_{}", "test/gallery_{}"],
    }.items():
        for folder in (f"{one}/{place}" for one in folders):
            for height in heights:
                write(raw, f"{folder.format('drone')}/H{height}.JPG")
                write(
                    raw,
                    *(f"{folder.format('satellite')}/H{height}{age}.tif" for age in ("", "_old")),
                )
    lines = [
        f"train/satellite/000001/H{height}.tif E120.5 N30.25 {height}.0\n" for height in heights
    ]
    (raw / "Dense_GPS_ALL.txt").write_text("".join([*lines, "\n"]))
    return raw


def test_denseuav(denseuav: Path) -> None:
    records = read(denseuav, "denseuav")
    assert len(records) == 2 * (3 * (1 + 2)) + 9  # bytes differ between train and gallery
    query = records["002257/drone/H90"]
    assert (query.roles, query.altitude_m) == (Role.QUERY | Role.GALLERY, 90.0)
    assert records["000001/satellite/H80_old"].altitude_m is None
    assert read_layout(denseuav).coordinates == {"000001": (30.25, 120.5)}


def test_denseuav_is_known_without_its_tables(denseuav: Path) -> None:
    (denseuav / "Dense_GPS_ALL.txt").unlink()
    assert read(denseuav, "denseuav")["002257/drone/H90"].altitude_m == 90.0
    assert read_layout(denseuav, layout="denseuav").coordinates == {}


def test_a_damaged_table_of_denseuav_is_named(denseuav: Path) -> None:
    (denseuav / "Dense_GPS_ALL.txt").write_text("train/satellite/000001/H80.tif east north\n")
    with pytest.raises(LayoutError, match="Dense_GPS_ALL.txt, line 1: it is not a path, E long"):
        read_layout(denseuav)


def entry(photo: str, tiles: dict[str, float]) -> dict[str, object]:
    return {
        "drone_img_dir": "drone/images",
        "drone_img_name": photo,
        "drone_loc_x_y": [3633.5, 7140.5],
        "sate_img_dir": "satellite",
        "pair_pos_sate_img_list": list(tiles),
        "pair_pos_sate_weight_list": list(tiles.values()),
        "drone_metadata": {"height": 501.8125, "cam_yaw": 41.0},
    }


@pytest.fixture
def gta_uav(tmp_path: Path) -> Path:
    raw = tmp_path / "GTA-UAV"
    write(raw, *(f"satellite/{tile}.png" for tile in ("5_10_20", "4_5_10", "6_20_41", "6_1_1")))
    write(raw, *(f"drone/images/{photo}.png" for photo in ("500_1", "500_2", "500_3")))
    lists = {
        "cross-area-drone2sate-train": [entry("500_1.png", {"6_20_41.png": 0.4})],
        "cross-area-drone2sate-test": [
            entry("500_2.png", {"4_5_10.png": 0.4, "5_10_20.png": 0.6}),
            entry("500_3.png", {}),
        ],
    }
    for name, entries in lists.items():
        (raw / f"{name}.json").write_text(json.dumps(entries))
    return raw


def test_gta_uav(gta_uav: Path) -> None:
    records = read(gta_uav, "gta_uav")
    assert {key: record.roles for key, record in records.items()} == {
        "6_20_41/drone/500_1": Role.TRAIN,
        "5_10_20/drone/500_2": Role.QUERY | Role.GALLERY,
        "6_20_41/satellite/6_20_41": Role.TRAIN | Role.GALLERY,
        "5_10_20/satellite/5_10_20": Role.QUERY | Role.GALLERY,
        "4_5_10/satellite/4_5_10": Role.GALLERY,
        "6_1_1/satellite/6_1_1": Role.GALLERY,
    }
    assert records["5_10_20/drone/500_2"].altitude_m == 501.8125
    lat, lon = read_layout(gta_uav).coordinates["5_10_20"]
    assert (lon * 111_195, -lat * 111_195) == pytest.approx((3628.8, 7084.8))  # as its page says
    (gta_uav / "cross-area-drone2sate-test.json").rename(gta_uav / "same-area-drone2sate-test.json")
    assert read_layout(gta_uav).split == "same-area"
    with pytest.raises(LayoutError, match="split 'cross-area' is unknown .*; known: same-area"):
        read_layout(gta_uav, split=Path("cross-area"))


@pytest.mark.parametrize(
    ("tile", "x_m", "y_m"),
    [("4_0_6_13", 4492.8, 9331.2), ("5_128_12_27", 4320.0 + 172.8, 9504.0 + 172.8)],
)
def test_tiles_of_gta_uav_as_it_is_released(
    gta_uav: Path, tile: str, x_m: float, y_m: float
) -> None:
    write(gta_uav, f"satellite/{tile}.png")
    path = gta_uav / "cross-area-drone2sate-test.json"
    path.write_text(json.dumps([entry("500_2.png", {f"{tile}.png": 0.5})]))
    records = read(gta_uav, "gta_uav")
    assert records[f"{tile}/satellite/{tile}"].roles == Role.QUERY | Role.GALLERY
    assert records[f"{tile}/drone/500_2"].roles == Role.QUERY | Role.GALLERY
    lat, lon = read_layout(gta_uav).coordinates[tile]
    assert (lon * 111_195, -lat * 111_195) == pytest.approx((x_m, y_m))


def test_records_of_gta_uav_without_a_photograph_are_told(
    gta_uav: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (gta_uav / "drone/images/500_1.png").unlink()
    assert "6_20_41/drone/500_1" not in read(gta_uav, "gta_uav")
    told = f"{gta_uav}: 1 record without photograph ({gta_uav}/drone/images/500_1.png)"
    assert told in caplog.messages


def test_pictures_of_no_place_are_counted(gta_uav: Path) -> None:
    write(gta_uav, "satellite/preview.png", "satellite/6_1_x.png", "drone/images/no_list.png")
    assert len(read(gta_uav, "gta_uav")) == 6
    told = read_layout(gta_uav).left_out
    assert "left out: 4 images of no place (drone/images/500_3.png, " in told
    assert "drone/images/no_list.png, satellite/6_1_x.png, ...)" in told


@pytest.mark.parametrize(
    "entries",
    [
        [{}],
        [entry("5.png", {"": 1.0}) | {"pair_pos_sate_img_list": [6201]}],
        [entry("5.png", {"6_20_41.png": 1.0}) | {"drone_img_name": 5}],
    ],
)
def test_a_damaged_list_of_gta_uav_is_named(gta_uav: Path, entries: list[object]) -> None:
    (gta_uav / "cross-area-drone2sate-test.json").write_text(json.dumps(entries))
    with pytest.raises(LayoutError, match="test.json is no list of GTA-UAV .*copy it again"):
        read_layout(gta_uav)


@pytest.fixture
def visloc(tmp_path: Path) -> Path:
    raw = tmp_path / "UAV-VisLoc"
    write(raw, "01/drone/01_0001.JPG", "01/drone/01_0002.JPG", "01/satellite01.tif")
    header = "num,filename,date,lat,lon,height,Omega,Kappa,Phi1,Phi2\n"
    row = "1,01_0001.jpg,2018/9/1,29.7,116.0,406.1,0,0,1,1\n"
    (raw / "01/01.csv").write_text(header + row)
    return raw


def test_visloc(visloc: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    records = read(visloc, "visloc")
    assert {record.roles for record in records.values()} == {Role.QUERY | Role.GALLERY}
    assert records["01_0001/drone/01_0001"].camera == Position(lat=29.7, lon=116.0)
    assert records["01_0002/drone/01_0002"].camera is None
    assert "01.csv: 1 photograph without row (01_0002.jpg)" in caplog.text
    assert "row without" not in caplog.text
    told = "\n".join(found_lines(read_layout(visloc)))
    assert "no satellite gallery, so that drone to satellite cannot be searched" in told
    assert "1 image in folders that are not of the layout (01/*)" in told


def test_visloc_with_the_lists_that_game4loc_makes_of_it_is_visloc(visloc: Path) -> None:
    (visloc / "same-area-drone2sate-test.json").write_text("[]")
    assert len(read(visloc, "visloc")) == 2


def test_rows_of_visloc_without_a_photograph_are_told(
    visloc: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with (visloc / "01/01.csv").open("a") as table:
        table.writelines(f"2,gone{at}.JPG,2018/9/1,29.7,116.0,,,,,\n" for at in range(4))
    read(visloc, "visloc")
    assert "01.csv: 4 rows without photograph (gone0.jpg, gone1.jpg, gone2.jpg, ...)" in caplog.text


def test_a_damaged_table_of_visloc_is_named(visloc: Path) -> None:
    (visloc / "01/01.csv").write_text("file,lat\n01_0001.JPG,1\n")
    with pytest.raises(LayoutError, match="01.csv, line 1: no column is called longitude"):
        read_layout(visloc)
