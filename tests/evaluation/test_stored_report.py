"""Reports of two small worlds are, number by number and table by table, what they once were.

`STORE_REPORTS=1 pytest tests/evaluation/test_stored_report.py` writes `stored_reports/` anew; do so
only when a number was meant to change.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from data_shards.shards import ShardSet
from distill.run_folder import RunPaths
from evaluation.cli import evaluate
from tests.evaluation import conftest

STORED = Path(__file__).parent / "stored_reports"
OF_THIS_MACHINE = ("checkpoint", "checkpoint_sha256", "ranking_seconds", "seconds", "shards")
OPTIONS = {
    "university1652": "--conditions all --multi-view 1 --rerank --rerank-top 5 --rerank-k1 3",
    "sues200": "--flip --image-size 48 --rerank --rerank-top 5 --rerank-k1 3",
}


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ShardSet]:
    """Both worlds with four colours for all places, so that a model confuses them."""
    save = conftest.save_image

    def save_alike(path: Path, place: int, *noise_seed: int) -> None:
        save(path, place % 4, place, *noise_seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conftest, "save_image", save_alike)
        university = tmp_path_factory.mktemp("alike") / "raw"
        conftest.write_university(university, has_street=False)
        sues = conftest.write_sues(tmp_path_factory.mktemp("alike_sues") / "raw")
    return {
        "university1652": conftest.sharded(university, "university1652"),
        "sues200": conftest.sharded(sues, "sues200", split=sues / "split.yaml"),
    }


@pytest.fixture
def shards(alike: dict[str, ShardSet]) -> ShardSet:
    """What the run was trained on: images of the same world."""
    return alike["university1652"]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_report_is_what_it_was(
    name: str, run: RunPaths, alike: dict[str, ShardSet], tmp_path: Path
) -> None:
    out = tmp_path / name
    words = ["--checkpoint", run.folder, "--shards", alike[name].folder, "--out", out]
    words += [*OPTIONS[name].split(), "--no-mlflow", "--threads", "1", "--no-figures"]
    assert evaluate([str(word) for word in words]) == 0
    found = _of_every_machine(out, name)
    if os.environ.get("STORE_REPORTS"):
        STORED.mkdir(exist_ok=True)
        for file, content in found.items():
            (STORED / file).write_text(content)
    report, stored = (
        json.loads(text) for text in (found[f"{name}.json"], (STORED / f"{name}.json").read_text())
    )
    assert _flat(report) == pytest.approx(_flat(stored), abs=1e-9)
    for file in (f"{name}.md", f"{name}.tex"):
        assert found[file] == (STORED / file).read_text()


def _of_every_machine(folder: Path, name: str) -> dict[str, str]:
    """Return the files of a report without what differs between machines and moments."""
    report = json.loads((folder / "report.json").read_text())
    kept = {key: value for key, value in report.items() if key not in OF_THIS_MACHINE}
    duration = f"{report['seconds']:.1f} s in all, {report['ranking_seconds']:.1f} s"
    tables = {
        f"{name}{suffix}": (folder / f"report{suffix}")
        .read_text()
        .replace(duration, "0.0 s in all, 0.0 s")
        for suffix in (".md", ".tex")
    }
    return {f"{name}.json": json.dumps(kept, indent=1) + "\n", **tables}


def _flat(value: Any, at: str = "") -> dict[str, Any]:
    """Return every leaf by its path."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {
            path: leaf for key, one in items for path, leaf in _flat(one, f"{at}/{key}").items()
        }
    return {at: value}
