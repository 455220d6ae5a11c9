"""The report of an evaluation: one JSON beside the weights, read back to compare. No torch."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from data_shards.errors import DescriptorError
from data_shards.manifest import write_json
from evaluation.efficiency import Cost, Speed

Built = TypeVar("Built")

SCHEMA_VERSION = 3
"""Raised whenever a key changes meaning."""

EVALUATIONS, REPORT_NAME = "evaluations", "report.json"
"""Beside the weights, one folder per evaluation, and the report in it."""

Gallery = Literal["full", "no-distractors"]
"""`full` keeps the places that nobody asks for, as the official evaluators do; `no-distractors`
leaves them out, as Sample4Geo, MEAN and their descendants do (spec pfed 1.3)."""

Pairing = Literal["query-network", "gallery-network", "asymmetric"]
"""Who described what: the one network, or that of `--gallery-checkpoint`, queries and gallery; or
the one the queries, and that the gallery."""

SINGLE, CLEAN = "single", "clean"
ONE_NETWORK: Pairing = "query-network"

METRICS = ("recall@1", "recall@5", "recall@10", "recall@1%", "ap")
"""As fractions, in the order of tables."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was searched, under which conditions, and what was found."""

    direction: str
    """`d2s` drone to satellite, `s2d` satellite to drone, `street2s`, ..."""

    title: str
    """In words: `drone to satellite`."""

    altitude_m: int | None = None
    """Height of the drone images in metres, where the protocol is split by it."""

    gallery: Gallery = "full"

    pairing: Pairing = ONE_NETWORK

    views: str = SINGLE
    """Drone images per description: `single`, `mean`, `random-10`, `refined-10`."""

    seed: int | None = None
    """Of the draw, where views were drawn."""

    condition: str = CLEAN
    """Weather or light that was laid over the drone queries."""

    rerank: str = ""
    """How the list was ranked again, with all parameters; empty for not at all."""

    metrics: Mapping[str, float]
    """recall@1/5/10/1% and ap as fractions, num_queries, num_gallery; where K drone views are
    chosen, also num_places that are fused and, of these, num_few_views that have no more than K."""

    num_unanswerable: int = 0
    """Queries without a right image in the gallery, which score 0."""

    chance: float
    """Recall@1 of a random order."""

    @property
    def name(self) -> str:
        """Short and unique within a report: `d2s`, `d2s/150m`, `s2d/no-distractors/asymmetric`."""
        words = {
            self.direction: True,
            f"{self.altitude_m}m": self.altitude_m is not None,
            self.gallery: self.gallery != "full",
            self.pairing: self.pairing != ONE_NETWORK,
            self.views: self.views != SINGLE,
            f"seed{self.seed}": self.seed is not None,
            self.condition: self.condition != CLEAN,
            "reranked": bool(self.rerank),
        }
        return "/".join(word for word, is_told in words.items() if is_told)

    @property
    def is_headline(self) -> bool:
        """Whether this is the plain official protocol: full gallery, one clean image, no tricks."""
        return replace(self, altitude_m=None).name == self.direction


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """On what and how numbers were measured: they compare only where all of this is the same."""

    dataset: str
    """Name of the data set."""

    protocol: str
    """Layout whose directions were searched: `university1652`, `sues200`."""

    is_official: bool
    """Whether it is the public data set of this layout, every count as published."""

    trained_on: str
    """Name of the data set of the training; empty where it is not known."""

    trained_official: str
    """Its layout, where it is a public data set, every count as published; else empty."""

    zero_shot: bool | None
    """Whether that is another data set; None where it is not known."""

    flip: bool
    """Whether mirrored images were described too, and added."""

    resampling: str
    aspect: str = "squeeze"
    """How images that are not square became so."""

    decoder: str
    ties: str = "pessimistic"
    shards_fingerprint: str
    """Of the test images."""

    distractors: tuple[str, ...] = ()
    """Fingerprints of further shards whose images joined the gallery, sorted."""

    rerank: str = ""
    """Parameters of the re-ranked rows, if there are any."""

    fusion: str = ""
    """How drone views were chosen for the `refined` rows, if there are any: `entropy, auto`."""

    conditions_version: int = 0
    """Of the weather and light in the rows, if there are any: other versions are other images."""

    @property
    def dataset_word(self) -> str:
        """The data set by signs that files and metrics of MLflow may be called."""
        return re.sub(r"[^\w.-]+", "_", self.dataset).strip("._") or self.protocol


