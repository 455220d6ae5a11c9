"""`skydistill compare`, from reports to what is printed and written."""

import json
import re
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from distill.run_folder import RunPaths
from distill.tracking import Tracker
from tests.evaluation.compare.conftest import (
    make_report,
    result,
    sues_results,
    university_results,
)


def numbers(table: dict, label: str) -> dict[tuple[str, str], dict]:
    (row,) = [row for row in table["rows"] if row["label"] == label]
    return {(number["row"], number["metric"]): number for number in row["numbers"]}


def test_seeds_become_mean_and_deviation_and_the_best_is_marked(compare, two_models) -> None:
    table = compare(two_models, "--json", "--no-published").table
    small, large = numbers(table, "small"), numbers(table, "large")
    assert small["d2s", "recall@1"]["low"] == pytest.approx(91)
    assert small["d2s", "recall@1"]["deviation"] == pytest.approx(1)
    assert small["d2s", "recall@1"]["runs"] == 3
    assert large["s2d", "ap"]["low"] == pytest.approx(95)
    best = {key: large[key]["is_best"] for key in large}
    assert best == {key: not small[key]["is_best"] or key[1] == "px" for key in small} | {
        ("", "px"): False
    }
    assert small["", "parameters"]["is_best"] and small["", "images_per_second"]["is_best"]
    assert large["d2s", "recall@1"]["is_best"]


def test_what_reads_the_same_is_equally_good(compare, run_folder) -> None:
    for name, recall in (("a", 0.900000), ("b", 0.900001), ("c", 0.89)):
        folder = run_folder(f"runs/{name}", make_report(name, results=university_results(recall)))
    table = compare(folder.parent, "--json", "--no-published").table
    marked = [numbers(table, name)["d2s", "recall@1"]["is_best"] for name in "abc"]
    assert marked == [True, True, False]


def test_a_single_row_has_no_best(compare, run_folder) -> None:
    table = compare(run_folder("a", make_report()), "--json").table
    assert not any(number["is_best"] for row in table["rows"] for number in row["numbers"])


def test_published_numbers_stand_beside_and_do_not_compete(compare, two_models) -> None:
    table = compare(two_models, "--json").table
    pfed = next(row for row in table["rows"] if row["label"] == "PFED")
    assert pfed["is_published"] and pfed["gallery"] == "unstated" and "2510.22582" in pfed["source"]
    assert numbers(table, "MEAN")["", "ops"]["low"] == pytest.approx(13.09e9)
    assert numbers(table, "PFED")["d2s", "ap"]["low"] == 94.83 > 93
    best = [
        row["label"]
        for row in table["rows"]
        for number in row["numbers"]
        if (number["row"], number["metric"]) == ("d2s", "ap") and number["is_best"]
    ]
    assert best == ["large"]
    mean = next(row for row in table["rows"] if row["label"] == "MEAN")
    cited = {number["metric"]: number.get("source", mean["source"]) for number in mean["numbers"]}
    assert "leaderboard" in cited["ap"] and "speed-accuracy chart" in cited["ops"]


def test_a_published_number_stands_once_below_the_gallery_it_was_found_in(
    compare, run_folder
) -> None:
    near = result("d2s", 0.95, 0.95, (37_855, 701), gallery="no-distractors")
    folder = run_folder("a", make_report("a", results=(*university_results(), near)))
    both = ("d2s", "d2s/no-distractors")

    def columns(method: str, *asked: str) -> set[str]:
        table = compare(folder, "--json", "--results", *asked).table
        return {row for row, _ in numbers(table, method)} & set(both)

    assert columns("DAC", *both) == {"d2s/no-distractors"}
    assert columns("MCCG", *both) == {"d2s"}
    assert columns("PFED", *both) == set(both), "nobody knows which"
    assert columns("DAC", "d2s") == {"d2s"}, "beside ours, its gallery said"


def test_rows_that_the_first_report_lacks_are_counted_and_compared_too(compare, run_folder) -> None:
    fused = result("d2s", 0.97, 0.97, (701, 951), views="refined-10")
    fog = university_results(condition="fog")
    for name, more in (("a", fog), ("b", (fused,))):
        rows = (*university_results(), *more)
        folder = run_folder(f"runs/{name}", make_report(name, results=rows)).parent
    table = compare(folder, "--results", "d2s/fog", "d2s/refined-10", "--json").table
    assert "PFED + refinement" in [row["label"] for row in table["rows"]]
    assert any("D2S fused 701 queries" in note for note in table["notes"])


