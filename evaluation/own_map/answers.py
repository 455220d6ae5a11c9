"""What a query found, as JSON and files, by the templates beside this one; how far off it was."""

import base64
import json
import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unicodedata import normalize

import cv2
import numpy as np
import torch
from jinja2 import Environment, StrictUndefined
from PIL import Image, ImageDraw, ImageFont

from data_shards.errors import LayoutError, counted
from data_shards.layouts.coordinates import read_rows
from data_shards.manifest import write_text_aside
from evaluation.output_files import PANELS, new_folder, refuse_unfit, writing
from evaluation.own_map.confidence import LEVELS
from evaluation.own_map.config import QueryConfig
from evaluation.own_map.ground import Numbers, Place, distance_m, ground_here, in_metres
from evaluation.own_map.index import Index
from evaluation.own_map.query import PANEL_PIXELS, Answer, answer_photos, is_around, photo_files

log = logging.getLogger(__name__)

WITHIN_M = (10, 25, 50, 100)
SDM_AT = (1, 3, 5, 10)
SDM_PER_DEGREE = 5e3
"""Spatial distance metric of DenseUAV (Dai et al., IEEE TIP 2024; `evaluateDistance.py` of their
code): the first K tiles weigh 1, 1 - 1/K, ..., and each counts exp(-5000 * degrees off)."""

LISTS = ["corners", "tiles", "gps", "truth"]
"""What a table leaves to the other forms."""

ANTIPODE_M = 2e7
Truth = Mapping[Path, Place]
"""Absolute paths of photographs to where they show the ground."""

PAPER = (238, 241, 244)
"""Of the page, where the map shows nothing."""

MAP_PIXELS, PICTURES, GAP = 1400, 5, 8
"""Side of the map on the page, tiles beside a photograph, and pixels between them."""


