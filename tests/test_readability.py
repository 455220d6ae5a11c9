"""Files read at one sitting, functions on one screen, nothing silenced: rules 4, 7, 8, 33, 34, 35.

Each rule is a function from one file to complaints, so that bad snippets prove that it bites.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("data_shards", "distill", "evaluation", "launch")

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_LOOP_IFS = 8
MAX_LOOP_DEPTH = 4
STANZAS = ["batch", "losses", "gradients", "log", "save"]
JUNK_DRAWERS = {"utils", "helpers", "common", "misc"}

Functions = (ast.FunctionDef, ast.AsyncFunctionDef)
Blocks = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)

Rule = Callable[[Path, str], Iterator[str]]


def file_is_long(path: Path, source: str) -> Iterator[str]:
    """A file is read at one sitting."""
    lines = len(source.splitlines())
    if lines > MAX_FILE_LINES:
        yield f"{path} has {lines} lines, more than {MAX_FILE_LINES}"


def function_is_long(path: Path, source: str) -> Iterator[str]:
    """A function fits on one screen."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Functions) and num_lines(node) > MAX_FUNCTION_LINES:
            yield f"{path}:{node.lineno} {node.name} has {num_lines(node)} lines"


def file_is_a_junk_drawer(path: Path, source: str) -> Iterator[str]:
    """A helper lives with the noun it serves."""
    if path.stem in JUNK_DRAWERS or path.parent.name in JUNK_DRAWERS:
        yield f"{path} is a junk drawer"


def something_is_forgiven(path: Path, source: str) -> Iterator[str]:
    """Weights load strictly, warnings are heard, the import path is nobody's to append to."""
    for call in calls(source):
        name = ast.unparse(call.func)
        loose = any(
            word.arg == "strict" and is_constant(word.value, False) for word in call.keywords
        )
        if loose and name != "zip":
            yield f"{path}:{call.lineno} strict=False"
        if name.endswith(("filterwarnings", "simplefilter")) and first_word(call) == "ignore":
            yield f"{path}:{call.lineno} silences warnings"
        if name.endswith(("sys.path.append", "sys.path.insert")):
            yield f"{path}:{call.lineno} {name}"


def something_is_printed(path: Path, source: str) -> Iterator[str]:
    """`logging`, never `print`: the logger knows its rank."""
    for call in calls(source):
        if isinstance(call.func, ast.Name) and call.func.id == "print":
            yield f"{path}:{call.lineno} prints"


def something_public_is_unexplained(path: Path, source: str) -> Iterator[str]:
    """Every file, public class, function and method says in a sentence what it is for."""
    tree = ast.parse(source)
    if ast.get_docstring(tree) is None:
        yield f"{path} has no docstring"
    for name, node in public_names(tree):
        if ast.get_docstring(node) is None:
            yield f"{path}:{node.lineno} {name} has no docstring"


def loop_is_hard_to_read(path: Path, source: str) -> Iterator[str]:
    """The training loop is one function of five stanzas, each opened by one word."""
    loop = function_named("train", source)
    if num_lines(loop) > MAX_FUNCTION_LINES:
        yield f"{path} train has {num_lines(loop)} lines"
    num_ifs = sum(isinstance(node, ast.If | ast.IfExp) for node in ast.walk(loop))
    if num_ifs > MAX_LOOP_IFS:
        yield f"{path} train has {num_ifs} ifs"
    if depth(loop) > MAX_LOOP_DEPTH:
        yield f"{path} train is {depth(loop)} levels deep"
    lines = source.splitlines()[loop.lineno - 1 : loop.end_lineno]
    words = [line.strip().removeprefix("# ") for line in lines if line.strip().startswith("# ")]
    if [word for word in words if word in STANZAS] != STANZAS:
        yield f"{path} train is not the stanzas {', '.join(STANZAS)}, each opened by its word"


def num_lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def depth(node: ast.AST) -> int:
    """Nested blocks below `node`; an `elif` is no deeper than its `if`."""
    deepest = 0
    for name, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        chained = isinstance(node, ast.If) and name == "orelse" and len(children) == 1
        for child in children:
            if not isinstance(child, ast.AST):
                continue
            elif_ = chained and isinstance(child, ast.If)
            step = isinstance(child, Blocks) and not elif_
            deepest = max(deepest, step + depth(child))
    return deepest


def function_named(name: str, source: str) -> ast.FunctionDef:
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise LookupError(f"there is no function {name}")


