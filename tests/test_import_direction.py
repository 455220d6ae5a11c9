"""Imports point against the data's journey: data_shards <- distill <- evaluation, launch apart.

Each rule is a function from one module to complaints, so that bad snippets prove that it bites.
"""

import ast
import functools
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("data_shards", "distill", "evaluation", "launch")

# Who may be imported, at any level. `launch` may look anywhere, but only inside functions.
MAY_IMPORT = {
    "data_shards": {"data_shards"},
    "distill": {"data_shards", "distill"},
    "evaluation": {"data_shards", "distill", "evaluation"},
    "launch": set(PACKAGES),
}
EXCEPTIONS = {("distill.cli", "evaluation.probe")}
ENTRY_POINTS = {"distill.run": "distill.cli", "distill.cache": "distill.cli"}
ENTRY_POINTS["evaluation.run"] = "evaluation.cli"

# What launch may import at module level besides itself and every `*.config`.
LIGHT = {f"data_shards.{name}" for name in ("errors", "progress", "recipe", "usable_cpus", "verbs")}
# Libraries that a login node must not wait for, and those that the data stage never needs.
HEAVY = {"torch", "torchvision", "timm", "scipy", "matplotlib", "webdataset"}
HEAVY |= {"accelerate", "deepspeed", "transformers", "mlflow", "pyproj", "rasterio"}
NOT_IN_DATA = {"accelerate", "deepspeed", "mlflow"}


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported name, and whether importing its module is enough to run it."""

    name: str
    """Dotted, with what is imported: `from a.b import c` is `a.b.c`."""

    lazy: bool
    """Inside a function, or for the type checker only."""

    line: int

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    def reaches(self, module: str) -> bool:
        """True when this imports `module`, something in it, or something below it."""
        return f"{self.name}.".startswith(f"{module}.")


@dataclass(frozen=True, kw_only=True)
class Module:
    """One parsed file under its dotted name."""

    name: str
    source: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def imports(self) -> list[Import]:
        return list(find_imports(self.tree))


def find_imports(node: ast.AST, *, lazy: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(name=alias.name, lazy=lazy, line=child.lineno)
        elif isinstance(child, ast.ImportFrom):
            module = "." * child.level + (child.module or "")
            for alias in child.names:
                yield Import(name=f"{module}.{alias.name}", lazy=lazy, line=child.lineno)
        else:
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            deeper = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from find_imports(child, lazy=lazy or typing_only or deeper)


def dotted_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_modules() -> list[Module]:
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return [Module(name=dotted_name(path), source=path.read_text()) for path in paths]


MODULES = read_modules()


# The rules.


def points_forward(module: Module) -> Iterator[str]:
    """A stage imports the stages before it, never after; nothing imports the tests."""
    allowed = MAY_IMPORT[module.package]
    for found in module.imports:
        ours = found.package in PACKAGES or found.package in {"tests", "benchmarks", "configs"}
        excepted = any(module.name == who and found.reaches(what) for who, what in EXCEPTIONS)
        if ours and found.package not in allowed and not excepted:
            yield f"{module.name}:{found.line} imports {found.name}, which comes later"
        if found.package == "":
            yield f"{module.name}:{found.line} imports relatively"


def config_looks_around(module: Module) -> Iterator[str]:
    """A config imports other configs and the errors, no machinery and no heavy library."""
    if not is_config(module.name):
        return
    for found in module.imports:
        allowed = found.reaches("data_shards.errors") or names_config(found.name)
        if (found.package in PACKAGES and not allowed) or found.package in HEAVY:
            yield f"{module.name}:{found.line} imports {found.name}; a config reads in a blink"


def launch_is_heavy(module: Module) -> Iterator[str]:
    """At module level `launch` imports only itself, `*.config`, errors and recipes."""
    if module.package != "launch":
        return
    for found in module.imports:
        ours = found.package in PACKAGES and found.package != "launch"
        allowed = names_config(found.name) or any(found.reaches(light) for light in LIGHT)
        if not found.lazy and ((ours and not allowed) or found.package in HEAVY):
            yield f"{module.name}:{found.line} imports {found.name} outside a function"


def data_knows_training(module: Module) -> Iterator[str]:
    """The data stage knows nothing of processes, ranks or runs."""
    if module.package == "data_shards":
        for found in module.imports:
            if found.package in NOT_IN_DATA:
                yield f"{module.name}:{found.line} imports {found.name}"


def command_is_imported(module: Module) -> Iterator[str]:
    """A `cli` is imported by its entry points and by functions of `launch/main.py` only."""
    for found in module.imports:
        if found.package not in PACKAGES or "cli" not in found.name.split(".")[1:3]:
            continue
        from_entry_point = module.name in ENTRY_POINTS and found.reaches(ENTRY_POINTS[module.name])
        if not from_entry_point and not (module.name == "launch.main" and found.lazy):
            yield f"{module.name}:{found.line} imports {found.name}"


def entry_point_is_imported(module: Module) -> Iterator[str]:
    """An entry point is a program; a copy of it in another module would be a second one."""
    for found in module.imports:
        if any(found.reaches(name) for name in ENTRY_POINTS):
            yield f"{module.name}:{found.line} imports {found.name}"


def entry_point_is_more_than_one(module: Module) -> Iterator[str]:
    """An entry point defines nothing and imports nothing of ours but its command."""
    if module.name not in ENTRY_POINTS:
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield f"{module.name}:{node.lineno} defines something"
    for found in module.imports:
        is_command = found.reaches(ENTRY_POINTS[module.name])
        if not is_command and found.package not in {"os", "sys", "pathlib"}:
            yield f"{module.name}:{found.line} imports {found.name}"


def maths_knows_machines(module: Module) -> Iterator[str]:
    """Objectives and the ranking are tensors in, tensors out: torch and the plain library only.

    Modules of each import each other, and the ranking may use numpy and scipy.
    """
    is_objective = f"{module.name}.".startswith("distill.objectives.")
    is_ranking = f"{module.name}.".startswith("evaluation.ranking.")
    if not is_objective and not is_ranking:
        return
    for found in module.imports:
        sibling = found.reaches("distill.objectives" if is_objective else "evaluation.ranking")
        numbers = is_ranking and found.package in {"numpy", "scipy"}
        library = found.package in sys.stdlib_module_names and found.package != "logging"
        torch = found.package == "torch" and not found.reaches("torch.distributed")
        if not (sibling or numbers or library or torch):
            yield f"{module.name}:{found.line} imports {found.name}"


def name_is_taken(module: Module) -> Iterator[str]:
    """A script's folder comes first on the path; a name of another's would break every import."""
    name = module.name.rpartition(".")[2]
    if name in sys.stdlib_module_names or name in dependency_names():
        yield f"{module.name} has the name of another module, {name}"


RULES: list[Callable[[Module], Iterator[str]]] = [
    points_forward,
    config_looks_around,
    launch_is_heavy,
    data_knows_training,
    command_is_imported,
    entry_point_is_imported,
    entry_point_is_more_than_one,
    maths_knows_machines,
    name_is_taken,
]


def is_config(name: str) -> bool:
    """True for `distill.config` and for `distill.config.data` below it."""
    return "config" in name.split(".")[1:]


def names_config(name: str) -> bool:
    """True for `distill.config` and `distill.config.DistillConfig`, not for `distill.configure`."""
    return name.partition(".")[0] in PACKAGES and is_config(name)


@functools.cache
def dependency_names() -> frozenset[str]:
    """The import names of everything pyproject.toml asks for, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra)]
    names = {distribution_name(line) for line in wanted}
    installed = packages_distributions().items()
    imported = {
        name for name, owners in installed if names & {distribution_name(owner) for owner in owners}
    }
    return frozenset(imported | names)


