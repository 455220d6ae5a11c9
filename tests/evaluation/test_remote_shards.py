"""The retrieval on shards behind an address is the retrieval on the folder."""

import json
from pathlib import Path

import pytest

from data_shards.shards import ShardSet
from distill.run_folder import RunPaths
from evaluation.cli import evaluate
from tests.data_shards.remote.shard_server import serving


def test_an_address_gives_the_report_of_the_folder(
    run: RunPaths, shards: ShardSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--checkpoint",
        str(run.folder),
        "--no-mlflow",
        "--no-figures",
        "--json",
        "--overwrite",
    ]
    words += ["--local-cache", str(tmp_path / "cache")]
    evaluate([*words, "--shards", str(shards.folder)])
    here = json.loads(capsys.readouterr().out)
    with serving(shards.folder) as server:
        evaluate([*words, "--shards", server.address, "--dry-run"])
        assert server.tars == {}
        evaluate([*words, "--shards", server.address])
    there = json.loads(capsys.readouterr().out)
    apart = {"shards": "", "seconds": 0, "ranking_seconds": 0}
    assert there | apart == here | apart
    assert there["shards"] == server.address
    assert set(server.tars) == {"test-drone-000000.tar", "test-satellite-000000.tar"}
