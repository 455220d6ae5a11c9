"""Indexes: what they hold, killed and gone on with, added to, shared by ranks, and refused."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from errno import ENOSPC
from pathlib import Path

import numpy as np
import pytest
import torch
from rasterio.transform import from_origin

from data_shards.errors import DescriptorError
from data_shards.manifest import write_json
from data_shards.progress import PROGRESS_VARIABLE, SECONDS_BETWEEN_LINES
from evaluation.own_map import index as module
from evaluation.own_map.index import MANIFEST, Index, open_index, read_manifest
from tests.distill.conftest import launch
from tests.evaluation.own_map.conftest import (
    as_bands,
    born,
    ground_picture,
    index_of,
    write_map,
)

CPU = torch.device("cpu")


def opened(folder: Path) -> Index:
    return open_index(folder, read_manifest(folder), CPU)


def test_an_index_has_the_tiles_of_every_footprint_and_their_descriptors(indexed: Path) -> None:
    index = opened(indexed)
    assert np.unique(index.tiles["footprint_m"]).tolist() == [60, 120]
    assert index.descriptor_ND.shape[0] == len(index.tiles)
    assert torch.allclose(index.descriptor_ND.norm(dim=1), torch.ones(()), atol=2e-3)
    assert index.manifest.maps[0]["tiles"] == len(index.tiles)


def test_nearly_empty_tiles_are_left_out_and_counted(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture = ground_picture(400, 200)
    picture[:, 200:] = 255
    with caplog.at_level(logging.INFO):
        tif = write_map(tmp_path / "half.tif", as_bands(picture))
        assert index_of(tif, tmp_path / "index", weights, **{"footprint-m": 50, "overlap": 0}) == 0
    assert "4 tiles, 4 nearly empty ones left out" in caplog.text
    assert opened(tmp_path / "index").tiles["col"].tolist() == [0, 100] * 2


def test_another_map_is_added_and_the_first_is_not_described_again(
    indexed: Path, tif: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "index"
    shutil.copytree(indexed, out)
    before = opened(out)
    other = write_map(tmp_path / "other.tif", as_bands(ground_picture(300, 300, seed=1)))
    with caplog.at_level(logging.INFO):
        assert index_of(tif, other, out, weights) == 0
    assert f"{tif} is in {out} already" in caplog.text
    after = opened(out)
    assert np.array_equal(after.tiles[: len(before.tiles)], before.tiles)
    assert set(after.tiles["source"][len(before.tiles) :].tolist()) == {1}
    assert after.map_of(after.tiles[-1]).path == other


def test_maps_of_one_name_size_and_time_are_told_apart_and_a_moved_one_is_found_again(
    weights: Path, tmp_path: Path
) -> None:
    ground, out = as_bands(ground_picture(200, 200)), tmp_path / "index"
    south, north, same = (tmp_path / name / "ortho.tif" for name in ("south", "north", "same"))
    write_map(south, ground)
    write_map(north, ground, transform=from_origin(587_500, 3_339_300, 0.5, 0.5))
    write_map(same, 255 - ground)
    for path in (south, north, same):
        os.utime(path, ns=(0, 10**18))
        assert index_of(path, out, weights) == 0
    assert [one["path"] for one in read_manifest(out).maps] == [*map(str, (south, north, same))]
    moved = south.parent.rename(tmp_path / "moved") / "ortho.tif"
    assert index_of(moved, out, weights) == 0
    assert opened(out).map_of(opened(out).tiles[0]).path == moved


def test_a_killed_indexing_goes_on_where_it_was(
    tif: Path, weights: Path, indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_TILES", 16)
    whole = module._described
    described: list[int] = []

    def killed(*arguments: object) -> object:
        if len(described) == 2:
            raise KeyboardInterrupt
        described.append(1)
        return whole(*arguments)

    monkeypatch.setattr(module, "_described", killed)
    out = tmp_path / "index"
    with pytest.raises(KeyboardInterrupt):
        index_of(tif, out, weights)
    assert len(list((out / "parts").iterdir())) == 2
    with pytest.raises(DescriptorError, match="is unfinished: .* run the same skydistill index"):
        opened(out)
    again: list[int] = []
    monkeypatch.setattr(module, "_described", lambda *a: again.append(1) or whole(*a))
    assert index_of(tif, out, weights) == 0
    parts = read_manifest(out).maps[0]["parts"]
    assert len(again) == parts - 2
    assert np.array_equal(opened(out).tiles, opened(indexed).tiles)


def test_a_disk_that_is_full_is_told(
    tif: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_aside", full)
    with pytest.raises(DescriptorError, match="index cannot be written .No space left on device.;"):
        index_of(tif, tmp_path / "index", weights)


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "removed": lambda content: None,
    "empty": lambda content: b"",
    "cut short": lambda content: content[:3000],
    "changed": lambda content: content[:3000] + bytes([content[3000] ^ 1]) + content[3001:],
    "no part": lambda content: b"nothing of ours" * 100,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_part_that_is_missing_or_damaged_is_told_and_mended(
    damage: Callable[[bytes], bytes | None],
    tif: Path,
    weights: Path,
    indexed: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "index"
    shutil.copytree(indexed, out)
    (part,) = (out / "parts").iterdir()
    damaged = damage(whole := part.read_bytes())
    part.unlink() if damaged is None else part.write_bytes(damaged)
    with pytest.raises(DescriptorError, match=f"{part} is missing or damaged; index {tif} again"):
        opened(out)
    with caplog.at_level(logging.INFO):
        assert index_of(tif, out, weights) == 0
    assert "already" not in caplog.text
    assert part.read_bytes() == whole
    assert read_manifest(out) == read_manifest(indexed)


def test_an_index_whose_manifest_is_damaged_is_made_again_by_what_the_refusal_says(
    tif: Path, weights: Path, indexed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "index"
    shutil.copytree(indexed, out)
    (out / "index.json").write_text('{"maps": [')
    told = "index.json does not fit this version of skydistill or is damaged .*; remove it and"
    for ask in (lambda: read_manifest(out), lambda: index_of(tif, out, weights)):
        with pytest.raises(DescriptorError, match=told):
            ask()
    (out / "index.json").unlink()
    with caplog.at_level(logging.INFO):
        assert index_of(tif, out, weights) == 0
    assert f"{tif} is in {out} already" in caplog.text, "what was described is found again"
    assert read_manifest(out) == read_manifest(indexed)
    (out / "index.json").unlink()
    other = born(tmp_path / "other.safetensors", seed=1)
    assert index_of(tif, out, other) == 0
    ours, theirs = opened(out).descriptor_ND, opened(indexed).descriptor_ND
    assert not torch.allclose(ours, theirs), "parts of another model are not taken for its own"


def test_a_footprint_that_does_not_fit_leaves_no_trace(
    tif: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "index"
    with pytest.raises(DescriptorError, match="smaller than every footprint of 500 m"):
        index_of(tif, out, weights, **{"footprint-m": 500})
    assert not out.exists()
    with caplog.at_level(logging.INFO):
        assert index_of(tif, out, weights, **{"footprint-m": (120, 500, 600)}) == 0
    assert f"{tif} is smaller than footprints of 500, 600 m: it has no such tiles" in caplog.text
    assert np.unique(opened(out).tiles["footprint_m"]).tolist() == [120]


def test_a_map_that_is_too_small_is_left_out_and_stops_no_other(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sheets = tmp_path / "sheets"
    for name, width in {"a": 200, "b_sliver": 30, "c": 200}.items():
        write_map(sheets / f"{name}.tif", as_bands(ground_picture(width, 200, seed=ord(name[0]))))
    words = {"footprint-m": 40}
    with caplog.at_level(logging.INFO):
        assert index_of(sheets, tmp_path / "index", weights, **words) == 0
    maps = read_manifest(tmp_path / "index").maps
    assert [Path(one["path"]).name for one in maps] == ["a.tif", "c.tif"]
    assert "b_sliver.tif is smaller than footprints of 40 m: it is left out" in caplog.text
    with pytest.raises(DescriptorError, match="each of 2 maps is smaller than every footprint"):
        index_of(*[sheets / "b_sliver.tif"] * 2, tmp_path / "none", weights, **words)


def test_an_index_that_holds_no_map_yet_is_begun_again_with_other_options(
    tif: Path, weights: Path, indexed: Path, tmp_path: Path
) -> None:
    begun = replace(read_manifest(indexed), maps=(), footprint_m=(80.0,))
    write_json(shutil.copytree(indexed, tmp_path / "index") / MANIFEST, asdict(begun))
    assert index_of(tif, tmp_path / "index", weights) == 0
    assert read_manifest(tmp_path / "index") == read_manifest(indexed)


def test_progress_is_told_with_every_batch(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = ground_picture(200, 200)
    picture[:100] = 255
    tif = write_map(tmp_path / "half.tif", as_bands(picture))
    monkeypatch.setenv(PROGRESS_VARIABLE, "json")
    monkeypatch.setitem(SECONDS_BETWEEN_LINES, "json", 0.0)
    options = {"footprint-m": 10, "overlap": 0, "batch-size": 20}
    assert index_of(tif, tmp_path / "index", weights, **options) == 0
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line[0] == "{"]
    assert {one["total"] for one in told} == {100}
    done = [one["done"] for one in told]
    assert done == sorted(done)
    assert done[-1] == 100
    assert max(np.diff([0, *done])) <= 20


def test_eight_bits_say_nearly_the_same(
    tif: Path, weights: Path, indexed: Path, tmp_path: Path
) -> None:
    assert index_of(tif, tmp_path / "index", weights, codec="int8") == 0
    one, other = opened(indexed).descriptor_ND, opened(tmp_path / "index").descriptor_ND
    assert (one * other).sum(dim=1).min() > 0.999


def test_two_ranks_write_what_one_writes(
    tif: Path, weights: Path, indexed: Path, tmp_path: Path
) -> None:
    second = write_map(tmp_path / "b.tif", as_bands(ground_picture(200, 200, seed=3)))
    alone, together = tmp_path / "alone", tmp_path / "together"
    words = ["--checkpoint", weights, "--footprint-m", 60, 120, "--threads", "1"]
    assert index_of(tif, second, alone, weights) == 0
    ended = launch("-m", "launch.main", "index", tif, second, together, *words)
    assert ended.code == 0, ended.output
    assert read_manifest(together).maps == read_manifest(alone).maps
    one, other = opened(alone), opened(together)
    assert np.array_equal(one.tiles, other.tiles)
    assert torch.equal(one.descriptor_ND, other.descriptor_ND)
    assert ended.output.count("nearly empty ones left out") == 2, "each map is told once"


def test_what_does_not_fit_an_index_is_refused_in_a_sentence(
    tif: Path, weights: Path, indexed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "index"
    shutil.copytree(indexed, out)
    other = born(tmp_path / "other.safetensors", seed=1)
    small = write_map(tmp_path / "small.tif", as_bands(ground_picture(60, 60)))
    cases = {
        "was made with another model (newborn, ": (tif, out, other),
        "is smaller than every footprint of 60, 120 m; give a smaller": (small, out, weights),
    }
    for sentence, words in cases.items():
        with pytest.raises(DescriptorError) as told:
            index_of(*words)
        assert sentence in str(told.value)
    with pytest.raises(DescriptorError, match="small.tif cannot be written .*; give another place"):
        index_of(tif, small, weights)
    with pytest.raises(DescriptorError, match="was made with --footprint-m 60.0 120.0; give the"):
        index_of(tif, out, weights, **{"footprint-m": 70})
    with pytest.raises(DescriptorError, match="no index at .*; make one with skydistill index"):
        read_manifest(tmp_path)
    (out / "index.json").write_text(json.dumps({"maps": []}))
    with pytest.raises(DescriptorError, match="does not fit this version of skydistill"):
        read_manifest(out)


def test_a_map_that_changed_since_is_not_matched_with(weights: Path, tmp_path: Path) -> None:
    tif = write_map(tmp_path / "a.tif", as_bands(ground_picture(200, 200)))
    assert index_of(tif, tmp_path / "index", weights) == 0
    write_map(tif, as_bands(ground_picture(210, 200)))
    index = opened(tmp_path / "index")
    with pytest.raises(DescriptorError, match="changed since it was indexed"):
        index.map_of(index.tiles[0])
