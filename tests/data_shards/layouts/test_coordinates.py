from pathlib import Path

import pytest

from data_shards.errors import LayoutError
from data_shards.layouts import read_layout
from data_shards.layouts.coordinates import Coordinates, read_table
from data_shards.schema import ImageRecord, Position, Role, View

PLACES = ("0001", "0002", "0003")


def record(place: str, name: str = "a") -> ImageRecord:
    return ImageRecord(
        place=place,
        view=View.DRONE,
        roles=Role.QUERY,
        position=1,
        altitude_m=None,
        path=f"/raw/drone/{place}/{name}.JPG",
        name=name,
    )


def read_coordinates(path: Path, places: tuple[str, ...]) -> Coordinates:
    return read_table(path, [record(place) for place in places])[0]


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "places.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "place,latitude,longitude\n0001,31.5,121.25\n0003,-90,180\n",
        "lon, LAT ,id,note\r\n121.25,31.5,1,campus\r\n\r\n180,-90,3,pole\r\n",
        'Lng,Latitude,Place\n"121.25","31.5","0001"\n180,-90,0003\n',
        "place;latitude;longitude\r\n0001;31.5;121.25\r\n0003;-90;180\r\n",
        "place\tlat\tlon\n0001\t31.5\t121.25\n0003\t-90\t180\n",
    ],
)
def test_columns_go_by_their_names(tmp_path: Path, text: str) -> None:
    found = read_coordinates(write(tmp_path, text, "utf-8-sig"), PLACES)
    assert found == {"0001": (31.5, 121.25), "0003": (-90.0, 180.0)}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("", "line 1: no column is called place or id or image or photo or file or filename; the"),
        ("place,lat\n", "line 1: no column is called longitude or lon or lng"),
        ("place,lat,lon,lat\n", "line 1: more than one column is called latitude or lat"),
        ("place,lat,lon\n0001,1,2\n0009,1,2\n", "line 3: there is no place '0009'"),
        ("place,lat,lon\n0001,1,2\n1,1,2\n", "line 3: place 0001 stands there twice"),
        ("place,lat,lon\n\n0001,1\n", "line 3: longitude '' is not a number of degrees"),
        ("place,lat,lon\n0001,north,2\n", "line 2: latitude 'north' is not a number of degrees"),
        ('place,lat,lon\n0001,"1,5",2\n', "line 2: latitude '1,5' is not a number of degrees"),
        ("place,lat,lon\n0001,1,nan\n", "line 2: longitude 'nan' is not a number of degrees"),
        ("place,lat,lon\n0001,121,31\n", "latitude '121' is not .* between -90 and 90; correct"),
        ("place,lat,lon\n0001,1,-180.5\n", "longitude '-180.5' is not .* between -180 and 180"),
        ("place,lat,lon\n0001,1,\n", "line 2: longitude '' is not a number of degrees"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, rows: str, sentence: str) -> None:
    with pytest.raises(LayoutError, match=rf"places\.csv, .*{sentence}"):
        read_coordinates(write(tmp_path, rows), PLACES)


def test_a_file_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="is not a CSV file of text"):
        read_coordinates(write(tmp_path, "place,lat,lon\n0001,1,2°\n", "utf-16"), PLACES)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="gone.csv cannot be read .*; give a CSV file of place"):
        read_coordinates(tmp_path / "gone.csv", PLACES)


def test_coordinates_come_with_the_data_set(sues_raw: Path, tmp_path: Path) -> None:
    csv = write(tmp_path, "place,lat,lon\n0002,1,2\n")
    assert read_layout(sues_raw, coordinates=csv).coordinates == {"0002": (1.0, 2.0)}
    assert read_layout(sues_raw).coordinates == {}


@pytest.mark.parametrize("name", ["b.JPG", "0002/b.JPG", "raw/drone/0002/b.JPG", "0002/drone/b"])
def test_rows_may_be_of_images(tmp_path: Path, name: str) -> None:
    text = f"photo,lat,lon,altitude_m,heading,pitch\n{name},1,2,80.5,350,\n"
    told = read_table(write(tmp_path, text), [record("0001"), record("0002", "b")])
    seen = Position(lat=1.0, lon=2.0, altitude_m=80.5, heading_deg=350.0)
    assert told == ({}, {"0002/drone/b": seen})


def test_a_photo_is_known_however_its_letters_are_composed(tmp_path: Path) -> None:
    table = write(tmp_path, "photo,lat,lon\nCafe\u0301.JPG,1,2\nThe\u0301.JPG,3,4\n")
    found = read_table(table, [record("1", "Caf\u00e9"), record("1", "The\u0301")])[1]
    assert [(at.lat, at.lon) for at in found.values()] == [(1.0, 2.0), (3.0, 4.0)]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            "image,lat,lon\na.JPG,1,2\n",
            "line 2: 2 images are called 'a.JPG' in the raw folders; correct the",
        ),
        ("image,lat,lon\nz.JPG,1,2\n", "line 2: there is no image 'z.JPG' in the raw folders"),
        ("file,lat,lon,yaw\n0001/a.JPG,1,2,north\n", "heading_deg 'north' is not a number of deg"),
    ],
)
def test_a_wrong_line_of_images_is_named(tmp_path: Path, rows: str, sentence: str) -> None:
    with pytest.raises(LayoutError, match=sentence):
        read_table(write(tmp_path, rows), [record("0001"), record("0002")])


def test_a_table_goes_before_what_the_files_say(sues_raw: Path, tmp_path: Path) -> None:
    csv = write(tmp_path, "image,lat,lon\n0002/150/1.jpg,1,2\n")
    told = {r.key: r.camera for r in read_layout(sues_raw, coordinates=csv).records if r.camera}
    assert told == {"0002/drone/150-1": Position(lat=1.0, lon=2.0)}