def test_zero_shot_stands_beside_zero_shot(compare, run_folder) -> None:
    report = make_report(dataset="sues200", results=sues_results())
    table = compare(run_folder("a", report), "--json").table
    assert table["title"] == "SUES-200, zero-shot: trained on University-1652"
    assert numbers(table, "PFED")["d2s/150m", "recall@1"]["low"] == 79.85
    assert "LCM" not in [row["label"] for row in table["rows"]], "in-domain only"


def test_published_numbers_need_the_public_test_set(compare, run_folder) -> None:
    tiny = (result("d2s", 0.5, 0.4, (400, 80)), result("s2d", 0.5, 0.4, (60, 400)))
    report = make_report(results=tiny, is_official=False, dataset="my city")
    table = compare(run_folder("a", report), "--json").table
    assert not any(row["is_published"] for row in table["rows"])
    said = "published numbers are left out: my city is not the official test set"
    assert said in table["notes"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"flip": True}, r"flip no in .*a.* but yes in .*b.*--dataset"),
        ({"resampling": "pillow-bicubic"}, "resampling opencv-linear in .* but pillow-bicubic in"),
        ({"shards_fingerprint": "e" * 64}, "shards fingerprint f{12} in .* but e{12} in"),
        ({"trained_on": "sues200"}, "trained on University-1652 in .* but SUES-200 in"),
        ({"dataset": "sues200", "flip": True}, r"alike do not compare: dataset .*a.* but [^;]*;"),
        ({"dataset": "my city"}, "dataset University-1652 in .*a.* but my city in .*b"),
        ({"distractors": ("d" * 64,)}, "distractors none in .* but dddd"),
        ({"decoder": "another", "ties": "x"}, "decoder .* but another .*; ties pess.* but x in"),
    ],
)
def test_reports_measured_differently_are_refused(compare, run_folder, change, sentence) -> None:
    run_folder("runs/a", make_report("a"))
    folder = run_folder("runs/b", make_report("b", **change)).parent
    assert re.search(sentence, compare(folder).sentence)


def test_re_ranked_rows_compare_only_with_the_same_parameters(compare, run_folder) -> None:
    for name, words in (("a", "top 100"), ("b", "top 50")):
        rows = (*university_results(), *university_results(rerank=words))
        folder = run_folder(f"runs/{name}", make_report(name, results=rows, rerank=words)).parent
    assert compare(folder).code == 0, "they are not among the rows by default"
    told = compare(folder, "--results", "d2s/reranked").sentence
    assert "rerank top 100 in" in told


def test_weather_of_two_versions_is_not_the_same_weather(compare, run_folder) -> None:
    for name, version in (("a", 1), ("b", 2)):
        rows = (*university_results(), *university_results(condition="fog"))
        report = make_report(name, results=rows, conditions_version=version)
        folder = run_folder(f"runs/{name}", report).parent
    assert compare(folder).code == 0
    told = compare(folder, "--results", "d2s/fog").sentence
    assert "conditions version 1 in" in told
    table = compare(folder / "a", "--results", "d2s", "d2s/fog", "--json").table
    assert numbers(table, "a")["d2s/fog", "ap"]["low"] == pytest.approx(89)
    assert ("d2s/fog", "ap") not in numbers(table, "PFED"), "its fog has other pixels"
    assert "none that compare" in compare(folder / "a", "--results", "d2s/fog").out


def test_data_sets_are_chosen_and_rows_too(compare, run_folder) -> None:
    run_folder("runs/a", make_report("a"))
    sues = make_report("a", dataset="sues200", results=sues_results())
    folder = run_folder("runs/a", sues, name="sues200").parent
    table = compare(folder, "--dataset", "SUES-200", "--json", "--results", "s2d/150m").table
    assert set(numbers(table, "a")) == {
        ("s2d/150m", "recall@1"),
        ("s2d/150m", "ap"),
        ("", "px"),
        ("", "parameters"),
        ("", "ops"),
    }
    assert "did you mean 'SUES-200'" in compare(folder, "--dataset", "SUES").sentence
    told = compare(folder, "--dataset", "SUES-200", "--results", "d2s/150").sentence
    assert "did you mean 'd2s/150m'" in told
    assert "did you mean 'recall@1'" in compare(folder, "--metrics", "recall1").sentence


