"""The retrieval on a tiny world: report, table, panels, and that nothing is described twice."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data_shards.decode import decode, resize
from data_shards.errors import CheckpointError, DescriptorError, PlanError
from data_shards.progress import show_progress
from data_shards.schema import Role, View
from data_shards.shards import RowNumbers, ShardSet
from distill.config import DataConfig
from distill.models import RetrievalModel, normalize
from distill.run_folder import RunPaths
from distill.weights_file import load_student
from evaluation.cli import evaluate
from evaluation.describe import Descriptors, describe
from evaluation.joined_shards import JoinedShards
from evaluation.probe import RetrievalProbe
from evaluation.protocols import DRONE_TO_SATELLITE, find_searches
from evaluation.ranking import Ranking
from evaluation.report import Result, read_report
from evaluation.retrieval import result_of, tracked
from tests.evaluation import conftest

METRICS = {"recall@1", "recall@5", "recall@10", "recall@1%", "ap", "num_queries", "num_gallery"}


def described(model: RetrievalModel, shards: ShardSet, *rows: RowNumbers) -> Descriptors:
    with show_progress("", enabled=False) as progress:
        return describe(
            model,
            shards,
            rows,
            image_size=32,
            resampling="opencv-linear",
            batch_size=3,
            threads=2,
            progress=progress,
        )


def test_the_report_has_both_directions_with_and_without_distractors(
    run: RunPaths, shards: ShardSet, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--checkpoint", str(run.folder), "--shards", str(shards.folder), "--json"]
    assert evaluate([*arguments, "--no-mlflow", "--threads", "1"]) == 0
    values = json.loads(capsys.readouterr().out)
    folder = run.folder / "evaluations/university1652"
    assert values == json.loads((folder / "report.json").read_text())
    report = read_report(folder / "report.json")
    rows = {result.name: result for result in report.results}
    assert list(rows) == ["d2s", "s2d", "d2s/no-distractors", "s2d/no-distractors"]
    assert all(result.metrics.keys() == METRICS for result in report.results)
    assert [counts(result) for result in report.results] == [(12, 9), (6, 18), (12, 6), (6, 12)]
    assert rows["d2s"].chance == pytest.approx(1 / 9)
    assert rows["s2d"].chance == pytest.approx(2 / 18)
    assert rows["s2d/no-distractors"].chance == pytest.approx(2 / 12)
    assert (report.name, report.role, report.method) == ("newborn", "alone", "pfed")
    how = report.measurement
    assert (report.image_size, how.resampling, how.flip) == (32, "opencv-linear", False)
    assert (how.dataset, how.trained_on) == ("university1652", "university1652")
    assert how.shards_fingerprint == shards.fingerprint
    assert report.absent == ("street2s", "s2street", "street2d", "d2street")
    model = load_student(run.folder).model
    assert 0 < report.cost.parameters < sum(p.numel() for p in model.parameters())
    assert report.cost.macs > 0
    assert 0 <= report.ranking_seconds <= report.seconds
    assert {"retrieval_d2s.png", "retrieval_s2d.png"} <= {
        path.name for path in (folder / "figures").iterdir()
    }
    assert {path.suffix for path in folder.glob("report.*")} == {".json", ".md", ".tex"}


def test_no_row_stands_twice_where_nothing_is_left_out(
    run: RunPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "DISTRACTORS", 0)
    raw = conftest.write_university(tmp_path / "raw", has_street=False)
    shards = conftest.sharded(raw, "university1652")
    words = ["--checkpoint", run.folder, "--shards", shards.folder, "--no-figures", "--no-mlflow"]
    assert evaluate([str(word) for word in words]) == 0
    report = read_report(next(run.folder.glob("evaluations/*/report.json")))
    assert [result.name for result in report.results] == ["d2s", "s2d"]


def test_queries_without_a_right_image_are_counted(shards: ShardSet) -> None:
    search = find_searches(JoinedShards(shards)).found[0]
    ranks, offsets = torch.tensor([0, 3]), torch.tensor([0, 1, 1, 2, 2])
    row = result_of(search, Ranking(ranks_P=ranks, offsets=offsets, num_gallery=5))
    assert (row.num_unanswerable, row.metrics["recall@1"]) == (2, 0.25)


def counts(result: Result) -> tuple[float, float]:
    return result.metrics["num_queries"], result.metrics["num_gallery"]


def test_people_get_a_table(
    run: RunPaths, shards: ShardSet, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--checkpoint", str(run.weights), "--shards", str(shards.folder)]
    out = run.folder / "elsewhere" / "mine"
    assert evaluate([*arguments, "--out", str(out), "--no-figures", "--no-mlflow"]) == 0
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "report.tex"}
    shown = capsys.readouterr().out
    assert "drone to satellite" in shown
    assert "recall@1" in shown


def test_a_dry_run_writes_nothing(run: RunPaths, shards: ShardSet) -> None:
    before = sorted(run.folder.rglob("*"))
    assert (
        evaluate(["--checkpoint", str(run.folder), "--shards", str(shards.folder), "--dry-run"])
        == 0
    )
    assert sorted(run.folder.rglob("*")) == before


def test_metrics_reach_the_spool_under_names_that_mlflow_knows(
    run: RunPaths, shards: ShardSet
) -> None:
    arguments = ["--checkpoint", str(run.folder), "--shards", str(shards.folder), "--no-figures"]
    evaluate(arguments)
    entry = json.loads(run.metrics.read_text().splitlines()[-1])
    assert entry["step"] == 10
    assert {"test/d2s/recall_at_1", "test/s2d/recall_at_1_percent", "test/s2d/ap"} <= set(
        entry["metrics"]
    )
    evaluate([*arguments, "--flip", "--image-size", "48"])
    entry = json.loads(run.metrics.read_text().splitlines()[-1])
    # Another question than the plain one, so not under its name.
    assert "test-flip-48px/d2s/no-distractors/recall_at_1" in entry["metrics"]
    assert not any(name.startswith("test/") for name in entry["metrics"])
    assert tracked("a", {"recall@1%": 0.5, "num_queries": 3}) == {"a/recall_at_1_percent": 0.5}


def test_a_folder_without_weights_is_refused(run: RunPaths, shards: ShardSet) -> None:
    run.weights.unlink()
    with pytest.raises(CheckpointError, match="no trained model"):
        evaluate(["--checkpoint", str(run.folder), "--shards", str(shards.folder)])


def test_every_image_is_described_once_and_as_alone(run: RunPaths, shards: ShardSet) -> None:
    model = load_student(run.folder).model
    sides = DRONE_TO_SATELLITE.rows(shards.images)
    seen: list[int] = []
    original = shards.read

    def counted(row: int) -> "memoryview[int]":
        seen.append(row)
        return original(row)

    shards.read = counted  # type: ignore[method-assign]
    try:
        result = described(model, shards, *sides, *sides)
    finally:
        del shards.read
    wanted = np.unique(np.concatenate(sides))
    assert sorted(seen) == wanted.tolist()
    for row in (wanted[0], wanted[-1]):
        pixels = resize(decode(shards.read(int(row))), size=32, resampling="opencv-linear")
        with torch.no_grad():
            alone = model.describe(normalize(torch.from_numpy(pixels[None])))
        assert torch.allclose(result.of(np.array([row])), alone, atol=1e-5)


def test_broken_descriptors_are_refused_by_name(run: RunPaths, shards: ShardSet) -> None:
    model = load_student(run.folder).model
    model.backbone.stem[0].bias.data.fill_(float("nan"))  # type: ignore[index, union-attr]
    _, rows = DRONE_TO_SATELLITE.rows(shards.images)
    with pytest.raises(DescriptorError, match=r"9 of 9 descriptors .*0020/satellite"):
        described(model, shards, rows)


def test_the_probe_looks_at_held_out_training_places_only(run: RunPaths, shards: ShardSet) -> None:
    model = load_student(run.folder).model.train()
    data = DataConfig(image_size=32, global_batch=8, validation_fraction=0.3, threads=1)
    probe = RetrievalProbe(shards, data)
    measured = probe(model, 5)
    assert model.training
    assert {name.rsplit("/", 1)[0] for name in measured} == {"probe/d2s", "probe/s2d"}
    assert all(0 <= value <= 1 for value in measured.values())
    rows = np.concatenate(list(probe.rows.values()))
    assert (shards.images.roles[rows] == Role.TRAIN).all()
    assert [len(probe.rows[view]) for view in (View.SATELLITE, View.DRONE)] == [6, 12]


def test_a_probe_of_nothing_is_refused(shards: ShardSet) -> None:
    with pytest.raises(PlanError, match="holds out none"):
        RetrievalProbe(shards, DataConfig(validation_fraction=0.01))
