"""From described images to rows of a report: searched, without distractors, in weather, fused."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data_shards.progress import show_progress
from data_shards.shards import ImageTable, RowNumbers
from distill.collectives import rank
from evaluation.conditions import Condition
from evaluation.describe import Change, Descriptors, describe
from evaluation.multi_view.rows import multi_view_results
from evaluation.ranking.k_reciprocal import rank_again, reorder
from evaluation.reranking import rerank_settings
from evaluation.result import Pairing, Result
from evaluation.searches import Search
from evaluation.setting import Setting
from evaluation.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Described:
    """Descriptors of every image that is searched with or among."""

    descriptors: Descriptors
    in_conditions: Mapping[str, Descriptors]
    """Condition to the drone queries in it."""

    by_gallery_network: Descriptors | None
    """The same images by the network of `--gallery-checkpoint`."""

    seconds: float

    def of(self, search: Search) -> tuple[Tensor, Tensor]:
        """Return the descriptors of queries and gallery of a search."""
        return self.descriptors.of(search.query_rows), self.descriptors.of(search.gallery_rows)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was found."""

    results: tuple[Result, ...]
    """Headline rows first, in the order of the protocol."""

    verdicts: Mapping[str, Verdict]
    """Headline rows alone, by the name of their result."""

    seconds: float


def describe_all(setting: Setting) -> Described:
    """Describe every image once per network, and drone queries once per condition.

    Every rank calls it.
    """
    started = time.monotonic()
    gallery, rows = setting.gallery, setting.searches.rows
    descriptors = _described(setting, rows, title="describing")
    in_conditions = {
        condition.name: _described(
            setting,
            [search.query_rows for search in setting.searches.from_the_air],
            title=f"describing in {condition.name}",
            change=_laid_over(condition),
        )
        for condition in setting.conditions
    }
    by_gallery_network = _described(gallery, rows, title="describing") if gallery else None
    return Described(
        descriptors=descriptors,
        in_conditions=in_conditions,
        by_gallery_network=by_gallery_network,
        seconds=round(time.monotonic() - started, 3),
    )


def judge_all(setting: Setting, described: Described) -> Judged:
    """Search in every way that was asked; every rank calls it."""
    started = time.monotonic()
    searches, images = setting.searches.answered, setting.shards.images
    descriptors = described.descriptors
    verdicts = {search.protocol.name: search.judged(descriptors, images) for search in searches}
    results = [search.result(verdicts[search.protocol.name].ranking) for search in searches]
    asked = [search.without_distractors(images) for search in searches]
    results += [search.result(search.judged(descriptors, images).ranking) for search in asked]
    results += _paired(described, [*searches, *asked], images)
    for search in setting.searches.from_the_air:
        for name, queries in described.in_conditions.items():
            verdict = search.judged(descriptors, images, queries=queries)
            results.append(search.result(verdict.ranking, condition=name))
    if rank() == 0:
        for search in searches:
            results += _beside(setting, search, verdicts[search.protocol.name])
    return Judged(
        results=tuple(results),
        verdicts=verdicts,
        seconds=round(time.monotonic() - started, 3),
    )


def _paired(
    described: Described, searches: Sequence[Search], images: ImageTable
) -> Iterator[Result]:
    """Yield the rows in the gallery of the gallery network; every rank calls it."""
    gallery = described.by_gallery_network
    if gallery is None:
        return
    askers: dict[Pairing, Descriptors] = {
        "gallery-network": gallery,
        "asymmetric": described.descriptors,
    }
    for pairing, queries in askers.items():
        for search in searches:
            verdict = search.judged(gallery, images, queries=queries)
            yield replace(search.result(verdict.ranking), pairing=pairing)


def _laid_over(condition: Condition) -> Change:
    """Return what lays a condition over an image, as its key says and nothing else."""
    return lambda pixels, key: condition.apply(pixels, seed_key=key)


def _described(
    setting: Setting, rows: Sequence[RowNumbers], *, title: str, change: Change | None = None
) -> Descriptors:
    loaded, config = setting.loaded, setting.config
    with show_progress(
        f"{title} with {loaded.name}", unit="images", enabled=rank() == 0
    ) as progress:
        return describe(
            loaded.model,
            setting.shards,
            rows,
            image_size=setting.image_size,
            resampling=setting.resampling,
            batch_size=config.batch_size,
            threads=config.threads,
            flip=config.flip,
            change=change,
            progress=progress,
        )


def _beside(setting: Setting, search: Search, verdict: Verdict) -> Iterator[Result]:
    """Yield the rows that rank 0 alone adds to a headline row: ranked again, and fused views."""
    config, images = setting.config, setting.shards.images
    if config.rerank:
        settings = rerank_settings(config)
        ranking = rank_again(
            verdict.ranking,
            reorder(verdict.query_QD, verdict.gallery_GD, settings),
            query_labels_Q=torch.from_numpy(images.place[search.query_rows]),
            gallery_labels_G=torch.from_numpy(images.place[search.gallery_rows]),
        )
        yield search.result(ranking, rerank=settings.words)
    if config.multi_view and search.has_drone_views:
        yield from multi_view_results(
            search.protocol,
            verdict,
            images,
            layout=setting.dataset,
            k=config.multi_view,
            information=config.information,
            view_distance=config.view_distance,
        )
