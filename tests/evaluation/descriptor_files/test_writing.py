"""Files for others' tools: whole or not at all."""

from pathlib import Path

import pytest
import torch
from scipy.io import loadmat

from data_shards.errors import DescriptorError
from evaluation.descriptor_files import write_mat, write_submission
from evaluation.descriptor_files.reading import read_features


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_our_reader_takes_back_what_we_wrote(dtype: torch.dtype, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 7, generator=generator, dtype=dtype)
    gallery = torch.randn(6, 7, generator=generator, dtype=dtype)
    labels = torch.tensor([3, 1651, -1])
    path = write_mat(
        tmp_path / "deep/d2s.mat",
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
    assert features.gallery_names.names == list("012345")
    assert features.query_names.names == []
    keys = {key for key in loadmat(path) if not key.startswith("__")}
    assert keys == {"query_f", "query_label", "gallery_f", "gallery_label", "gallery_path"}


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    one, labels = torch.ones(1, 2), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(DescriptorError, match="--descriptors-out"):
        write_mat(tmp_path / "file/d2s.mat", one, labels, one, labels)
    with pytest.raises(DescriptorError, match="--submission"):
        write_submission(tmp_path / "file/answer.txt", [["a"]])


def test_the_answer_is_lines_of_names_between_tabs(tmp_path: Path) -> None:
    names = [[f"q{query}n{place}" for place in range(10)] for query in range(3)]
    path = write_submission(tmp_path / "answer.txt", names)
    assert path.read_text() == "".join("\t".join(line) + "\n" for line in names)
    assert [file.name for file in tmp_path.iterdir()] == ["answer.txt"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([["a"], ["b c"]], "'b c'; give names"),
        ([["a\tb"]], "blanks and tabs"),
        ([[""]], "''"),
        ([["a", "b"], ["a"]], "query 1, counted from 0, has 1 names"),
        ([[]], "has 0 names"),
        ([[str(number) for number in range(11)]], "at most 10"),
    ],
)
def test_an_answer_that_cannot_be_read_is_not_written(
    names: list[list[str]], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(DescriptorError, match=sentence):
        write_submission(tmp_path / "answer.txt", names)
    assert not list(tmp_path.iterdir())
