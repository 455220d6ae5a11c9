import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_shards.augment.variations import FAMILIES
from data_shards.errors import CacheError
from data_shards.loader import image_batches, slot_variations
from data_shards.progress import show_progress
from data_shards.schema import Role
from data_shards.shards import ShardSet
from distill.config import DistillConfig, ModelConfig
from distill.inputs import PAIRED_VIEWS
from distill.models import build_model
from distill.preemption import StopFlag
from distill.run_folder import RunPaths
from distill.teacher import build as teacher_build
from distill.teacher.build import build_cache
from distill.teacher.cache import CacheKey, FeatureCache, cached_shards, is_finished
from distill.teacher.source import (
    CPU_BATCH,
    CachedTeacher,
    LiveTeacher,
    cache_key,
    load_teacher,
    teacher_outputs,
)
from distill.weights_file import load_student
from tests.distill.conftest import metric_lines, open_alone, run_alone, save_newborn

CPU = torch.device("cpu")


def build(config: DistillConfig, progress=None, flag: StopFlag = StopFlag()) -> bool | None:  # noqa: B008 - lowered
    shards = ShardSet.open(config.data.shards)
    folder = config.teacher.cache
    assert folder is not None
    with show_progress("caching", enabled=False) as silent:
        return build_cache(
            LiveTeacher(config, shards, load_teacher(config, shards), CPU),
            folder,
            threads=1,
            progress=progress or silent,
            flag=flag,
        )


def open_cache(config: DistillConfig) -> FeatureCache:
    shards = ShardSet.open(config.data.shards)
    key = cache_key(config, shards, load_teacher(config, shards))
    assert config.teacher.cache is not None
    return FeatureCache.open(config.teacher.cache, shards=shards, key=key, recipe="r.yaml")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("built")


@pytest.fixture
def cached(distilled, built) -> DistillConfig:
    """A recipe whose cache is finished; for reading only."""
    config = distilled(teacher={"cache": str(built / "cache")})
    build(config)
    return config


def test_lookup_by_hand(cached):
    shards, cache = ShardSet.open(cached.data.shards), open_cache(cached)
    teacher = load_student(cached.teacher.run)
    rows = shards.images.where(role=Role.TRAIN, view=1, places=[0, 3, 7])[::4]
    for slot in range(2):
        slots = np.full(len(rows), slot)
        variations = slot_variations(shards, cached.augment, rows, slots)
        ((_, images),) = image_batches(
            shards,
            rows,
            image_size=32,
            resampling="opencv-linear",
            batch_size=99,
            threads=1,
            variations=variations.__getitem__,
        )
        live = teacher_outputs(
            teacher.model, torch.from_numpy(images), ["descriptor", "logits"], precision="fp32"
        )
        found = cache.lookup(rows, slots)
        assert list(found) == ["descriptor", "logits"]
        for name, wanted in live.items():
            assert np.allclose(found[name], wanted.numpy(), rtol=2e-3, atol=2e-3)
    backwards = cache.lookup(rows[::-1], slots)
    assert torch.equal(backwards["logits"].flip(0), found["logits"])


def test_rows_of_several_views_are_varied_each_as_its_own(cached):
    shards = ShardSet.open(cached.data.shards)
    teacher = LiveTeacher(cached, shards, load_teacher(cached, shards), CPU)
    views = [shards.images.where(role=Role.TRAIN, view=view)[:4] for view in PAIRED_VIEWS]
    mixed = np.stack(views, axis=1).reshape(-1)

    def said(rows) -> torch.Tensor:
        outputs = teacher.of_slots(rows, np.ones_like(rows), threads=1)
        return torch.cat([part["descriptor"] for part in outputs])

    apart = torch.stack([said(rows) for rows in views], dim=1)
    assert torch.equal(said(mixed), apart.flatten(0, 1))


