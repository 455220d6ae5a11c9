"""The folders of the public data sets: which place stands where, and under which file names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_shards.config import SynthConfig
from data_shards.layouts.split import SPLIT_NAME, official_split
from data_shards.synth.camera import RING_ALTITUDES_M, Orbit, sues200_orbit, university1652_orbit
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

    satellite_name: str
    """File name of the satellite tile."""

    drone_names: tuple[str, ...]
    """File names of the drone views in the order of the flight, with the folder of the altitude
    where there is one."""


@dataclass(frozen=True, kw_only=True)
class WorldFolders:
    """How a world is filed like one public data set."""

    places: Callable[[SynthConfig], list[FiledPlace]]
    """All places: those that train, those that are queried, and further ones of the galleries."""

    orbit: Callable[[int], Orbit]
    """Number of views, of one altitude where these are counted apart, to the flight."""

    beside: Callable[[SynthConfig], Mapping[str, str]]
    """Names and texts of files that lie beside the folders."""


def university1652_places(config: SynthConfig) -> list[FiledPlace]:
    """List the places of a world in the folders of University-1652.

    A place keeps its id and its files when more places are asked for.
    """

    def filed(split: str, index: int, first_id: int, patterns: tuple[str, ...]) -> FiledPlace:
        place_id = f"{first_id + index:04d}"
        return FiledPlace(
            key=PlaceKey(seed=config.seed, split=split, index=index),
            place_id=place_id,
            satellite=tuple(Path(p.format(view="satellite")) / place_id for p in patterns),
            drone=tuple(Path(p.format(view="drone")) / place_id for p in patterns),
            satellite_name=f"{place_id}.jpg",
            drone_names=tuple(f"image-{view:02d}.jpeg" for view in range(1, config.num_views + 1)),
        )

    queried, gallery = "test/query_{view}", "test/gallery_{view}"
    last = config.test_places + config.num_distractors
    return [
        *(filed("train", i, FIRST_TRAIN_ID, ("train/{view}",)) for i in range(config.places)),
        *(filed("test", i, FIRST_TEST_ID, (gallery, queried)) for i in range(config.test_places)),
        *(filed("test", i, FIRST_TEST_ID, (gallery,)) for i in range(config.test_places, last)),
    ]


def sues200_places(config: SynthConfig) -> list[FiledPlace]:
    """List the places of a world in the raw folders of SUES-200.

    A place's photographs depend on its side and its number there; its id also on the split.
    """
    names = tuple(
        f"{altitude_m}/{view}.jpg"
        for altitude_m in RING_ALTITUDES_M
        for view in range(config.num_views)
    )
    return [
        FiledPlace(
            key=PlaceKey(seed=config.seed, split=split, index=index),
            place_id=place_id,
            satellite=(Path("satellite-view") / place_id,),
            drone=(Path("drone_view_512") / place_id,),
            satellite_name="0.png",
            drone_names=names,
        )
        for split, ids in _sues200_sides(config).items()
        for index, place_id in enumerate(ids)
    ]


def sues200_split(config: SynthConfig) -> Mapping[str, str]:
    """Return `split.yaml`, which says which places train."""
    lines = (
        f"{side}: [{', '.join(repr(place_id) for place_id in ids)}]\n"
        for side, ids in _sues200_sides(config).items()
    )
    return {SPLIT_NAME: "".join(lines)}


def _sues200_sides(config: SynthConfig) -> dict[str, list[str]]:
    """Return the ids of both sides: the official ones where all 200 fit, else the first train."""
    ids = [f"{number:04d}" for number in range(1, config.places + config.test_places + 1)]
    train = set(ids[: config.places])
    official = official_split("sues200")
    assert official is not None
    if official.names_exactly(ids) and config.places == len(official.train):
        train = official.train_of(ids)
    return {
        "train": [place_id for place_id in ids if place_id in train],
        "test": [place_id for place_id in ids if place_id not in train],
    }


WORLDS: dict[str, WorldFolders] = {
    "university1652": WorldFolders(
        places=university1652_places, orbit=university1652_orbit, beside=lambda _: {}
    ),
    "sues200": WorldFolders(places=sues200_places, orbit=sues200_orbit, beside=sues200_split),
}
"""Name of a layout to the folders that imitate it."""
