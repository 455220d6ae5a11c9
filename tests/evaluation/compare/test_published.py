"""The published numbers: as printed, with a source each, and shown where they belong."""

import pytest

from data_shards.layouts.published import PUBLISHED
from evaluation.compare.published import PublishedRow, ends, published


def row(method: str, dataset: str, trained_on: str) -> PublishedRow:
    return next(
        row
        for row in published().results
        if (row.method, row.dataset, row.trained_on) == (method, dataset, trained_on)
    )


def test_every_number_has_a_known_source_and_a_place_in_a_table() -> None:
    known = published()
    for entry in (*known.results, *known.costs):
        assert entry.source.cite
    for row in known.results:
        assert row.dataset in PUBLISHED and row.trained_on in PUBLISHED
        for name, metrics in row.values.items():
            assert name.split("/")[0] in ("d2s", "s2d")
            assert metrics.keys() <= {"recall@1", "ap"} and metrics
            assert all(0 < low <= high < 100 for low, high in map(ends, metrics.values()))


def test_counts_of_the_tables() -> None:
    known = published()
    kinds = [(row.dataset, row.trained_on != row.dataset) for row in known.results]
    assert kinds.count(("university1652", False)) == 14
    assert kinds.count(("sues200", True)) == 5
    assert kinds.count(("sues200", False)) == 11
    assert len(known.costs) == 19
    zero_shot = [row for row in known.results if row.trained_on != row.dataset]
    assert all(len(row.values) == 8 for row in zero_shot)


@pytest.mark.parametrize(
    ("method", "dataset", "trained_on", "name", "recall", "ap"),
    [
        ("PFED", "university1652", "university1652", "d2s", 93.87, 94.83),
        ("PFED", "university1652", "university1652", "s2d", 95.72, 92.57),
        ("PFED", "university1652", "university1652", "d2s/dark", 93.27, 94.34),
        ("PFED + refinement", "university1652", "university1652", "s2d/refined", 95.58, 96.27),
        ("DAC", "university1652", "university1652", "s2d", 96.43, 93.79),
        ("PFED", "sues200", "university1652", "s2d/250m", 98.75, 94.59),
        ("MEAN", "sues200", "university1652", "d2s/150m", 81.73, 87.72),
        ("MCCG", "sues200", "university1652", "s2d/300m", 87.50, 80.20),
        ("DAC", "sues200", "sues200", "d2s/150m", 96.80, 97.54),
        ("LCM", "sues200", "sues200", "s2d/150m", 57.50, 38.11),
    ],
)
def test_some_numbers_as_printed(method, dataset, trained_on, name, recall, ap) -> None:
    values = row(method, dataset, trained_on).values[name]
    assert values == {"recall@1": recall, "ap": ap}


def test_ranges_are_kept_and_numbers_from_memory_are_unverified() -> None:
    mccg = row("MCCG", "university1652", "university1652")
    assert mccg.values["d2s"]["recall@1"] == [89.40, 89.64]
    star = row("BiCrossNet (small star)", "university1652", "university1652")
    assert star.values == {"d2s": {"ap": [83.46, 83.49]}}
    assert star.source.trust == "digitised"
    unverified = [row for row in published().results if row.source.unverified]
    assert [(row.method, set(row.values)) for row in unverified] == [
        ("MCCG", {f"{way}/{height}m" for way in ("d2s", "s2d") for height in (200, 250, 300)})
    ]


def test_operations_are_per_image_only_where_that_is_known() -> None:
    costs = {(cost.method, cost.source.tag): cost for cost in published().costs}
    assert costs["MEAN", "bub"].operations_per_image == pytest.approx(13.09e9)
    assert costs["PFED", "bub"].operations_per_image == pytest.approx(4.45e9)
    assert costs["SDPL", "bub"].operations_per_image is None
    assert costs["BiCrossNet (small star)", "digit"].operations_per_image == pytest.approx(1.795e8)
    assert costs["PFED", "readme"].device == "NVIDIA AGX Orin"
