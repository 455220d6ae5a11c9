"""How a report was measured: numbers compare only where all of this is the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from data_shards.errors import RecipeError
from data_shards.layouts.published import PUBLISHED
from evaluation.compare.gather import Entry
from evaluation.result import CLEAN, Result

MOST_WHERE = 2
"""Reports that a sentence names for each way of measuring."""

WORDS = {
    "dataset": "data set",
    "trained_on": "trained on",
    "flip": "mirrored images added",
    "resampling": "resampling",
    "decoder": "decoder",
    "ties": "ties",
    "shards_fingerprint": "test images (fingerprint of the shards)",
    "distractors": "further distractors",
    "rerank": "re-ranking",
    "fusion": "choice of drone views",
    "conditions_version": "version of the weather and light",
}


MOST_FINGERPRINT = 12
"""Characters that tell one set of shards from another."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """Everything that changes what a number means."""

    dataset: str
    trained_on: str
    """The data set itself, or another: zero-shot; empty where it is not known."""

    flip: bool
    resampling: str
    decoder: str
    ties: str
    shards_fingerprint: str
    """Of the test images."""

    distractors: tuple[str, ...]
    rerank: tuple[str, ...]
    """Parameters of the re-ranked rows that are compared."""

    fusion: str
    """How drone views were chosen for the refined rows that are compared."""

    conditions_version: int
    """Of the weather and light of the rows that are compared; 0 where all are clean."""

    @property
    def is_zero_shot(self) -> bool:
        """Whether the models never saw the data set they were tested on."""
        return bool(self.trained_on) and self.trained_on != self.dataset

    @property
    def title(self) -> str:
        """In words: `SUES-200, zero-shot: trained on University-1652`."""
        if self.is_zero_shot:
            return f"{title_of(self.dataset)}, zero-shot: trained on {title_of(self.trained_on)}"
        known = "in-domain" if self.trained_on else "training data unknown"
        return f"{title_of(self.dataset)}, {known}"


def titles_of(manners: Sequence[Manner]) -> list[str]:
    """Return a title for each manner; those that would share one say in what they differ."""
    titles = []
    for manner in manners:
        rivals = [other for other in manners if other.title == manner.title]
        told = [
            say(manner)
            for name, say in DIFFERENCES.items()
            if len({getattr(rival, name) for rival in rivals}) > 1
        ]
        titles.append("; ".join([manner.title, *told]))
    return titles


def _parts(fingerprints: Sequence[str]) -> str:
    return ", ".join(one[:MOST_FINGERPRINT] for one in fingerprints)


DIFFERENCES: dict[str, Callable[[Manner], str]] = {
    "flip": lambda one: "mirrored images added" if one.flip else "no mirrored images",
    "resampling": lambda one: one.resampling,
    "decoder": lambda one: f"decoder {one.decoder}",
    "ties": lambda one: f"{one.ties} ties",
    "shards_fingerprint": lambda one: f"test images {_parts([one.shards_fingerprint])}",
    "distractors": lambda one: (
        f"further distractors {_parts(one.distractors)}"
        if one.distractors
        else "no further distractors"
    ),
    "rerank": lambda one: f"re-ranked: {', '.join(one.rerank)}" if one.rerank else "not re-ranked",
    "fusion": lambda one: f"drone views chosen by {one.fusion}" if one.fusion else "no views fused",
    "conditions_version": lambda one: (
        f"weather of version {one.conditions_version}" if one.conditions_version else "no weather"
    ),
}
"""Fact that a title may need to what it then says of it."""


def title_of(layout: str) -> str:
    """Return the name of a data set as people write it."""
    return PUBLISHED[layout].title if layout in PUBLISHED else layout


def manner_of(entry: Entry, results: Sequence[Result]) -> Manner:
    """Return how a report was measured, as far as the compared `results` go."""
    report = entry.report
    return Manner(
        dataset=report.dataset,
        trained_on=report.trained_on,
        flip=report.flip,
        resampling=report.resampling,
        decoder=report.decoder,
        ties=report.ties,
        shards_fingerprint=report.shards_fingerprint,
        distractors=tuple(sorted(report.distractors)),
        rerank=tuple(sorted({result.rerank for result in results if result.rerank})),
        fusion=report.fusion if any(r.views.startswith("refined") for r in results) else "",
        conditions_version=(
            report.conditions_version if any(r.condition != CLEAN for r in results) else 0
        ),
    )


def refuse_unlike(manners: Mapping[Manner, Sequence[Entry]]) -> None:
    """Refuse reports that were not all measured the same way.

    Raises:
        RecipeError: what differs, and in which reports.
    """
    if len(manners) < 2:
        return
    names = [field.name for field in fields(Manner)]
    differing = [name for name in names if len({getattr(one, name) for one in manners}) > 1]
    if "dataset" in differing:
        differing = ["dataset"]  # everything else about them may differ too
    told = "; ".join(_difference(name, manners) for name in differing)
    raise RecipeError(
        f"reports that were not measured alike do not compare: {told}; choose some with --dataset, "
        "evaluate them alike, or give --separate for a table each"
    )


def _difference(name: str, manners: Mapping[Manner, Sequence[Entry]]) -> str:
    """Say which value of one fact which reports have."""
    where: dict[object, list[str]] = {}
    for manner, entries in manners.items():
        where.setdefault(getattr(manner, name), []).extend(entry.where for entry in entries)
    told = []
    for value, names in where.items():
        more = f" and {len(names) - MOST_WHERE} more" if len(names) > MOST_WHERE else ""
        told.append(f"{_said(value)} in {', '.join(names[:MOST_WHERE])}{more}")
    return f"{WORDS[name]}: {' but '.join(told)}"


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(str(part)[:48] for part in value) or "none"
    return str(value)[:12] if len(str(value)) == 64 else str(value) or "unknown"
