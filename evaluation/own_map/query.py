"""Photographs looked for among the tiles of an index."""

# Shapes: R = rotations, N = tiles, K = places found, D = descriptor width, S = image size.

import io
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image
from torch import Tensor

from data_shards.config import Resampling
from data_shards.decode import BAD_HEADER, DecodeError, Pixels, check_image, decode, resize
from data_shards.errors import DescriptorError, counted
from data_shards.layouts.duplicates import read_plain_file
from data_shards.layouts.folders import image_names, natural
from data_shards.packing.stored_image import read_header
from data_shards.progress import show_progress
from data_shards.schema import Position
from distill.models import RetrievalModel, inference, normalize, to_device
from distill.weights_file import load_student
from evaluation.own_map.confidence import Calibration, turned
from evaluation.own_map.config import OWN_PLACE, QueryConfig
from evaluation.own_map.ground import Numbers, Place, distance_m
from evaluation.own_map.index import Index, open_index, read_manifest, refuse_other_model
from evaluation.own_map.maps import FINER, Tiles
from evaluation.own_map.refine import MATCHED, Match, match_best, shrunk

log = logging.getLogger(__name__)

UNKNOWN_HEADING = 8
"""Directions in which a photograph is looked for when it does not say which way it looks."""

MOST_TURNED_DEG = 5.0
"""A heading is of use where the tops of all maps point to one direction within so much."""

LOOKED_AT = 1024
"""Best tiles among which places are told apart."""

FILM_DIAGONAL_MM = 43.27
"""Of the film that `FocalLengthIn35mmFilm` speaks of."""

MOST_OBLIQUE_DEG = -60.0
"""A camera that looks further up (-90 is straight down) shows more than height and lens tell."""

PANEL_PIXELS = 180
"""Height to which photographs are shrunk once they are answered."""


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One photograph, upright, and what its camera says of it."""

    path: Path
    pixels: Pixels
    gps: Place | None
    heading_deg: float | None
    """Where its top points, from north, clockwise."""

    footprint_m: float | None
    """Short side of what it shows, where height and field of view are known and it looks down."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Tiles of different places, best first [K]."""

    tiles: Tiles
    scores: Numbers
    """Cosines, of the best rotation."""

    headings_deg: Numbers
    """Where the top of the photograph points in that rotation."""

    margin: float
    """By how much the first is better than the best tile elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Where one photograph was taken."""

    photo: Photo
    found: Found
    """Without any tile where there is none around `--near`."""

    match: Match | None
    """How it lies on the map pixel by pixel, with `--refine`."""

    calibration: Calibration | None
    """Of matches, or of first tiles."""

    confidence: float | None
    """Chance that the place is right; None where nothing was calibrated."""

    is_on_map: bool
    prior: Place | None
    """Where `--near` looked."""

    @property
    def tile_place(self) -> Place | None:
        """Centre of the first tile."""
        tiles = self.found.tiles
        return tuple(tiles["place"][0].tolist()) if len(tiles) else None

    @property
    def place(self) -> Place | None:
        """Where its centre was matched, else that of the first tile; None if not on the map."""
        place = self.match.centre if self.match else self.tile_place
        return place if self.is_on_map else None


def answer_photos(config: QueryConfig, device: torch.device) -> tuple[Index, list[Answer]]:
    """Describe photographs in every direction, search, and match if asked.

    Raises:
        SkyDistillError: index, model or a photograph cannot be read, or `--near` is off the map.
    """
    manifest = read_manifest(config.index)
    loaded = load_student(config.checkpoint or Path(manifest.checkpoint))
    refuse_other_model(config.index, manifest, loaded)
    to_device(loaded.model, device)
    index = open_index(config.index, manifest, device)
    around = config.near_degrees
    if around and not is_around(around, index, config.within).any():
        raise DescriptorError(
            f"no tile of {config.index} lies within {config.within:g} m of --near {config.near}: "
            "the circle is off the map; give another place or --within"
        )
    paths = photo_files(config.photos)
    for path in paths:  # all of them before hours are spent on the first
        with told_as_unreadable(path):
            if problem := check_image(read_plain_file(path), is_decoded=False):
                raise DecodeError(problem)
    if config.refine or config.html or config.panels:
        for first in np.unique(index.tiles["source"], return_index=True)[1]:
            index.map_of(index.tiles[first])  # so that none is missed when all is found
    answers = []
    with show_progress("looking for photographs", unit="photographs") as progress:
        for path in paths:
            photo = read_photo(path, config)
            answer = answer_one(photo, index, loaded.model, config)
            small = shrunk(photo.pixels, times=PANEL_PIXELS / photo.pixels.shape[0])
            answers.append(replace(answer, photo=replace(photo, pixels=small)))
            progress(len(answers), len(paths))
    _tell_unknown(answers, index, config)
    return index, answers


