"""`evaluate --features` from file to numbers, and what it writes for others."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from data_shards.errors import DescriptorError
from evaluation.config import EvaluateConfig
from evaluation.features import evaluate_features
from evaluation.ranking import metrics, rank
from evaluation.ranking.rerank import RerankSettings, rank_again, reorder

SEVEN = ["recall@1", "recall@5", "recall@10", "recall@1%", "ap", "num_queries", "num_gallery"]

Arrays = dict[str, np.ndarray]


@pytest.fixture
def arrays() -> Arrays:
    """Unit descriptors of 30 queries and 120 gallery images of 20 places, one image junk."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(20, 12))
    query_label, gallery_label = np.arange(30) % 20, np.arange(120) % 20
    sides = {}
    for side, labels in (("query", query_label), ("gallery", gallery_label)):
        rows = centre[labels] + 1.2 * rng.normal(size=(len(labels), 12))
        sides[f"{side}_f"] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("f4")
    gallery_label[5] = -1
    return {**sides, "query_label": query_label, "gallery_label": gallery_label}


def expected(arrays: Arrays) -> dict[str, float]:
    """What the ranking says of these arrays in memory."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return metrics(
        rank(
            tensors["query_f"],
            tensors["gallery_f"],
            query_labels_Q=tensors["query_label"],
            gallery_labels_G=tensors["gallery_label"],
        )
    )


def printed(capsys: pytest.CaptureFixture[str], path: Path, **options: Any) -> dict[str, Any]:
    """Run with `--json` and return the one line."""
    config = EvaluateConfig(features=path, json=True, overwrite=True, **options)
    evaluate_features(config)
    (line,) = capsys.readouterr().out.splitlines()
    measured: dict[str, Any] = json.loads(line)
    return measured


def save_npz(path: Path, arrays: Arrays) -> None:
    np.savez(path, **arrays)


def save_compressed(path: Path, arrays: Arrays) -> None:
    np.savez_compressed(path, **arrays)


def save_by_columns(path: Path, arrays: Arrays) -> None:
    np.savez(path, **{name: np.asfortranarray(array) for name, array in arrays.items()})


def save_mat(path: Path, arrays: Arrays) -> None:
    savemat(path, arrays)


def save_mat_as_matlab(path: Path, arrays: Arrays) -> None:
    doubles = {name: array.astype("f8") for name, array in arrays.items()}
    savemat(path, doubles, do_compression=True, oned_as="column")


WRITERS = [
    (save_npz, "f.npz"),
    (save_compressed, "f.npz"),
    (save_by_columns, "f.NPZ"),
    (save_mat, "f.mat"),
    (save_mat_as_matlab, "f.mat"),
]


@pytest.mark.parametrize(("save", "name"), WRITERS)
def test_every_way_of_saving_gives_the_same_numbers(
    save: Any, name: str, arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / name.lower()
    save(written, arrays)
    path = written.rename(tmp_path / name)
    measured = printed(capsys, path)
    assert list(measured) == SEVEN
    assert measured == expected(arrays)
    assert (measured["num_queries"], measured["num_gallery"]) == (30, 120)


def test_normalize_scales_to_unit_length(
    arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    unit = expected(arrays)
    for key in ("query_f", "gallery_f"):
        arrays[key] = arrays[key] * rng.uniform(0.1, 9, (len(arrays[key]), 1)).astype("f4")
    np.savez(tmp_path / "f.npz", **arrays)
    plain = printed(capsys, tmp_path / "f.npz")
    assert plain == expected(arrays)
    assert plain["ap"] != unit["ap"]
    assert printed(capsys, tmp_path / "f.npz", normalize=True)["ap"] == pytest.approx(unit["ap"])


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e200, 1e307])
def test_normalize_scales_what_has_no_square(
    scale: float, arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unit = expected(arrays)
    arrays["query_f"] = arrays["query_f"].astype("f8") * scale
    np.savez(tmp_path / "f.npz", **arrays)
    measured = printed(capsys, tmp_path / "f.npz", normalize=True)
    assert measured["ap"] == pytest.approx(unit["ap"], abs=0.02)  # 1e-320 has few bits


def test_ranked_again_beside_the_plain_numbers(
    arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "f.npz", **arrays)
    options = {"rerank_top": 20, "rerank_k1": 5, "rerank_k2": 2}
    measured = printed(capsys, tmp_path / "f.npz", rerank=True, **options)
    again = measured.pop("reranked")
    assert measured == expected(arrays)
    assert again.pop("how") == "k-reciprocal, top 20, k1 5, k2 2, lambda 0.3"
    query, gallery = (torch.from_numpy(arrays[key]) for key in ("query_f", "gallery_f"))
    labels = {
        "query_labels_Q": torch.from_numpy(arrays["query_label"]),
        "gallery_labels_G": torch.from_numpy(arrays["gallery_label"]),
    }
    wanted = gallery[labels["gallery_labels_G"] != -1]
    lists = reorder(query, wanted, RerankSettings(top=20, k1=5, k2=2))
    ranking = rank_again(rank(query, gallery, **labels), lists, **labels)
    assert again == metrics(ranking)
    assert again["ap"] != measured["ap"]


def test_a_table_without_json_and_a_file_with_out(
    arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "f.npz", **arrays)
    config = EvaluateConfig(features=tmp_path / "f.npz", out=tmp_path / "new/r", rerank=True)
    evaluate_features(config)
    shown = capsys.readouterr().out
    numbers = expected(arrays)
    assert "30 queries in 120 images" in shown
    assert f"{100 * numbers['ap']:.2f}" in shown
    assert "k-reciprocal" in shown
    written = json.loads((tmp_path / "new/r/metrics.json").read_text())
    assert written["ap"] == numbers["ap"]
    assert set(written) == {*SEVEN, "reranked"}


def test_queries_that_no_image_answers_are_counted(
    arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays["query_label"][:4] = 500
    np.savez(tmp_path / "f.npz", **arrays)
    assert printed(capsys, tmp_path / "f.npz")["num_unanswerable"] == 4
    evaluate_features(EvaluateConfig(features=tmp_path / "f.npz"))
    assert "30 queries in 120 images, 4 of them without a right image" in capsys.readouterr().out


def test_the_official_file_is_read_back_to_the_bit(
    arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "f.npz", **arrays)
    first = printed(capsys, tmp_path / "f.npz", descriptors=True, out=tmp_path / "out")
    path = tmp_path / "out/descriptors/pytorch_result.mat"
    theirs = loadmat(path)
    for key, array in arrays.items():
        assert np.array_equal(theirs[key].reshape(array.shape), array)
        assert theirs[key].dtype == array.dtype
    assert printed(capsys, path) == first
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_half_precision_is_searched_ranked_again_and_written(
    arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    halves = {key: array.astype("f2") for key, array in arrays.items() if key.endswith("_f")}
    np.savez(tmp_path / "half.npz", **(arrays | halves))
    np.savez(
        tmp_path / "full.npz", **(arrays | {key: half.astype("f4") for key, half in halves.items()})
    )
    options = {"rerank": True, "descriptors": True, "out": tmp_path / "out"}
    half = printed(capsys, tmp_path / "half.npz", **options)
    assert half == printed(capsys, tmp_path / "full.npz", **options)
    written = tmp_path / "out/descriptors/pytorch_result.mat"
    assert printed(capsys, written, rerank=True) == half


@pytest.mark.parametrize("key", ["gallery_name", "gallery_path"])
def test_a_submission_names_the_ten_best_of_each_query(
    key: str, arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = np.array([f"tile{row:03d}" for row in range(120)])
    arrays[key] = np.char.add(np.char.add("a/b.c/", names), ".webp") if "path" in key else names
    np.savez(tmp_path / "f.npz", **arrays)
    asked: Any = {"submission": True, "out": tmp_path / "out"}
    printed(capsys, tmp_path / "f.npz", **asked)
    score = arrays["query_f"].astype("f8") @ arrays["gallery_f"].astype("f8").T
    score[:, 5] = -np.inf  # junk is never named
    best = np.argsort(-score, axis=1, kind="stable")[:, :10]
    lines = (tmp_path / "out/submission.txt").read_text().splitlines()
    assert [line.split("\t") for line in lines] == names[best].tolist()

    printed(capsys, tmp_path / "f.npz", **asked, rerank=True, rerank_top=10)
    answer = tmp_path / "out/submission.txt"
    again = [line.split("\t") for line in answer.read_text().splitlines()]
    assert [sorted(line) for line in again] == np.sort(names[best], axis=1).tolist()
    assert again != names[best].tolist()


def test_names_that_no_answer_can_hold_are_refused_before_anything_is_written(
    arrays: Arrays, tmp_path: Path
) -> None:
    arrays["gallery_name"] = np.array([f"tile {row}" for row in range(120)])
    np.savez(tmp_path / "f.npz", **arrays)
    config = EvaluateConfig(
        features=tmp_path / "f.npz", submission=True, descriptors=True, out=tmp_path / "out"
    )
    with pytest.raises(DescriptorError, match="cannot hold the name 'tile 0'"):
        evaluate_features(config)
    assert [file.name for file in tmp_path.iterdir()] == ["f.npz"]


def test_what_is_there_is_not_written_over(arrays: Arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", **arrays, gallery_name=np.array(["a", "b", "c"] * 40))
    options: Any = {"submission": True, "descriptors": True, "out": tmp_path / "out"}
    evaluate_features(EvaluateConfig(features=tmp_path / "f.npz", **options))
    with pytest.raises(DescriptorError, match=r"out exists; give --overwrite"):
        evaluate_features(EvaluateConfig(features=tmp_path / "f.npz", **options))
    evaluate_features(EvaluateConfig(features=tmp_path / "f.npz", overwrite=True, **options))
    written = loadmat(tmp_path / "out/descriptors/pytorch_result.mat")
    assert written["query_f"].shape == (30, 12)
    asked = EvaluateConfig(features=tmp_path / "f.npz", overwrite=True, out=tmp_path)
    with pytest.raises(DescriptorError, match="f.npz was not written by this command"):
        evaluate_features(asked)


def test_paths_are_written_as_they_stand(arrays: Arrays, tmp_path: Path) -> None:
    paths = [f"gallery/{row:03d}.jpg" for row in range(120)]
    np.savez(tmp_path / "f.npz", **arrays, gallery_path=paths)
    asked: Any = {"features": tmp_path / "f.npz", "out": tmp_path / "out"}
    evaluate_features(EvaluateConfig(**asked, descriptors=True))
    written = loadmat(tmp_path / "out/descriptors/pytorch_result.mat")
    assert written["gallery_path"].tolist() == paths
    assert "query_path" not in written


def test_numbers_are_told_when_a_file_cannot_be_written(
    arrays: Arrays,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_space(*words: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    np.savez(tmp_path / "f.npz", **arrays)
    monkeypatch.setattr("os.fsync", no_space)
    options: Any = {"out": tmp_path / "r", "descriptors": True}
    with pytest.raises(DescriptorError, match="No space left"):
        printed(capsys, tmp_path / "f.npz", **options)
    assert json.loads(capsys.readouterr().out) == expected(arrays)
    assert [file.name for file in tmp_path.iterdir()] == ["f.npz"]


def test_a_dry_run_checks_and_writes_nothing(
    arrays: Arrays, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    np.savez(tmp_path / "f.npz", **arrays)
    options: Any = {"out": tmp_path / "r", "descriptors": True, "dry_run": True}
    with caplog.at_level("INFO"):
        evaluate_features(EvaluateConfig(features=tmp_path / "f.npz", **options))
    assert "would search 30 queries in 120 images" in caplog.text
    assert f"would write {tmp_path / 'r'}" in caplog.text
    assert [file.name for file in tmp_path.iterdir()] == ["f.npz"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"flip": True, "multi_view": 10}, "so --flip, --multi-view cannot be meant"),
        ({"conditions": ("fog",)}, "--conditions"),
        ({"measure_speed": True}, "--measure-speed"),
        ({"batch_size": 8, "threads": 2}, "--batch-size, --threads"),
        ({"distractors": ("more",)}, "--distractors"),
        ({"submission": True, "out": Path("a")}, "holds no gallery_name"),
        ({"rerank": True}, "add --normalize"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    options: dict[str, Any], sentence: str, arrays: Arrays, tmp_path: Path
) -> None:
    arrays["gallery_f"] *= 2
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(DescriptorError, match=sentence):
        evaluate_features(EvaluateConfig(features=tmp_path / "f.npz", **options))
    assert [file.name for file in tmp_path.iterdir()] == ["f.npz"]


def test_a_gallery_of_nothing_but_junk_scores_nothing_ranked_again_too(
    arrays: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "f.npz", **arrays | {"gallery_label": np.full(120, -1)})
    measured = printed(capsys, tmp_path / "f.npz", rerank=True)
    again = measured.pop("reranked")
    assert again.pop("how")
    assert measured.pop("num_unanswerable") == 30
    assert again == measured
    assert measured["recall@1"] == 0 and measured["num_queries"] == 30
