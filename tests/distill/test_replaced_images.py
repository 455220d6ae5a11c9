"""Images replaced under the same keys: a run goes on, a cache makes rows of their tars anew."""

import logging
import shutil
from pathlib import Path

import pytest

from data_shards.errors import CacheError, CheckpointError
from tests.conftest import shard
from tests.distill.conftest import open_alone
from tests.distill.test_teacher_cache import build, open_cache


def test_images_replaced_under_the_same_keys_do_not_end_a_run(
    make_config, tiny_raw, tmp_path, caplog
):
    raw, out = Path(shutil.copytree(tiny_raw, tmp_path / "raw")), tmp_path / "shards"
    drones = raw / "train/drone/0001"
    shard(raw, out)
    session = open_alone(make_config(data={"shards": str(out)}))
    session.state.step = 1
    session.checkpoints.save(session.state, must_succeed=True)
    shutil.copy(drones / "image-02.jpeg", drones / "image-01.jpeg")
    shard(raw, out)
    with caplog.at_level(logging.INFO):
        going_on = open_alone(make_config(data={"shards": str(out)}))
    assert "images were replaced under the same keys since step-00000001" in caplog.text
    assert (going_on.state.step, going_on.state.shards) == (1, going_on.shards.fingerprint)
    (drones / "image-01.jpeg").unlink()
    shard(raw, out)
    with pytest.raises(CheckpointError, match="of other images, which is another plan; give"):
        open_alone(make_config(data={"shards": str(out)}))


def test_rows_of_replaced_images_are_made_anew_and_no_others(distilled, tiny_raw, tmp_path):
    raw, out = Path(shutil.copytree(tiny_raw, tmp_path / "raw")), tmp_path / "shards"
    drones = raw / "train/drone/0001"
    shard(raw, out)
    config = distilled(data={"shards": str(out)})
    folder = config.teacher.cache
    assert build(config) and not build(config)
    before = {rows.name: rows.stat() for rows in folder.glob("*.npy")}
    old = (folder / "train-drone-000000.npy").read_bytes()
    shutil.copy(drones / "image-02.jpeg", drones / "image-01.jpeg")
    shard(raw, out)
    with pytest.raises(CacheError, match="no finished teacher cache at .*; run skydistill cache"):
        open_cache(config)
    assert build(config) and not build(config)
    after = {rows.name: rows.stat() for rows in folder.glob("*.npy")}
    changed = {name for name in before if before[name].st_ino != after[name].st_ino}
    assert changed == {"train-drone-000000.npy"}
    assert (folder / "train-drone-000000.npy").read_bytes() != old
    fresh = distilled(data={"shards": str(out)}, teacher={"cache": str(tmp_path / "fresh")})
    build(fresh)
    for name in before:
        assert (folder / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()
    open_cache(config)
    (drones / "image-01.jpeg").unlink()
    shard(raw, out)
    with pytest.raises(CacheError, match="was made from another shards"):
        build(config)