def is_around(place: Place, index: Index, within_m: float) -> npt.NDArray[np.bool_]:
    """Return which tiles [N] a circle reaches."""
    reach_N = within_m + index.tiles["footprint_m"] / 2
    return np.asarray(distance_m(place, index.tiles["place"]) <= reach_N)


def nearest_side(photo: Photo, index: Index) -> float | None:
    """Return the side of tiles that fits what a photograph shows; None if that is not known."""
    if photo.footprint_m is None:
        return None
    sides = np.unique(index.tiles["footprint_m"])
    times = np.abs(np.log2(sides / photo.footprint_m))
    return float(sides[times.argmin()]) if times.min() <= 1 else None


def _tell_unknown(answers: Sequence[Answer], index: Index, config: QueryConfig) -> None:
    """Say for how many photographs something that was asked for could not be used."""
    no_gps = sum(one.photo.gps is None for one in answers) if config.near == OWN_PLACE else 0
    if no_gps:
        log.warning("%s without GPS: looked for on the whole map", counted(no_gps, "photograph"))
    no_side = sum(nearest_side(one.photo, index) is None for one in answers)
    if no_side and (config.altitude_m or config.fov_deg):
        log.warning(
            "%s looked for among tiles of every side: it takes height, field of view, a camera "
            "that looks down, and tiles at most twice or half as wide as it shows",
            counted(no_side, "photograph"),
        )


def answer_one(photo: Photo, index: Index, model: RetrievalModel, config: QueryConfig) -> Answer:
    """Look for one photograph."""
    prior = photo.gps if config.near == OWN_PLACE else config.near_degrees
    is_wanted_N = np.ones(len(index.tiles), dtype=np.bool_)
    if prior:
        is_wanted_N &= is_around(prior, index, config.within)
    if side := nearest_side(photo, index):
        is_wanted_N &= index.tiles["footprint_m"] == side
    top_deg = float(np.median(index.tiles["top_deg"]))
    is_of_use = np.abs(index.tiles["top_deg"] - top_deg).max() <= MOST_TURNED_DEG
    heading_deg = photo.heading_deg if is_of_use else None
    count = config.rotations or (UNKNOWN_HEADING if heading_deg is None else 1)
    first_deg = 0.0 if heading_deg is None else heading_deg - top_deg
    headings = [first_deg + 360 * number / count for number in range(count)]
    manifest = index.manifest
    size, resampling = manifest.image_size, manifest.resampling
    descriptor_RD = describe_rotations(
        photo.pixels, headings, model, image_size=size, resampling=resampling
    )
    wanted = max(config.top, MATCHED if config.refine else 0)
    found = search(index, descriptor_RD, headings, is_wanted_N, count=wanted)
    match = None
    if config.refine:
        match = match_best(photo.pixels, [(index.map_of(tile), tile) for tile in found.tiles])
    calibrations = {(one.by, one.rotations): one for one in manifest.calibrations}
    calibration, confidence = calibrations.get(("tile", count)), None
    told_by: tuple[float, ...] = (float(found.scores[0]), found.margin) if len(found.tiles) else ()
    if match:
        calibration, told_by = calibrations.get(("match", UNKNOWN_HEADING)), (match.evidence,)
    # Not calibrated, a match is believed, and else the first tile unless a match was asked for.
    is_sure = match is not None or not config.refine
    if calibration and told_by:
        confidence = calibration.confidence(told_by)
        is_sure = confidence >= config.least_confidence
    return Answer(
        photo=photo,
        found=found,
        match=match,
        calibration=calibration,
        confidence=confidence,
        is_on_map=is_sure and bool(told_by),
        prior=prior,
    )


def photo_files(paths: Sequence[Path]) -> list[Path]:
    """Return photographs, and those in folders at any depth in the natural order of their names.

    Raises:
        DescriptorError: a folder holds none.
    """
    found = []
    for path in paths:
        below = [one for one in [path, *path.rglob("*")] if one.is_dir()]
        folders = sorted(below, key=lambda folder: natural(str(folder)))
        inside = [folder / name for folder in folders for name in image_names(folder)]
        if folders and not inside:
            raise DescriptorError(f"{path} holds no photograph; give some")
        found += inside or [path]
    return list(dict.fromkeys(found))


