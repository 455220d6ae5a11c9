"""Descriptors and found names in the formats of others' tools."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from data_shards.shards import RowNumbers, ShardSet
from evaluation.config import ANSWERS
from evaluation.describe import Descriptors
from evaluation.feature_files import refuse_unfit_names, write_mat, write_submission
from evaluation.inputs import EvaluationInputs
from evaluation.joined_shards import JoinedShards
from evaluation.protocols import Search
from evaluation.ranking.rerank import reorder
from evaluation.ranking.top_k import top_k
from evaluation.retrieval import rerank_settings

MOST_DIGITS = 15
"""Of a label: others' tools keep it as a double."""


def descriptor_files(inputs: EvaluationInputs) -> Mapping[Path, Search]:
    """Return the `.mat` of every headline search: `d2s.mat`, `d2s_150m.mat`."""
    folder, searches = inputs.config.descriptors_out, inputs.searches.found
    return {folder / f"{_file_name(search)}.mat": search for search in searches if folder}


def submission_files(inputs: EvaluationInputs) -> Mapping[Path, Search]:
    """Return the text file of the drone queries, one per height where there are several.

    Raises:
        DescriptorError: such a file cannot hold the name of an image.
    """
    path, searches = inputs.config.submission, inputs.searches.drone_to_satellite
    if path is None:
        return {}
    for search in searches:
        refuse_unfit_names(path, image_names(inputs.shards, search.gallery_rows))
    if len(searches) == 1:
        return {path: searches[0]}
    return {path.with_stem(f"{path.stem}_{_file_name(search)}"): search for search in searches}


def _file_name(search: Search) -> str:
    return search.protocol.name.replace("/", "_")


def write_exports(inputs: EvaluationInputs, descriptors: Descriptors) -> Iterator[Path]:
    """Write what was asked for, and yield where."""
    shards, images = inputs.shards, inputs.shards.images
    label_of = torch.from_numpy(place_labels(shards))
    for path, search in descriptor_files(inputs).items():
        yield write_mat(
            path,
            descriptors.of(search.query_rows),
            label_of[images.place[search.query_rows]],
            descriptors.of(search.gallery_rows),
            label_of[images.place[search.gallery_rows]],
            query_paths=images.key[search.query_rows].tolist(),
            gallery_paths=images.key[search.gallery_rows].tolist(),
        )
    for path, search in submission_files(inputs).items():
        sides = descriptors.of(search.query_rows), descriptors.of(search.gallery_rows)
        if inputs.config.rerank:
            best = reorder(*sides, rerank_settings(inputs.config))
        else:
            best = top_k(*sides, k=ANSWERS)
        names = image_names(shards, search.gallery_rows)
        best_QK = best.index_QK[:, :ANSWERS].tolist()
        yield write_submission(path, [[names[at] for at in of_query] for of_query in best_QK])


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
