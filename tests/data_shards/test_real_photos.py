"""What cameras write, in a folder that is not ours to pass on: its README says what lies there."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from data_shards.decode import check_image, decode
from data_shards.manifest import read_manifest
from data_shards.packing.stored_image import read_header

PHOTOS = os.environ.get("SKYDISTILL_REAL_PHOTOS", "")

pytestmark = pytest.mark.skipif(not PHOTOS, reason="SKYDISTILL_REAL_PHOTOS names no folder")


def test_photographs_are_whole_and_turned_as_pillow_turns_them() -> None:
    kinds = (".jpg", ".jpeg", ".png")
    found = [path for path in Path(PHOTOS).rglob("*") if path.suffix.lower() in kinds]
    assert len(found) > 50
    for path in found:
        content = path.read_bytes()
        assert check_image(content) == "", path
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), dtype=int)
        pixels = decode(content, orientation=read_header(content).orientation)
        assert pixels.shape == expected.shape, path
        assert np.abs(pixels - expected).mean() < 1.5, path


def test_photographs_come_into_shards_that_are_called_as_they_are(skydistill, tmp_path) -> None:
    raw, out = Path(PHOTOS) / "university1652", tmp_path / "shards"
    words = ["--name", "Two sites", "--coordinates", Path(PHOTOS) / "coordinates.csv"]
    assert skydistill("shard", raw, out, *words).code == 0
    assert "every image decodes" in skydistill("verify", out, "--decode").err
    manifest = read_manifest(out)
    assert (manifest.name, len(manifest.places)) == ("Two sites", 13)
    assert any("not the whole of University-1652" in line for line in manifest.deviations)
