"""Goal E9: the share of a whole evaluation that is no describing.

University-1652 in full size (701 places that are asked for and 250 that are not, 54 drone views
each: 52,305 images, four searches), twice: by the student of the demo, the smallest model there is,
at 64 px and from images of 128 px, all of it measured, which is the largest share that anybody will
see; and by PFED's student (ConvNeXt-T, 224 px), of which a few hundred images are described and
the seconds scaled to all. The goal is asked of the second, the first is told. `--places N` takes
that share of the world, for a first look; the line says the shape. Every image is its own, in the
colours of its place, so that no two descriptors tie. The ranks of some queries are compared with a
plain sort in float64.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
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
from distill.config import ModelConfig
from distill.models import build_model, to_device
from distill.weights_file import LoadedModel, TrainingData
from evaluation.config import EvaluateConfig
from evaluation.evaluate import describe_all, search_all
from evaluation.inputs import EvaluationInputs
from evaluation.joined_shards import JoinedShards
from evaluation.protocols import find_searches
from evaluation.retrieval import Retrieval

MUST, SEED = 0.02, 0
SMALLEST, PFED = ("convnext_micro", 64), ("convnext_tiny", 224)
SAMPLED_PLACES = 4
PLACES, DISTRACTOR_PLACES, VIEWS = 701, 250, 54
STORED_PIXELS, PATCHES = 128, 8
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
            digest=nothing.astype(np.uint64),
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


def student(arch: str, pixels: int) -> LoadedModel:
    """Return a student as it was born."""
    torch.manual_seed(SEED)
    model = build_model(ModelConfig(arch=arch, weights="none"), num_places=PLACES)
    return LoadedModel(
        model=to_device(model.eval(), torch.device("cpu")),
        name="student",
        role="alone",
        image_size=pixels,
        resampling="opencv-linear",
        aspect="squeeze",
        step=0,
        places=(),
        trained_on=TrainingData(),
        recipe={},
        sha256="",
        descriptor_space="",
        path=Path("student"),
        run=None,
    )


def compare(retrieval: Retrieval, place: Tensor) -> None:
    """Sort plainly for some queries, ties behind, and assert the same ranks."""
    num_queries = len(retrieval.query_rows)
    for query in range(0, num_queries, max(1, num_queries // COMPARED_QUERIES)):
        score_G = retrieval.gallery_GD.double() @ retrieval.query_QD[query].double()
        is_right_G = place[retrieval.gallery_rows] == place[retrieval.query_rows[query]]
        order_G = np.lexsort((is_right_G.numpy(), -score_G.numpy()))
        wanted = np.flatnonzero(is_right_G.numpy()[order_G]).tolist()
        assert retrieval.ranking.of_query(query) == wanted, f"query {query} ranks differently"


def timed(run: Callable[[], Made]) -> tuple[Made, dict[str, float]]:
    """Return what `run` makes, and its wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = run()
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return made, {kind: round(seconds, 3) for kind, seconds in spent.items()}


def evaluation(shards: JoinedShards, arch: str, pixels: int) -> EvaluationInputs:
    """Return the plain evaluation of a student."""
    return EvaluationInputs(
        config=EvaluateConfig(checkpoint=Path("student"), shards="world"),
        loaded=student(arch, pixels),
        shards=shards,
        searches=find_searches(shards),
        conditions=(),
        image_size=pixels,
        resampling="opencv-linear",
    )


def pfed_seconds_per_image() -> tuple[dict[str, float], int]:
    """Describe a small world by PFED's student: wall and CPU seconds of one image, and how many."""
    shards = JoinedShards(World(places=SAMPLED_PLACES, distractors=1))
    inputs = evaluation(shards, *PFED)
    _, spent = timed(lambda: describe_all(inputs))
    num_images = len(shards.images)
    return {kind: seconds / num_images for kind, seconds in spent.items()}, num_images


def main() -> int:
    """Evaluate once and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", type=int, default=PLACES)
    places = parser.parse_args().places
    shards = JoinedShards(World(places=places, distractors=DISTRACTOR_PLACES * places // PLACES))
    inputs = evaluation(shards, *SMALLEST)
    described, describing = timed(lambda: describe_all(inputs))
    searched, ranking = timed(lambda: search_all(inputs, described))
    for retrieval in searched.retrievals.values():
        compare(retrieval, torch.from_numpy(shards.images.place))
    per_image, num_sampled = pfed_seconds_per_image()
    of_pfed = {kind: round(len(shards.images) * one) for kind, one in per_image.items()}
    share = {
        "PFED's student, 224 px": shares(ranking, of_pfed),
        "smallest model, 64 px": shares(ranking, describing),
    }
    found = inputs.searches.found
    value = {
        "share of metrics": share,
        "seconds of metrics": ranking,
        "seconds of describing, smallest model": describing,
        f"seconds of describing, PFED's student, from {num_sampled} images": of_pfed,
        "queries x gallery": {
            s.protocol.name: [len(s.query_rows), len(s.gallery_rows)] for s in found
        },
        "images": len(shards.images),
        "recall@1": {r.name: round(r.metrics["recall@1"], 3) for r in searched.results},
    }
    searched_share = share["PFED's student, 224 px"]["cpu"]
    must = f"PFED's student <= {MUST} of CPU seconds; the smallest model told"
    return report("E9", value=value, must=must, passed=searched_share <= MUST, seed=SEED)


def shares(ranking: Mapping[str, float], describing: Mapping[str, float]) -> dict[str, float]:
    """Return the share of ranking, by wall and by CPU seconds."""
    return {kind: round(ranking[kind] / (describing[kind] + ranking[kind]), 5) for kind in ranking}


if __name__ == "__main__":
    sys.exit(main())
