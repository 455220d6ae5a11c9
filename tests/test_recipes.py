"""Every YAML below configs/ tells its story and loads; every field of a config explains itself."""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGES = ("data_shards", "distill", "evaluation", "launch")

# Which dataclass reads the recipes of a folder; a folder that is not here is nobody's.
READERS = {
    "bicrossnet": ("distill.config", "DistillConfig"),
    "pfed": ("distill.config", "DistillConfig"),
    "sweeps": ("launch.config", "SweepConfig"),
}
ALL_YAML = sorted((ROOT / "configs").rglob("*.y*ml"))
ACCELERATE = [path for path in ALL_YAML if path.parent.name == "accelerate"]
RECIPES = [path for path in ALL_YAML if path not in ACCELERATE]


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def header_complaints(name: str, text: str) -> Iterator[str]:
    """A story is a comment of two lines or more, with the command that starts this very file."""
    lines = text.splitlines()
    header = lines[: next((i for i, line in enumerate(lines) if line[:1] != "#"), len(lines))]
    if len(header) < 2:
        yield f"{name} does not open with its story: what, on what, how long, how to start it"
    if name not in "\n".join(header):
        yield f"{name} does not show the command that starts it, with its own path"


def commands_in(text: str) -> set[str]:
    """The commands of a story, indented by three blanks; four more end one, and so does a flag."""
    pattern = r"^#   ((?:accelerate launch|skydistill) .*?)(?: --dry-run)?(?:    .*)?$"
    return set(re.findall(pattern, text, flags=re.MULTILINE))


def check_command(command: str) -> None:
    """Read a command, or a sweep with its first seed, as far as that goes without data."""
    from data_shards.planning.plan import ranks_share
    from data_shards.recipe import load_recipe, parse_command
    from distill.config import DistillConfig
    from evaluation.config import EvaluateConfig
    from launch.config import SweepConfig
    from launch.sweep import sweep_stages

    words = shlex.split(command)
    if words[:2] == ["skydistill", "evaluate"]:
        parse_command(EvaluateConfig, words[2:], prog="skydistill evaluate")
        return
    if words[:2] == ["skydistill", "sweep"]:
        sweep = load_recipe(SweepConfig, ROOT / words[2], words[3:])
        for stage in sweep_stages(replace(sweep, seeds=sweep.seeds[:1])):
            check_command(re.sub(r"^OMP_NUM_THREADS=\d+ ", "", stage.typed))
        return
    launch = r"accelerate launch --config_file (\S+) (?:--num_processes (\d+) )?(\S+py|-m \S+) .*"
    found = re.fullmatch(launch, command)
    assert found, f"{command} is no command of this test; teach it"
    launcher, ranks, entry_point = found.groups()
    assert entry_point.startswith("-m ") or (ROOT / entry_point).is_file()
    ranks = ranks or yaml.safe_load((ROOT / launcher).read_text())["num_processes"]
    (at,) = (
        at for at, word in enumerate(words) if re.search(r"configs/(?!accelerate).*yaml$", word)
    )
    config = load_recipe(DistillConfig, ROOT / words[at], words[at + 1 :])
    ranks_share(global_batch=config.data.global_batch, world_size=int(ranks))
    patch = re.search(r"patch(\d+)", config.model.arch)
    assert config.data.image_size % int(patch[1] if patch else 1) == 0, "no multiple of the patch"


def field_complaints(name: str, source: str) -> Iterator[str]:
    """A config is frozen and keyword-only, with a sentence under every field."""
    for node in ast.walk(ast.parse(source)):
        decorators = getattr(node, "decorator_list", [])
        marks = [ast.unparse(mark) for mark in decorators if "dataclass" in ast.unparse(mark)]
        if not isinstance(node, ast.ClassDef) or not marks:
            continue
        if "frozen=True" not in marks[0] or "kw_only=True" not in marks[0]:
            yield f"{name}:{node.lineno} {node.name} is not frozen and keyword-only"
        for field, below in zip(node.body, [*node.body[1:], None], strict=True):
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and not is_text:
                field_name = f"{node.name}.{ast.unparse(field.target)}"
                yield f"{name}:{field.lineno} {field_name} is unexplained"


def load(path: Path, text: str | None = None, *, aside: Path | None = None) -> Any:
    """Load a recipe as its command would; with `text`, a changed copy of it."""
    from data_shards.recipe import load_recipe

    module, name = READERS[path.relative_to(ROOT / "configs").parts[0]]
    if text is not None and aside is not None:
        path = aside / path.name
        path.write_text(text)
    return load_recipe(getattr(import_module(module), name), path)


@pytest.mark.parametrize("path", ALL_YAML, ids=short)
def test_yaml_opens_with_its_story(path: Path) -> None:
    assert list(header_complaints(short(path), path.read_text())) == []


