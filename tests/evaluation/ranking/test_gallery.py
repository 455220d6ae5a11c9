"""Galleries on a disk rank as those in memory do, and files that cannot be read say why."""

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.ranking import InMemory, OnDisk, rank_gallery
from evaluation.ranking.counts import Tiles

TILES = Tiles(queries=16, block=100, first_block=30)


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(333, 24)).astype(np.float32)


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.arange(333) % 20 - 1


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("form", ["npy", "npz", "raw"])
def test_a_gallery_on_a_disk_ranks_like_one_in_memory(
    tmp_path: Path, rows: np.ndarray, labels: torch.Tensor, kind: str, form: str
) -> None:
    rows = rows.astype(kind)
    if form == "npy":
        np.save(tmp_path / "gallery.npy", rows)
        gallery = OnDisk.npy(tmp_path / "gallery.npy", labels)
    elif form == "npz":
        np.savez(tmp_path / "both.npz", query_f=rows[:3], gallery_f=rows)
        gallery = OnDisk.npy(tmp_path / "both.npz" / "gallery_f", labels)
    else:
        (tmp_path / "gallery.bin").write_bytes(b"7 bytes" + rows.tobytes())
        gallery = OnDisk(tmp_path / "gallery.bin", labels, shape=rows.shape, dtype=kind, offset=7)
    query = torch.randn(30, 24, generator=torch.Generator().manual_seed(1))
    query_labels = torch.arange(30)
    found, expected = (
        rank_gallery(query, one, query_labels_Q=query_labels, tiles=TILES)
        for one in (gallery, InMemory(torch.from_numpy(rows), labels))
    )
    assert torch.equal(found.ranks_P, expected.ranks_P)
    assert torch.equal(found.offsets, expected.offsets)
    assert found.num_gallery == 333


def test_blocks_share_one_buffer(tmp_path: Path, rows: np.ndarray, labels: torch.Tensor) -> None:
    np.save(tmp_path / "gallery.npy", rows)
    gallery = OnDisk.npy(tmp_path / "gallery.npy", labels)
    first = gallery.read(slice(0, 100)).data_ptr()
    assert gallery.read(slice(300, 400)).shape == (33, 24)
    assert gallery.read(slice(300, 333)).data_ptr() == first
    assert gallery.read(slice(333, 400)).shape == (0, 24)


def test_files_that_cannot_be_read_say_why(
    tmp_path: Path, rows: np.ndarray, labels: torch.Tensor
) -> None:
    path, packed = tmp_path / "gallery.npy", tmp_path / "packed.npz"
    np.savez_compressed(packed, gallery_f=rows)
    with pytest.raises(ValueError, match="is compressed"):
        OnDisk.npy(packed / "gallery_f", labels)
    with pytest.raises(ValueError, match="holds no query_f"):
        OnDisk.npy(packed / "query_f", labels)
    np.save(path, np.asfortranarray(rows))
    with pytest.raises(ValueError, match="column by column"):
        OnDisk.npy(path, labels)
    np.save(path, rows.astype(int))
    with pytest.raises(ValueError, match="must hold floats"):
        OnDisk.npy(path, labels)
    np.save(path, rows)
    with pytest.raises(ValueError, match="there are 332 labels"):
        OnDisk.npy(path, labels[1:])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is cut short"):
        OnDisk.npy(path, labels)