def losses(config: DistillConfig) -> list[list[float]]:
    lines = metric_lines(run_alone(config).paths)
    names = ["total", *config.objectives.weights]
    return [[line["metrics"][f"train/{name}"] for name in names] for line in lines]


def test_training_from_the_cache_is_training_with_the_live_teacher(distilled, cached, tmp_path):
    def out(name: str) -> str:
        return str(tmp_path / name)

    live = losses(distilled(out=out("live"), teacher={"source": "live"}))
    exact = distilled(out=out("exact"), teacher={"codec": "float32"})
    build(exact)
    assert len(live) == 6 and len(live[0]) == 10
    assert losses(exact) == live
    half = losses(replace(cached, out=tmp_path / "half"))
    int8 = distilled(out=out("int8"), teacher={"codec": "int8", "cache": out("int8_cache")})
    build(int8)
    lossy = losses(int8)
    for found, first, later in ((half, 1e-5, 1e-3), (lossy, 1e-3, 5e-2)):
        assert 0 < np.abs(np.subtract(found, live)[0]).max() < first
        assert np.abs(np.subtract(found, live)).max() < later  # a newborn's updates magnify it


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_both_sources_answer_alike_in_every_family_and_with_two_drones_a_row(
    distilled, family, on_device, caplog
):
    config = distilled(
        data={"drones_per_row": 2, "resampling": "pillow-bicubic"},
        augment={"family": family, "device": on_device},
        teacher={"codec": "float32"},
    )
    build(config)
    session = open_alone(config)
    assert isinstance(session.teacher, CachedTeacher)
    loaded = load_teacher(config, session.shards)
    live = LiveTeacher(config, session.shards, loaded, CPU)
    slots = set()
    for planned in session.loader.batches(first_step=0, num_steps=4):
        batch = session.on_device(planned)
        slots |= set(batch.slots.tolist())
        assert batch.drone.shape[0] == 2 * batch.satellite.shape[0]
        answered = live(batch)
        assert answered.keys() == batch.teacher.keys()
        for name, values in answered.items():
            assert torch.equal(values, batch.teacher[name])
    assert slots == {0, 1}
    assert "of 32 px by opencv-linear and will look at 32 px by pillow-bicubic" in caplog.text


def test_a_teacher_at_its_own_size_sees_the_same_crops_live_and_cached(
    distilled, tiny_shards, tmp_path
):
    larger = save_newborn(tmp_path / "larger", tiny_shards, seed=5, image_size=64)
    changes = {"run": str(larger), "codec": "float32"}
    cached, live = (
        distilled(out=str(tmp_path / source), teacher={"source": source, **changes})
        for source in ("cache", "live")
    )
    build(cached)
    assert open_cache(cached).key.image_size == 64
    session = open_alone(live)
    (planned,) = session.loader.batches(first_step=0, num_steps=1)
    assert planned.satellite.shape[1:3] == (32, 32) and planned.teacher_drone.shape[1:3] == (64, 64)
    # Half the larger crop is the smaller one: both show the same part of the picture.
    halved = planned.teacher_satellite.reshape(-1, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - planned.satellite).mean() < 3
    assert losses(cached) == losses(live)


def test_nothing_changed_is_a_hit(cached):
    before = {path: path.stat().st_mtime_ns for path in cached.teacher.cache.iterdir()}
    assert build(cached) is False
    open_cache(cached)
    assert {path: path.stat().st_mtime_ns for path in cached.teacher.cache.iterdir()} == before


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("augment.brightness", {"augment": {"brightness": 0.25}}),
        ("augment.seed", {"augment": {"seed": 1}}),
        ("augment.slots", {"augment": {"slots": 3}}),
        ("augment.device", {"augment": {"device": True}}),
        ("augment.family", {"augment": {"family": "mccg"}}),
        ("augment.family", {"augment": {"family": "mean"}}),
        ("decoder", {"data": {"resampling": "opencv-area"}}),
        ("decoder", {"data": {"aspect": "crop"}}),
        ("precision", {"teacher": {"precision": "bf16"}}),
        ("codec", {"teacher": {"codec": "float32"}}),
    ],
)
def test_a_changed_recipe_is_a_miss_that_names_the_field(distilled, cached, built, field, changes):
    config = distilled(
        **{**changes, "teacher": {"cache": str(built / "cache")} | changes.get("teacher", {})}
    )
    with pytest.raises(CacheError, match=f"made from another {field} .*skydistill cache r.yaml"):
        open_cache(config)
    with pytest.raises(CacheError, match=rf"made from another {field} \(.*, here .*\);"):
        build(config)