def calls(source: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))


def is_constant(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def first_word(call: ast.Call) -> object:
    words = [*call.args, *(word.value for word in call.keywords if word.arg == "action")]
    return words[0].value if words and isinstance(words[0], ast.Constant) else None


def public_names(
    node: ast.Module | ast.ClassDef, prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    for child in node.body:
        if not isinstance(child, (*Functions, ast.ClassDef)) or child.name.startswith("_"):
            continue
        decorators = [ast.unparse(decorator) for decorator in child.decorator_list]
        if not any(name.endswith(("overload", "override", ".setter")) for name in decorators):
            yield prefix + child.name, child
        if isinstance(child, ast.ClassDef):
            yield from public_names(child, f"{prefix}{child.name}.")


def files_below(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize(
    ("rule", "folders"),
    [
        (file_is_long, (*PACKAGES, "benchmarks", "tests")),
        (function_is_long, (*PACKAGES, "benchmarks", "tests")),
        (file_is_a_junk_drawer, (*PACKAGES, "benchmarks", "tests")),
        (something_is_forgiven, (*PACKAGES, "benchmarks")),
        (something_is_printed, PACKAGES),
        (something_public_is_unexplained, (*PACKAGES, "benchmarks")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_no_file_breaks_the_rule(rule: Rule, folders: tuple[str, ...]) -> None:
    files = files_below(*folders)
    named = [(path.relative_to(ROOT), path.read_text()) for path in files]
    assert [complaint for path, source in named for complaint in rule(path, source)] == []


def test_the_training_loop_is_five_stanzas_on_one_screen() -> None:
    path = ROOT / "distill/train.py"
    assert list(loop_is_hard_to_read(path.relative_to(ROOT), path.read_text())) == []


GOOD_LOOP = '''
def train():
    """Train."""
    while True:
        # batch
        batch = next(stream)
        with accumulate():
            # losses
            # gradients
            step()
        # log
        if due:
            log()
        # save
        save()
'''


FOUR_MORE_LEVELS = (
    "".join("    " * level + "with a:\n" for level in range(2, 6)) + "    " * 6 + "b()"
)


def test_a_readable_loop_passes() -> None:
    assert list(loop_is_hard_to_read(Path("train.py"), GOOD_LOOP)) == []


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (file_is_long, "a.py", "x = 1\n" * 401),
        (function_is_long, "a.py", "class A:\n    def f(self):\n" + "        x = 1\n" * 60),
        (file_is_a_junk_drawer, "distill/utils.py", ""),
        (file_is_a_junk_drawer, "distill/common/__init__.py", ""),
        (something_is_forgiven, "a.py", "model.load_state_dict(weights, strict=False)"),
        (something_is_forgiven, "a.py", "import warnings\nwarnings.filterwarnings('ignore')"),
        (something_is_forgiven, "a.py", "warnings.simplefilter(action='ignore')"),
        (something_is_forgiven, "a.py", "import sys\nsys.path.append('.')"),
        (something_is_printed, "a.py", "def f():\n    print('x')"),
        (something_public_is_unexplained, "a.py", ""),
        (something_public_is_unexplained, "a.py", "'''A.'''\ndef f(): ..."),
        (
            something_public_is_unexplained,
            "a.py",
            "'''A.'''\nclass A:\n    'A.'\n    def f(self): ...",
        ),
        (loop_is_hard_to_read, "train.py", GOOD_LOOP + "        x = 1\n" * 60),
        (loop_is_hard_to_read, "train.py", GOOD_LOOP + "        if x: ...\n" * 8),
        (loop_is_hard_to_read, "train.py", GOOD_LOOP + FOUR_MORE_LEVELS),
        (loop_is_hard_to_read, "train.py", GOOD_LOOP.replace("# losses", "# forward")),
        (loop_is_hard_to_read, "train.py", GOOD_LOOP.replace("# save", "# batch")),
    ],
)
def test_the_rule_reports_a_file_that_breaks_it(rule: Rule, path: str, source: str) -> None:
    assert list(rule(Path(path), source))


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (something_is_forgiven, "pairs = zip(a, b, strict=False)"),
        (something_is_forgiven, "warnings.filterwarnings('error')"),
        (something_public_is_unexplained, "'''A.'''\ndef _f(): ..."),
    ],
)
def test_the_rule_allows_what_the_house_allows(rule: Rule, source: str) -> None:
    assert list(rule(Path("a.py"), source)) == []
