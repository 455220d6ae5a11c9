"""Every command that README and docs print is one: its options, recipes and scripts exist."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from data_shards.errors import SkyDistillError
from launch.main import main
from tests.documents import DOCUMENTS, ROOT, blocks, commands

PLAIN = {"cp", "export", ".", "pip", "apptainer", "docker", "touch"}
"""Commands of a shell that are nobody's to check here."""

OWN_RECIPES = {"my_student.yaml": "pfed/demo.yaml", "RECIPE.yaml": "pfed/demo.yaml"}
"""Recipes that a reader has, to the shipped one that stands for it."""

SHOWN = [
    (document, words)
    for document in DOCUMENTS
    for language, text in blocks(document)
    if language == "sh"
    for words in commands(text)
]


class Parsed(BaseException):  # noqa: N818 - no error: the command was read whole
    """Raised in place of what a verb would do."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of a reader's own files, where verbs end as soon as they were read."""

    def stop_behind(module: Any, name: str) -> None:
        read = getattr(module, name)

        def read_and_stop(*given: Any, **asked: Any) -> None:
            read(*given, **asked)
            raise Parsed

        monkeypatch.setattr(module, name, read_and_stop)

    import data_shards.cli
    import distill.cli
    import evaluation.cli
    import launch.cli
    import launch.cluster

    for module in (data_shards.cli, distill.cli, evaluation.cli, launch.cli):
        stop_behind(module, "parse_command")
    stop_behind(distill.cli, "load_recipe")
    for module in (launch.cli, launch.cluster):
        stop_behind(module, "load_recipe")
    for name, shipped in OWN_RECIPES.items():
        shutil.copy(ROOT / "configs" / shipped, tmp_path / name)
    (tmp_path / "my_sweep.yaml").write_text("out: out\nshards: shards\nrows: []\n")
    (tmp_path / "slurm").mkdir()
    shutil.copy(ROOT / "slurm/site.env.example", tmp_path / "slurm/site.env")
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def check(words: list[str]) -> None:
    """Read a command as far as that goes without doing anything.

    Raises:
        AssertionError: it is none.
        SkyDistillError: a verb or an option of ours is unknown, or a recipe.
    """
    name, *rest = words
    if name == "skydistill":
        if rest[0] == "cache" and "--info" in rest:
            return
        with contextlib.suppress(Parsed):
            assert main(rest) == 0
            pytest.fail(f"{' '.join(words)} does more than it is read for")
    elif name == "accelerate":
        at = next(at for at, word in enumerate(words) if re.fullmatch(r"\w+/\w+\.py", word))
        options = {"--config_file", "--num_processes", "--num_machines", "--machine_rank"}
        assert {word for word in words[:at] if word.startswith("--")} <= options
        assert (ROOT / words[words.index("--config_file") + 1]).is_file()
        verbs = {"distill/run.py": "train", "distill/cache.py": "cache"}
        check(["skydistill", verbs.get(words[at], "evaluate"), *words[at + 1 :]])
    elif name in ("bash", "sbatch"):
        assert (ROOT / rest[0]).is_file(), rest[0]
    elif name == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert {*rest} <= {*targets}, rest
    elif name == "mlflow":
        from mlflow.cli import cli

        verb = cli.get_command(click.Context(cli), rest[0])
        assert verb is not None, rest
        known = {option for one in verb.params for option in one.opts}
        assert {word for word in rest if word.startswith("--")} <= known, rest
    else:
        assert name in PLAIN or re.fullmatch(r"[A-Z_]+=.*", name), f"{name}: teach this test"


@pytest.mark.parametrize(
    ("document", "words"), SHOWN, ids=[f"{d.stem}-{' '.join(words)[:60]}" for d, words in SHOWN]
)
def test_a_command_that_is_shown_can_be_typed(
    document: Path, words: list[str], folder: Path
) -> None:
    del document
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    check(words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_commands_stand_in_blocks_of_sh(document: Path) -> None:
    ours = re.compile(r"^(?:skydistill|accelerate|make|mlflow|sbatch|bash) ", re.M)
    unmarked = [text for language, text in blocks(document) if language == "" and ours.search(text)]
    assert unmarked == []


@pytest.mark.parametrize(
    "line",
    [
        "skydistill train my_student.yaml --data.image_sise 9",
        "skydistill train nowhere.yaml",
        "skydistill shrad RAW data",
        "skydistill compare outputs --htlm page.html",
        "accelerate launch --config_file configs/accelerate/no.yaml distill/run.py RECIPE.yaml",
        "accelerate launch --config_file configs/accelerate/ddp.yaml distill/cache.py no.yaml",
        "sbatch slurm/nowhere.sh",
        "make nothing",
        "mlflow ui --backend-uri sqlite:///x",
        "rm -rf /",
    ],
)
def test_a_command_that_cannot_be_typed_is_told(line: str, folder: Path) -> None:
    with pytest.raises((AssertionError, SkyDistillError)):
        check(line.split())
