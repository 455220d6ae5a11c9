"""What the data stage can be told. No torch: a login node reads these in a blink."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from operator import attrgetter, ge, gt, le, lt
from pathlib import Path
from typing import Any, Literal

from data_shards.errors import RecipeError

MOST_PLACES = 4999
"""Places that the four-digit folders of University-1652 hold, in training and in test each."""

ORBIT_VIEWS = {"university1652": 54, "sues200": 50}
"""Layout to the drone views of a place, at each altitude where there are several."""

USUAL_DISTRACTORS = 20

Resampling = Literal["opencv-linear", "opencv-area", "pillow-bilinear", "pillow-bicubic"]
"""How images come to the size of a model's input; see `docs/training.md`."""

Aspect = Literal["squeeze", "crop", "pad"]
"""What becomes of an image that is not square: it is squeezed, loses its ends, or gets black ones.
"""

LOCAL_CACHE_GIB = 50.0
"""University-1652 in original bytes many times over, and still a modest part of a node's disk."""


MOST = 2**31 - 1
"""Largest number of anything; larger ones are slips of the keyboard, and overflow arithmetic."""

MOST_SEED = 2**32 - 1
"""Largest seed that every library that draws numbers takes."""


LIMITS = {"at least": ge, "above": gt, "at most": le, "below": lt}
"""How an allowed number stands to each kind of limit; NaN stands to none so."""


def bounded(
    default: float | str | tuple[float, ...] | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    needs: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
) -> Any:
    """Declare a field whose numbers have limits; None or a word, where allowed, is never outside.

    `needs` are dotted keys of the recipe that must be set when this one is not 0, and `methods` the
    only ones that look at it; all if empty.
    """
    given = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    limits = {words: limit for words, limit in given.items() if limit is not None}
    metadata = {"limits": limits, "needs": needs, "methods": methods}
    return field(default=default, metadata=metadata)


def seed(default: int = 0) -> Any:
    return bounded(default, at_least=0, at_most=MOST_SEED)


def field_problems(recipe: object, *, before: str = "") -> Iterator[str]:
    """Report every number outside its bounds, and every key that another one lacks, at once.

    `before` stands before the keys; `--` makes options of them.
    """
    for name, value, default, metadata in _values(recipe):
        key = f"--{name.replace('_', '-')}" if before == "--" else before + name
        methods = metadata.get("methods")
        if methods and value != default and recipe.method not in methods:  # type: ignore[attr-defined]
            yield f"{key} ({value}) is nothing that {recipe.method} has; leave it out"  # type: ignore[attr-defined]
        limits, values = metadata.get("limits", {}), value if isinstance(value, tuple) else (value,)
        numbers = [number for number in values if isinstance(number, int | float)]
        if not {"at most", "below"} & limits.keys() and max(numbers, default=0) > MOST:
            limits = {"at most": MOST}
        if not all(LIMITS[word](one, limit) for word, limit in limits.items() for one in numbers):
            allowed = " and ".join(f"{word} {limit}" for word, limit in limits.items())
            yield f"{key} ({value}) must be {allowed}"
        for needed in metadata.get("needs", ()) if value else ():
            if not attrgetter(needed)(recipe):
                yield f"{key} ({value}) needs {needed}; set it, or {key} to 0"


def refuse_out_of_bounds(config: object, *, before: str = "--") -> None:
    """Refuse every number outside its bounds, all at once, under the names a user types.

    Raises:
        RecipeError: there is one.
    """
    if problems := list(field_problems(config, before=before)):
        raise RecipeError("; ".join(problems))


