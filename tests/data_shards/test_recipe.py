import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import yaml

from data_shards.errors import RecipeError
from data_shards.recipe import find_recipe, load_recipe, parse_command, print_recipe_help, to_values


@dataclass(frozen=True, kw_only=True)
class Optics:
    """A part."""

    width: int = 8
    """Width."""

    kind: Literal["gem", "mean"] = "gem"
    """Kind."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A recipe."""

    name: str = "small"
    """Name."""

    out: Path | None = None
    """Folder."""

    speed: float = 0.1
    """Speed."""

    optics: Optics = field(default_factory=Optics)
    """A part."""

    spare: Optics | None = None
    """A part that may be missing."""

    sizes: tuple[int, ...] = (1, 2)
    """Several."""

    def __post_init__(self) -> None:
        if self.speed < 0:
            raise RecipeError("speed must not be negative")


@dataclass(frozen=True, kw_only=True)
class Words:
    """A verb."""

    source: Path
    """Where from."""

    num_steps: int
    """How many."""

    dry_run: bool = False
    """Only say."""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "camera.yaml"
    path.write_text("name: large\noptics: {width: 16}\nspeed: 1e-3\n")
    return path


def test_yaml_lies_over_defaults_and_the_command_line_over_both(recipe: Path) -> None:
    overrides = ["--optics.width", "32", "--out=here", "--spare.kind=mean", "--sizes", "[3]"]
    camera = load_recipe(Camera, recipe, overrides)
    assert camera == Camera(
        name="large",
        out=Path("here"),
        speed=0.001,
        optics=Optics(width=32),
        spare=Optics(kind="mean"),
        sizes=(3,),
    )


def test_without_a_file_there_are_the_defaults() -> None:
    assert load_recipe(Camera, None) == Camera()


def test_an_empty_file_is_the_defaults(recipe: Path) -> None:
    recipe.write_text("# nothing yet\n")
    assert load_recipe(Camera, recipe) == Camera()


def test_a_recipe_survives_being_written(recipe: Path) -> None:
    camera = load_recipe(Camera, recipe, ["--out", "there", "--spare.width=4"])
    recipe.write_text(yaml.safe_dump(to_values(camera)))
    assert load_recipe(Camera, recipe) == camera


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("optic: 1", r"camera.yaml: key optic is unknown \(did you mean 'optics'\?\); known here"),
        ("optics: {widht: 1}", r"key optics.widht is unknown \(did you mean 'width'\?\)"),
        ("spare: {widht: 1}", r"key spare.widht is unknown \(did you mean 'width'\?\)"),
        ("3: 1", "key 3 is unknown"),
        ("optics: {width: wide}", "camera.yaml: .*optics.width.* expected int"),
        ("optics: {kind: max}", "camera.yaml: .*optics.kind.*gem"),
        ("optics: 3", "camera.yaml: key optics holds the keys width, kind, not the value 3"),
        ("speed: -1", "speed must not be negative"),
        ("[1, 2]", "must be a YAML mapping of keys to values, not a list"),
        ("name: [", "camera.yaml is not YAML: .*line 1"),
    ],
)
def test_a_wrong_recipe_is_told_in_one_line(recipe: Path, text: str, sentence: str) -> None:
    recipe.write_text(text)
    with pytest.raises(RecipeError, match=sentence) as told:
        load_recipe(Camera, recipe)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["--optics.widht", "1"], r"command line: key optics.widht .*did you mean 'width'"),
        (["--nam=x"], r"command line: key nam is unknown \(did you mean 'name'\?\)"),
        (["--name"], "--name needs a value .top-level keys: name, out"),
        (["--name", "--speed", "1"], "--name needs a value"),
        (["name=x"], "'name=x' is not understood; the recipe comes first, behind it overrides"),
        (["--name.first", "x"], "--name.first asks for a key below name, which is a single value"),
        (["--sizes", "[1"], r"the value of --sizes is not YAML: '\[1'"),
        (["--speed", "fast"], "camera.yaml and the command line: .*speed"),
    ],
)
def test_a_wrong_override_is_told_in_one_line(recipe: Path, overrides, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence) as told:
        load_recipe(Camera, recipe, overrides)
    assert "\n" not in str(told.value)


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="recipe .*lost.yaml does not exist .current folder"):
        load_recipe(Camera, tmp_path / "lost.yaml")


def test_bytes_are_no_recipe(recipe: Path) -> None:
    recipe.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="camera.yaml is not YAML"):
        load_recipe(Camera, recipe)


def test_a_shipped_recipe_is_found_from_anywhere(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe(Path("configs/accelerate/cpu.yaml")).is_file()


def test_words_become_a_config() -> None:
    words = parse_command(
        Words, ["here", "--num-steps=3"], prog="skydistill walk", positionals=["source"]
    )
    assert words == Words(source=Path("here"), num_steps=3)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["a", "--num-step", "3"], r"option --num-step is unknown \(did you mean '--num-steps'"),
        (["a", "--num-steps", "few"], "--num-steps: expected int.*see skydistill walk --help"),
        (["a"], "required: --num-steps; see skydistill walk --help"),
        (["--num-steps", "3"], "source.*see skydistill walk --help"),
        (["a", "b", "--num-steps", "3"], "see skydistill walk --help"),
        (["a", "--num-steps"], "see skydistill walk --help"),
    ],
)
def test_wrong_words_are_told_in_one_line(argv: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence) as told:
        parse_command(Words, argv, prog="skydistill walk", positionals=["source"])
    assert "\n" not in str(told.value)


