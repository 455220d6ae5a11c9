"""Typed configuration from YAML recipes and command lines, refused in one sentence when wrong.

A recipe is YAML laid over frozen dataclasses; `--key value` on the command line is laid over the
recipe. jsonargparse checks the types; unknown keys are refused here, with the nearest one.
"""

import dataclasses
import json
import re
import sys
import types
import typing
from argparse import SUPPRESS, Action, ArgumentError
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, set_parsing_settings

from data_shards.errors import RecipeError, did_you_mean, require_known
from data_shards.text_files import read_text

set_parsing_settings(docstring_parse_attribute_docstrings=True)

Config = TypeVar("Config")


class _PlainHelp(DefaultHelpFormatter):
    """Every option with its sentence, and behind it what a reader needs to know of the type."""

    def _get_help_string(self, action: Action) -> str:
        sentence = action.help or ""
        if action.nargs == 0:
            return sentence[:1].upper() + sentence[1:].rstrip(".") + "."
        facts = ["required"] if action.required else []
        facts.append(_plain_type(self._get_type_str(action)))
        if isinstance(action.default, list) and action.default:
            facts.append(f"default: {' '.join(map(str, action.default))}".replace("%", "%%"))
        elif action.default not in (None, SUPPRESS, []):
            facts.append("default: %(default)s")
        shown = ", ".join(filter(None, facts))
        return f"{sentence} ({shown})" if shown else sentence


def _plain_type(told: str | None) -> str:
    """Return a type as words: `<class 'Path'> | null` is a path; choices stand in the usage."""
    if told is None or told.startswith("Literal"):
        return ""
    if told.startswith("Optional[Literal["):
        return "one of " + told.removeprefix("Optional[Literal[").rstrip("]").replace("'", "")
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", told).removesuffix(" | null").lower()


CHECKOUT_RECIPES = Path(__file__).resolve().parents[1] / "configs"
INSTALLED_RECIPES = Path(__file__).resolve().parent / "shipped_configs"


def find_recipe(path: Path) -> Path:
    """Return the file `path` means: itself, or the shipped recipe of that name (`configs/...`).

    Raises:
        RecipeError: there is no such file.
    """
    if path.is_file():
        return path
    if path.parts[:1] == ("configs",):
        for root in (CHECKOUT_RECIPES, INSTALLED_RECIPES):
            shipped = root.joinpath(*path.parts[1:])
            if shipped.is_file():
                return shipped
    raise RecipeError(
        f"recipe {path} does not exist (current folder: {Path.cwd()}); give the path of a YAML file"
    )


def load_recipe(cls: type[Config], path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Build `cls` from its defaults, the YAML at `path` and `--key value` overrides, in this order.

    Raises:
        RecipeError: the file is missing or no YAML mapping, a key or choice is unknown (the
            nearest is named), a value has the wrong type, or the values contradict each other.
    """
    values: dict[str, Any] = {}
    where = "command line"
    if path is not None:
        found = find_recipe(path)
        where = str(found)
        try:
            values = yaml.safe_load(read_text(found))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RecipeError(f"{found} is not YAML: {' '.join(str(error).split())}") from error
        except OSError as error:
            raise RecipeError(f"{found} cannot be read: {error.strerror}") from error
        values = {} if values is None else values
        if not isinstance(values, dict):
            kind = type(values).__name__
            raise RecipeError(f"{found} must be a YAML mapping of keys to values, not a {kind}")
        _refuse_unknown_keys(cls, values, where=where)
    _lay_over(values, cls, overrides)
    _refuse_unknown_keys(cls, values, where="command line")
    if path is not None and overrides:
        where += " and the command line"
    return build_config(cls, values, where=where)


def build_config(cls: type[Config], values: Mapping[str, Any], *, where: str) -> Config:
    """Build `cls` from nested `values`, checking every type.

    Raises:
        RecipeError: a value is missing, has the wrong type, or contradicts another.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls)
    try:
        instance = parser.instantiate(parser.parse_object(dict(values)))
    except (ArgumentError, TypeError, ValueError) as error:
        raise RecipeError(f"{where}: {_one_sentence(str(error))}") from error
    return cls(**{field.name: instance[field.name] for field in dataclasses.fields(cls)})  # type: ignore[arg-type]