@dataclass(frozen=True, kw_only=True)
class GalleryNetwork:
    """The second network, of `--gallery-checkpoint`: name and data set are of its training."""

    name: str
    arch: str
    trained_on: str
    image_size: int
    resampling: str
    aspect: str = "squeeze"
    checkpoint: str = field(compare=False)
    checkpoint_sha256: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything needed to read, compare and repeat one evaluation."""

    name: str
    """Of the run that trained the model."""

    method: str
    role: str
    arch: str
    seed: int
    """Of the training."""

    step: int
    measurement: Measurement
    seen_places: int = 0
    """Places among the queries that the model was trained on."""

    results: tuple[Result, ...]
    """Headline rows first, in the order of the protocol."""

    cost: Cost
    """Of the network that describes the queries, as all else that is said of a model here."""

    speed: tuple[Speed, ...] = ()
    """Of the same; empty unless it was asked for."""

    gallery_network: GalleryNetwork | None = None
    """Of the `gallery-network` and `asymmetric` rows, if there are any."""

    image_size: int
    descriptor_width: int
    distances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Headline row to how far its first answers lie from the truth, where places are known: shares
    within some metres, of guessing too, the median, and how many answers are of known and unknown
    position (not within), and queries of unknown position (left out)."""

    height_note: str = ""
    """Which drone images are left out, or searched together, for their heights."""

    absent: tuple[str, ...] = ()
    """Directions of the data set that the shards have no images for."""

    checkpoint: str
    checkpoint_sha256: str
    shards: str
    ranks: int
    """Processes that described."""

    seconds: float
    """Describing and ranking, without loading the model."""

    ranking_seconds: float
    """The part of it that was no describing."""

    schema_version: int = field(default=SCHEMA_VERSION)

    def headlines(self) -> tuple[Result, ...]:
        """Return the rows of the plain official protocol."""
        return tuple(result for result in self.results if result.is_headline)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values; every result carries its name too."""
        values = asdict(self)
        for result, row in zip(self.results, values["results"], strict=True):
            row["name"] = result.name
        values["cost"] |= {"flops": self.cost.flops, "ops": self.cost.ops}
        for speed, row in zip(self.speed, values["speed"], strict=True):
            row["images_per_second"] = speed.images_per_second
        return values

    def write(self, path: Path) -> None:
        """Write the report: aside, then renamed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, self.to_json())


def read_report(path: Path) -> Report:
    """Read what `Report.write` wrote.

    Raises:
        DescriptorError: the file is missing, no report, or of another schema version.
    """
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise DescriptorError(
            f"report {path} cannot be read ({error.strerror}); skydistill evaluate writes one"
        ) from error
    except ValueError as error:
        raise DescriptorError(f"{path} is no report of skydistill evaluate ({error})") from error
    return report_of(values, where=str(path))


def report_of(values: Any, *, where: str) -> Report:
    """Build a report from the values of `Report.to_json`.

    Raises:
        DescriptorError: they are of another schema version, or not those of a report.
    """
    if not isinstance(values, dict) or "schema_version" not in values:
        raise DescriptorError(f"{where} is no report of skydistill evaluate; leave it out")
    version = values["schema_version"]
    if version != SCHEMA_VERSION:
        raise DescriptorError(
            f"{where} is a report of schema version {version}, this program reads "
            f"{SCHEMA_VERSION}; evaluate again"
        )
    names = (*METRICS, "num_queries", "num_gallery")
    try:
        rows = values["results"]
        if not all(isinstance(row["metrics"][name], int | float) for row in rows for name in names):
            raise TypeError("a metric is no number")
        gallery, how = values["gallery_network"], values["measurement"]
        built = {
            "results": tuple(_only_fields(Result, row) for row in rows),
            "cost": _only_fields(Cost, values["cost"]),
            "speed": tuple(_only_fields(Speed, row) for row in values["speed"]),
            "gallery_network": gallery and GalleryNetwork(**gallery),
            "measurement": Measurement(**how | {"distractors": tuple(how["distractors"])}),
            "absent": tuple(values["absent"]),
        }
        values = {"height_note": ""} | values  # older reports have none
        given = {name: values[name] for name in Report.__dataclass_fields__}
        return Report(**given | built)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DescriptorError(f"{where} is a damaged report ({error}); evaluate again") from error


def _only_fields(kind: type[Built], values: Mapping[str, Any]) -> Built:
    """Build from values among which some are computed from the fields, such as a row's name."""
    names = values.keys() & getattr(kind, "__dataclass_fields__", {}).keys()
    return kind(**{name: values[name] for name in names})
