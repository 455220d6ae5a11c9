"""Files that cannot be searched: each is refused in one sentence, and nothing is unpickled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from data_shards.errors import DescriptorError
from evaluation.feature_files import (
    name_of,
    read_features,
    refuse_unfit_names,
    write_mat,
    write_submission,
)
from evaluation.ranking import InMemory, OnDisk

Arrays = dict[str, Any]
SIDES = ("query", "gallery")


def good(**changed: Any) -> Arrays:
    """Three queries and five gallery images, with some arrays changed; None leaves one out."""
    rng = np.random.default_rng(0)
    arrays: Arrays = {
        "query_f": rng.normal(size=(3, 4)).astype("f4"),
        "query_label": np.arange(3),
        "gallery_f": rng.normal(size=(5, 4)).astype("f4"),
        "gallery_label": np.arange(5),
    }
    arrays |= changed
    return {key: value for key, value in arrays.items() if value is not None}


def with_rows(array: np.ndarray, rows: list[int], value: float) -> np.ndarray:
    array = array.copy()
    array[rows] = value
    return array


def write(path: Path, arrays: Arrays) -> None:
    if path.suffix == ".mat":
        savemat(path, arrays)
    else:
        np.savez(path, **arrays)


class Trap:
    """What says so when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return pytest.fail, ("a file was unpickled",)


BASE = good()
BAD: dict[str, Arrays] = {
    r"holds no query_f; it must hold query_f, query_label, gallery_f": good(query_f=None),
    r"query_f has 3 numbers per image and gallery_f 4": good(query_f=np.ones((3, 3), "f4")),
    r"query_f holds float64 \[2, 2, 2\]; save one row": good(query_f=np.ones((2, 2, 2))),
    r"query_f holds .*at least one": good(query_f=np.ones((0, 4)), query_label=np.ones(0)),
    r"gallery_f holds .*at least one": good(gallery_f=np.ones((0, 4)), gallery_label=np.ones(0)),
    r"gallery_f holds complex.*row of numbers": good(gallery_f=BASE["gallery_f"] + 1j),
    r"gallery_label holds .*4\]; save one for each of 5": good(gallery_label=np.arange(4)),
    r"query_label holds float64 \[3, 3\]": good(query_label=np.eye(3)),
    r"query_label holds float64 .*3\]; save one whole": good(query_label=[0, np.nan, 1]),
    r"gallery_label holds uint64 .*; save one whole": good(gallery_label=np.full(5, 2**63, "u8")),
    r"2 of 5 rows of gallery_f, the first at 1 .* NaN": good(
        gallery_f=with_rows(BASE["gallery_f"], [1, 3], np.nan)
    ),
    r"1 of 3 rows of query_f, the first at 2 .* zero": good(
        query_f=with_rows(BASE["query_f"], [2], 0)
    ),
    r"gallery_name holds .* one for each of 5 images": good(gallery_name=np.array(["a", "b"])),
    r"query_path holds float32 \[3, 4\]": good(query_path=BASE["query_f"]),
}


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
@pytest.mark.parametrize("sentence", BAD)
def test_bad_arrays(sentence: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"f{suffix}"
    write(path, BAD[sentence])
    with pytest.raises(DescriptorError, match=sentence) as caught:
        read_features(path, named=SIDES)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def pickled(path: Path) -> None:
    path.write_bytes(np.array([Trap()], dtype=object).dumps())


def pickled_inside(path: Path) -> None:
    np.savez(path, **good(query_f=np.array([Trap()], dtype=object)))


def truncated(path: Path) -> None:
    np.savez(path, **good())
    path.write_bytes(path.read_bytes()[:-400])


def of_version_7_3(path: Path) -> None:
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM" + bytes(400))


def no_mat(path: Path) -> None:
    path.write_text("query_f = 1")


DAMAGED = [
    ("f.npz", pickled, "cannot be read"),
    ("f.npz", pickled_inside, "cannot be read .*allow_pickle"),
    ("f.npz", truncated, "cannot be read"),
    ("f.mat", of_version_7_3, "MATLAB's -v7"),
    ("f.mat", no_mat, "cannot be read"),
    ("f.txt", no_mat, "neither .npz nor .mat"),
    ("f.npz", lambda path: None, "cannot be read .*No such file"),
]


@pytest.mark.parametrize(("name", "write", "sentence"), DAMAGED)
def test_damaged_files(
    name: str, write: Callable[[Path], None], sentence: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(DescriptorError, match=sentence):
        read_features(tmp_path / name)


def test_a_plain_archive_leaves_its_gallery_on_the_disk(tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", **good())
    np.savez_compressed(tmp_path / "small.npz", **good())
    plain, small = (read_features(tmp_path / name) for name in ("plain.npz", "small.npz"))
    assert isinstance(plain.gallery, OnDisk)
    assert isinstance(small.gallery, InMemory)
    assert torch.equal(plain.whole_gallery(), small.whole_gallery())


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_one_query_is_read_like_many(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"f{suffix}"
    write(path, good(query_f=BASE["query_f"][:1], query_label=[2], query_path=["a/b.jpg"]))
    features = read_features(path, named=["query"])
    assert features.query_QD.tolist() == BASE["query_f"][:1].tolist()
    assert features.query_labels_Q.tolist() == [2]
    assert features.query_names == ("a/b.jpg",)
    assert name_of("a/b.jpg") == "b"


def test_numbers_of_any_kind_come_as_floats(tmp_path: Path) -> None:
    swapped = BASE["gallery_f"].astype(">f8")
    whole = np.arange(1, 13).reshape(3, 4)
    np.savez(tmp_path / "f.npz", **good(gallery_f=swapped, query_f=whole, query_label=[[0, 1, 2]]))
    features = read_features(tmp_path / "f.npz")
    assert features.query_QD.tolist() == whole.tolist()
    assert features.whole_gallery().tolist() == swapped.tolist()
    assert features.query_labels_Q.tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_our_reader_takes_back_what_we_wrote(dtype: torch.dtype, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 7, generator=generator, dtype=dtype)
    gallery = torch.randn(6, 7, generator=generator, dtype=dtype)
    labels = torch.tensor([3, 1651, -1])
    path = tmp_path / "deep/d2s.mat"
    write_mat(
        path,
        query,
        labels,
        gallery,
        torch.arange(6),
        gallery_paths=[f"gallery/{row}.jpg" for row in range(6)],
    )
    features = read_features(path, named=["query", "gallery"])
    assert torch.equal(features.query_QD, query)
    assert torch.equal(features.whole_gallery(), gallery)
    assert features.query_QD.dtype == dtype
    assert features.query_labels_Q.tolist() == labels.tolist()
    assert features.gallery.labels_G.tolist() == list(range(6))
    assert features.gallery_names == tuple(f"gallery/{row}.jpg" for row in range(6))
    assert features.query_names == ()
    keys = {key for key in loadmat(path) if not key.startswith("__")}
    assert keys == {"query_f", "query_label", "gallery_f", "gallery_label", "gallery_path"}


def test_the_answer_is_lines_of_names_between_tabs(tmp_path: Path) -> None:
    names = [[f"q{query}n{place}" for place in range(10)] for query in range(3)]
    write_submission(tmp_path / "answer.txt", names)
    lines = (tmp_path / "answer.txt").read_text()
    assert lines == "".join("\t".join(line) + "\n" for line in names)


@pytest.mark.parametrize("name", ["b c", "a\tb", ""])
def test_a_name_that_no_answer_can_hold_is_refused(name: str) -> None:
    with pytest.raises(DescriptorError, match="give names without blanks and tabs"):
        refuse_unfit_names(["a", name])
