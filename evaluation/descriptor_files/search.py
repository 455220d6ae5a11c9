"""`skydistill evaluate --features`: the search on descriptors that somebody else computed."""

# Shapes: Q = queries, B = images of a block, D = descriptor width.

import json
import logging
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TextIO

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from data_shards.errors import DescriptorError
from data_shards.manifest import write_json
from evaluation.config import ANSWERS, EvaluateConfig
from evaluation.descriptor_files.checks import Side
from evaluation.descriptor_files.reading import Features, read_features, row_blocks
from evaluation.descriptor_files.writing import (
    descriptors_destination,
    submission_destination,
    write_mat,
    write_submission,
)
from evaluation.destinations import Destination, find_problem, is_numbers_of_features
from evaluation.ranking import JUNK, Gallery, metrics, rank_gallery
from evaluation.ranking.k_reciprocal import (
    LENGTH_TOLERANCE,
    rank_again,
    reorder,
)
from evaluation.ranking.top_k import TopK, top_k
from evaluation.reranking import rerank_settings
from evaluation.result import METRICS
from evaluation.standard_output import standard_output

log = logging.getLogger(__name__)

MAT_NAME = "pytorch_result.mat"
"""As the evaluation of University-1652 calls it."""

UNDERSTOOD = {"features", "normalize", "out", "descriptors_out", "submission", "json", "dry_run"}
UNDERSTOOD |= {"rerank", "rerank_top", "rerank_k1", "rerank_k2", "rerank_lambda"}
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


def evaluate_features(config: EvaluateConfig) -> int:
    """Search a file's gallery for its queries; print, and write what was asked for.

    Raises:
        DescriptorError: the file cannot be searched, or an option needs images.
    """
    assert config.features is not None, "asked by the caller"
    _refuse_strangers(config)
    _refuse_writing_over(config)
    path = config.features
    features = read_features(path, named=_sides_named(config))
    if config.normalize:
        query_QD, gallery = _unit(features.query_QD), Normalized(features.gallery)
        features = replace(features, query_QD=query_QD, gallery=gallery)
    _check_wishes(config, features)
    if problem := find_problem(_destinations(config, features)):
        raise DescriptorError(problem)
    if config.dry_run:
        return _dry_run(config, features)
    measured, lists = _search(config, features)
    try:
        _tell(config, measured)
    finally:  # numbers that cannot be printed are still written
        if config.out is not None:
            _write_json(config.out, measured)
        _write(config, features, lists)
    return 0


def _sides_named(config: EvaluateConfig) -> tuple[Side, ...]:
    """Return the sides whose names are written, and so must be good."""
    if config.descriptors_out is not None:
        return "query", "gallery"
    return () if config.submission is None else ("gallery",)


def _search(config: EvaluateConfig, features: Features) -> tuple[dict[str, Any], TopK | None]:
    """Return the seven numbers, those after ranking again under `reranked`, and the lists."""
    query, labels = features.query_QD, features.query_labels_Q
    wanted_G = features.gallery.labels_G != JUNK
    lists = None
    try:
        ranking = rank_gallery(query, features.gallery, query_labels_Q=labels)
        measured: dict[str, Any] = metrics(ranking)
        if config.rerank:
            settings = rerank_settings(config)
            if bool(wanted_G.any()):  # where all is junk, no order finds anything
                lists = reorder(query, features.whole_gallery()[wanted_G], settings)
                gallery_labels_G = features.gallery.labels_G
                ranking = rank_again(
                    ranking, lists, query_labels_Q=labels, gallery_labels_G=gallery_labels_G
                )
            measured["reranked"] = {"how": settings.words, **metrics(ranking)}
        elif config.submission is not None:
            lists = top_k(query, features.whole_gallery()[wanted_G], k=ANSWERS)
    except ValueError as error:
        raise DescriptorError(f"{config.features}: {error}; look at what wrote it") from error
    return measured, lists


def _write(config: EvaluateConfig, features: Features, lists: TopK | None) -> None:
    """Write the descriptors, and the answer, where they were asked for."""
    labels = features.gallery.labels_G
    if config.descriptors_out is not None:
        mat = write_mat(
            config.descriptors_out / MAT_NAME,
            features.query_QD,
            features.query_labels_Q,
            features.whole_gallery(),
            labels,
            query_paths=features.query_names.texts,
            gallery_paths=features.gallery_names.texts,
        )
        log.info("descriptors: %s", mat)
    if config.submission is not None and lists is not None:
        names = _names_searched(features)
        best_QK = lists.index_QK[:, :ANSWERS].tolist()
        write_submission(config.submission, [[names[row] for row in line] for line in best_QK])
        order = (
            f"ranked again ({rerank_settings(config).words})" if config.rerank else "by similarity"
        )
        log.info("submission: %s, %d queries, %s", config.submission, len(best_QK), order)


