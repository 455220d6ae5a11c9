"""What a cache is, told; what it holds, compared with the teacher; mirrored images among it."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml

from data_shards.errors import CacheError, PlanError
from data_shards.loader import image_batches
from data_shards.schema import Role, View
from data_shards.verbs import run_verb
from distill.cli import cache
from distill.config import DistillConfig
from distill.models import normalize
from distill.teacher.cache import cache_facts
from distill.teacher.source import load_teacher
from tests.distill.conftest import open_alone, run_alone, save_newborn, tiny_config
from tests.distill.test_teacher_cache import Killed, build, open_cache
from tests.evaluation.conftest import sharded, write_sues


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tmp_path_factory.mktemp("made")


@pytest.fixture(params=["float32", "float16", "int8"])
def own(request, distilled, made) -> DistillConfig:
    """A recipe whose finished cache is its own to damage."""
    config = distilled(teacher={"codec": request.param})
    first = made / request.param
    if not first.exists():
        build(config)
        shutil.copytree(config.teacher.cache, first)
    else:
        shutil.copytree(first, config.teacher.cache)
    return config


def test_a_sound_cache_passes_the_audit_and_says_so(own, caplog):
    caplog.set_level("INFO")
    open_alone(own)
    (line,) = [line for line in caplog.messages if line.startswith("audited ")]
    assert re.search(r"audited 8 of 120 rows of teacher cache .* in \d+\.\d\d s", line)


def test_the_audit_looks_at_a_thousandth_of_many_rows(own, caplog, monkeypatch):
    monkeypatch.setattr("distill.teacher.source.LEAST_AUDITED", 1)
    monkeypatch.setattr("distill.teacher.source.AUDITED_SHARE", 0.1)
    caplog.set_level("INFO")
    open_alone(own)
    monkeypatch.setattr("distill.teacher.source.MOST_AUDITED", 5)
    open_alone(own)
    assert [line[:17] for line in caplog.messages if line.startswith("audited ")] == [
        "audited 12 of 120",
        "audited 5 of 120 ",
    ]


@pytest.mark.parametrize("damage", ["slots", "numbers", "nan"])
def test_rows_that_the_teacher_did_not_say_are_refused(own, damage):
    for path in own.teacher.cache.glob("*.npy"):
        rows = np.load(path)
        if damage == "slots":
            rows = rows[:, ::-1]
        elif damage == "nan" and own.teacher.codec != "int8":
            rows["logits"] = np.nan
        else:
            rows["descriptor"][..., -1] += 3
        np.save(path, np.ascontiguousarray(rows))
    says = r"tar: \S+ in slot [01], output (descriptor|logits), differs by .* remove the cache"
    with pytest.raises(CacheError, match=says):
        open_alone(own)


def told(capsys, *words: object) -> tuple[int, str, str]:
    code = run_verb(lambda: cache([str(word) for word in words]))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_info_tells_what_a_cache_is(own, capsys):
    folder = own.teacher.cache
    code, out, _ = told(capsys, "--info", folder, "--json")
    facts = json.loads(out)
    key = open_cache(own).key
    assert code == 0 and facts["rows"] == 120 and facts["codec"] == own.teacher.codec
    assert facts["teacher"] == "newborn" and facts["teacher_sha256"] == key.teacher_sha256
    assert facts["outputs"] == {"descriptor": [1, 256], "logits": [10]}
    assert facts["bytes_per_row"] == {"float32": 1064, "float16": 532, "int8": 274}[facts["codec"]]
    assert facts["bytes"] > 120 * facts["bytes_per_row"] and facts["augment"]["slots"] == 2
    assert facts["shards"] == key.shards and facts["augment"]["family"] == "light"
    assert facts["seconds"] > 0
    assert facts["teacher_licence"] == "fresh weights, nothing to license"
    meta = json.loads((folder / "cache.json").read_text())
    meta["origin"] |= {"source": "own.pth"}
    (folder / "cache.json").write_text(json.dumps(meta))
    assert cache_facts(folder)["teacher_licence"].startswith("not stated")
    assert facts["seconds_per_1000_rows"] == pytest.approx(facts["seconds"] / 0.12, rel=1e-2)
    code, out, _ = told(capsys, "--info", folder)
    assert code == 0 and list(yaml.safe_load(out)) == list(facts)


def test_info_of_what_is_no_finished_cache_is_a_sentence(own, distilled, capsys, tmp_path):
    folder = own.teacher.cache
    assert "no finished teacher cache" in told(capsys, "--info", tmp_path)[2]
    assert "takes one folder, no recipe" in told(capsys, "recipe.yaml", "--info", folder)[2]
    rows = next(folder.glob("*.npy"))
    rows.write_bytes(rows.read_bytes()[:-1])
    assert "is damaged" in told(capsys, "--info", folder)[2]
    rows.unlink()
    assert "is damaged" in told(capsys, "--info", folder, "--json")[2]
    (folder / "cache.json").write_text("{}")
    code, out, err = told(capsys, "--info", folder)
    assert (code, out) == (2, "") and "is damaged" in err

    def die(done: int, total: int, **facts: float) -> None:
        if done > 20:  # the tiles are written, and the views have begun
            raise Killed

    begun = distilled(teacher={"cache": str(tmp_path / "begun")})
    with pytest.raises(Killed):
        build(begun, progress=die)
    assert "holds no finished teacher cache" in told(capsys, "--info", begun.teacher.cache)[2]
    build(begun)
    assert told(capsys, "--info", begun.teacher.cache)[0] == 0


def test_a_mirrored_image_is_described_again_not_its_feature_map(distilled):
    """Mirroring the map instead is what a cache must never do: a network has no such symmetry."""
    plain = {"slots": 1, "min_crop_area": 1.0, "brightness": 0.0, "contrast": 0.0}
    config = distilled(
        augment={**plain, "saturation": 0.0, "flip_probability": 1.0},
        teacher={"codec": "float32"},
    )
    build(config)
    opened, shards = open_cache(config), open_alone(config).shards
    rows = shards.images.where(role=Role.TRAIN, view=View.DRONE)
    ((_, upright),) = image_batches(
        shards,
        rows,
        image_size=config.data.image_size,
        resampling=config.data.resampling,
        batch_size=len(rows),
        threads=1,
    )
    model = load_teacher(config, shards).model
    images = normalize(torch.from_numpy(upright))
    with torch.no_grad():
        again = model.parts(images.flip(3))
        mirrored_maps = model.head.pool(model.backbone.forward_features(images).flip(3)).unsqueeze(
            1
        )
    stored = opened.lookup(rows, rows * 0)["descriptor"]
    # Newborns say nearly the same of all images: compare what is left behind the mean.
    stored, again, mirrored_maps = (
        (parts - parts.mean(dim=0)).flatten(1) for parts in (stored, again, mirrored_maps)
    )
    assert F.cosine_similarity(stored, again).min() > 0.9999
    assert F.cosine_similarity(mirrored_maps, again).mean() < 0.95


def test_only_the_heights_of_the_recipe_are_described(tmp_path, caplog):
    raw = write_sues(tmp_path / "sues/raw")
    shards = sharded(raw, "sues200", split=raw / "split.yaml")
    save_newborn(tmp_path / "teacher", shards, seed=5)

    def recipe(*altitudes: float) -> DistillConfig:
        return tiny_config(
            shards,
            tmp_path / "run",
            role="distilled",
            data={"altitudes": list(altitudes), "global_batch": 2},
            teacher={"run": str(tmp_path / "teacher"), "cache": str(tmp_path / "cache")},
            objectives={"feature_distillation": {"weight": 1.0}},
        )

    config, images = recipe(300), shards.images
    assert build(config) is True
    cache = open_cache(config)
    is_trained = (images.roles & Role.TRAIN != 0) & (images.altitude_m != 150)
    assert cache.described.tolist() == np.flatnonzero(is_trained).tolist()
    assert set(images.view[is_trained].tolist()) == {View.SATELLITE, View.DRONE}
    rows = [np.load(path) for path in config.teacher.cache.glob("*.npy")]
    assert sum(map(len, rows)) == len(cache.described)
    with pytest.raises(LookupError):
        cache.lookup(np.flatnonzero(images.altitude_m == 150)[:1], np.zeros(1, dtype=np.int64))
    caplog.set_level("INFO")
    run_alone(config)
    assert f"audited 8 of {2 * len(cache.described)} rows" in caplog.text
    for other in (recipe(), recipe(150), recipe(150, 300)):
        with pytest.raises(CacheError, match="made from another altitudes "):
            open_cache(other)
    with pytest.raises(PlanError, match="at 200 m; choose among 150, 300"):
        build(replace(recipe(200), teacher=replace(config.teacher, cache=tmp_path / "none")))