@contextmanager
def told_as_unreadable(path: Path) -> Iterator[None]:
    """Say in one sentence that a photograph cannot be read, as a `DescriptorError`."""
    try:
        yield
    except (*BAD_HEADER, DecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DescriptorError(
            f"photograph {path} cannot be read ({reason}); mend it or leave it out"
        ) from error


def read_photo(path: Path, config: QueryConfig) -> Photo:
    """Read one photograph, and what it says of height, heading and field of view.

    Raises:
        DescriptorError: it cannot be read.
    """
    with told_as_unreadable(path):
        content = read_plain_file(path)
        header = read_header(content)
        pixels = decode(content, orientation=header.orientation)
    position = header.position or Position()
    height, width = pixels.shape[:2]
    try:
        with Image.open(io.BytesIO(content)) as image:
            exif = image.getexif().get_ifd(ExifTags.IFD.Exif)
        focal_mm = float(exif.get(ExifTags.Base.FocalLengthIn35mmFilm) or 0)
    except BAD_HEADER:
        focal_mm = 0.0
    # Metres that the photograph is wide, per metre of height.
    wide = 2 * math.tan(math.radians(config.fov_deg / 2))
    if focal_mm > 0:
        wide = FILM_DIAGONAL_MM / focal_mm * width / math.hypot(width, height)
    footprint_m = (position.altitude_m or config.altitude_m) * wide * min(height, width) / width
    if position.gimbal_pitch_deg is not None and position.gimbal_pitch_deg > MOST_OBLIQUE_DEG:
        footprint_m = 0.0
    is_known = position.lat is not None and position.lon is not None
    return Photo(
        path=path,
        pixels=pixels,
        gps=(position.lat or 0.0, position.lon or 0.0) if is_known else None,
        heading_deg=position.heading_deg,
        footprint_m=footprint_m if footprint_m > 0 else None,
    )


def describe_rotations(
    pixels: Pixels,
    headings_deg: Sequence[float],
    model: RetrievalModel,
    *,
    image_size: int,
    resampling: Resampling,
) -> Tensor:
    """Return unit descriptors [R, D] of a photograph laid with north up, for each heading.

    Its middle square is looked at, as tiles are square.
    """
    shown = shrunk(pixels, times=FINER * image_size / min(pixels.shape[:2]))
    images = np.empty((len(headings_deg), image_size, image_size, 3), dtype=np.uint8)
    for heading_deg, image in zip(headings_deg, images, strict=True):
        resize(turned(shown, heading_deg), size=image_size, resampling=resampling, into=image)
    device = next(model.parameters()).device
    with inference(model):
        return model.describe(normalize(torch.from_numpy(images).to(device))).float()


def search(
    index: Index,
    descriptor_RD: Tensor,
    headings_deg: Sequence[float],
    is_wanted_N: npt.NDArray[np.bool_],
    *,
    count: int,
) -> Found:
    """Return the best `count` tiles of different places among those wanted.

    Two tiles are of one place where the centre of one lies in the inner half of the other.
    """
    score_N, rotation_N = (descriptor_RD @ index.descriptor_ND.T).max(dim=0)
    score_N[torch.from_numpy(~is_wanted_N).to(score_N.device)] = -torch.inf
    best = score_N.topk(min(LOOKED_AT, int(is_wanted_N.sum())))
    scores, numbers = best.values.cpu().numpy(), best.indices.cpu().numpy()
    tiles = index.tiles[numbers]
    chosen: list[int] = []
    is_free, margin = np.ones(len(tiles), dtype=np.bool_), 0.0
    while is_free.any() and len(chosen) < count:
        one = int(is_free.argmax())
        metres, sides = distance_m(tiles["place"][one], tiles["place"]), tiles["footprint_m"]
        elsewhere = scores[metres > np.maximum(sides, sides[one]) / 2]
        if not chosen and len(elsewhere):
            margin = float(scores[0] - elsewhere[0])
        chosen.append(one)
        is_free &= metres > np.minimum(sides, sides[one]) / 2
    turned = np.asarray(headings_deg)[rotation_N.cpu().numpy()[numbers[chosen]]]
    return Found(
        tiles=tiles[chosen],
        scores=scores[chosen].astype(np.float64),
        headings_deg=(turned + tiles["top_deg"][chosen]) % 360,
        margin=margin,
    )
