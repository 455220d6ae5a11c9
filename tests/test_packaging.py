"""The wheel holds the four packages and the recipes, nothing else, and works away from here."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("data_shards", "distill", "evaluation", "launch")
SHIPPED_CONFIGS = "data_shards/shipped_configs"


def source_files() -> Iterator[tuple[str, Path]]:
    """Every file that belongs into the wheel, by its name in there."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), path
    for path in (ROOT / "configs").rglob("*"):
        if path.is_file():
            yield f"{SHIPPED_CONFIGS}/{path.relative_to(ROOT / 'configs').as_posix()}", path


def wheel_complaints(names: set[str], expected: set[str]) -> Iterator[str]:
    """What the wheel lacks, and what it should not hold."""
    extra = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    yield from (f"the wheel lacks {name}" for name in sorted(expected - names))
    yield from (f"the wheel should not hold {name}" for name in sorted(extra - expected))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the installed hatchling: no network, nothing written in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("skydistill-*.whl"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def python(code: str, *, cwd: Path) -> str:
    """Run `code` in a Python that cannot see this checkout through its working folder."""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=cwd, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_wheel_holds_the_packages_and_recipes_and_nothing_else(wheel: Path) -> None:
    expected = {name for name, _ in source_files()}
    assert any(name.startswith(SHIPPED_CONFIGS) for name in expected)
    assert list(wheel_complaints(set(zipfile.ZipFile(wheel).namelist()), expected)) == []


def test_a_wheel_that_lacks_or_exceeds_is_reported() -> None:
    expected = {"distill/__init__.py", "distill/objectives/info_nce.py"}
    held = {"distill/__init__.py", "tests/conftest.py", "skydistill-0.1.0.dist-info/METADATA"}
    assert list(wheel_complaints(held, expected)) == [
        "the wheel lacks distill/objectives/info_nce.py",
        "the wheel should not hold tests/conftest.py",
    ]


def test_every_module_of_the_wheel_imports(unpacked: Path) -> None:
    modules = [name[:-3].replace("/", ".") for name, _ in source_files() if name.endswith(".py")]
    names = [name.removesuffix(".__init__") for name in modules]
    code = (
        f"import importlib, sys\nsys.path.insert(0, {str(unpacked)!r})\n"
        f"for name in {names!r}:\n"
        f"    assert importlib.import_module(name).__file__.startswith({str(unpacked)!r}), name"
    )
    python(code, cwd=unpacked.parent)


def test_the_wheel_finds_its_recipes(unpacked: Path) -> None:
    code = (
        f"import sys\nsys.path.insert(0, {str(unpacked)!r})\nfrom pathlib import Path\n"
        "from data_shards.recipe import find_recipe\n"
        "print(find_recipe(Path('configs/accelerate/cpu.yaml')))"
    )
    found = python(code, cwd=unpacked.parent).strip()
    assert found == str(unpacked / SHIPPED_CONFIGS / "accelerate/cpu.yaml")


def test_the_editable_install_exposes_the_four_packages_and_nothing_else(tmp_path: Path) -> None:
    """`make setup` installs this checkout; its other folders must not become importable."""
    folders = [*PACKAGES, "benchmarks", "configs", "docs", "slurm", "tests"]
    code = (
        "from importlib.util import find_spec\n"
        f"for name in {folders!r}:\n"
        "    spec = find_spec(name)\n"
        "    print(name, spec and spec.origin)"
    )
    seen = dict(line.split(" ", 1) for line in python(code, cwd=tmp_path).splitlines())
    ours = {package: str(ROOT / package / "__init__.py") for package in PACKAGES}
    assert seen == dict.fromkeys(folders, "None") | ours
