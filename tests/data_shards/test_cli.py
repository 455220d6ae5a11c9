import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from data_shards.config import PlanConfig, ShardConfig, SynthConfig
from data_shards.schema import View
from data_shards.shards import ShardSet
from launch.main import main


@pytest.fixture
def raw(tmp_path: Path, make_raw: Callable[[Path], Path]) -> Path:
    return make_raw(tmp_path / "raw")


def steps(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def flat(step: dict) -> list[dict]:
    return [row for rank in step["ranks"] for row in rank]


def test_shard_writes_says_so_and_is_idempotent(skydistill, raw: Path, tmp_path: Path) -> None:
    words = ["shard", raw, tmp_path / "out", "--layout", "university1652", "--json"]
    first, second = skydistill(*words), skydistill(*words)
    assert first.code == second.code == 0
    assert "wrote 90 images of 15 places in 4 tars" in first.err
    for line in (
        "train: 60 images of 10 places (50 drone, 10 satellite)",
        "gallery: 30 images of 5 places (25 drone, 5 satellite)",
        "stored once for two roles: 18 images",
    ):
        assert f"  {line}\n" in first.err
    assert "unchanged: 90 images" in second.err
    result = json.loads(first.out)
    assert result | {"written": 0, "kept": 4} == json.loads(second.out)
    assert (result["written"], result["kept"]) == (4, 0)
    assert result["counts"]["train"] == {"satellite": 10, "drone": 50, "places": 10}
    assert result["fingerprint"] == ShardSet.open(tmp_path / "out").fingerprint


def test_the_folder_that_one_is_in_is_read_as_any_other(
    skydistill, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(raw)
    (raw / "train/thermal").mkdir()
    (raw / "train/thermal/1.jpg").touch()
    told = skydistill("shard", ".", tmp_path / "out", "--dry-run").err
    assert "left out: 1 image in folders that are not of the layout (train/thermal)" in told
    assert f"would write 90 images of {raw} to" in told


def test_a_dry_run_writes_nothing(skydistill, raw: Path, tmp_path: Path) -> None:
    ending = skydistill("shard", raw, tmp_path / "out", "--layout=university1652", "--dry-run")
    assert ending.code == 0
    assert "would write 90 images" in ending.err
    assert ending.out == ""
    told = json.loads(skydistill("shard", raw, tmp_path / "out", "--dry-run", "--json").out)
    assert (told["dry_run"], told["images"], told["places"]) == (True, 90, 15)
    assert (told["layout"], told["out"]) == ("university1652", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_unreadable_images_are_listed_and_left_out_where_that_is_said(
    skydistill, raw: Path, tmp_path: Path
) -> None:
    for view in (2, 4):
        (raw / f"train/drone/0003/image-0{view}.jpeg").write_bytes(b"no image")
    words = ["shard", raw, tmp_path / "out", "--json"]
    refused = skydistill(*words)
    assert "2 images are unreadable (listed above)" in refused.sentence
    assert refused.err.count("is not a readable image (no format that is read") == 2
    done = skydistill(*words, "--skip-unreadable", "--name", "My town")
    result = json.loads(done.out)
    assert (result["images"], result["name"]) == (88, "My town")
    left_out = [line for line in result["deviations"] if "is left out" in line]
    assert [line.partition(" ")[0] for line in left_out] == [
        "0003/drone/image-02",
        "0003/drone/image-04",
    ]
    assert json.loads(skydistill(*words, "--skip-unreadable").out) == result | {
        "written": 0,
        "kept": 4,
    }
    verified = skydistill("verify", tmp_path / "out", "--decode")
    assert "is whole and every image decodes: 88 images" in verified.err
    told = skydistill("shard", raw, tmp_path / "other", "--name", "a/b").sentence
    assert "--name 'a/b' must be at most 64 letters" in told


def test_an_address_cannot_be_verified(skydistill) -> None:
    told = skydistill("verify", "http://user:secret@host/shards?key=secret").sentence
    assert "http://host/shards is an address, and verify reads a folder; run it where" in told
    assert "secret" not in told


def test_sues200_goes_from_world_to_shards(skydistill, tmp_path: Path) -> None:
    world, out = tmp_path / "world", tmp_path / "out"
    words = ["--places", 2, "--test-places", 1, "--views", 1, "--image-size", 32, "--workers", 1]
    assert skydistill("synth", world, "--layout", "sues200", *words).code == 0
    csv = tmp_path / "places.csv"
    csv.write_text("place,lat,lon\n0003,31.2,121.4\n")
    ending = skydistill("shard", tmp_path, out, "--coordinates", csv, "--json")
    assert ending.code == 0
    assert "world is read as sues200 (raw: satellite-view/ID, drone_view_512/ID" in ending.err
    assert "found 15 images of 3 places; layout sues200, split split.yaml" in ending.err
    result = json.loads(ending.out)
    assert (result["layout"], result["split"]) == ("sues200", "split.yaml")
    assert result["coordinates"] == 1
    (deviation,) = result["deviations"]
    assert "not the whole of SUES-200" in deviation
    assert f"other than published: {deviation}" in ending.err
    assert result["counts"]["gallery"] == {"satellite": 3, "drone": 12, "places": 3}
    shards = ShardSet.open(out)
    assert shards.manifest.coordinates == {"0003": (31.2, 121.4)}
    assert set(shards.images.altitude_m[shards.images.view == View.DRONE]) == {150, 200, 250, 300}


def test_a_split_names_the_places_that_train(skydistill, tmp_path: Path) -> None:
    for file in ("satellite-view/A/0.png", "drone_view_512/A/150/1.JPG"):
        for place in "AB":
            path = tmp_path / "raw" / file.replace("A", place)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32)).save(path)
    words = ["shard", tmp_path / "raw", tmp_path / "out"]
    assert "say with --split FILE (YAML: a list of ids under" in skydistill(*words).sentence
    (tmp_path / "mine.yaml").write_text("train: [B]\n")
    ending = skydistill(*words, "--split", tmp_path / "mine.yaml", "--dry-run")
    assert "split mine.yaml" in ending.err
    assert "would write 4 images" in ending.err


def broken_image(raw: Path) -> None:
    os.truncate(raw / "train/drone/0003/image-02.jpeg", 300)


@pytest.mark.parametrize(
    ("damage", "layout", "sentence"),
    [
        (lambda raw: None, "university1653", "layout 'university1653' is unknown (did you mean"),
        (
            lambda raw: [path.unlink() for path in raw.rglob("*.jp*g")],
            "university1652",
            "holds no images; left out: 36 empty folders",
        ),
        (broken_image, "university1652", "0003/image-02.jpeg is not a readable image"),
        (shutil.rmtree, "university1652", "raw is not a folder"),
    ],
)
def test_a_bad_raw_folder_is_one_sentence(
    skydistill, raw: Path, tmp_path: Path, damage, layout, sentence
) -> None:
    damage(raw)
    ending = skydistill("shard", raw, tmp_path / "out", "--layout", layout)
    assert sentence in ending.sentence
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_of_other_input_is_one_sentence(skydistill, raw, tmp_path) -> None:
    out = tmp_path / "out"
    assert skydistill("shard", raw, out, "--layout", "university1652").code == 0
    before = sorted(path.stat().st_mtime_ns for path in out.iterdir())
    other = shutil.copytree(raw, tmp_path / "other")
    shutil.rmtree(other / "train/satellite/0001")
    shutil.rmtree(other / "train/drone/0001")
    ending = skydistill("shard", other, out, "--layout", "university1652")
    assert f"holds shards of other images, made from {raw}; choose" in ending.sentence
    assert sorted(path.stat().st_mtime_ns for path in out.iterdir()) == before


def test_a_folder_that_changed_is_brought_up_to_date(skydistill, raw, tmp_path) -> None:
    out = tmp_path / "out"
    assert skydistill("shard", raw, out).code == 0
    shutil.rmtree(raw / "train/satellite/0001")
    shutil.rmtree(raw / "train/drone/0001")
    ending = skydistill("shard", raw, out)
    assert ending.code == 0
    assert "2 tars written, 2 kept" in ending.err
    assert skydistill("verify", out).code == 0


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_the_plan_is_the_same_for_any_number_of_ranks(skydistill, tiny_shards, world_size) -> None:
    words = ["plan", "--shards", tiny_shards.folder, "--global-batch", 8, "--seed", 3, "--json"]
    alone, together = skydistill(*words), skydistill(*words, "--world-size", world_size)
    assert alone.code == together.code == 0
    ones, others = steps(alone.out), steps(together.out)
    assert [step["step"] for step in ones] == list(range(6))
    for one, other in zip(ones, others, strict=True):
        assert [len(rank) for rank in other["ranks"]] == [8 // world_size] * world_size
        assert flat(one) == flat(other)


def test_the_plan_shows_every_training_pair_once(skydistill, tiny_shards: ShardSet) -> None:
    rows = []
    for line in steps(
        skydistill(
            "plan", "--shards", tiny_shards.folder, "--global-batch", 10, "--epoch", 4, "--json"
        ).out
    ):
        places = [row["place"] for row in flat(line)]
        assert len(set(places)) == 10
        rows += flat(line)
    assert sorted((row["place"], *row["drone"], row["satellite"]) for row in rows) == [
        (place, f"{place}/drone/image-{view:02d}", f"{place}/satellite/{place}")
        for place in tiny_shards.places[:10]
        for view in range(1, 6)
    ]


def test_the_plan_can_leave_out_the_held_out_places(skydistill, tiny_shards: ShardSet) -> None:
    words = ["--validation-fraction", 0.2, "--drones-per-row", 2, "--global-batch", 8, "--json"]
    ending = skydistill("plan", "--shards", tiny_shards.folder, *words)
    rows = [row for step in steps(ending.out) for row in flat(step)]
    assert len({row["place"] for row in rows}) == 8
    assert all(len(set(row["drone"])) == 2 for row in rows)


def test_without_json_the_plan_is_summed_up(skydistill, tiny_shards: ShardSet) -> None:
    ending = skydistill(
        "plan", "--shards", tiny_shards.folder, "--global-batch", 8, "--world-size", 2
    )
    assert (ending.code, ending.out) == (0, "")
    assert "places 10, pairs 50 per epoch" in ending.err
    assert "steps 6 per epoch, global batch 8 = 2 ranks x 4" in ending.err
    assert "pairs left for another epoch: 2" in ending.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--global-batch", "10", "--world-size", "4"], "not divisible by 4 ranks; choose 8 or 12"),
        (["--global-batch", "12"], "larger than the 10 places"),
        (["--global-batch", "8", "--drones-per-row", "6"], "fewer than the 6 of one row"),
        (["--global-bach", "8"], "--global-bach is unknown (did you mean '--global-batch'?)"),
        (["--global-batch", "many"], "--global-batch: expected int"),
        (
            ["--global-batch", "10", "--validation-fraction", "0.2"],
            "larger than the 8 places to plan over (training places that are not held out)",
        ),
        (["--world-size", "0"], "skydistill: --world-size (0) must be at least 1"),
    ],
)
def test_a_plan_that_cannot_be_is_one_sentence(skydistill, tiny_shards, words, sentence) -> None:
    assert sentence in skydistill("plan", "--shards", tiny_shards.folder, *words).sentence