def parse_command(
    cls: type[Config], argv: Sequence[str], *, prog: str, positionals: Sequence[str] = ()
) -> Config:
    """Build the flat config `cls` of one verb from its command line; `--help` explains every field.

    Raises:
        RecipeError: an option or choice is unknown (the nearest is named), missing or of the wrong
            type, or one that takes several words was given none.
    """
    from docstring_parser import parse_from_object

    parser = ArgumentParser(
        prog=prog, description=cls.__doc__, exit_on_error=False, formatter_class=_PlainHelp
    )
    options = {}
    hints = typing.get_type_hints(cls)
    described = parse_from_object(cls).params
    docs = {param.arg_name: " ".join((param.description or "").split()) for param in described}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        flag = field.name if field.name in positionals else "--" + field.name.replace("_", "-")
        options[flag] = field.name
        _add_option(parser, flag, field, hints[field.name], docs.get(field.name, ""))
    if "--help" not in argv and "-h" not in argv:
        _refuse_unknown_options(argv, options)
    lists = {flag for flag, name in options.items() if _item_of(hints[name])}
    words = _spread_lists(argv, {flag if flag.startswith("--") else "" for flag in lists})
    _refuse_unfit_words(words, {flag: hints[name] for flag, name in options.items()})
    try:
        parsed = parser.parse_args(words)
    except (ArgumentError, TypeError, ValueError) as error:
        told = _one_sentence(str(error))
        for flag, name in options.items():
            told = re.sub(rf'key "{name}"|(?<=required: ){name}\b', flag, told)
        raise RecipeError(f"{told}; see {prog} --help") from error
    values = {name: parsed[name] for name in options.values()}
    return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def print_recipe_help(cls: type[object], *, prog: str, usage: str) -> None:
    """Print every key of a recipe with its sentence, type and default."""
    parser = ArgumentParser(
        prog=prog,
        usage=usage,
        description="Do what a recipe says; --key value behind it is laid over the file.",
        exit_on_error=False,
        formatter_class=_PlainHelp,
    )
    parser.add_argument(
        "recipe",
        metavar="RECIPE.yaml",
        nargs="?",
        help="YAML file of the keys below, or a shipped one (configs/...); it comes first.",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="Check the recipe, say what would be done, and stop."
    )
    parser.add_class_arguments(cls)
    groups = {option.dest.rpartition(".")[0] for option in parser._actions}
    for option in parser._actions:
        if option.dest in groups:
            option.help = SUPPRESS  # a file for one group is what recipes do without
    parser.print_help(sys.stdout)


