"""Training from a server and from this node's disk gives what training from the folder gives."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_shards.errors import ShardError
from data_shards.remote import fetch
from data_shards.remote.local_cache import LocalCache
from data_shards.schema import Role, View
from data_shards.shards import ShardSet
from data_shards.verbs import run_verb
from distill.cli import cache, train
from distill.config import DistillConfig
from distill.inputs import open_inputs
from distill.run_folder import RunPaths
from distill.tracking import Tracker
from tests.data_shards.remote.shard_server import ShardServer, serving
from tests.distill.conftest import ALL_TERMS, metric_lines, tiny_config, write_recipe
from tests.distill.test_teacher_cache import build, files, open_cache

SHORT = {"num_steps": 2, "warmup_steps": 1}
TRAIN_TARS = {"train-drone-000000.tar": 1, "train-satellite-000000.tar": 1}


@pytest.fixture
def server(tiny_shards: ShardSet) -> Iterator[ShardServer]:
    with serving(tiny_shards.folder) as server:
        yield server


@pytest.fixture(autouse=True)
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tracker, "start", lambda self, **facts: None)


@pytest.fixture
def built(distilled, teacher_cache: Path) -> DistillConfig:
    """A recipe whose teacher cache is finished, and its own to damage."""
    config = distilled(schedule=SHORT)
    shutil.copytree(teacher_cache, config.teacher.cache)
    return config


@pytest.fixture(scope="module")
def teacher_cache(tmp_path_factory, tiny_shards, teacher_run) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    values = {
        "role": "distilled",
        "objectives": ALL_TERMS,
        "teacher": {"run": str(teacher_run), "cache": str(folder / "cache")},
    }
    build(tiny_config(tiny_shards, folder / "run", **values))
    return folder / "cache"


def cache_at(folder: Path) -> LocalCache:
    return LocalCache(folder, gib=1)


def run(verb, config: DistillConfig, *words: str) -> int:
    recipe = write_recipe(config.run_folder.with_suffix(".yaml"), config)
    return run_verb(lambda: verb([str(recipe), *words]))


def losses(config: DistillConfig) -> list[float]:
    return [line["metrics"]["train/total"] for line in metric_lines(RunPaths(config.run_folder))]


def test_training_from_a_server_equals_training_from_the_folder(
    make_config, server: ShardServer, tmp_path: Path
) -> None:
    here = make_config(schedule=SHORT)
    served = {"shards": server.address, "local_cache": str(tmp_path / "cache")}
    there = make_config(out=str(tmp_path / "there"), data=served, schedule=SHORT)
    assert run(train, there, "--dry-run") == 0
    assert server.tars == {}
    assert run(train, here) == run(train, there) == 0
    assert losses(here) == losses(there)
    assert server.tars == TRAIN_TARS
    moved = ["--data.local_cache", str(tmp_path / "elsewhere"), "--data.local_cache_gib", "1"]
    assert run(train, there, *moved) == 0, "where the copy lies may change when a run goes on"


def test_a_server_that_is_gone_is_one_sentence(
    make_config, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(fetch, "PAUSES_S", (0.0, 0.0))
    config = make_config(
        data={"shards": "http://127.0.0.1:9/x", "local_cache": str(tmp_path / "cache")}
    )
    assert run(train, config) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if "skydistill: " in line]
    assert len(told) == 1
    assert "http://127.0.0.1:9/x/manifest.json cannot be fetched, tried 3 times" in told[0]


def test_shards_and_teacher_cache_are_staged(built, distilled, tmp_path: Path) -> None:
    node = tmp_path / "node"
    staged = {"stage": True, "local_cache": str(node)}
    there = distilled(out=str(tmp_path / "there"), data=staged, schedule=SHORT)
    assert run(train, built) == run(train, there) == 0
    assert losses(built) == losses(there)
    copies = {path.name for path in node.glob("data/*/*.*") if path.suffix in (".npy", ".tar")}
    rows = {path.name for path in built.teacher.cache.glob("*.npy")}
    assert copies == rows | set(TRAIN_TARS)


def test_a_teacher_reads_from_a_server(distilled, server, teacher_cache, tmp_path: Path) -> None:
    served = {"shards": server.address, "local_cache": str(tmp_path / "node")}
    config = distilled(data=served)
    assert run(cache, config) == 0
    assert files(teacher_cache) == files(config.teacher.cache)


def test_a_staged_cache_answers_the_same(built: DistillConfig, tmp_path: Path) -> None:
    original = open_cache(built)
    staged = original.staged(cache_at(tmp_path / "n"))
    assert tmp_path / "n" in staged.folder.parents
    rows = original.shards.images.where(role=Role.TRAIN, view=View.DRONE)
    slots = rows * 0
    for name, values in original.lookup(rows, slots).items():
        assert (values == staged.lookup(rows, slots)[name]).all()


def test_without_room_the_cache_is_read_where_it_is(built, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    original = open_cache(built)
    assert original.staged(LocalCache(tmp_path / "n", gib=1e-7)) is original
    assert "not staged, read from where it is" in caplog.text


def test_staging_notices_damage(built: DistillConfig, tmp_path: Path) -> None:
    rows = next(built.teacher.cache.glob("*.npy"))
    content = bytearray(rows.read_bytes())
    content[-1] ^= 1
    rows.write_bytes(content)
    with pytest.raises(ShardError, match=f"{rows.name} is not the file that its manifest names"):
        open_cache(built).staged(cache_at(tmp_path / "n"))


def test_only_what_a_pair_needs_is_staged(make_config, tmp_path: Path) -> None:
    config = make_config(data={"stage": True, "local_cache": str(tmp_path / "n")})
    staged = open_inputs(config.data)
    assert {path.name for path in staged.folder.glob("*.tar")} == set(TRAIN_TARS)


@pytest.mark.parametrize("gib", ["0", "-1"])
def test_a_cache_without_room_is_refused(make_config, capsys, gib: str) -> None:
    assert run(train, make_config(), f"--data.local_cache_gib={gib}") == 2
    assert "data.local_cache_gib" in capsys.readouterr().err
