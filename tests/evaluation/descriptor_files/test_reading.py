"""Files that cannot be searched: each is refused in one sentence, and nothing is unpickled."""

import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from data_shards.errors import DescriptorError
from evaluation.descriptor_files.checks import Side, descriptors_of
from evaluation.descriptor_files.reading import read_features
from evaluation.ranking import InMemory, OnDisk

Arrays = dict[str, Any]
SIDES: tuple[Side, ...] = ("query", "gallery")


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
    r"holds no query_f; it holds gallery_f, gallery_label, query_label": good(query_f=None),
    r"no gallery_label \(did you mean 'gallery_lable'\?\)": good(
        gallery_label=None, gallery_lable=np.arange(5)
    ),
    r"query_f has 3 numbers per image and gallery_f 4": good(query_f=np.ones((3, 3), "f4")),
    r"query_f has the shape \[2, 2, 2\]; save one row": good(query_f=np.ones((2, 2, 2))),
    r"gallery_f has the shape \[5, 0\], so its descriptors have no numbers": good(
        gallery_f=np.ones((5, 0))
    ),
    r"there are no queries": good(query_f=np.ones((0, 4)), query_label=np.ones(0)),
    r"there are no gallery images": good(gallery_f=np.ones((0, 4)), gallery_label=np.ones(0)),
    r"gallery_label has the shape .*4\], but there are 5": good(gallery_label=np.arange(4)),
    r"query_label has the shape \[3, 3\]": good(query_label=np.eye(3)),
    r"1 of 3 rows of query_label, the first at 1 .* not a whole": good(query_label=[0, 0.5, 1]),
    r"rows of query_label.* not a whole": good(query_label=[0, np.nan, 1]),
    r"rows of query_label, the first at 2 .* beyond": good(query_label=[0, 1, 1e17]),
    r"rows of query_label, the first at 1 .* beyond 16777215": good(
        query_label=np.array([0, 2**24, 1], dtype="f4")
    ),
    r"rows of gallery_label.* beyond": good(gallery_label=np.full(5, 2**63, "u8")),
    r"2 of 5 rows of gallery_f, the first at 1 .* NaN": good(
        gallery_f=with_rows(BASE["gallery_f"], [1, 3], np.nan)
    ),
    r"1 of 3 rows of query_f, the first at 2 .* NaN or infinite": good(
        query_f=with_rows(BASE["query_f"], [2], np.inf)
    ),
    r"1 of 5 rows of gallery_f, the first at 4 .* zero": good(
        gallery_f=with_rows(BASE["gallery_f"], [4], 0)
    ),
    r"query_f holds .*array of numbers": good(query_f=np.full((3, 4), "a")),
    r"gallery_f holds complex.*array of numbers": good(gallery_f=BASE["gallery_f"] + 1j),
    r"query_label holds true and false; .*array of numbers": good(query_label=[True, False, True]),
    r"gallery_f holds true and false; .*array of numbers": good(gallery_f=BASE["gallery_f"] > 0),
    r"gallery_name holds 2 texts, not one text for each of 5 gallery images; save": good(
        gallery_name=np.array(["a", "b"])
    ),
    r"query_path holds float32 \[3, 4\], not one text .* one per query": good(
        query_path=BASE["query_f"]
    ),
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


def no_array_inside(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("query_f", b"text")


def of_version_7_3(path: Path) -> None:
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(126) + b"IM" + bytes(400))


def of_version_7_3_before_it_said_so(path: Path) -> None:
    path.write_bytes(b"MATLAB 7.0 MAT-file, HDF5 schema 0.05".ljust(126) + b"IM" + bytes(400))


def no_mat(path: Path) -> None:
    path.write_text("query_f = 1")


def larger_than_any_memory(path: Path) -> None:
    np.savez(path, **good())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = members["query_f.npy"]
    claim = header.replace(b"(3, 4), }" + b" " * 15, b"(%d, 4), }" % 10**15)
    assert claim != header
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"query_f.npy": claim}).items():
            archive.writestr(name, content)


def mat_cut_short(path: Path) -> None:
    savemat(path, good())
    path.write_bytes(path.read_bytes()[:300])


DAMAGED = [
    ("f.npz", pickled, "no archive"),
    ("f.npz", pickled_inside, "query_f holds Python objects; save it as an array of numbers"),
    ("f.npz", truncated, "cut short"),
    ("f.npz", no_array_inside, "query_f"),
    ("f.npz", larger_than_any_memory, "cannot be read .*allocate"),
    ("f.mat", of_version_7_3, "'-v7'"),
    ("f.mat", of_version_7_3_before_it_said_so, "'-v7'"),
    ("f.mat", no_mat, "level 5"),
    ("f.mat", mat_cut_short, "cut short"),
    ("f.txt", no_mat, "neither .npz nor .mat"),
    ("f.npz", lambda path: None, "there is no file"),
]


@pytest.mark.parametrize(("name", "write", "sentence"), DAMAGED)
def test_damaged_files(
    name: str, write: Callable[[Path], None], sentence: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(DescriptorError, match=sentence):
        read_features(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
@pytest.mark.parametrize("is_compressed", [True, False])
def test_a_file_with_other_bits_is_refused_or_read(
    suffix: str, is_compressed: bool, tmp_path: Path
) -> None:
    path = tmp_path / f"f{suffix}"
    if suffix == ".mat":
        savemat(path, good(gallery_path=["a.jpg"] * 5), do_compression=is_compressed)
    else:
        (np.savez_compressed if is_compressed else np.savez)(path, **good())
    whole, draw = path.read_bytes(), random.Random(0)
    refused = 0
    for number in range(300):
        content = bytearray(whole[: draw.randrange(len(whole))] if number % 3 == 0 else whole)
        for _ in range(draw.choice([1, 8]) if number % 3 and content else 0):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content)
        try:
            read_features(path, named=SIDES)
        except DescriptorError:
            refused += 1
    assert refused > 200


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
    assert (features.query_names.texts, features.query_names.names) == (("a/b.jpg",), ["b"])


def test_what_torch_gets_may_be_written_to(tmp_path: Path) -> None:
    frozen = BASE["query_f"][:1].copy()
    frozen.setflags(write=False)
    assert descriptors_of(frozen, "query_f", tmp_path).flags.writeable


def test_numbers_of_any_kind_come_as_floats(tmp_path: Path) -> None:
    swapped = BASE["gallery_f"].astype(">f8")
    whole = np.arange(1, 13).reshape(3, 4)
    np.savez(tmp_path / "f.npz", **good(gallery_f=swapped, query_f=whole, query_label=[[0, 1, 2]]))
    features = read_features(tmp_path / "f.npz")
    assert features.query_QD.tolist() == whole.tolist()
    assert features.whole_gallery().tolist() == swapped.tolist()
    assert features.query_labels_Q.tolist() == [0, 1, 2]
