"""Keys that nobody asked for may hold anything; those that are used, and odd, are named."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from scipy.sparse import csc_array

from data_shards.errors import DescriptorError
from evaluation.config import EvaluateConfig
from evaluation.descriptor_files import evaluate_features
from evaluation.descriptor_files.reading import read_features
from evaluation.ranking import OnDisk

GOOD: dict[str, Any] = {
    "query_f": np.eye(3, 4, dtype="f4"),
    "query_label": np.arange(3),
    "gallery_f": np.eye(5, 4, dtype="f4") + 0.1,
    "gallery_label": np.arange(5),
}
FIVE = [f"a/{row}.jpg" for row in range(5)]


def cells(values: list[Any]) -> np.ndarray:
    """What MATLAB calls a cell array and NumPy an array of objects."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


ODD_IN_MAT = {
    "cells": cells(FIVE),
    "structs": {"a": 1, "b": "c"},
    "sparse numbers": csc_array(np.eye(5)),
    "complex numbers": np.ones(5) + 1j,
    "text of more than two dimensions": np.array([[name, "0"] for name in FIVE]),
    "float64": np.ones((1, 5)),
    "true and false": np.ones((1, 5), dtype=bool),
    "0 texts": "",
}
ODD_IN_NPZ = {
    "Python objects": cells(FIVE),
    "bytes": np.array(FIVE, dtype="S"),
    r"\[\('a', '<f8'\)\]": np.ones(5, dtype=[("a", "f8")]),
    "complex128": np.ones(5) + 1j,
    "10 texts": np.array([[name, "0"] for name in FIVE]),
    "datetime64": np.array(["2026-01-01"] * 5, dtype="M8[D]"),
    "true and false": np.ones(5, dtype=bool),
}
ODD = [("f.mat", savemat, words, array) for words, array in ODD_IN_MAT.items()]
ODD += [
    ("f.npz", lambda path, arrays: np.savez(path, **arrays), words, array)
    for words, array in ODD_IN_NPZ.items()
]


def evaluate(path: Path, **options: Any) -> int:
    return evaluate_features(EvaluateConfig(features=path, json=True, **options))


@pytest.mark.parametrize(("name", "write", "words", "odd"), ODD)
def test_an_odd_key_counts_only_where_it_is_used(
    name: str, write: Callable[..., None], words: str, odd: object, tmp_path: Path
) -> None:
    path, answer, out = tmp_path / name, tmp_path / "a.txt", tmp_path / "out"
    write(path, GOOD | {"notes": odd, "query_path": odd, "query_name": odd, "gallery_path": odd})
    assert evaluate(path, normalize=True) == 0
    assert evaluate(path, normalize=True, rerank=True, rerank_top=3) == 0
    with pytest.raises(DescriptorError, match=f"gallery_path holds {words}.*array of strings"):
        evaluate(path, submission=answer)
    with pytest.raises(DescriptorError, match=f"query_name holds {words}.*array of strings"):
        evaluate(path, descriptors_out=out)
    write(path, GOOD | {"query_path": odd, "gallery_name": FIVE, "gallery_path": odd})
    assert evaluate(path, submission=answer) == 0
    assert answer.read_text().startswith("a/0.jpg\t")
    assert not out.exists()


def opaque(name: str, of_class: str, order: str) -> bytes:
    """An element as MATLAB writes `string` arrays and tables: flags, three words, a matrix."""

    def element(kind: int, content: bytes) -> bytes:
        padded = content + bytes(-len(content) % 8)
        return struct.pack(f"{order}II", kind, len(content)) + padded

    words = b"".join(element(1, word.encode()) for word in (name, "MCOS", of_class))
    flags = element(6, struct.pack(f"{order}II", 17, 0))
    return element(14, flags + words + element(14, b""))


@pytest.mark.parametrize("name", ["gallery_name", "gallery_path", "n", "note"])
def test_matlab_s_own_objects_are_passed_over(name: str, tmp_path: Path) -> None:
    path = tmp_path / "f.mat"
    savemat(path, GOOD)
    path.write_bytes(path.read_bytes() + opaque(name, "string", "<"))
    assert len(read_features(path).query_QD) == 3
    named = read_features(path, named=["query"])
    assert named.query_names.names == []
    if name.startswith("gallery"):
        with pytest.raises(DescriptorError, match=f"{name} holds an object of the class string"):
            read_features(path, named=["gallery"])


def test_an_object_that_is_cut_off_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "f.mat"
    savemat(path, GOOD)
    whole = opaque("n", "", "<")
    words = whole[8 : 8 + 16 + 16]  # flags and name alone
    path.write_bytes(path.read_bytes() + struct.pack("<II", 14, len(words)) + words)
    with pytest.raises(DescriptorError, match="cannot be read .it is damaged.; write or copy"):
        read_features(path)


def test_matlab_s_notes_without_a_name_are_not_listed(tmp_path: Path) -> None:
    path = tmp_path / "f.mat"
    savemat(path, {"f": np.zeros(2, "u1"), "x": 1.0})
    content, name = path.read_bytes(), struct.pack("<HH4s", 1, 1, b"f\0\0\0")
    assert content.count(name) == 1
    path.write_bytes(content.replace(name, struct.pack("<II", 1, 0)))
    with pytest.raises(DescriptorError, match="it holds x, and must hold"):
        read_features(path)


def test_a_name_with_an_umlaut_is_a_name(tmp_path: Path) -> None:
    savemat(tmp_path / "f.mat", GOOD | {"größe": np.ones(3)})
    assert len(read_features(tmp_path / "f.mat").query_QD) == 3


def test_paths_are_written_as_they_stand(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", **GOOD, gallery_path=FIVE)
    assert evaluate(tmp_path / "f.npz", descriptors_out=tmp_path / "out") == 0
    written = loadmat(tmp_path / "out/pytorch_result.mat")
    assert written["gallery_path"].tolist() == FIVE
    assert "query_path" not in written


def test_a_suffix_in_capitals_is_a_suffix(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", **GOOD)
    small = read_features(tmp_path / "f.npz").whole_gallery()
    (tmp_path / "f.npz").rename(tmp_path / "f.NPZ")
    features = read_features(tmp_path / "f.NPZ")
    assert isinstance(features.gallery, OnDisk)
    assert features.whole_gallery().tolist() == small.tolist()