def to_values(config: Any) -> dict[str, Any]:
    """Return a config as nested plain values, ready for YAML or JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return plain


def _lay_over(values: dict[str, Any], cls: type[object], overrides: Sequence[str]) -> None:
    """Put `--a.b value` and `--a.b=value` of a command line into nested `values`."""
    words = list(overrides)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise RecipeError(
                f"command line: {word!r} is not understood; the recipe comes first, behind it "
                "overrides as --key value"
            )
        key, equals, text = word[2:].partition("=")
        if not equals:
            if not words or words[0].startswith("--"):
                known = ", ".join(field.name for field in dataclasses.fields(cls))  # type: ignore[arg-type]
                raise RecipeError(f"command line: --{key} needs a value (top-level keys: {known})")
            text = words.pop(0)
        *parents, last = key.replace("-", "_").split(".")
        part = values
        for parent in parents:
            part = part.setdefault(parent, {})
            if not isinstance(part, dict):
                raise RecipeError(
                    f"command line: --{key} asks for a key below {parent}, which is a single value"
                )
        try:
            part[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RecipeError(
                f"command line: the value of --{key} is not YAML: {text!r}"
            ) from error


def _refuse_unknown_keys(
    cls: type[object], values: Mapping[str, Any], *, where: str, below: str = ""
) -> None:
    hints = typing.get_type_hints(cls)
    for key, value in values.items():
        if key not in hints:
            known = f"; known here: {', '.join(hints)}"
            raise RecipeError(
                f"{where}: key {below}{key} is unknown{did_you_mean(str(key), hints)}{known}"
            )
        # The dataclass that the hint is or, as `Part | None`, holds.
        is_union = typing.get_origin(hints[key]) in (typing.Union, types.UnionType)
        parts = typing.get_args(hints[key]) if is_union else (hints[key],)
        inner: Any = next((part for part in parts if dataclasses.is_dataclass(part)), None)
        if inner is None:
            items = value if isinstance(value, list) else [value]
            words = [item for item in items if isinstance(item, str)]
            _refuse_unknown_choices(words, hints[key], what=f"{where}: {below}{key}")
        if inner is None or (value is None and inner is not hints[key]):
            continue
        if not isinstance(value, Mapping):
            raise RecipeError(
                f"{where}: key {below}{key} holds the keys "
                f"{', '.join(typing.get_type_hints(inner))}, not the value {value!r}"
            )
        _refuse_unknown_keys(inner, value, where=where, below=f"{below}{key}.")


def _refuse_unknown_options(argv: Sequence[str], options: Mapping[str, str]) -> None:
    for word in argv:
        flag = word.partition("=")[0]
        if (
            re.match(r"--\w", flag)
            and flag.replace("--no-", "--", 1) not in options
            and flag not in options
        ):
            raise RecipeError(
                f"option {flag} is unknown{did_you_mean(flag, options)}; "
                f"known: {', '.join(options)}"
            )


def _refuse_unfit_words(argv: Sequence[str], hints: Mapping[str, object]) -> None:
    """Refuse a list of nothing, which is what a script makes of an unset variable, and choices.

    Raises:
        RecipeError: which option it is.
    """
    positional = next((flag for flag in hints if flag[0] != "-" and _item_of(hints[flag])), "")
    given: list[tuple[str, list[str]]] = [(positional, [])]
    for word in argv:
        if word.startswith("--"):
            flag, equals, text = word.partition("=")
            given.append((flag, [text] if equals else []))
        else:
            given[-1][1].append(word)
    for flag, words in given if given[0][1] else given[1:]:
        hint = hints.get(flag)
        is_list = _item_of(hint) is not None
        if is_list and not any(words):
            raise RecipeError(f"{flag} names none; give some, or leave it out")
        if is_list and not all(words):
            raise RecipeError(f"{flag} has an empty word among {' '.join(words)!r}; leave it out")
        if is_list and [other for other, _ in given].count(flag) > 1:
            raise RecipeError(f"{flag} is given twice; give all its words behind one")
        if words[:1] != ["null"] or type(None) not in typing.get_args(hint):
            _refuse_unknown_choices(words if is_list else words[:1], hint, what=flag.lstrip("-"))


def _refuse_unknown_choices(words: Sequence[str], hint: object, *, what: str) -> None:
    if choices := _choices(hint):
        for word in words:
            require_known(word, choices, what=what, error=RecipeError)


def _choices(hint: object) -> list[str]:
    """Return the words of a Literal, alone, as `Literal | None` or in a tuple; else none."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return [str(word) for word in typing.get_args(hint)]
    parts = [part for part in typing.get_args(hint) if part not in (type(None), ...)]
    may_hold = origin in (typing.Union, types.UnionType, tuple)
    return _choices(parts[0]) if may_hold and len(parts) == 1 else []


def _add_option(
    parser: ArgumentParser, flag: str, field: "dataclasses.Field[Any]", hint: object, doc: str
) -> None:
    arguments: dict[str, Any] = {"help": doc}
    if field.default is not dataclasses.MISSING:
        arguments["default"] = field.default
    elif field.default_factory is not dataclasses.MISSING:
        arguments["default"] = field.default_factory()
    elif flag.startswith("--"):
        arguments["required"] = True
    if not flag.startswith("--") and "default" in arguments:
        arguments["nargs"] = "?"
    if hint is bool:
        arguments["action"] = "store_true"
    elif item := _item_of(hint):
        arguments |= {"type": item, "nargs": "*", "default": list(arguments.get("default", ()))}
    else:
        arguments["type"] = hint
    parser.add_argument(flag, **arguments)


def _item_of(hint: object) -> Any:
    """Return X of `tuple[X, ...]`; None for anything else."""
    parts = typing.get_args(hint) if typing.get_origin(hint) is tuple else ()
    return parts[0] if parts[1:] == (...,) else None


def _spread_lists(argv: Sequence[str], lists: set[str]) -> list[str]:
    """Turn `--altitudes [150, 200]` and `--altitudes=150` into `--altitudes 150 200`."""
    words: list[str] = []
    flag = ""
    for word in argv:
        name, equals, text = word.partition("=")
        if word.startswith("--"):
            flag = name
            if equals and flag in lists:
                words.append(flag)
                word = text
        is_list = flag in lists and word.startswith("[") and word.endswith("]")
        words += [item.strip() for item in word[1:-1].split(",")] if is_list else [word]
    return words


def _one_sentence(message: str) -> str:
    """Squeeze a parser's paragraphs into one line that names the key."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("Subtypes:", "Errors:"))]
    sentence = re.sub(r"\s+", " ", " ".join(kept[:4])).replace("Parser key", "key").rstrip(".")
    return re.sub(r"Expected an? <class '(\w+)'>", r"expected \1", sentence)
