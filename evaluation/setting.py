"""What one evaluation measures: a model, images, and everything that was asked about them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from data_shards.config import Resampling
from data_shards.errors import DescriptorError, ShardError
from data_shards.manifest import read_manifest
from data_shards.remote.local_cache import LocalCache
from data_shards.remote.sources import NO_IMAGES, open_shards
from data_shards.remote.transport import is_remote
from data_shards.schema import Role, View
from data_shards.shards import ShardSet
from distill.models import to_device
from distill.weights_file import LoadedModel, load_student
from evaluation.conditions import Condition, chosen_conditions
from evaluation.config import EvaluateConfig
from evaluation.joined_shards import DISTRACTOR_VIEWS, JoinedShards
from evaluation.multi_view.rows import equally_seen, refuse_unknown_poses
from evaluation.report import REPORT_NAME
from evaluation.searches import Searches, drone_views_per_place, find_searches

USUAL_FIGURES = "figures"
"""Folder of the pictures beside the usual report."""

TEST_VIEWS = (View.SATELLITE, View.DRONE, View.STREET)


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Names of everything an evaluation writes."""

    report: Path

    @property
    def markdown(self) -> Path:
        """The tables, for a README."""
        return self.report.with_suffix(".md")

    @property
    def latex(self) -> Path:
        """The tables, for a paper."""
        return self.report.with_suffix(".tex")

    @property
    def figures(self) -> Path:
        """Folder of the pictures: `figures` beside the usual report, else named after it."""
        is_usual = self.report.name == REPORT_NAME
        return self.report.with_name(USUAL_FIGURES if is_usual else f"{self.report.stem}_figures")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A model before images, and what was asked."""

    config: EvaluateConfig
    loaded: LoadedModel
    shards: JoinedShards
    searches: Searches
    conditions: tuple[Condition, ...]
    image_size: int
    resampling: Resampling

    trained_on: str
    """Layout of the training images; empty where it is not known."""

    gallery: "Setting | None" = None
    """The same with the network of `--gallery-checkpoint`, at the size that it was trained at."""

    @property
    def dataset(self) -> str:
        """Layout of the test images."""
        return self.shards.manifest.layout

    @property
    def is_zero_shot(self) -> bool:
        """Whether the model never saw the data set it is tested on."""
        return bool(self.trained_on) and self.trained_on != self.dataset

    @property
    def manner(self) -> tuple[str, ...]:
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
    def outputs(self) -> Outputs:
        """Where the report goes: as told, else beside the weights, each manner under its name."""
        usual = Path(REPORT_NAME)
        dataset = (self.dataset,) if self.is_zero_shot else ()
        name = "_".join((usual.stem, *dataset, *self.manner)) + usual.suffix
        return Outputs(report=self.config.out or self.loaded.path.parent / name)


def open_setting(config: EvaluateConfig, device: torch.device) -> Setting:
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
    shards = _open_shards(config)
    searches = find_searches(shards)
    _refuse_impossible(config, searches, shards)
    to_device(loaded.model, device)
    setting = Setting(
        config=config,
        loaded=loaded,
        shards=shards,
        searches=searches,
        conditions=conditions,
        image_size=config.image_size or loaded.image_size,
        resampling=config.resampling or loaded.resampling,
        trained_on=layout_trained_on(loaded),
    )
    if not gallery:
        return setting
    to_device(gallery.model, device)
    by_gallery = replace(
        setting,
        loaded=gallery,
        image_size=gallery.image_size,
        resampling=gallery.resampling,
        trained_on=layout_trained_on(gallery),
    )
    return replace(setting, gallery=by_gallery)


def _refuse_another_space(loaded: LoadedModel, gallery: LoadedModel) -> None:
    """Refuse two networks whose descriptors say nothing to each other."""
    (space, width), (other, other_width) = (
        (one.descriptor_space, one.model.width) for one in (loaded, gallery)
    )
    if (space, width) != (other, other_width):
        raise DescriptorError(
            f"{loaded.path} describes by {width} numbers in the space {space[:12]}, and "
            f"{gallery.path} by {other_width} in the space {other[:12]}, so neither can search the "
            "other's gallery; train the student with model.descriptor_width: teacher, from this "
            "teacher"
        )


def layout_trained_on(loaded: LoadedModel) -> str:
    """Return the layout that a model was trained on, as its file says, else its recipe's shards.

    Shards of another content than those trained on are not believed; empty if nothing tells.
    """
    source = str(loaded.recipe["data"].get("shards") or "")
    if loaded.layout or not source or is_remote(source):
        return loaded.layout
    try:
        manifest = read_manifest(Path(source))
    except ShardError:
        return ""
    return manifest.layout if set(loaded.places) <= set(manifest.places) else ""


def _open_shards(config: EvaluateConfig) -> JoinedShards:
    cache = LocalCache(config.local_cache, gib=config.local_cache_gib)

    def opened(source: str, roles: Role, views: Sequence[View]) -> ShardSet:
        roles = NO_IMAGES if config.dry_run else roles
        return open_shards(source, roles=roles, views=views, cache=cache)

    return JoinedShards(
        opened(config.shards, Role.QUERY | Role.GALLERY, TEST_VIEWS),
        [
            opened(source, Role.TRAIN | Role.QUERY | Role.GALLERY, DISTRACTOR_VIEWS)
            for source in config.distractors
        ],
    )


def _refuse_impossible(config: EvaluateConfig, searches: Searches, shards: JoinedShards) -> None:
    """Refuse what these images cannot answer, before anything is described."""
    if not searches.answered and config.submission is None and config.descriptors_out is None:
        raise DescriptorError(
            f"{shards.source} has no answers to its queries, so there is nothing to measure; give "
            "--submission or --descriptors-out for what was found"
        )
    asked = [("--submission", config.submission is not None), ("--conditions", config.conditions)]
    for option, is_asked in asked:
        if is_asked and not searches.from_the_air:
            raise DescriptorError(
                f"{option} is about drone queries for satellite tiles, and {shards.source} has "
                "none; leave it out"
            )
    if config.multi_view:
        _refuse_no_choice(config.multi_view, drone_views_per_place(searches, shards), shards)
    if config.view_distance == "pose":
        for rows in searches.drone_rows:
            groups = equally_seen(shards.images, rows, layout=shards.manifest.layout)
            refuse_unknown_poses(groups, rows, shards.images)


def _refuse_no_choice(k: int, most_views: int, shards: ShardSet) -> None:
    """Refuse to choose k drone views of places none of which has more."""
    if most_views < 2:
        raise DescriptorError(
            f"--multi-view fuses the drone views of a place, and {shards.source} has at most one "
            "of each; leave it out"
        )
    if k >= most_views:
        raise DescriptorError(
            f"--multi-view {k} leaves nothing to choose: no place of {shards.source} has more than "
            f"{most_views} drone views; give at most {most_views - 1}"
        )
