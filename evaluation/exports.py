"""Descriptors and found names in the formats of others' tools."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from data_shards.shards import RowNumbers, ShardSet
from evaluation.config import ANSWERS
from evaluation.descriptor_files import write_mat, write_submission
from evaluation.descriptor_files.writing import descriptors_destination, submission_destination
from evaluation.destinations import Destination
from evaluation.joined_shards import JoinedShards
from evaluation.judging import Described
from evaluation.ranking.k_reciprocal import reorder
from evaluation.ranking.top_k import top_k
from evaluation.reranking import rerank_settings
from evaluation.searches import Search
from evaluation.setting import Setting

MOST_DIGITS = 15
"""Of a label: others' tools keep it as a double."""


def descriptor_files(setting: Setting) -> list[tuple[Path, Search]]:
    """Return the `.mat` of every headline search: `d2s.mat`, `d2s_150m.mat`."""
    folder = setting.config.descriptors_out
    if folder is None:
        return []
    searches = setting.searches.found
    return [(folder / f"{_file_name(search)}.mat", search) for search in searches]


def submission_files(setting: Setting) -> list[tuple[Path, Search]]:
    """Return the text file of the drone queries, one per height where there are several."""
    path, searches = setting.config.submission, setting.searches.from_the_air
    if path is None:
        return []
    if len(searches) == 1:
        return [(path, searches[0])]
    return [(path.with_stem(f"{path.stem}_{_file_name(search)}"), search) for search in searches]


def export_destinations(setting: Setting) -> list[Destination]:
    """Return every file that is written for others' tools.

    Raises:
        DescriptorError: a submission cannot hold the name of an image.
    """
    return [
        *(descriptors_destination(path) for path, _ in descriptor_files(setting)),
        *(
            submission_destination(path, image_names(setting.shards, search.gallery_rows))
            for path, search in submission_files(setting)
        ),
    ]


def _file_name(search: Search) -> str:
    return search.protocol.name.replace("/", "_")


def write_exports(setting: Setting, described: Described) -> list[Path]:
    """Write what was asked for, and return where."""
    return [*_write_descriptors(setting, described), *_write_submissions(setting, described)]


def _write_descriptors(setting: Setting, described: Described) -> Iterator[Path]:
    label_of, images = torch.from_numpy(place_labels(setting.shards)), setting.shards.images
    for path, search in descriptor_files(setting):
        query_QD, gallery_GD = described.of(search)
        yield write_mat(
            path,
            query_QD,
            label_of[images.place[search.query_rows]],
            gallery_GD,
            label_of[images.place[search.gallery_rows]],
            query_paths=images.key[search.query_rows].tolist(),
            gallery_paths=images.key[search.gallery_rows].tolist(),
        )


def _write_submissions(setting: Setting, described: Described) -> Iterator[Path]:
    for path, search in submission_files(setting):
        query_QD, gallery_GD = described.of(search)
        names = image_names(setting.shards, search.gallery_rows)
        if setting.config.rerank:
            best = reorder(query_QD, gallery_GD, rerank_settings(setting.config))
        else:
            best = top_k(query_QD, gallery_GD, k=ANSWERS)
        best_QK = best.index_QK[:, :ANSWERS].tolist()
        found = [[names[at] for at in of_query] for of_query in best_QK]
        yield write_submission(path, found)


def place_labels(shards: JoinedShards) -> npt.NDArray[np.int64]:
    """Return an integer per place: its folder's name where all are integers, else its number.

    Places of distractors are counted on behind the largest, so that none is taken for another.
    """
    own = shards.main.places
    named = {int(place) for place in own if place.isdecimal() and len(place) <= MOST_DIGITS}
    is_named = len(named) == len(own)
    labels = np.array([int(place) for place in own] if is_named else range(len(own)))
    behind = int(labels.max()) + 1 + np.arange(len(shards.places) - len(own))
    return np.concatenate([labels, behind]).astype(np.int64)


def image_names(shards: ShardSet, rows: RowNumbers) -> Sequence[str]:
    """Return what each image is called: its file's name, or its place's where files share names."""
    images = shards.images
    names = [str(key).rpartition("/")[2] for key in images.key[rows]]
    if len(set(names)) == len(names):
        return names
    return [shards.places[place] for place in images.place[rows].tolist()]
