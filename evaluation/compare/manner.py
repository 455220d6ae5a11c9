"""How a report was measured: numbers compare only where all of this is the same."""

from collections.abc import Mapping, Sequence
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
