"""Members laid out in memory that is used again are those that were meant, and nothing else."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_shards.index import ROW
from data_shards.packing.stored_image import Profile, StoredImage
from data_shards.packing.tar_chunk import TAR_END, Chunk, SpareChunks, fill, sample_json
from data_shards.schema import ImageRecord, Role, View

SMALL = Profile(image_size=256)


def picture(path: Path, side: int) -> ImageRecord:
    Image.effect_noise((side, side), 60).convert("RGB").save(path)
    return ImageRecord(
        place="0001",
        view=View.DRONE,
        roles=Role.TRAIN,
        position=1,
        altitude_m=None,
        path=str(path),
        name=path.stem,
    )


def images_in(chunk: Chunk) -> dict[str, bytes]:
    """Return the images as `tarfile` finds them, having compared them with the rows."""
    content = bytes(chunk.content)
    offsets, images = np.frombuffer(chunk.rows, dtype=ROW)["offset"].tolist(), {}
    with tarfile.open(fileobj=io.BytesIO(content + TAR_END)) as tar:
        for member in tar:
            if not member.name.endswith(".json"):
                assert member.offset_data == offsets.pop(0)
                images[member.name] = content[member.offset_data :][: member.size]
    assert not offsets
    return images


@given(
    st.text(min_size=1),
    st.text(min_size=1),
    st.sampled_from(View),
    st.integers(1, 7).map(Role),
    st.integers(1, 65_535),
    st.none() | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0),
    st.integers(1, 8),
)
def test_the_json_is_what_json_makes_of_it(
    place, name, view, roles, position, altitude_m, orientation
) -> None:
    record = ImageRecord(
        place=place,
        view=view,
        roles=roles,
        position=position,
        altitude_m=altitude_m,
        path="a.jpg",
        name=name,
    )
    image = StoredImage(content=b"", suffix="jpg", orientation=orientation)
    values = {
        "schema_version": 2,
        "key": record.key,
        "place": place,
        "view": view.word,
        "roles": roles.words,
        "position": position,
        "altitude_m": altitude_m,
        "orientation": orientation,
        "sha256": "f" * 64,
    }
    made = sample_json(record, record.key, image, "f" * 64)
    assert made == json.dumps(values, sort_keys=True).encode()


@pytest.mark.parametrize("profile", [Profile(), SMALL], ids=["original", "resized"])
def test_the_memory_grows_with_the_images(tmp_path: Path, monkeypatch, profile: Profile) -> None:
    records = [picture(tmp_path / f"{side}.jpg", side) for side in (16, 200, 300, 24)]
    expected = fill(Chunk(), records, profile=profile, number={"0001": 0})
    monkeypatch.setattr("data_shards.packing.tar_chunk.BYTES_AT_FIRST", 700)
    chunk = fill(Chunk(), records, profile=profile, number={"0001": 0})
    assert chunk.content == expected.content and chunk.rows == expected.rows
    images = images_in(chunk)
    assert len(images) == chunk.num_images == 4
    if profile.keeps_bytes:
        assert list(images.values()) == [record.source.read_bytes() for record in records]


def test_nothing_of_earlier_images_is_left(tmp_path: Path) -> None:
    large, small = picture(tmp_path / "large.jpg", 300), picture(tmp_path / "small.jpg", 16)
    spare = SpareChunks()
    first = fill(spare.take(), [large, large], profile=Profile(), number={"0001": 0})
    spare.put_back(first)
    again = fill(spare.take(), [small], profile=Profile(), number={"0001": 0})
    fresh = fill(Chunk(), [small], profile=Profile(), number={"0001": 0})
    assert again is first
    assert (again.content, again.rows, again.num_images) == (fresh.content, fresh.rows, 1)
    assert spare.take() is not first