def test_one_weight_byte_is_a_miss(cached, distilled, teacher_run, tmp_path, built):
    other = tmp_path / "other"
    shutil.copytree(teacher_run, other)
    weights = bytearray(RunPaths(other).weights.read_bytes())
    weights[-1] ^= 1
    RunPaths(other).weights.write_bytes(weights)
    config = distilled(teacher={"run": str(other), "cache": str(built / "cache")})
    with pytest.raises(CacheError, match="made from another teacher_sha256;"):
        open_cache(config)


def test_other_images_size_code_and_decoder_are_misses(cached):
    key, shards = open_cache(cached).key, ShardSet.open(cached.data.shards)
    replaced = replace(key, shards="0" * 64)  # of the same plan
    with pytest.raises(CacheError, match="no finished teacher cache at .*; run skydistill cache"):
        FeatureCache.open(cached.teacher.cache, shards=shards, key=replaced, recipe="r")
    for field, value in {
        "image_size": 64,
        "augment_version": 99,
        "decoder": "another",
        "preprocessing": "none",
        "version": 99,
        "outputs": {"descriptor": [1]},
    }.items():
        changed = replace(key, **{field: value})
        assert changed.digest != key.digest
        with pytest.raises(CacheError, match=f"made from another {field}"):
            FeatureCache.open(cached.teacher.cache, shards=shards, key=changed, recipe="r")
    assert isinstance(key, CacheKey)