def _values(part: object, below: str = "") -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield dotted key, value, default and metadata of all fields of a config and of its parts."""
    for one in fields(part):  # type: ignore[arg-type]
        value = getattr(part, one.name)
        if is_dataclass(value):
            yield from _values(value, f"{below}{one.name}.")
        else:
            yield f"{below}{one.name}", value, one.default, one.metadata


def _as_typed(names: Iterable[str]) -> str:
    return " and ".join("--" + name.replace("_", "-") for name in sorted(names))


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """A procedural world, written in the exact folder layout of a public data set."""

    out: Path
    """Folder to write; it must not exist, or must hold this very world."""

    layout: str = "university1652"
    """Folder layout to imitate: university1652 or sues200."""

    places: int = bounded(200, at_least=1, at_most=MOST_PLACES)
    """Training places."""

    test_places: int = bounded(60, at_least=1, at_most=MOST_PLACES)
    """Places that are queried in the test set, and stand in its galleries."""

    distractors: int | None = bounded(None, at_least=0, at_most=MOST_PLACES - 1)
    """Further places that stand only in the test galleries: 20, and none for sues200, whose
    galleries hold the training places."""

    views: int | None = bounded(None, at_least=1, at_most=999)
    """Drone views per place, on the flight of the data set: 54 on the helix of university1652, 50
    at each of the four altitudes of sues200."""

    image_size: int = bounded(512, at_least=16, at_most=4096)
    """Width and height of every image in pixels."""

    seed: int = seed()
    """The world is a pure function of this seed and the counts above."""

    workers: int = bounded(0, at_least=0, at_most=4096)
    """Processes that render; 0 means one per processor."""

    map: bool = False
    """Write a map of the test places (map.tif), a photograph straight down on each with what a
    drone's camera says of where it was (photos), and where their centres lie (truth.csv) instead of
    a data set; needs skydistill[maps]."""

    dry_run: bool = False
    """Say what would be written, and stop."""

    def __post_init__(self) -> None:
        """Refuse numbers that describe no world.

        Raises:
            RecipeError: every such number, as its option.
        """
        refuse_out_of_bounds(self)
        if (tested := self.test_places + self.num_distractors) > MOST_PLACES:
            raise RecipeError(
                f"--test-places and --distractors together ({tested}) must be at most {MOST_PLACES}"
            )
        if self.layout == "sues200" and self.num_distractors:
            raise RecipeError(
                f"--distractors ({self.num_distractors}) must be 0 for sues200, whose galleries "
                "hold the training places as distractors"
            )

    @property
    def num_distractors(self) -> int:
        """Places that stand only in the galleries, as told or as usual for the layout."""
        usual = 0 if self.layout == "sues200" else USUAL_DISTRACTORS
        return usual if self.distractors is None else self.distractors

    @property
    def num_views(self) -> int:
        """Drone views per place and flight, as told or as the data set has them."""
        return ORBIT_VIEWS.get(self.layout, 1) if self.views is None else self.views


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """Raw folders of a public data set to tar shards, an index beside each, a manifest over all."""

    raw: Path
    """Folder of the data set as it was downloaded."""

    out: Path | None = None
    """Folder to write; it appears when it is whole, and is brought up to date if it holds shards of
    this raw folder. Left out with --index-only."""

    name: str = ""
    """What the data set is called in reports and titles; by default as its raw folder, or as the
    shards that OUT holds already."""

    layout: str = "auto"
    """How the raw folders are arranged: auto (look and say), university1652, sues200,
    university160k, denseuav, gta_uav, visloc, or folders (your own: satellite/PLACE and
    drone/PLACE/ALTITUDE). With --index-only, the data set that the tars hold, if it is one."""

    split: Path | None = None
    """YAML file that lists the ids under train (and, if wanted, under test) where the folders do
    not say which places train: raw SUES-200 without all 200 ids, or folders, which are all to test
    on by default. The words train and test mean all places; GTA-UAV has
    cross-area and same-area."""

    coordinates: Path | None = None
    """CSV file of place,latitude,longitude in degrees, kept in the manifest; or of
    image,latitude,longitude and, if wanted, altitude_m, heading_deg and gimbal_pitch_deg, kept with
    each image and taken before what stands in its file."""

    image_size: Literal[0, 256, 384, 512] = 0
    """Store JPEGs of this width and height, at which students are trained; 0 keeps the original
    bytes."""

    quality: int = bounded(95, at_least=50, at_most=100)
    """JPEG quality of resized images, 50 to 100; goes with --image-size."""

    resampling: Literal["lanczos", "bicubic", "bilinear"] = "lanczos"
    """Filter of the resize; goes with --image-size."""

    aspect: Aspect = "squeeze"
    """How images that are not square become so: squeeze, crop (the middle) or pad (black); goes
    with --image-size, and data.aspect of a recipe must be the same."""

    index_only: bool = False
    """RAW is a folder of tars that webdataset wrote with the keys of docs/shards.md; write indexes
    and a manifest beside them and leave them as they are."""

    roles: str = ""
    """What images are for whose JSON does not tell, with --index-only: train, query, gallery or
    query,gallery; without it, the first word of the tar's name counts."""

    workers: int = bounded(0, at_least=0, at_most=4096)
    """Threads that read and write; 0 means one per processor."""

    no_decode: bool = False
    """Look only at the first and last bytes of a JPEG whose bytes are kept, as is quicker; else
    every image is decoded once, so that no damaged one stops a training."""

    skip_unreadable: bool = False
    """Leave images out that cannot be decoded, and say so in the manifest."""

    dry_run: bool = False
    """Count what would be written, and stop."""

    json: bool = False
    """Print the result as one JSON line."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be, and options that speak of different things."""
        refuse_out_of_bounds(self)
        if self.name and not re.fullmatch(r"[\w(][\w ().+-]{0,63}", self.name):
            raise RecipeError(
                f"--name {self.name!r} must be at most 64 letters, digits, blanks and any of "
                "( ) . + - _"
            )
        # Options that would change nothing are refused, so that nobody believes they did.
        usual = {field.name: field.default for field in fields(self)}
        told = {name for name, value in usual.items() if getattr(self, name) != value}
        of_jpegs = told & {"quality", "resampling", "aspect"}
        of_images = of_jpegs | (told & {"image_size", "split"})
        if self.index_only and of_images:
            raise RecipeError(
                f"{_as_typed(of_images)} cannot go with --index-only, which leaves images as they "
                "are"
            )
        if not self.image_size and of_jpegs:
            raise RecipeError(
                f"{_as_typed(of_jpegs)} must go with --image-size; without it the bytes are "
                "original"
            )
        if self.index_only and self.out not in (None, self.raw):
            raise RecipeError(
                f"--index-only writes beside the tars of {self.raw}; leave out {self.out}"
            )
        if not self.index_only and self.out is None:
            raise RecipeError(
                f"say where to write the shards of {self.raw}: skydistill shard {self.raw} OUT"
            )
        if self.roles and not self.index_only:
            raise RecipeError("--roles goes with --index-only; raw folders tell roles themselves")


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Whether a shard folder is what its manifest says, down to the tar and the key."""

    shards: str
    """Shard folder."""

    expect: Literal["official", "none"] = "none"
    """official: the counts must also be those published for the data set."""

    decode: bool = False
    """Decode every image too: damage that was there when the shards were written is found."""

    workers: int = bounded(0, at_least=0, at_most=4096)
    """Threads that read and hash; 0 means one per processor."""

    json: bool = False
    """Print the result as one JSON line."""

    def __post_init__(self) -> None:
        """Refuse a number of workers that cannot be."""
        refuse_out_of_bounds(self)


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """The order in which one epoch shows every training pair, on any number of ranks."""

    shards: str
    """Shard folder, or an address of one (`http://...`, `pipe:COMMAND {name}`; see
    docs/datasets.md)."""

    local_cache: Path | None = None
    """Folder on a disk of this node for shards from an address; by default $SKYDISTILL_CACHE, else
    $SLURM_TMPDIR/skydistill, else ~/.cache/skydistill."""

    local_cache_gib: float = bounded(LOCAL_CACHE_GIB, above=0)
    """Most that the local cache may hold, in GiB; what was not used for longest goes first."""

    world_size: int = bounded(1, at_least=1)
    """Ranks that share each global batch."""

    global_batch: int = bounded(64, at_least=1)
    """Rows (places) per step over all ranks."""

    seed: int = seed()
    """Seed of the run."""

    epoch: int = bounded(0, at_least=0)
    """Which epoch, counted from 0."""

    drones_per_row: int = bounded(1, at_least=1)
    """Drone views beside each satellite tile."""

    third_view: Literal["none", "street", "google"] = "none"
    """Photographs from the ground beside each row; places without any are left out."""

    altitudes: tuple[float, ...] = ()
    """Show drone views of these heights only, in metres, as [150, 200]; all heights if empty."""

    neighbours: Path | None = None
    """Table of hard samples to bring together: the neighbours.npz of a checkpoint, or a .npy."""

    validation_fraction: float = bounded(0.0, at_least=0, below=1)
    """Part of the training places held out; 0 plans over all of them."""

    validation_seed: int = bounded(0, at_least=0, at_most=MOST_SEED)
    """Which places are held out."""

    json: bool = False
    """Print every step as one JSON line instead of a summary."""

    def __post_init__(self) -> None:
        """Refuse numbers for which there is no plan."""
        refuse_out_of_bounds(self)
