"""Descriptors and found names in the formats of others' tools."""

from collections.abc import Mapping, Sequence
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


def exported_files(inputs: EvaluationInputs) -> Mapping[str, Search]:
    """Return what is written for other tools, by its place in the folder of the evaluation.

    That is the `.mat` of every headline search (`d2s.mat`, `d2s_150m.mat`), and the text file of
    the drone queries, one per height where there are several.

    Raises:
        DescriptorError: such a file cannot hold the name of an image.
    """
    config, searches = inputs.config, inputs.searches
    files = {
        f"descriptors/{_file_name(search)}.mat": search
        for search in (searches.found if config.descriptors else ())
    }
    asked = searches.drone_to_satellite if config.submission else ()
    for search in asked:
        refuse_unfit_names(image_names(inputs.shards, search.gallery_rows))
        apart = f"_{_file_name(search)}" if len(asked) > 1 else ""
        files[f"submission{apart}.txt"] = search
    return files


def _file_name(search: Search) -> str:
    return search.protocol.name.replace("/", "_")


def write_exports(inputs: EvaluationInputs, descriptors: Descriptors, folder: Path) -> None:
    """Write these files."""
    shards, images = inputs.shards, inputs.shards.images
    label_of = torch.from_numpy(place_labels(shards))
    for name, search in exported_files(inputs).items():
        sides = descriptors.of(search.query_rows), descriptors.of(search.gallery_rows)
        if name.endswith(".mat"):
            write_mat(
                folder / name,
                sides[0],
                label_of[images.place[search.query_rows]],
                sides[1],
                label_of[images.place[search.gallery_rows]],
                query_paths=images.key[search.query_rows].tolist(),
                gallery_paths=images.key[search.gallery_rows].tolist(),
            )
            continue
        if inputs.config.rerank:
            best = reorder(*sides, rerank_settings(inputs.config))
        else:
            best = top_k(*sides, k=ANSWERS)
        names = image_names(shards, search.gallery_rows)
        best_QK = best.index_QK[:, :ANSWERS].tolist()
        write_submission(folder / name, [[names[at] for at in of_query] for of_query in best_QK])


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
