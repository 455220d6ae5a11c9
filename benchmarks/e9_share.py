"""Goal E9: the share of a whole evaluation that is no describing.

University-1652 in full size (701 places that are asked for and 250 that are not, 54 drone views
each: 52,305 images, four searches) by the student of the demo: the smallest model there is, at
64 px, from images of 128 px, so that describing is as cheap as it gets and its share the least.
`--places N` takes that share of the world, for a first look; the line says the shape. Every image
is its own, in the colours of its place, so that no two descriptors tie. The ranks of some queries
are first compared with a plain sort in float64.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import simplejpeg
import torch
from line import report
from torch import Tensor

from data_shards.manifest import Manifest
from data_shards.schema import Role, View
from data_shards.shards import ImageTable, ShardSet
from distill.checkpoint import LoadedModel, to_device
from distill.config import ModelConfig
from distill.models import build_model
from evaluation.config import EvaluateConfig
from evaluation.joined_shards import JoinedShards
from evaluation.judging import describe_all, judge_all
from evaluation.searches import find_searches
from evaluation.setting import Setting
from evaluation.verdict import Verdict

MUST, SEED = 0.02, 0
PLACES, DISTRACTOR_PLACES, VIEWS = 701, 250, 54
STORED_PIXELS, MODEL_PIXELS, PATCHES = 128, 64, 8
COMPARED_QUERIES = 40

Made = TypeVar("Made")


class World(ShardSet):
    """A test set in memory."""

    def __init__(self, *, places: int, distractors: int) -> None:
        """Draw it: a satellite tile and 54 drone views of every place."""
        numbers = range(places + distractors)
        rows = [(place, View.SATELLITE, 1) for place in numbers]
        rows += [(place, View.DRONE, at + 1) for place in numbers for at in range(VIEWS)]
        place, view, position = (np.array(column) for column in zip(*rows, strict=True))
        nothing = np.zeros(len(rows), dtype=np.int64)
        images = ImageTable(
            key=np.array([f"{p:04d}/{View(v).word}/{at:02d}" for p, v, at in rows]),
            place=place,
            view=view.astype(np.uint8),
            roles=np.where(place < places, Role.QUERY | Role.GALLERY, Role.GALLERY),
            position=position,
            altitude_m=np.full(len(rows), np.nan, dtype=np.float32),
            orientation=np.ones(len(rows), dtype=np.uint8),
            shard=nothing,
            offset=nothing,
            size=nothing,
        )
        names = tuple(f"{number:04d}" for number in numbers)
        manifest = Manifest(
            layout="university1652", places=names, counts={}, shards=(), content_sha256="world"
        )
        super().__init__(Path("world"), manifest, images)
        self.files = [_photograph(int(number), row) for row, number in enumerate(place)]

    def read(self, row: int) -> memoryview:
        """Return the bytes of one image."""
        return memoryview(self.files[row])


def _photograph(place: int, row: int) -> bytes:
    """Return a JPEG whose patches have the colours of its place, and its own."""
    shape = (PATCHES, PATCHES, 3)
    of_place = np.random.default_rng([SEED, place]).integers(20, 200, shape)
    of_image = np.random.default_rng([SEED + 1, row]).integers(0, 56, shape)
    patch = STORED_PIXELS // PATCHES
    pixels = (of_place + of_image).astype(np.uint8).repeat(patch, axis=0).repeat(patch, axis=1)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=90))


def student() -> LoadedModel:
    """Return the demo's student as it was born."""
    torch.manual_seed(SEED)
    model = build_model(ModelConfig(arch="convnext_micro", weights="none"), num_places=PLACES)
    return LoadedModel(
        model=to_device(model.eval(), torch.device("cpu")),
        name="student",
        role="alone",
        image_size=MODEL_PIXELS,
        resampling="opencv-linear",
        step=0,
        places=(),
        layout="university1652",
        recipe={},
        sha256="",
        path=Path("student"),
        run=None,
    )


def compare(verdict: Verdict, place: Tensor) -> None:
    """Sort plainly for some queries, ties behind, and assert the same ranks."""
    num_queries = len(verdict.query_rows)
    for query in range(0, num_queries, max(1, num_queries // COMPARED_QUERIES)):
        score_G = verdict.gallery_GD.double() @ verdict.query_QD[query].double()
        is_right_G = place[verdict.gallery_rows] == place[verdict.query_rows[query]]
        order_G = np.lexsort((is_right_G.numpy(), -score_G.numpy()))
        wanted = np.flatnonzero(is_right_G.numpy()[order_G]).tolist()
        assert verdict.ranking.of_query(query) == wanted, f"query {query} ranks differently"


def timed(run: Callable[[], Made]) -> tuple[Made, dict[str, float]]:
    """Return what `run` makes, and its wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = run()
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return made, {kind: round(seconds, 3) for kind, seconds in spent.items()}


def main() -> int:
    """Evaluate once and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", type=int, default=PLACES)
    places = parser.parse_args().places
    distractors = DISTRACTOR_PLACES * places // PLACES
    shards = JoinedShards(World(places=places, distractors=distractors))
    searches = find_searches(shards)
    setting = Setting(
        config=EvaluateConfig(checkpoint=Path("student"), shards="world"),
        loaded=student(),
        shards=shards,
        searches=searches,
        conditions=(),
        image_size=MODEL_PIXELS,
        resampling="opencv-linear",
        trained_on="university1652",
    )
    described, describing = timed(lambda: describe_all(setting))
    judged, ranking = timed(lambda: judge_all(setting, described))
    for verdict in judged.verdicts.values():
        compare(verdict, torch.from_numpy(shards.images.place))
    share = {kind: ranking[kind] / (describing[kind] + ranking[kind]) for kind in ranking}
    shape = {s.protocol.name: [len(s.query_rows), len(s.gallery_rows)] for s in searches.found}
    value = {
        "share of metrics": {kind: round(part, 4) for kind, part in share.items()},
        "seconds of describing": describing,
        "seconds of metrics": ranking,
        "queries x gallery": shape,
        "images": len(shards.images),
        "recall@1": {r.name: round(r.metrics["recall@1"], 3) for r in judged.results},
    }
    return report(
        "E9", value=value, must=f"<= {MUST} of CPU seconds", passed=share["cpu"] <= MUST, seed=SEED
    )


if __name__ == "__main__":
    sys.exit(main())