@pytest.mark.parametrize("path", RECIPES, ids=short)
def test_the_commands_of_a_story_hold_together(path: Path) -> None:
    commands = commands_in(path.read_text())
    assert commands, "indent them by three"
    for command in commands:
        check_command(command)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("distill/run.py configs/pfed/university1652_teacher.yaml --data.image_size 384", "patch"),
        ("--num_processes 7 distill/run.py configs/pfed/university1652_step1.yaml", "7 ranks"),
        ("distill/run.py configs/pfed/university1652_step1.yaml --data.image_sise 9", "unknown"),
        ("distill/cache.py configs/pfed/nowhere.yaml", "does not exist"),
        ("distill/nowhere.py configs/pfed/demo.yaml", "assert"),
    ],
)
def test_a_command_that_does_not_hold_together_is_reported(words: str, sentence: str) -> None:
    from data_shards.errors import SkyDistillError

    with pytest.raises((AssertionError, SkyDistillError), match=sentence):
        check_command(f"accelerate launch --config_file configs/accelerate/ddp.yaml {words}")


@pytest.mark.parametrize("path", RECIPES, ids=short)
def test_recipe_loads(path: Path) -> None:
    folder = path.relative_to(ROOT / "configs").parts[0]
    assert folder in READERS, f"say in {Path(__file__).name} which config reads configs/{folder}"
    load(path)


@pytest.mark.parametrize("path", RECIPES, ids=short)
def test_recipe_with_a_stranger_is_refused(path: Path, tmp_path: Path) -> None:
    from data_shards.errors import RecipeError

    with pytest.raises(RecipeError, match="stranger"):
        load(path, path.read_text() + "\nstranger: 1\n", aside=tmp_path)


def test_the_recipe_of_the_bare_command_is_shipped() -> None:
    assert ROOT / "configs/pfed/demo.yaml" in RECIPES


def config_files() -> list[Path]:
    """Every `config.py`, and every file of a `config/`."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return sorted(path for path in files if path.stem == "config" or path.parent.name == "config")


@pytest.mark.parametrize("path", config_files(), ids=short)
def test_every_field_of_a_config_explains_itself(path: Path) -> None:
    assert list(field_complaints(short(path), path.read_text())) == []


def test_each_stage_that_reads_recipes_has_a_config() -> None:
    stages = {path.relative_to(ROOT).parts[0] for path in config_files()}
    assert {"data_shards", "distill", "evaluation"} <= stages


@pytest.mark.parametrize(
    "text",
    [
        "steps: 1\n",
        "# One line.\nsteps: 1\n",
        "# Two lines,\n# skydistill train configs/b.yaml\na: 1\n",
    ],
)
def test_a_yaml_without_its_story_is_reported(text: str) -> None:
    assert list(header_complaints("configs/a.yaml", text))


@pytest.mark.parametrize(
    "source",
    [
        "@dataclass(frozen=True, kw_only=True)\nclass A:\n    a: int = 1\n",
        "@dataclass(frozen=True, kw_only=True)\nclass A:\n    a: int = 1\n    b: int\n    'B.'\n",
        "@dataclass(frozen=True)\nclass A:\n    a: int = 1\n    'A.'\n",
        "@dataclass\nclass A:\n    a: int = 1\n    'A.'\n",
    ],
)
def test_a_field_without_a_sentence_is_reported(source: str) -> None:
    assert list(field_complaints("config.py", source))


@pytest.mark.parametrize("path", ACCELERATE, ids=short)
def test_accelerate_reads_its_configuration(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert (config.num_processes == 1) == (path.stem in ("one_cpu", "gpu"))
    # Beside DeepSpeed's JSON accelerate refuses the key.
    precision = None if path.stem.startswith("zero") else "no"
    assert config.mixed_precision == precision, "an unquoted `no` is False in YAML"


# Accelerate starts one process for most ways of asking for two on a CPU.
TWO_RANKS = """
import sys, pathlib, torch
from accelerate import Accelerator

accelerator = Accelerator(cpu=not torch.cuda.is_available())
total = accelerator.reduce(torch.ones(()) + accelerator.process_index, "sum")
several = torch.distributed.is_initialized()
backend = torch.distributed.get_backend() if several else accelerator.device.type
seen = f"{accelerator.num_processes} {backend} {int(total)}"
pathlib.Path(sys.argv[1], str(accelerator.process_index)).write_text(seen)
accelerator.wait_for_everyone()
if several:
    torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cpu", {"0": "2 gloo 3", "1": "2 gloo 3"}),
        ("one_cpu", {"0": "1 cpu 1"}),
        ("gpu", {"0": "1 cpu 1"}),
    ],
)
def test_a_configuration_gives_the_ranks_that_it_says(
    tmp_path: Path, name: str, expected: dict[str, str]
) -> None:
    script, answers = tmp_path / "script.py", tmp_path / "answers"
    script.write_text(TWO_RANKS)
    answers.mkdir()
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    command = [*launcher, str(ROOT / f"configs/accelerate/{name}.yaml"), str(script), str(answers)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, check=True, env=environment, timeout=300)
    seen = {path.name: path.read_text() for path in answers.iterdir()}
    assert seen == expected