def test_views_chosen_in_two_ways_are_not_the_same_fusion(compare, run_folder) -> None:
    fused = result("d2s", 0.97, 0.97, (701, 951), views="refined-10")
    for name, way in (("a", "entropy, auto"), ("b", "distance, auto")):
        report = make_report(name, results=(*university_results(), fused), fusion=way)
        folder = run_folder(f"runs/{name}", report).parent
    assert compare(folder).code == 0
    told = compare(folder, "--results", "d2s/refined-10")
    assert "fusion entropy, auto in" in told.sentence
    table = compare(folder / "a", "--results", "d2s/refined-10", "--json").table
    assert [row["label"] for row in table["rows"]] == ["a", "PFED + refinement"]


def test_rows_from_the_street_are_shown_when_asked(compare, run_folder) -> None:
    street = result("d2s", 0.1, 0.1, (2_579, 951))
    rows = (*university_results(), replace(street, direction="street2s"))
    folder = run_folder("a", make_report("a", results=rows))
    assert "STREET2S" not in compare(folder).out
    table = compare(folder, "--results", "all", "--json").table
    assert numbers(table, "a")["street2s", "recall@1"]["low"] == 10
    assert any(row["is_published"] for row in table["rows"]), "d2s is the public one"


def test_reports_without_the_rows_are_named(compare, two_models, run_folder) -> None:
    rows = (*university_results(), *university_results(condition="dark"))
    run_folder("runs/other", make_report("other", results=rows))
    told = compare(two_models, "--results", "d2s/dark", "--json")
    assert [row["label"] for row in told.table["rows"]] == ["other"]
    assert "5 reports have none of these rows" in told.err and "small1" in told.err


def test_a_repeated_report_counts_once(compare, two_models) -> None:
    told = compare(two_models, two_models / "small0", "--json", "--no-published")
    assert numbers(told.table, "small")["d2s", "ap"]["runs"] == 3
    assert "1 of 6 reports are of the same weights as another" in told.err


def test_two_evaluations_of_one_model_are_one_row(compare, run_folder) -> None:
    plain = result("d2s", 0.9, 0.91, (37_855, 951))
    fog, again = (replace(plain, condition="fog"), replace(plain, rerank="k-reciprocal"))
    one = make_report("a", results=(plain, fog), conditions_version=1)
    folder = run_folder("runs/a", one).parent
    other = make_report("a", results=(plain, again), rerank="k-reciprocal")
    run_folder("runs/a", other, name="again")
    told = compare(folder, "--json", "--no-published", "--results", "d2s/fog", "d2s/reranked")
    assert numbers(told.table, "a").keys() >= {("d2s/fog", "ap"), ("d2s/reranked", "ap")}
    other = make_report("a", results=(plain,), conditions_version=2)
    run_folder("runs/a", other, name="again")
    assert compare(folder, "--no-published", "--results", "d2s/fog").code == 0


def test_an_experiment_is_asked_of_mlflow_alone(compare, two_models) -> None:
    told = compare(two_models, "--experiment", "E").sentence
    assert "--experiment is about MLflow; give --tracking-uri, or no reports" in told


def test_two_runs_of_one_seed_are_told(compare, run_folder) -> None:
    for number in range(2):
        report = make_report("a", checkpoint_sha256=str(number))
        folder = run_folder(f"runs/{number}", report).parent
    assert "a holds runs of one seed more than once (seeds 0, 0)" in compare(folder).out