def _refuse_strangers(config: EvaluateConfig) -> None:
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


def _outputs(config: EvaluateConfig) -> list[Path]:
    mat = config.descriptors_out and config.descriptors_out / MAT_NAME
    return [path for path in (config.out, mat, config.submission) if path]


def _refuse_writing_over(config: EvaluateConfig) -> None:
    for path in _outputs(config):
        if config.features is not None and path.resolve() == config.features.resolve():
            raise DescriptorError(
                f"{config.features} would be written over while it is searched; give another name "
                "to what is written"
            )


def _check_wishes(config: EvaluateConfig, features: Features) -> None:
    """Demand what re-ranking and a submission need, before anything is searched."""
    if config.rerank and not _are_unit(features):
        raise DescriptorError(
            f"{config.features} holds descriptors of other than unit length, and --rerank needs "
            "distances; add --normalize"
        )
    if config.submission is None:
        return
    if not features.gallery_names.texts:
        raise DescriptorError(
            f"{config.features} holds no gallery_name, so --submission has no names to write; save "
            "one string per gallery image under that key"
        )
    names = _names_searched(features)
    if not names:
        raise DescriptorError(
            f"{config.features} holds nothing but junk (gallery_label -1), so --submission has "
            "nothing to name; label its gallery"
        )


def _destinations(config: EvaluateConfig, features: Features) -> list[Destination]:
    """Return every file that will be written.

    Raises:
        DescriptorError: a submission cannot hold the name of an image.
    """
    destinations = []
    if config.out is not None:
        content = "JSON of evaluate --features"
        destinations.append(
            Destination(
                path=config.out,
                option="--out",
                content=content,
                may_replace=is_numbers_of_features,
            )
        )
    if config.descriptors_out is not None:
        destinations.append(descriptors_destination(config.descriptors_out / MAT_NAME))
    if config.submission is not None:
        names = _names_searched(features)
        destinations.append(submission_destination(config.submission, names))
    return destinations


def _names_searched(features: Features) -> list[str]:
    """Return the names of the gallery without its junk, as `_search` numbers them."""
    rows = (features.gallery.labels_G != JUNK).nonzero().flatten().tolist()
    names = features.gallery_names.names
    return [names[row] for row in rows]


def _are_unit(features: Features) -> bool:
    gallery = features.gallery
    blocks = [features.query_QD, *map(gallery.read, row_blocks(len(gallery.labels_G)))]
    return all(_are_unit_rows(block) for block in blocks)


def _are_unit_rows(block_BD: Tensor) -> bool:
    length_B = torch.linalg.vector_norm(block_BD.double(), dim=1)
    return bool(((length_B - 1).abs() <= LENGTH_TOLERANCE).all())


def _unit(block_BD: Tensor) -> Tensor:
    exact_BD = block_BD.double()
    # The squares of very long and very short descriptors would leave float64.
    exact_BD = exact_BD / exact_BD.abs().amax(dim=1, keepdim=True)
    unit_BD: Tensor = exact_BD / torch.linalg.vector_norm(exact_BD, dim=1, keepdim=True)
    return unit_BD if block_BD.dtype == torch.float64 else unit_BD.float()


def _dry_run(config: EvaluateConfig, features: Features) -> int:
    queries, images = len(features.query_QD), len(features.gallery.labels_G)
    log.info("would search %d queries in %d images, %s", queries, images, config.features)
    for path in _outputs(config):
        log.info("would write %s", path)
    return 0


def _write_json(path: Path, measured: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, measured)
    except OSError as error:
        raise DescriptorError(
            f"{path} cannot be written ({error.strerror}); give another file with --out"
        ) from error


def _tell(config: EvaluateConfig, measured: Mapping[str, Any]) -> None:
    assert config.features is not None, "asked by the caller"
    with standard_output() as output:
        if config.json:
            output.write(json.dumps(measured) + "\n")
        else:
            _print_table(config.features, measured, output)


def _print_table(path: Path, measured: Mapping[str, Any], output: TextIO) -> None:
    """Print one row in percent, and another one when the lists were ranked again."""
    title = f"{path.name}: {measured['num_queries']} queries in {measured['num_gallery']} images"
    table = Table(title=title, title_justify="left")
    table.add_column("%", justify="left")
    for name in METRICS:
        table.add_column(name, justify="right")
    rows = {"as described": measured}
    if "reranked" in measured:
        rows[measured["reranked"]["how"]] = measured["reranked"]
    for label, row in rows.items():
        table.add_row(label, *(f"{100 * row[name]:.2f}" for name in METRICS))
    Console(file=output).print(table)
