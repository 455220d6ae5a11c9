"""What one evaluation measures: a model, images, and everything that was asked about them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from data_shards.config import Resampling
from data_shards.decode import DECODER
from data_shards.errors import DescriptorError
from data_shards.remote.local_cache import LocalCache
from data_shards.remote.sources import NO_IMAGES, open_shards
from data_shards.schema import Role, View
from distill.models import to_device
from distill.weights_file import LoadedModel, TrainingData, load_student
from evaluation.conditions import VERSION, Condition, chosen_conditions
from evaluation.config import EvaluateConfig
from evaluation.joined_shards import DISTRACTOR_VIEWS, JoinedShards
from evaluation.multi_view import equally_seen, refuse_unknown_poses
from evaluation.protocols import Searches, drone_views_per_place, find_searches
from evaluation.report import EVALUATIONS, GalleryNetwork, Measurement
from evaluation.retrieval import rerank_settings

TEST_VIEWS = (View.SATELLITE, View.DRONE, View.STREET)


@dataclass(frozen=True, kw_only=True)
class EvaluationInputs:
    """A model before images, and what was asked."""

    config: EvaluateConfig
    loaded: LoadedModel
    shards: JoinedShards
    searches: Searches
    conditions: tuple[Condition, ...]
    image_size: int
    resampling: Resampling

    gallery: "EvaluationInputs | None" = None
    """The same with the network of `--gallery-checkpoint`, at the size that it was trained at."""

    @cached_property
    def measurement(self) -> Measurement:
        """On what and how everything is measured."""
        config, shards, known = self.config, self.shards, self.loaded.trained_on
        tested = TrainingData.of(shards.main)
        is_same = known.is_of(tested, shards.main, places=self.loaded.places)
        return Measurement(
            dataset=tested.dataset,
            protocol=shards.manifest.layout,
            is_official=bool(tested.official),
            trained_on=known.dataset,
            trained_official=known.official,
            zero_shot=not is_same if known.dataset else None,
            shards_fingerprint=shards.fingerprint,
            flip=config.flip,
            resampling=self.resampling,
            aspect=self.shards.aspect,
            decoder=DECODER,
            distractors=tuple(sorted(part.fingerprint for part in shards.distractors)),
            rerank=rerank_settings(config).words if config.rerank else "",
            fusion=config.fusion,
            conditions_version=VERSION if self.conditions else 0,
        )

    @property
    def seen_places(self) -> int:
        """Places among the queries that were trained on, by satellite image or id in their set."""
        shards, known = self.shards.main, self.loaded.trained_on
        place = shards.images.place
        rows = np.concatenate([search.query_rows for search in self.searches.found])
        seen = np.isin(np.arange(len(shards.places)), place[known.shows(shards)])
        if self.measurement.zero_shot is False and known.dataset == self.measurement.dataset:
            seen |= np.isin(shards.places, self.loaded.places)
        return int(seen[np.unique(place[rows])].sum())

    @property
    def differences(self) -> tuple[str, ...]:
        """What sets this evaluation apart from the plain one, a word each: `flip`, `384px`.

        Its numbers are another task's, so they are kept apart from those of the plain one.
        """
        loaded, config = self.loaded, self.config
        words = {
            "flip": config.flip,
            "distractors": bool(config.distractors),
            f"{self.image_size}px": self.image_size != loaded.image_size,
            self.resampling: self.resampling != loaded.resampling,
        }
        return tuple(word for word, is_apart in words.items() if is_apart)

    @property
    def folder(self) -> Path:
        """What this evaluation writes: as told, else beside the weights."""
        name = "_".join((self.measurement.dataset_word, *self.differences))
        return self.config.out or self.loaded.path.parent / EVALUATIONS / name

    def as_gallery_network(self) -> GalleryNetwork:
        """Return what a report says of the second network."""
        return GalleryNetwork(
            name=self.loaded.name,
            arch=self.loaded.recipe["model"]["arch"],
            trained_on=self.loaded.trained_on.dataset,
            image_size=self.image_size,
            resampling=self.resampling,
            aspect=self.shards.aspect,
            checkpoint=str(self.loaded.path),
            checkpoint_sha256=self.loaded.sha256,
        )


def open_inputs(config: EvaluateConfig, device: torch.device) -> EvaluationInputs:
    """Load the model and open the shards; every rank calls it.

    Raises:
        SkyDistillError: something is missing, damaged, or cannot be asked of these images.
    """
    assert config.checkpoint is not None, "checked by the config"
    conditions = chosen_conditions(config.conditions)
    loaded = load_student(config.checkpoint)
    loaded.model.refuse_size(config.image_size, key="--image-size")
    gallery = config.gallery_checkpoint and load_student(config.gallery_checkpoint)
    if gallery:
        _refuse_another_space(loaded, gallery)
    cache = LocalCache(config.local_cache, gib=config.local_cache_gib)
    tested = Role.QUERY | Role.GALLERY
    sources: list[tuple[str, Role, Sequence[View]]] = [(config.shards, tested, TEST_VIEWS)]
    sources += [(one, tested | Role.TRAIN, DISTRACTOR_VIEWS) for one in config.distractors]
    main, *distractors = (
        # A dry run fetches no image.
        open_shards(
            one, roles=NO_IMAGES if config.dry_run else roles, views=views, cache=cache
        ).shown(loaded.aspect)
        for one, roles, views in sources
    )
    shards = JoinedShards(main, distractors)
    searches = find_searches(shards)
    _refuse_impossible(config, searches, shards)
    to_device(loaded.model, device)
    inputs = EvaluationInputs(
        config=config,
        loaded=loaded,
        shards=shards,
        searches=searches,
        conditions=conditions,
        image_size=config.image_size or loaded.image_size,
        resampling=config.resampling or loaded.resampling,
    )
    if not gallery:
        return inputs
    to_device(gallery.model, device)
    by_gallery = replace(
        inputs,
        loaded=gallery,
        shards=shards.shown(gallery.aspect),
        image_size=gallery.image_size,
        resampling=gallery.resampling,
    )
    return replace(inputs, gallery=by_gallery)


def _refuse_another_space(loaded: LoadedModel, gallery: LoadedModel) -> None:
    """Refuse two networks whose descriptors say nothing to each other."""
    space, width = loaded.descriptor_space, loaded.model.width
    other, other_width = gallery.descriptor_space, gallery.model.width
    if (space, width) != (other, other_width):
        raise DescriptorError(
            f"{loaded.path} describes by {width} numbers in the space {space[:12]}, and "
            f"{gallery.path} by {other_width} in the space {other[:12]}, so neither can search the "
            "other's gallery; train the student with model.descriptor_width: teacher, from this "
            "teacher"
        )


def _refuse_impossible(config: EvaluateConfig, searches: Searches, shards: JoinedShards) -> None:
    """Refuse what these images cannot answer, before anything is described."""
    if not searches.answered and not (config.submission or config.descriptors):
        raise DescriptorError(
            f"{shards.source} has no answers to its queries, so there is nothing to measure; give "
            "--submission or --descriptors for what was found"
        )
    asked = {"--submission": config.submission, "--conditions": config.conditions}
    for option, value in asked.items():
        if value and not searches.drone_to_satellite:
            raise DescriptorError(
                f"{option} is about drone queries for satellite tiles, and {shards.source} has "
                "none; leave it out"
            )
    most_views = drone_views_per_place(searches, shards)
    if config.multi_view >= most_views and config.multi_view:
        raise DescriptorError(
            f"--multi-view {config.multi_view} leaves nothing to choose: no place of "
            f"{shards.source} has more than {most_views} drone views; give a smaller number, or "
            "leave it out"
        )
    if config.view_distance == "pose":
        for rows in searches.drone_rows:
            groups = equally_seen(shards.images, rows, layout=shards.manifest.layout)
            refuse_unknown_poses(groups, rows, shards.images)


def plan(inputs: EvaluationInputs) -> Iterator[str]:
    """Say everything that would be described and searched, a line each."""
    config, searches = inputs.config, inputs.searches
    images = len(np.unique(np.concatenate(searches.rows)))
    mirrored = ", each with its mirror image" if config.flip else ""
    for one in filter(None, (inputs, inputs.gallery)):
        yield (
            f"would describe {images:,} images with {one.loaded.name} at {one.image_size} px "
            f"({one.resampling}){mirrored}"
        )
    if (how := inputs.measurement).zero_shot:
        yield f"zero-shot: trained on {how.trained_on}, tested on {how.dataset}"
    for search in searches.found:
        asked = search.without_distractors(inputs.shards.images)
        yield (
            f"would search {search.protocol.name}, {search.protocol.title}: "
            f"{len(search.query_rows):,} queries, {len(search.gallery_rows):,} images, "
            f"{len(asked.gallery_rows):,} without distractors"
        )
    gallery = inputs.gallery.loaded.name if inputs.gallery else ""
    queries = sum(len(search.query_rows) for search in searches.drone_to_satellite)
    conditions = ", ".join(condition.name for condition in inputs.conditions)
    absent = ", ".join(protocol.name for protocol in searches.absent)
    lines = {
        f"would search all of it in the gallery of {gallery}, by its queries and by "
        f"{inputs.loaded.name}'s": gallery,
        f"would describe {queries:,} drone queries again in each of {conditions}": conditions,
        f"no images for: {absent}": absent,
    }
    yield from (line for line, is_asked in lines.items() if is_asked)