def test_nothing_to_compare_is_told(compare, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "nothing to compare: give reports" in compare().sentence
    (tmp_path / "University-1652").mkdir()  # a raw folder gives its data set its name
    assert "nothing to compare" in compare("--dataset", "University-1652").sentence
    (tmp_path / "run").mkdir()
    assert "run holds no report" in compare("run").sentence
    assert "cannot be read" in compare("nowhere.json").sentence
    (tmp_path / "old.json").write_text('{"schema_version": 1}')
    assert "schema version 1" in compare("old.json").sentence
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    "break_it",
    [
        lambda values: values.update(results=["d2s"]),
        lambda values: values["results"][0].update(metrics=None),
        lambda values: values["results"][0]["metrics"].pop("ap"),
        lambda values: values["results"][1]["metrics"].update(ap="high"),
        lambda values: values.update(cost=[]),
        lambda values: values["cost"].pop("macs"),
    ],
    ids=["words", "no metrics", "a metric missing", "a word for a metric", "no cost", "no MACs"],
)
def test_a_damaged_report_is_told(compare, run_folder, break_it) -> None:
    path = run_folder("a", make_report()) / "evaluations/university1652/report.json"
    values = json.loads(path.read_text())
    break_it(values)
    path.write_text(json.dumps(values))
    assert "is a damaged report" in compare(path).sentence


def test_what_is_no_report_or_holds_nothing_is_told(compare, run_folder, tmp_path) -> None:
    (tmp_path / "list.json").write_text("[]")
    assert "is no report of skydistill evaluate" in compare(tmp_path / "list.json").sentence
    empty = run_folder("a", make_report(results=()))
    assert "hold no results" in compare(empty).sentence


def test_a_report_behind_a_list_is_not_taken_for_a_word_of_it(compare, two_models) -> None:
    told = compare("--results", "d2s", two_models).sentence
    assert f"{two_models} was taken for a word of --results" in told


@pytest.mark.parametrize("name", ["dataset", "results", "metrics"])
@pytest.mark.parametrize("empty", [("",), ("[]",), ()], ids=["a word", "a list", "nothing"])
def test_a_list_of_nothing_is_refused_and_not_taken_for_all(
    compare, two_models, name, empty
) -> None:
    told = compare(two_models, f"--{name}", *empty).sentence
    assert f"--{name} names none; give some, or leave it out" in told


def test_contradictions_are_told(compare) -> None:
    assert "--json and --format csv" in compare("--json", "--format", "csv").sentence
    assert "--experiment is about MLflow" in compare("a.json", "--experiment", "E").sentence


def test_runs_of_mlflow_are_compared_and_those_without_evaluation_named(
    compare, tmp_path, monkeypatch
) -> None:
    uri = f"sqlite:///{tmp_path / 'outputs' / 'mlflow.db'}"
    recipe = {"optimizer.learning_rate": "0.1"}
    for name, seed in (("student_seed0", 0), ("student_seed1", 1), ("teacher", 0)):
        paths = RunPaths(tmp_path / "outputs" / name)
        paths.folder.mkdir(parents=True)
        tracker = Tracker(paths)
        params = recipe | {"seed": str(seed), "name": name}
        tracker.start(name=name, experiment="E", uri=uri, params=params, tags={})
        if name != "teacher":
            report = make_report(name, seed=seed, results=university_results(0.9 + seed / 50))
            report.write(tmp_path / "report.json")
            tracker.log_artifact(tmp_path / "report.json", folder="evaluations/test")
        tracker.finish("FINISHED" if name != "teacher" else "KILLED")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    told = compare("--experiment", "E", "--json", "--no-published")
    assert numbers(told.table, "student")["d2s", "recall@1"]["low"] == pytest.approx(91)
    assert "1 of 3 runs of E have no evaluation: teacher (KILLED)" in told.err
    assert json.loads(told.out)["left_out"]

    client = MlflowClient(uri)
    (run, *_) = client.search_runs([client.get_experiment_by_name("E").experiment_id])
    (tmp_path / "report.json").write_text('{"schema_version": 3, "resu')
    client.log_artifact(run.info.run_id, str(tmp_path / "report.json"), "evaluations/cut")
    told = compare("--experiment", "E", "--json", "--no-published")
    assert numbers(told.table, "student")["d2s", "recall@1"]["runs"] == 2
    assert "cut of MLflow run" in told.err and "is no report" in told.err
    assert "'F' is unknown" in compare("--experiment", "F", "--tracking-uri", uri).sentence
