"""Members are those that were meant, with the headers of the standard library."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_shards.errors import ShardError
from data_shards.index import ROW
from data_shards.packing.stored_image import Profile, StoredImage
from data_shards.packing.tar_chunk import (
    TAR_BLOCK,
    TAR_END,
    Chunk,
    pack_chunk,
    sample_json,
    tar_member,
)
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
        "place": record.place,  # in one spelling: NFC
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
def test_the_rows_say_where_the_images_are(tmp_path: Path, profile: Profile) -> None:
    records = [picture(tmp_path / f"{side}.jpg", side) for side in (16, 200, 300, 24)]
    chunk = pack_chunk(records, profile=profile, number={"0001": 0})
    images = images_in(chunk)
    assert len(images) == chunk.num_images == 4
    if profile.keeps_bytes:
        assert list(images.values()) == [record.source.read_bytes() for record in records]


NAMES = st.text("abcä09-_./", min_size=1, max_size=300).filter(lambda name: not name.endswith("/"))


@given(NAMES, st.integers(0, 2000))
def test_a_header_is_that_of_the_standard_library(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    try:
        expected = info.tobuf(format=tarfile.USTAR_FORMAT)
    except ValueError:
        with pytest.raises(ShardError, match="does not fit into a tar .*; rename the file"):
            tar_member(name, bytes(size))
        return
    header, content, zeros = tar_member(name, bytes(size))
    read = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert (len(header), read.name, read.size) == (TAR_BLOCK, name, size)
    assert (read.mode, read.uid, read.gid, read.mtime, read.uname) == (0o644, 0, 0, 0, "")
    assert content == bytes(size) and zeros == bytes(-size % 512)
    if len(name.encode()) <= 100:
        assert header == expected
