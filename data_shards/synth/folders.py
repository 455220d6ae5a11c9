"""The folders of University-1652: which place stands where, and under which file names."""

from dataclasses import dataclass
from pathlib import Path

from data_shards.config import SynthConfig
from data_shards.synth.place import PlaceKey

FIRST_TRAIN_ID = 1
FIRST_TEST_ID = 5001


@dataclass(frozen=True, kw_only=True)
class FiledPlace:
    """A place, its four-digit id, and the folders that hold its files."""

    key: PlaceKey
    place_id: str
    satellite: tuple[Path, ...]
    """Folders of the satellite tile under the root; the first holds it, others link to it."""

    drone: tuple[Path, ...]
    """Folders of the drone views, likewise."""

    @property
    def satellite_name(self) -> str:
        """File name of the satellite tile."""
        return f"{self.place_id}.jpg"

    def drone_name(self, view: int) -> str:
        """File name of a drone view, counted from 1."""
        return f"image-{view:02d}.jpeg"


def filed_places(config: SynthConfig) -> list[FiledPlace]:
    """List all places: training, queried, and those that only stand in the galleries.

    A place keeps its id and its files when more places are asked for.
    """
    train = [
        _filed(config.seed, "train", index, FIRST_TRAIN_ID, ("train/{view}",))
        for index in range(config.places)
    ]
    queried, gallery = "test/query_{view}", "test/gallery_{view}"
    test = [
        _filed(config.seed, "test", index, FIRST_TEST_ID, (gallery, queried))
        for index in range(config.test_places)
    ]
    last = config.test_places + config.distractors
    only_gallery = [
        _filed(config.seed, "test", index, FIRST_TEST_ID, (gallery,))
        for index in range(config.test_places, last)
    ]
    return train + test + only_gallery


def _filed(
    seed: int, split: str, index: int, first_id: int, patterns: tuple[str, ...]
) -> FiledPlace:
    place_id = f"{first_id + index:04d}"
    return FiledPlace(
        key=PlaceKey(seed=seed, split=split, index=index),
        place_id=place_id,
        satellite=tuple(Path(p.format(view="satellite")) / place_id for p in patterns),
        drone=tuple(Path(p.format(view="drone")) / place_id for p in patterns),
    )
