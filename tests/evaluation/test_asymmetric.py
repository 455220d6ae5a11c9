"""A student's queries in its teacher's gallery: rows of their own, and no search between spaces."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from data_shards.decode import decode, resize
from data_shards.errors import DescriptorError, RecipeError
from data_shards.recipe import build_config
from data_shards.shards import RowNumbers, ShardSet
from distill.config import DistillConfig
from distill.models import build_model, normalize
from distill.run_folder import RunPaths, open_run_folder
from distill.weights_file import WEIGHTS_FORMAT, load_student, save_weights
from evaluation.cli import evaluate
from evaluation.config import EvaluateConfig
from evaluation.protocols import DRONE_TO_SATELLITE, SATELLITE_TO_DRONE
from evaluation.report import read_report, report_of
from evaluation.tables import latex, markdown
from launch.main import main
from tests.distill.conftest import launch
from tests.evaluation.conftest import Command, Evaluated

PAIRINGS = ("query-network", "gallery-network", "asymmetric")
ENTRY_POINT = Path(__file__).parents[2] / "evaluation/run.py"


@pytest.fixture
def teacher(run: RunPaths, tmp_path: Path) -> RunPaths:
    """A teacher that looks at 48 px; the student of `run` has its weights and noise, at 32 px."""
    student = load_student(run.folder)
    looks = {"image_size": 48, "resampling": "pillow-bicubic"}
    changes = {"name": "teacher", "out": str(tmp_path / "teacher")}
    values = student.recipe | changes | {"data": student.recipe["data"] | looks}
    config = build_config(DistillConfig, values, where="test")
    paths = open_run_folder(config, world_size=1)
    torch.manual_seed(0)
    model = build_model(config.model, num_places=len(student.places))
    facts = {"places": student.places, "trained_on": student.trained_on, "step": student.step}
    save_weights(paths.weights, paths.card, model, config, **facts)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(weight.abs().mean() * torch.randn_like(weight))
    of_student = build_config(DistillConfig, student.recipe, where="test")
    space = load_student(paths.folder).descriptor_space
    save_weights(run.weights, run.card, model, of_student, **facts, descriptor_space=space)
    return paths


def described(run: RunPaths, shards: ShardSet, rows: RowNumbers) -> np.ndarray:
    """Describe image by image, at the size of the network."""
    loaded = load_student(run.folder)
    size = {"size": loaded.image_size, "resampling": loaded.resampling}
    images = np.stack([resize(decode(shards.read(int(row))), **size) for row in rows])
    with torch.no_grad():
        return loaded.model.describe(normalize(torch.from_numpy(images))).double().numpy()


def searched(query_QD, gallery_GD, is_right_QG) -> dict[str, float]:
    """Sort each list, and read recall and AP off it, place by place."""
    recalls, precisions = [], []
    for query_D, is_right_G in zip(query_QD, is_right_QG, strict=True):
        found = is_right_G[np.argsort(-(gallery_GD @ query_D))]
        ranks = np.flatnonzero(found)
        recalls.append([ranks[0] < k for k in (1, 5, 10)])
        halves = [
            ((number / rank if rank else 1.0) + (number + 1) / (rank + 1)) / 2
            for number, rank in enumerate(ranks)
        ]
        precisions.append(np.mean(halves))
    names = ("recall@1", "recall@5", "recall@10")
    values = np.mean(recalls, axis=0).tolist()
    return dict(zip(names, values, strict=True)) | {"ap": float(np.mean(precisions))}


def test_each_pairing_is_searched_as_by_hand(
    evaluated: Evaluated, run: RunPaths, teacher: RunPaths, shards: ShardSet
) -> None:
    report = evaluated("--gallery-checkpoint", teacher.folder)
    rows = {row["name"]: row for row in report["results"]}
    assert [(row["direction"], row["gallery"], row["pairing"]) for row in report["results"]] == [
        (direction, gallery, pairing)
        for pairing in PAIRINGS
        for gallery in ("full", "no-distractors")
        for direction in ("d2s", "s2d")
    ]
    assert len(rows) == 12
    networks = dict(zip(PAIRINGS, ((run, run), (teacher, teacher), (run, teacher)), strict=True))
    images = shards.images
    for protocol in (DRONE_TO_SATELLITE, SATELLITE_TO_DRONE):
        query_rows, gallery_rows = protocol.rows(images)
        is_right_QG = images.place[gallery_rows] == images.place[query_rows][:, None]
        is_asked_G = is_right_QG.any(axis=0)
        aps = []
        for pairing, (asking, answering) in networks.items():
            query_QD = described(asking, shards, query_rows)
            gallery_GD = described(answering, shards, gallery_rows)
            after = "" if pairing == "query-network" else f"/{pairing}"
            wanted = searched(query_QD, gallery_GD, is_right_QG)
            assert measured(rows[f"{protocol.name}{after}"]) == pytest.approx(wanted)
            aps.append(wanted["ap"])
            wanted = searched(query_QD, gallery_GD[is_asked_G], is_right_QG[:, is_asked_G])
            found = measured(rows[f"{protocol.name}/no-distractors{after}"])
            assert found == pytest.approx(wanted)
        assert aps[2] < min(aps[:2]), "the noise is seen"


def measured(row: dict) -> dict[str, float]:
    return {name: row["metrics"][name] for name in ("recall@1", "recall@5", "recall@10", "ap")}


def test_the_report_says_who_is_who(
    evaluated: Evaluated, run: RunPaths, teacher: RunPaths, sues_shards: ShardSet
) -> None:
    plain = evaluated(on=sues_shards)
    values = evaluated("--gallery-checkpoint", teacher.weights, on=sues_shards)
    report = read_report(run.folder / "evaluations/sues200/report.json")
    assert json.loads(json.dumps(report.to_json())) == values
    same = ("cost", "image_size", "measurement", "checkpoint_sha256", "name")
    assert [values[name] for name in same] == [plain[name] for name in same], "of the student"
    assert (report.image_size, report.gallery_network.image_size) == (32, 48)
    assert report.gallery_network.resampling == "pillow-bicubic"
    assert report.gallery_network.checkpoint_sha256 == load_student(teacher.folder).sha256
    assert values["results"][: len(plain["results"])] == plain["results"]
    names = {result.name for result in report.results}
    assert {"s2d/300m/asymmetric", "d2s/150m/no-distractors/gallery-network"} <= names
    assert [result.pairing for result in report.headlines()] == ["query-network"] * 4
    for text in (markdown(report), latex(report)):
        assert "asymmetric: queries by the query network" in text
        assert "query network: " in text
        assert "gallery network: teacher, convnext" in text
        assert "images of 48 px, pillow-bicubic" in text
    assert "network" not in markdown(report_of(plain, where="the plain one"))


def test_compare_keeps_the_pairings_apart(
    evaluated: Evaluated, run: RunPaths, teacher: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    values = evaluated("--gallery-checkpoint", teacher.folder)
    network = values["gallery_network"]
    further = {
        "seed1": {"seed": 1, "checkpoint_sha256": "1"},
        # Of the same weights: with the teacher at another path, without one, and with another.
        "moved": {"gallery_network": network | {"checkpoint": "elsewhere"}},
        "plain": {"gallery_network": None, "results": values["results"][:4]},
        "other": {
            "gallery_network": network | {"checkpoint_sha256": "2"},
            "results": [values["results"][-1] | {"direction": "street2s"}],
        },
    }
    for name, changes in further.items():
        folder = run.folder / f"evaluations/{name}"
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps(values | changes))
    rows = ["d2s", "d2s/gallery-network", "d2s/asymmetric"]
    words = ["--results", *rows, "--metrics", "ap", "--json", "--no-published"]
    assert main(["compare", str(run.folder), *words]) == 0
    table = json.loads(capsys.readouterr().out)
    (row,) = table["rows"]
    found = {one["row"]: one for one in row["numbers"] if one["metric"] == "ap"}
    assert {name: one["runs"] for name, one in found.items()} == dict.fromkeys(rows, 2)
    wanted = {one["name"]: 100 * one["metrics"]["ap"] for one in values["results"]}
    assert {name: one["low"] for name, one in found.items()} == pytest.approx(
        {name: wanted[name] for name in rows}
    )
    assert (
        main(["compare", str(run.folder), "--results", "street2s/no-distractors/asymmetric"]) == 2
    )
    assert "is unknown" in capsys.readouterr().err, "rows of two gallery networks are no report"


def test_two_ranks_give_the_report_of_one(
    evaluated: Evaluated, run: RunPaths, teacher: RunPaths, shards: ShardSet, tmp_path: Path
) -> None:
    words = ["--gallery-checkpoint", teacher.folder, "--batch-size", "4"]
    alone = evaluated(*words)
    out = tmp_path / "together"
    words += ["--checkpoint", run.folder, "--shards", shards.folder, "--out", out]
    ended = launch(ENTRY_POINT, *words, "--no-figures", "--no-mlflow", "--threads", "1")
    assert ended.code == 0, ended.output
    together = json.loads((out / "report.json").read_text())
    differing = {name for name in alone if alone[name] != together[name]}
    assert differing <= {"ranks", "seconds", "ranking_seconds"}
    assert together["ranks"] == 2


def test_the_plan_knows_the_second_network(
    command: Command, teacher: RunPaths, caplog: pytest.LogCaptureFixture
) -> None:
    paired = command("--gallery-checkpoint", teacher.folder, "--no-figures")
    with caplog.at_level("INFO"):
        evaluate([*paired, "--dry-run"])
        assert "would describe 27 images with newborn at 32 px (opencv-linear)" in caplog.text
        assert "would describe 27 images with teacher at 48 px (pillow-bicubic)" in caplog.text
        assert "in the gallery of teacher, by its queries and by newborn's" in caplog.text


def test_spaces_are_told_and_never_mixed(
    evaluated: Evaluated, run: RunPaths, teacher: RunPaths
) -> None:
    student, its_teacher = load_student(run.folder), load_student(teacher.folder)
    assert its_teacher.descriptor_space == its_teacher.sha256 == student.descriptor_space
    assert its_teacher.sha256 in run.card.read_text()
    assert "descriptor_space: its own" in teacher.card.read_text()
    with safe_open(run.weights, framework="pt") as opened:
        meta = json.loads(opened.metadata()[WEIGHTS_FORMAT])
    del meta["descriptor_space"]  # as in files of before
    save_file(load_file(run.weights), run.weights, metadata={WEIGHTS_FORMAT: json.dumps(meta)})
    alone = load_student(run.folder)
    assert alone.descriptor_space == alone.sha256
    with pytest.raises(DescriptorError, match=r"model.descriptor_width: teacher") as refused:
        evaluated("--gallery-checkpoint", teacher.folder)
    for space in (alone.sha256, its_teacher.sha256):
        assert f"in the space {space[:12]}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"conditions": ("fog",), "rerank": True},
            "not combine with --conditions or --rerank;",
        ),
        ({"multi_view": 2}, "not combine with --multi-view;"),
        ({"submission": True}, "not combine with --submission;"),
        (
            {"checkpoint": None, "shards": "", "features": Path("a.npz")},
            "--gallery-checkpoint says nothing without --checkpoint",
        ),
    ],
)
def test_what_is_made_with_one_network_is_refused(values: dict, sentence: str) -> None:
    given = {"checkpoint": Path("run"), "shards": "shards", "gallery_checkpoint": Path("teacher")}
    with pytest.raises(RecipeError, match=sentence):
        EvaluateConfig(**given | values)
