import json
import logging

import pytest

from data_shards.progress import PROGRESS_VARIABLE, show_progress


def test_a_parent_reads_json(monkeypatch, capsys) -> None:
    monkeypatch.setenv(PROGRESS_VARIABLE, "json")
    with show_progress("training", unit="steps") as progress:
        for done in range(1, 101):
            progress(done, 100, loss=0.5)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[-1] == {
        "progress": "training",
        "unit": "steps",
        "done": 100,
        "total": 100,
        "facts": {"loss": 0.5},
    }
    assert len(lines) < 20


def test_a_log_gets_the_first_and_the_last_line(monkeypatch, caplog) -> None:
    monkeypatch.delenv(PROGRESS_VARIABLE, raising=False)
    caplog.set_level(logging.INFO)
    with show_progress("writing", unit="images") as progress:
        for done in range(1, 101):
            progress(done, 100, speed=12.345678)
    assert caplog.messages == [
        "writing 1/100 images speed=12.35",
        "writing 100/100 images speed=12.35",
    ]


@pytest.mark.parametrize("mode", ["json", ""])
def test_other_ranks_are_silent(monkeypatch, capsys, caplog, mode: str) -> None:
    monkeypatch.setenv(PROGRESS_VARIABLE, mode)
    caplog.set_level(logging.INFO)
    with show_progress("training", enabled=False) as progress:
        progress(1, 1)
    assert (capsys.readouterr().err, caplog.messages) == ("", [])


def test_a_terminal_gets_a_bar(monkeypatch, capsys) -> None:
    monkeypatch.delenv(PROGRESS_VARIABLE, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with show_progress("writing", unit="images") as progress:
        progress(5, 10, speed=3.0)
    assert "5/10" in capsys.readouterr().err