def tell_places(config: QueryConfig, device: torch.device) -> None:
    """Look for photographs, write what was asked for, and print what was found.

    Raises:
        SkyDistillError: something cannot be read, or a file cannot be written.
    """
    files = {name: path for name in FORMS if (path := getattr(config, name))}
    for name, path in files.items():
        refuse_unfit(path, overwrite=config.overwrite, option=f"--{name}", holds=None)
    if config.panels:
        refuse_unfit(config.panels, overwrite=config.overwrite, option="--panels", holds=PANELS)
    truth = read_truth(config.truth, photo_files(config.photos)) if config.truth else None
    index, answers = answer_photos(config, device)
    told = in_values(index, answers, config, truth)
    shown = rendered("answers.txt", told=told, within=WITHIN_M)
    sys.stdout.write((json.dumps(told, allow_nan=False) if config.json else shown) + "\n")
    if config.panels:  # first, as it takes the place of what is in there
        with new_folder(config.panels, option="--panels") as folder:
            for number, one in enumerate(answers, start=1):
                name = f"panel_{number:0{len(str(len(answers)))}d}_{one.photo.path.stem}.jpg"
                (folder / name).write_bytes(panel(one, index))
        log.info("wrote %s", config.panels)
    for name, path in files.items():
        with writing(path, option=f"--{name}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text_aside(path, FORMS[name](told, index, answers))
        log.info("wrote %s", path)


def read_truth(path: Path, photos: Sequence[Path]) -> Truth:
    """Read where photographs show the ground from a CSV of `photo,latitude,longitude` in degrees.

    A row calls a photograph by its file name, with suffix or without, or by the end of its path,
    and all of a folder by the name of the folder; rows of other photographs may be there.

    Raises:
        LayoutError: it cannot be read, a line is wrong, or none is of these photographs.
    """
    names, folders = defaultdict[str, set[Path]](set), defaultdict[str, set[Path]](set)
    for photo in (photo.absolute() for photo in photos):
        parts = normalize("NFC", str(photo)).split("/")
        for number in range(1, len(parts) + 1):
            end = "/".join(parts[-number:])
            names[end].add(photo)
            names[end.removesuffix(photo.suffix)].add(photo)
        folders[parts[-2]].add(photo)
    found: dict[Path, Place] = {}
    for line, _, called, at, _ in read_rows(path):
        meant = names[called]
        if len(meant) > 1:
            raise LayoutError(
                f"{path}, line {line}: {len(meant)} photographs are called {called!r}; give more "
                "of the path"
            )
        for photo in meant or folders[called]:
            if photo in found:
                raise LayoutError(
                    f"{path}, line {line}: photograph {photo} stands there twice; keep one line"
                )
            found[photo] = (at.lat or 0.0, at.lon or 0.0)
    if not found:
        raise LayoutError(f"{path} calls none of the photographs, such as {photos[0]}; correct it")
    return found


def measured(index: Index, answers: Sequence[Answer], config: QueryConfig, truth: Truth) -> Any:
    """Return how far answers lie from the truth, and what guessing and the prior alone would get.

    `tiles` are the first tiles, `answers` what is answered: a photograph that is called not on this
    map counts there as on the other side of the Earth.
    """
    pairs = [(one, place) for one in answers if (place := truth.get(one.photo.path.absolute()))]
    told: dict[str, Any] = {
        "num_known": len(pairs),
        "num_unknown": len(answers) - len(pairs),
        "num_not_on_map": sum(not one.is_on_map for one, _ in pairs),
    }
    ways: dict[str, list[Place | None]] = {
        "answers": [one.place for one, _ in pairs],
        "tiles": [one.tile_place for one, _ in pairs],
        "prior": [one.prior for one, _ in pairs if config.near],
    }
    for name, places in ways.items():
        if places:
            both = zip(places, pairs, strict=True)
            far = [distance_m(at, to)[0] if at else ANTIPODE_M for at, (_, to) in both]
            told[name] = _shares(np.array(far))
    if pairs:
        for count in SDM_AT:
            told["tiles"][f"sdm@{count}"] = float(np.mean([_sdm(*one, count) for one in pairs]))
        guesses = [
            distance_m(to, index.tiles["place"])[
                is_around(one.prior, index, config.within) if one.prior else slice(None)
            ]
            for one, to in pairs
        ]
        if any(map(len, guesses)):
            told["guessing"] = _shares(np.concatenate(guesses))
    return told


def _shares(metres: Numbers) -> dict[str, float]:
    shares = {f"within_{most}m": float((metres <= most).mean()) for most in WITHIN_M}
    return {"median_m": float(np.median(metres)), **shares}


def _sdm(answer: Answer, place: Place, count: int) -> float:
    tiles = answer.found.tiles[:count]
    apart = tiles["place"] - place
    degrees = np.hypot(apart[:, 0], (apart[:, 1] + 180) % 360 - 180)
    weights = 1 - np.arange(count) / count
    return float((np.exp(-SDM_PER_DEGREE * degrees) * weights[: len(tiles)]).sum() / weights.sum())


def in_values(
    index: Index, answers: Sequence[Answer], config: QueryConfig, truth: Truth | None
) -> dict[str, Any]:
    """Return everything that was found, in plain values, as `--json` prints it."""
    least, calibrations = config.least_confidence, []
    for used in dict.fromkeys(one.calibration for one in answers if one.calibration):
        shares = {name: getattr(used, name) for name in ("accepted_here", "accepted_elsewhere")}
        told = {name: float(np.interp(least, LEVELS, share)) for name, share in shares.items()}
        calibrations.append(asdict(used) | told)
    names = Counter(one.photo.path.name for one in answers)
    return {
        "index": str(index.folder),
        "model": index.manifest.model,
        "tiles": len(index.tiles),
        "photos": [_photo(one, names, truth or {}, top=config.top) for one in answers],
        "least_confidence": least,
        "calibrations": calibrations,
        "truth": None if truth is None else measured(index, answers, config, truth),
    }


def _photo(answer: Answer, names: Counter[str], truth: Truth, *, top: int) -> dict[str, Any]:
    path, found, place = answer.photo.path, answer.found, answer.place
    match = answer.match if answer.is_on_map else None
    tiles = []
    for number, tile in enumerate(found.tiles[:top]):
        centre, side = tuple(tile["place"].tolist()), float(tile["footprint_m"])
        ground = ground_here(centre, width=1, height=1, footprint_m=side)
        turn = cv2.getRotationMatrix2D((0.5, 0.5), -float(tile["top_deg"]), 1.0)
        square = cv2.transform(np.array([[(0, 0), (1, 0), (1, 1), (0, 1)]], dtype=float), turn)
        tiles.append(
            {
                "place": centre,
                "footprint_m": side,
                "score": float(found.scores[number]),
                "heading_deg": float(found.headings_deg[number]),
                "corners": ground.lat_lon(square[0]).tolist(),
            }
        )
    true_place = truth.get(path.absolute())
    return {
        "photo": path.name if names[path.name] == 1 else str(path),
        "on_map": answer.is_on_map,
        "by": "match" if match else "tile" if place else "nothing",
        "latitude": place and place[0],
        "longitude": place and place[1],
        "confidence": answer.confidence,
        "inliers": match and match.inliers,
        "error_m": match and match.error_m,
        "heading_deg": match and match.heading_deg,
        "corners": match and match.corners.tolist(),
        "tiles": tiles,
        "gps": answer.photo.gps,
        "truth": true_place,
        "distance_m": float(distance_m(place, true_place)[0]) if place and true_place else None,
    }


def ring(corners: Sequence[Place]) -> Any:
    """Return (longitude, latitude) of corners that go clockwise, closed and the other way round.

    As RFC 7946 and KML want it. Longitudes go on beyond 180 degrees rather than round the Earth.
    """
    lat, lon = np.array(corners)[::-1].T
    points = np.column_stack([np.unwrap(lon, period=360), lat]).tolist()
    return [*points, points[0]]


def rendered(template: str, **values: Any) -> str:
    """Fill one of the templates beside this file."""
    environment = Environment(
        autoescape=template.endswith(("html", "kml")), undefined=StrictUndefined, trim_blocks=True
    )
    text = Path(__file__).with_name(template).read_text()
    return environment.from_string(text).render(ring=ring, counted=counted, **values)


def to_csv(told: Mapping[str, Any], *_: Any) -> str:
    from pandas import DataFrame  # no other form waits for it

    return str(DataFrame(told["photos"], dtype=object).drop(columns=LISTS).to_csv(index=False))


def to_html(told: Mapping[str, Any], index: Index, answers: Sequence[Answer]) -> str:
    """Return one page that fetches nothing: the map with what was found, and panels."""
    middle = tuple(index.tiles["place"][0].tolist())

    def drawn(places: Any) -> Any:
        return (in_metres(places, around=middle) * (1, -1)).round(2).tolist()

    def in_page(jpeg: bytes) -> str:
        return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"

    maps: dict[tuple[int, int], Any] = {}
    near = [
        tile
        for one in answers
        for tile in one.found.tiles[:PICTURES]
        if one.place and distance_m(one.place, tile["place"]) < 2 * tile["footprint_m"]
    ]
    for tile in near or index.tiles[:1]:
        if (key := (int(tile["source"]), int(tile["picture"]))) not in maps:
            one, is_whole = index.map_of(tile), len(index.sources[key[0]].maps) == 1
            side = MAP_PIXELS if is_whole else PANEL_PIXELS  # or one of a folder of tiles
            pixels, ground = one.around((0, 0, one.width, one.height), margin=0, side=side)
            pixels[(pixels == 0).all(axis=2) | (pixels == 255).all(axis=2)] = PAPER
            size = pixels.shape[1::-1]
            corners = drawn(ground.lat_lon([(0, 0), (size[0], 0), (0, size[1]), size]))
            maps[key] = {"source": in_page(_jpeg(pixels)), "size": size, "corners": corners}
    around = [corner for one in maps.values() for corner in one["corners"]]
    for photo in told["photos"]:
        around += drawn(photo["corners"] or photo["tiles"][0]["corners"]) if photo["on_map"] else []
    return rendered(
        "page.html",
        told=told,
        drawn=drawn,
        maps=list(maps.values()),
        low=np.min(around, axis=0).tolist(),
        size=np.ptp(around, axis=0).clip(1).tolist(),
        panels=[in_page(panel(one, index)) for one in answers],
        within=WITHIN_M,
    )


def panel(answer: Answer, index: Index) -> bytes:
    """Return a photograph beside the first tiles found, as JPEG."""
    parts, words = [answer.photo.pixels], [answer.photo.path.name]
    for tile, score in zip(answer.found.tiles[:PICTURES], answer.found.scores, strict=False):
        window = [int(tile[name]) for name in ("col", "row", "width", "height")]
        parts.append(index.map_of(tile).around(window, margin=0, side=PANEL_PIXELS)[0])
        lat, lon = tile["place"]
        words.append(f"{score:.3f}, {tile['footprint_m']:g} m wide\n{lat:.6f}, {lon:.6f}")
    widths = [round(PANEL_PIXELS * part.shape[1] / part.shape[0]) for part in parts]
    sheet = Image.new("RGB", (sum(widths) + GAP * (len(parts) - 1), PANEL_PIXELS + 40), "white")
    draw, left = ImageDraw.Draw(sheet), 0
    for part, width, text in zip(parts, widths, words, strict=True):
        shown = cv2.resize(part, (width, PANEL_PIXELS), interpolation=cv2.INTER_AREA)
        sheet.paste(Image.fromarray(shown), (left, 0))
        draw.text((left, PANEL_PIXELS + 4), text, "#1d2733", ImageFont.load_default(13))
        left += width + GAP
    return _jpeg(np.asarray(sheet))


def _jpeg(pixels: Any) -> bytes:
    _, content = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return content.tobytes()


FORMS: dict[str, Callable[[Any, Index, Sequence[Answer]], str]] = {
    "csv": to_csv,
    "geojson": lambda told, *_: rendered("answers.geojson", photos=told["photos"]),
    "kml": lambda told, *_: rendered("answers.kml", photos=told["photos"]),
    "html": to_html,
}
"""Option to what makes its file."""
