"""`skydistill doctor`: one line per thing, a remedy for what lacks; exit 2 for what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

import launch.doctor
from launch.main import main


def found_in(folder: Path, capsys: pytest.CaptureFixture[str], *, code: int) -> dict[str, Any]:
    assert main(["doctor", "--out", str(folder), "--weights", str(folder), "--json"]) == code
    return {one["what"]: one for one in json.loads(capsys.readouterr().out)}


def test_what_is_optional_and_absent_is_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "teacher.safetensors").touch()
    found = found_in(tmp_path, capsys, code=0)
    assert found["torch"]["state"] == "ok"
    assert "gloo" in found["ranks"]["says"]
    assert "not there yet" in found["MLflow store"]["says"]
    assert "ask whoever gave them" in found["weights teacher.safetensors"]["says"]
    assert not [path for path in tmp_path.iterdir() if path.name != "teacher.safetensors"]


def test_every_thing_has_a_line_and_what_lacks_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("ok", "absent", "wrong") for line in lines)
    assert all(";" in line for line in lines if not line.startswith("ok"))


def test_a_library_that_is_too_old_and_one_that_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name == "timm":
            raise launch.doctor.PackageNotFoundError(name)
        return "0.1" if name == "numpy" else "99"

    monkeypatch.setattr(launch.doctor, "version", version)
    found = found_in(tmp_path, capsys, code=2)
    assert "0.1, and >=2.0 is needed" in found["numpy"]["says"]
    assert "pip install 'timm" in found["timm"]["remedy"]
    assert found["mlflow"]["state"] == "wrong", "99 is beyond the version that we know"


def test_a_damaged_store_is_wrong_and_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "mlflow.db"
    store.write_bytes(b"no database")
    assert found_in(tmp_path, capsys, code=2)["MLflow store"]["state"] == "wrong"
    assert store.read_bytes() == b"no database"


def test_a_site_file_that_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("slurm").mkdir()
    Path("slurm/site.env").write_text("SITE_NODE=2\n")
    assert "did you mean 'nodes'" in found_in(tmp_path, capsys, code=2)["site file"]["says"]
