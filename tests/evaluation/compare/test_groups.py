"""Which runs are seeds of one experiment, and their mean and deviation."""

import math
from dataclasses import replace

import pytest

from evaluation.compare.collect import Entry, group_runs
from evaluation.compare.comparison import measured, search_column, value_of
from tests.evaluation.compare.conftest import make_report, result, university_results

RECIPE = {"data.image_size": "224", "optimizer.learning_rate": "0.001"}


def entry(name: str, seed: int, recipe: dict[str, str] | None = None, **more) -> Entry:
    recipe = RECIPE if recipe is None else recipe
    own = {"seed": str(seed), "name": name, "out": f"outputs/{name}"} if recipe else {}
    return Entry(
        report=make_report(name, seed=seed, **more), where=f"{name}.json", recipe=recipe | own
    )


def labels(*entries: Entry) -> dict[str, list[int]]:
    return {label: [run.report.seed for run in runs] for label, runs in group_runs(entries)}


@pytest.mark.parametrize(
    "pattern", ["student_seed{}", "student-s{}", "student/seed={}", "student seed {}", "student"]
)
def test_names_that_differ_in_the_seed_are_one_experiment(pattern: str) -> None:
    runs = [entry(pattern.format(seed), seed) for seed in (0, 1, 12)]
    assert labels(*runs) == {"student": [0, 1, 12]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (entry("net_1", 1), entry("net_2", 2)),
        (entry("net_seed1", 0), entry("net_seed2", 0)),
        (entry("lens1", 1), entry("lens2", 2)),
    ],
    ids=["a bare number", "a number that is not the seed", "the end of a word"],
)
def test_other_numbers_in_names_are_other_experiments(one: Entry, other: Entry) -> None:
    assert len(labels(one, other)) == 2


def test_folders_and_machines_may_differ_between_seeds() -> None:
    recipes = [
        RECIPE | {"teacher.run": f"outputs/teacher_seed{seed}", "data.threads": str(seed)}
        for seed in (0, 1)
    ]
    runs = [entry("student", seed, recipe) for seed, recipe in enumerate(recipes)]
    assert labels(*runs) == {"student": [0, 1]}


def test_another_recipe_is_another_row_whose_label_says_the_difference() -> None:
    faster = RECIPE | {"optimizer.learning_rate": "0.01"}
    told = labels(entry("a", 0), entry("a", 1), entry("a", 0, faster), entry("a", 1, faster))
    assert told == {"a (learning_rate 0.001)": [0, 1], "a (learning_rate 0.01)": [0, 1]}


def test_another_model_of_the_same_name_is_another_row() -> None:
    told = labels(entry("a", 0, {}), entry("a", 1, {}, arch="resnet50", image_size=384))
    assert told == {"a (arch convnext_tiny, px 224)": [0], "a (arch resnet50, px 384)": [1]}


def test_mean_and_sample_deviation_of_a_group() -> None:
    runs = [
        entry(f"a_seed{seed}", seed, results=university_results(recall))
        for seed, recall in enumerate((0.90, 0.91, 0.94))
    ]
    ((_, runs),) = group_runs(runs)
    d2s, _ = university_results()
    (cell,) = measured([run.report for run in runs], [search_column(d2s, "recall@1")]).values()
    assert cell.runs == 3
    assert cell.low == cell.high == pytest.approx(275 / 3)
    squares = sum((value - 275 / 3) ** 2 for value in (90, 91, 94))
    assert cell.deviation == pytest.approx(math.sqrt(squares / 2))
    fog = search_column(replace(d2s, condition="fog"), "ap")
    assert measured([run.report for run in runs], [fog]) == {}


def test_a_single_run_has_no_deviation_and_half_evaluated_ones_are_counted() -> None:
    fog = (*university_results(), result("d2s", 0.5, 0.4, (37_855, 951), condition="fog"))
    ((_, runs),) = group_runs([entry("a", 0), entry("a", 1, results=fog)])
    (cell,) = measured([run.report for run in runs], [search_column(fog[-1], "recall@1")]).values()
    assert (cell.low, cell.deviation, cell.runs) == (50, None, 1)


def test_draws_of_one_kind_are_one_number_of_a_report() -> None:
    draws = tuple(
        result("d2s", recall, 0.5, (701, 951), views="random-10", seed=seed)
        for seed, recall in enumerate((0.2, 0.4))
    )
    found = value_of(make_report(results=draws), search_column(draws[1], "recall@1"))
    assert found == pytest.approx(0.3)
