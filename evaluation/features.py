"""`skydistill evaluate --features`: the search on descriptors that somebody else computed."""

# Shapes: Q = queries, B = images of a block, D = descriptor width.

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from data_shards.errors import DescriptorError
from data_shards.manifest import write_json
from evaluation.config import ANSWERS, EvaluateConfig
from evaluation.feature_files import (
    Features,
    name_of,
    read_features,
    refuse_unfit_names,
    write_mat,
    write_submission,
)
from evaluation.output_files import new_folder, refuse_unfit
from evaluation.ranking import JUNK, Gallery, metrics, rank_gallery
from evaluation.ranking.rerank import rank_again, reorder
from evaluation.ranking.top_k import TopK, top_k
from evaluation.report import METRICS
from evaluation.retrieval import rerank_settings

log = logging.getLogger(__name__)

MAT_NAME = "pytorch_result.mat"
"""As the evaluation of University-1652 calls it."""

UNDERSTOOD = {"features", "normalize", "out", "overwrite", "descriptors", "submission", "json"}
UNDERSTOOD |= {"dry_run", "rerank", "rerank_top", "rerank_k1", "rerank_k2", "rerank_lambda"}
UNDERSTOOD |= {"no_figures", "no_mlflow"}
"""Options that mean something without images; the last two are true of every file."""


class Normalized:
    """A gallery whose descriptors are scaled to unit length as they are read."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self.labels_G, self.width = gallery.labels_G, gallery.width

    def read(self, rows: slice) -> Tensor:
        """Return unit vectors [B, D], in new memory."""
        return _unit(self._gallery.read(rows))


def evaluate_features(config: EvaluateConfig) -> None:
    """Search a file's gallery for its queries; print, and write what was asked for.

    Raises:
        DescriptorError: the file cannot be searched, or an option needs images.
    """
    path = config.features
    assert path is not None, "asked by the caller"
    _refuse_options_about_images(config)
    if config.out is not None:
        refuse_unfit(config.out, overwrite=config.overwrite)
    named = ["gallery"] if config.submission else []
    features = read_features(path, named=["query", "gallery"] if config.descriptors else named)
    if config.normalize:
        query_QD, gallery = _unit(features.query_QD), Normalized(features.gallery)
        features = replace(features, query_QD=query_QD, gallery=gallery)
    _refuse_unfit_features(config, features)
    if config.dry_run:
        queries, images = len(features.query_QD), len(features.gallery.labels_G)
        log.info("would search %d queries in %d images, %s", queries, images, path)
        if config.out is not None:
            log.info("would write %s", config.out)
        return
    measured, lists = _search(config, features)
    try:
        if config.out is not None:
            with new_folder(config.out) as folder:
                _write(config, features, measured, lists, folder)
            log.info("wrote %s", config.out)
    finally:  # numbers that cannot be written are still told
        if config.json:
            sys.stdout.write(json.dumps(measured) + "\n")
        else:
            again = measured.get("reranked")
            rows = {"as described": measured} | ({again["how"]: again} if again else {})
            frame = pd.DataFrame(rows, index=METRICS).astype(float).T
            counts = f"{measured['num_queries']} queries in {measured['num_gallery']} images"
            if unanswerable := measured.get("num_unanswerable"):
                counts += f", {unanswerable} of them without a right image in the gallery"
            table = (100 * frame).to_string(float_format="{:.2f}".format)
            sys.stdout.write(f"{path.name}: {counts} (percent)\n{table}\n")


def _refuse_options_about_images(config: EvaluateConfig) -> None:
    """Refuse options that say how images are described, instead of ignoring them."""
    given = [
        "--" + field.name.replace("_", "-")
        for field in fields(config)
        if field.name not in UNDERSTOOD and getattr(config, field.name) != field.default
    ]
    if given:
        raise DescriptorError(
            f"--features brings descriptors and no images, so {', '.join(given)} cannot be meant; "
            "leave it out, or give --checkpoint and --shards"
        )


def _refuse_unfit_features(config: EvaluateConfig, features: Features) -> None:
    """Demand what a submission needs, before anything is searched."""
    if config.submission:
        if not _searched_names(features):
            raise DescriptorError(
                f"{config.features} holds no gallery_name for what is searched, so --submission "
                "has no names to write; save one string per gallery image under that key"
            )
        refuse_unfit_names(_searched_names(features))


def _searched_names(features: Features) -> list[str]:
    """Return the names of the gallery without its junk, as `_search` numbers them."""
    is_junk = (features.gallery.labels_G == JUNK).tolist()
    names = zip(features.gallery_names, is_junk, strict=False)  # there may be none
    return [name_of(name) for name, is_left_out in names if not is_left_out]


def _search(config: EvaluateConfig, features: Features) -> tuple[dict[str, Any], TopK | None]:
    """Return the seven numbers, those after ranking again under `reranked`, and the lists."""
    query, labels = features.query_QD, features.query_labels_Q
    wanted_G = features.gallery.labels_G != JUNK
    lists = None
    try:
        ranking = rank_gallery(query, features.gallery, query_labels_Q=labels)
        measured: dict[str, Any] = metrics(ranking)
        if unanswerable := int((ranking.offsets.diff() == 0).sum()):
            measured["num_unanswerable"] = unanswerable
        if config.rerank:
            settings = rerank_settings(config)
            if bool(wanted_G.any()):  # where all is junk, no order finds anything
                lists = reorder(query, features.whole_gallery()[wanted_G], settings)
                gallery_labels_G = features.gallery.labels_G
                ranking = rank_again(
                    ranking, lists, query_labels_Q=labels, gallery_labels_G=gallery_labels_G
                )
            measured["reranked"] = {"how": settings.words, **metrics(ranking)}
        elif config.submission:
            lists = top_k(query, features.whole_gallery()[wanted_G], k=ANSWERS)
    except ValueError as error:
        raise DescriptorError(
            f"{config.features}: {error}; look at what wrote it, or add --normalize"
        ) from error
    return measured, lists


def _write(
    config: EvaluateConfig,
    features: Features,
    measured: Mapping[str, Any],
    lists: TopK | None,
    folder: Path,
) -> None:
    """Write the numbers, and the descriptors and the answer where they were asked for."""
    write_json(folder / "metrics.json", measured)
    if config.descriptors:
        write_mat(
            folder / "descriptors" / MAT_NAME,
            features.query_QD,
            features.query_labels_Q,
            features.whole_gallery(),
            features.gallery.labels_G,
            query_paths=features.query_names,
            gallery_paths=features.gallery_names,
        )
    if config.submission and lists is not None:
        names = _searched_names(features)
        found = [[names[row] for row in line] for line in lists.index_QK.tolist()]
        write_submission(folder / "submission.txt", found)


def _unit(block_BD: Tensor) -> Tensor:
    exact_BD = block_BD.double()
    # The squares of very long and very short descriptors would leave float64.
    exact_BD = exact_BD / exact_BD.abs().amax(dim=1, keepdim=True)
    unit_BD: Tensor = exact_BD / torch.linalg.vector_norm(exact_BD, dim=1, keepdim=True)
    return unit_BD if block_BD.dtype == torch.float64 else unit_BD.float()