def distribution_name(requirement: str) -> str:
    """`PyYAML>=6` and `pyyaml` are one distribution."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", requirement)[0]).lower()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_module_breaks_the_rule(rule: Callable[[Module], Iterator[str]]) -> None:
    assert [complaint for module in MODULES for complaint in rule(module)] == []


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (points_forward, "distill.train", "from evaluation.ranking import recall_at"),
        (points_forward, "distill.train", "def f():\n    import evaluation.probe"),
        (points_forward, "distill.cli", "from evaluation.report import write"),
        (points_forward, "data_shards.planning.plan", "import distill"),
        (points_forward, "evaluation.report", "from launch.process import run"),
        (points_forward, "distill.train", "from . import step"),
        (points_forward, "distill.train", "from tests.conftest import tiny_world"),
        (config_looks_around, "distill.config", "from data_shards.planning.plan import Plan"),
        (config_looks_around, "distill.config.optim", "import torch"),
        (launch_is_heavy, "launch.demo", "from distill.train import train"),
        (launch_is_heavy, "launch.demo", "import torch"),
        (launch_is_heavy, "launch.main", "try:\n    import mlflow\nexcept ImportError:\n    raise"),
        (launch_is_heavy, "launch.demo", "class A:\n    import torch"),
        (data_knows_training, "data_shards.loader", "from accelerate import Accelerator"),
        (command_is_imported, "launch.main", "from distill.cli import main"),
        (command_is_imported, "distill.train", "def f():\n    from distill import cli"),
        (entry_point_is_imported, "evaluation.report", "from distill.run import main"),
        (entry_point_is_imported, "launch.main", "def f():\n    import distill.cache"),
        (entry_point_is_more_than_one, "distill.run", "def main() -> int: ..."),
        (entry_point_is_more_than_one, "distill.cache", "from distill.train import train"),
        (entry_point_is_more_than_one, "distill.run", "import torch"),
        (maths_knows_machines, "distill.objectives.info_nce", "import torch.distributed as dist"),
        (maths_knows_machines, "distill.objectives.info_nce", "import logging"),
        (maths_knows_machines, "distill.objectives.info_nce", "import numpy"),
        (maths_knows_machines, "evaluation.ranking", "from data_shards.errors import ShardError"),
        (maths_knows_machines, "evaluation.ranking.rank", "from distill import collectives"),
        (name_is_taken, "distill.queue", ""),
        (name_is_taken, "launch.accelerate", ""),
        (name_is_taken, "data_shards.yaml", ""),
    ],
)
def test_the_rule_reports_a_module_that_breaks_it(
    rule: Callable[[Module], Iterator[str]], name: str, source: str
) -> None:
    assert list(rule(Module(name=name, source=source)))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("distill.cli", "def f():\n    from evaluation.probe import RetrievalProbe"),
        ("distill.run", "import os\nimport sys\nfrom distill.cli import main"),
        ("evaluation.config", "from distill.config import DistillConfig"),
        ("distill.config.model", "from distill.config.data import DataConfig"),
        ("launch.main", "def train():\n    from distill.cli import main"),
        ("launch.demo", "from data_shards.errors import RecipeError\nfrom distill import config"),
        (
            "launch.doctor",
            "def look():\n    import torch\n    from distill.tracking import Tracker",
        ),
        ("distill.objectives.a", "from distill.objectives.info_nce import info_nce"),
        ("distill.objectives.info_nce", "import math\nimport torch.nn.functional as F"),
    ],
)
def test_the_rules_allow_what_the_design_allows(name: str, source: str) -> None:
    module = Module(name=name, source=source)
    assert [complaint for rule in RULES for complaint in rule(module)] == []


# What importing a light module drags in, through every module of ours that it reaches.


def heavy_chains(starts: Iterable[str], modules: Iterable[Module]) -> list[str]:
    """Chains of module-level imports from `starts` to a heavy library, parents included."""
    by_name = {module.name: module for module in modules}
    chains, seen = [(start,) for start in starts], set()
    heavy = []
    while chains:
        chain = chains.pop()
        module = by_name.get(chain[-1])
        if module is None or module.name in seen:
            continue
        seen.add(module.name)
        parent = module.name.rpartition(".")[0]
        eager = [found.name for found in module.imports if not found.lazy]
        heavy += [" -> ".join([*chain, n]) for n in eager if n.partition(".")[0] in HEAVY]
        reached = [parent, *eager, *(name.rpartition(".")[0] for name in eager)]
        chains += [(*chain, name) for name in reached if name in by_name]
    return heavy


def test_a_login_node_reads_configs_and_launches_without_a_heavy_library() -> None:
    light = [m.name for m in MODULES if m.package == "launch" or is_config(m.name)]
    assert heavy_chains([*light, *LIGHT], MODULES) == []


def test_a_heavy_library_behind_two_imports_is_found() -> None:
    modules = [
        Module(name="launch.demo", source="from distill.config import DistillConfig"),
        Module(name="distill", source="from distill.models import build"),
        Module(name="distill.config", source=""),
        Module(name="distill.models", source="import torch"),
    ]
    found = ["launch.demo -> distill.config -> distill -> distill.models -> torch"]
    assert heavy_chains(["launch.demo"], modules) == found


@pytest.mark.parametrize("package", PACKAGES)
def test_the_package_is_ours(package: str) -> None:
    """`launch` and `evaluation` are also names of other people's packages."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin) == ROOT / package / "__init__.py"


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_the_entry_point_exists(entry_point: str) -> None:
    assert entry_point in {module.name for module in MODULES}


@pytest.mark.parametrize(
    "statement",
    [
        "import mlflow",
        "import subprocess",
        "import torch.distributed as dist",
        "from torch import distributed",
        "import webdataset as wds",
        "import rasterio",
        "from pyproj import Geod",
        "print(1)",
    ],
)
def test_ruff_refuses_a_library_outside_its_file(statement: str) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251,T20", "--no-cache"]
    for package in PACKAGES:
        ran = subprocess.run(
            [*command, "--stdin-filename", f"{package}/somewhere.py", "-"],
            input=f"{statement}\n",
            text=True,
            capture_output=True,
            cwd=ROOT,
        )
        assert ran.returncode == 1, f"{package} may say {statement}: {ran.stderr}"