def files(folder: Path) -> dict[str, object]:
    """All that a build writes, but for the seconds that it took."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.glob("*.json"):
        found[path.name] = json.loads(path.read_text()) | {"seconds": None}
    return found


@pytest.mark.parametrize("arch", ["convnext_milli", "convnext_micro"])
def test_an_image_has_the_same_outputs_in_any_company(arch):
    """What makes live and cached training equal: whatever batch an image comes in, and where."""
    torch.manual_seed(0)
    model = build_model(ModelConfig(arch=arch, weights="none"), num_places=7).eval()
    images = torch.randint(0, 256, (CPU_BATCH + 5, 32, 32, 3), dtype=torch.uint8)
    names = ["descriptor", "logits"]
    together = teacher_outputs(model, images, names, precision="fp32")
    order = torch.randperm(len(images))
    shuffled = teacher_outputs(model, images[order], names, precision="fp32")
    for at in range(len(images)):
        alone = teacher_outputs(model, images[at : at + 1], names, precision="fp32")
        assert all(torch.equal(alone[name][0], together[name][at]) for name in names)
    assert all(torch.equal(shuffled[name], together[name][order]) for name in names)


class Killed(BaseException):
    """Nothing that the code would catch."""


def test_a_killed_build_loses_one_shard_at_most_and_ends_in_the_same_bytes(
    distilled, cached, tmp_path
):
    config = distilled()
    first, *_ = map(len, cached_shards(ShardSet.open(config.data.shards), ()).values())

    def die(done: int, total: int, **facts: float) -> None:
        if done > first * 2:  # both slots of the first shard, and the second has begun
            raise Killed

    with pytest.raises(Killed):
        build(config, progress=die)
    folder = config.teacher.cache
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".npy", ".partial"]
    with pytest.raises(CacheError, match="no finished teacher cache"):
        open_cache(config)
    (done,) = folder.glob("*.npy")
    kept = done.stat().st_mtime_ns
    assert build(config) is True
    assert done.stat().st_mtime_ns == kept
    assert files(folder) == files(cached.teacher.cache)


def test_an_unfinished_build_of_another_teacher_is_cleared(distilled, tiny_shards, tmp_path):
    config = distilled()

    def die(done: int, total: int, **facts: float) -> None:
        raise Killed

    with pytest.raises(Killed):
        build(config, progress=die)
    save_newborn(tmp_path / "second", tiny_shards, seed=6)
    other = distilled(teacher={"run": str(tmp_path / "second")})
    assert build(other) is True
    found = json.loads((other.teacher.cache / "cache.json").read_text())["key"]
    assert found["teacher_sha256"] == load_student(tmp_path / "second").sha256
    open_cache(other)


def test_a_folder_of_something_else_is_left_alone(distilled):
    config = distilled()
    config.teacher.cache.mkdir()
    (config.teacher.cache / "diary.txt").write_text("mine")
    with pytest.raises(CacheError, match="holds no teacher cache"):
        build(config)
    assert (config.teacher.cache / "diary.txt").read_text() == "mine"


@pytest.mark.parametrize("damage", ["cut", "gone", "meta"])
def test_a_damaged_cache_is_refused_in_a_sentence(cached, distilled, tmp_path, damage):
    config = distilled()
    shutil.copytree(cached.teacher.cache, config.teacher.cache)
    rows = next(config.teacher.cache.glob("*.npy"))
    if damage == "cut":
        rows.write_bytes(rows.read_bytes()[:-64])
    elif damage == "gone":
        rows.unlink()
    else:
        (config.teacher.cache / "cache.json").write_text("{")
    with pytest.raises(CacheError, match="damaged"):
        open_cache(config)


def test_other_library_versions_are_a_miss_that_names_then_and_now(cached):
    key, shards = open_cache(cached).key, ShardSet.open(cached.data.shards)
    newer = replace(key, libraries={**key.libraries, "torch": "99.1"})
    assert newer.digest != key.digest and "+" not in "".join(key.libraries.values())
    says = rf"another torch \({key.libraries['torch']}, here 99.1\); run skydistill cache r "
    with pytest.raises(CacheError, match=says):
        FeatureCache.open(cached.teacher.cache, shards=shards, key=newer, recipe="r")


def test_two_builds_of_one_folder_are_kept_apart(distilled, tiny_shards, tmp_path):
    config = distilled()
    other = distilled(augment={"slots": 3})
    folder, refused = config.teacher.cache, []

    def meanwhile(done: int, total: int, **facts: float) -> None:
        for second in (config, other) if not refused else ():
            before = files(folder)
            with pytest.raises(CacheError, match="is being written by another process; wait"):
                build(second)
            assert files(folder) == before
            refused.append(second)

    assert build(config, progress=meanwhile) is True
    assert refused == [config, other]
    assert build(config) is False  # the lock went with the build


def test_a_cache_that_was_finished_while_we_waited_for_the_lock_is_a_hit(cached, monkeypatch):
    answers = iter([False])
    monkeypatch.setattr(
        teacher_build,
        "is_finished",
        lambda *of, **words: next(answers, None) is None and is_finished(*of, **words),
    )
    before = files(cached.teacher.cache)
    assert build(cached) is False
    assert files(cached.teacher.cache) == before


def test_clearing_an_unfinished_build_leaves_what_is_not_ours(distilled):
    config = distilled()
    folder = config.teacher.cache
    folder.mkdir()
    (folder / "building.json").write_text('{"key": {}, "seconds": 0}')
    (folder / "old.npy").write_text("rows of another key")
    (folder / "notes.txt").write_text("mine")
    assert build(config) is True
    assert not (folder / "old.npy").exists() and (folder / "notes.txt").read_text() == "mine"