def test_help_says_what_stands_before_the_keys_and_offers_only_keys(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    print_recipe_help(Camera, prog="skydistill film", usage="skydistill film [RECIPE.yaml]")
    shown = capsys.readouterr().out
    assert "  RECIPE.yaml           YAML file of the keys below" in shown
    assert "  --dry-run             Check the recipe, say what" in shown
    assert "  -h, --help            Show this help message and exit." in shown
    assert "  --out OUT             Folder. (path)\n" in shown
    assert "  --speed SPEED         Speed. (float, default: 0.1)\n" in shown
    assert "--optics.width WIDTH" in shown and "Kind. (default: gem)\n" in shown
    assert "--optics CONFIG" not in shown and "class" not in shown


def test_help_of_a_verb_names_types_in_words(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        parse_command(Words, ["--help"], prog="skydistill walk", positionals=["source"])
    shown = capsys.readouterr().out
    assert "Where from. (required, path)\n" in shown
    assert "How many. (required, int)\n" in shown
    assert "Only say.\n" in shown


@dataclass(frozen=True, kw_only=True)
class Lists:
    """A verb that takes several of a thing."""

    sources: tuple[Path, ...] = ()
    """Where from."""

    heights: tuple[float, ...] = ()
    """How high."""

    names: tuple[str, ...] = ("one", "two")
    """Which."""

    kind: Literal["gem", "mean"] | None = None
    """Of what kind."""

    looks: tuple[Literal["wide", "tall"], ...] = ()
    """How."""


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], Lists()),
        (["a", "b", "--heights", "1", "2.5"], {"sources": ("a", "b"), "heights": (1, 2.5)}),
        (["--heights", "[1, 2.5]", "--names", "x"], {"heights": (1, 2.5), "names": ("x",)}),
        (["--heights=[1]", "--names=[x,y]"], {"heights": (1,), "names": ("x", "y")}),
        (["--heights=3"], {"heights": (3,)}),
        (["[a,b]"], {"sources": ("a", "b")}),
    ],
)
def test_several_words_become_a_tuple(argv: list[str], expected: object) -> None:
    if isinstance(expected, dict):
        paths = tuple(Path(name) for name in expected.get("sources", ()))
        expected = Lists(**expected | {"sources": paths})
    told = parse_command(Lists, argv, prog="skydistill walk", positionals=["sources"])
    assert told == expected


def test_a_wrong_word_among_several_is_told() -> None:
    with pytest.raises(RecipeError, match="--heights element 2.*skydistill walk --help"):
        parse_command(Lists, ["--heights", "1", "low"], prog="skydistill walk")


@pytest.mark.parametrize("empty", [("",), ("[]",), ()], ids=["a word", "a list", "nothing"])
def test_a_list_of_nothing_is_refused_and_not_taken_for_the_usual(empty: tuple[str, ...]) -> None:
    for argv in (["--names", *empty], ["--names", *empty, "--heights", "1"]):
        with pytest.raises(RecipeError, match="^--names names none; give some, or leave it out$"):
            parse_command(Lists, argv, prog="skydistill walk")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--names="], "--names names none; "),
        (["--heights", "1", "--names"], "--names names none; "),
        (["--names", "a", "--names", "b"], "--names is given twice; give all its words behind one"),
        (["--names", "a", ""], "--names has an empty word among 'a '; leave it out"),
        (["", "--names", "a"], "sources names none; give some"),
    ],
)
def test_an_empty_word_is_none(argv: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError, match="^" + sentence):
        parse_command(Lists, argv, prog="skydistill walk", positionals=["sources"])


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--kind", "means"], "kind 'means' is unknown (did you mean 'mean'?); known: gem, mean"),
        (["--kind=x"], "kind 'x' is unknown; known: gem, mean"),
        (["--looks", "wide", "tal"], "looks 'tal' is unknown (did you mean 'tall'?); known: wide"),
    ],
)
def test_a_choice_nobody_knows_is_told_as_any_name(argv: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError, match="^" + re.escape(sentence)):
        parse_command(Lists, argv, prog="skydistill walk")
    told = parse_command(Lists, ["--kind", "gem", "--looks", "tall"], prog="skydistill walk")
    assert told == Lists(kind="gem", looks=("tall",))
    usual = parse_command(Lists, ["--kind", "null"], prog="skydistill walk")
    assert usual == Lists()


def test_a_choice_nobody_knows_is_told_of_recipes_too(recipe: Path) -> None:
    known = r"\(did you mean 'mean'\?\); known: gem, mean$"
    with pytest.raises(RecipeError, match="line: optics.kind 'means' is unknown " + known):
        load_recipe(Camera, recipe, ["--optics.kind", "means"])
    recipe.write_text("spare: {kind: means}\n")
    with pytest.raises(RecipeError, match="camera.yaml: spare.kind 'means' is unknown " + known):
        load_recipe(Camera, recipe)