def test_missing_shards_are_one_sentence(skydistill, tmp_path: Path) -> None:
    ending = skydistill("plan", "--shards", tmp_path / "nowhere")
    assert "make them with skydistill shard RAW" in ending.sentence


@pytest.mark.parametrize(
    ("verb", "config"), [("synth", SynthConfig), ("shard", ShardConfig), ("plan", PlanConfig)]
)
def test_help_has_a_sentence_for_every_option(verb, config, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for name in config.__dataclass_fields__:
        flag = rf"(?:--{name.replace('_', '-')}|{name})"
        option = rf"\n  {flag}(?: [A-Z_]+| \{{[^}}]*\}}| \[[^\]]+\])?\s+(\S[^\n]*)"
        (sentence,) = re.findall(option, shown)
        assert not sentence.startswith("-")
        assert sentence.count(" ") >= 2


def test_a_reader_that_leaves_is_no_mistake(tiny_shards: ShardSet, monkeypatch, tmp_path) -> None:
    class Closed:
        def write(self, _: str) -> int:
            raise BrokenPipeError

        def fileno(self) -> int:
            return os.open(tmp_path / "closed", os.O_CREAT | os.O_WRONLY)

    monkeypatch.setattr(sys, "stdout", Closed())
    words = ["--shards", str(tiny_shards.folder), "--global-batch", "8", "--json"]
    assert main(["plan", *words]) == 0
