"""The command: verbs, exit codes, help."""

import subprocess
import sys

import pytest

from launch.main import VERBS, main, usage


def test_every_verb_is_listed_with_a_sentence() -> None:
    listed = usage()
    for name, (_, sentence) in VERBS.items():
        assert name in listed
        assert sentence in listed


@pytest.mark.parametrize("words", [[], ["--help"], ["help"]])
def test_help_is_no_mistake(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out == usage()


def test_an_unknown_verb_is_told_its_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    told = capsys.readouterr().err
    assert "did you mean 'train'" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_explains_every_option(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main([verb, "--help"]))
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"skydistill {verb}" in shown
    assert shown.count(". (") + shown.count(".\n") > 3, "options have sentences"


def test_the_command_reaches_no_torch_before_a_verb_needs_it() -> None:
    code = "import sys, launch.main; launch.main.main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
