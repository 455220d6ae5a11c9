"""`skydistill train` and `cache`, alone or under `accelerate launch`, and `import-weights`."""

import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from data_shards.errors import RecipeError
from data_shards.manifest import MANIFEST_NAME
from data_shards.recipe import load_recipe, parse_command, print_recipe_help
from data_shards.shards import ShardSet
from data_shards.verbs import run_verb
from distill.attempt import cache_once, one_rank_tells, train_once
from distill.config import DataConfig, DistillConfig, ObjectivesConfig
from distill.config.import_weights import ImportConfig
from distill.config.objectives import CrossEntropyConfig, TripletConfig
from distill.inputs import open_without_images
from distill.launched import log_on_rank_zero
from distill.run_folder import DONE, RunPaths, claim_run_folder

if TYPE_CHECKING:
    from distill.models import RetrievalModel
    from distill.models.import_weights import Found
    from distill.train import Probe

DEFAULT_RECIPE = Path("configs/pfed/demo.yaml")


def run_train() -> int:
    """Be `distill/run.py`."""
    return run_verb(lambda: train(sys.argv[1:]))


def run_cache() -> int:
    """Be `distill/cache.py`."""
    return run_verb(lambda: cache(sys.argv[1:]))


def train(argv: Sequence[str]) -> int:
    """Train the model that a recipe describes, resuming where the last attempt stopped."""
    as_json = {"--dry-run", "--json"} <= set(argv)
    with one_rank_tells():
        words = [word for word in argv if word != "--json" or not as_json]
        asked = _read_arguments(
            words, prog="skydistill train", usage=" (--dry-run --json, --profile)"
        )
        if asked is None:
            return DONE
        config, typed, is_dry = asked
        claimed = nullcontext() if is_dry else claim_run_folder(RunPaths(config.run_folder))
    with claimed, one_rank_tells(None if is_dry else config):
        if not is_dry:
            return train_once(config, recipe=typed, make_probes=_probes)
        from distill.dry_run import dry_train

        dry_train(config, as_json=as_json, make_probes=_probes)
    return DONE


def cache(argv: Sequence[str]) -> int:
    """Run the teacher of a recipe over its shards, once; or tell what a finished cache is."""
    if "--info" in argv:
        from distill.teacher.cache import cache_facts

        folders = [word for word in argv if word not in ("--info", "--json")]
        if len(folders) != 1:
            raise RecipeError("skydistill cache --info FOLDER [--json] takes one folder, no recipe")
        facts, as_json = cache_facts(Path(folders[0])), "--json" in argv
        told = json.dumps(facts) + "\n" if as_json else yaml.safe_dump(facts, sort_keys=False)
        sys.stdout.write(told)
        return DONE
    with one_rank_tells():
        asked = _read_arguments(argv, prog="skydistill cache", usage=" | --info FOLDER [--json]")
        if asked is None:
            return DONE
        config, _, is_dry = asked
        if config.teacher.cache is None:
            raise RecipeError(f"recipe {config.name} names no cache folder; set teacher.cache")
        if not is_dry:
            return cache_once(config)
        _dry_cache(config)
    return DONE


def import_weights(argv: Sequence[str]) -> int:
    """Write weights of BNext's, MCCG's or BiCrossNet's authors as SkyDistill reads them."""
    config = parse_command(
        ImportConfig, argv, prog="skydistill import-weights", positionals=["file", "out"]
    )
    from distill.models import RetrievalModel
    from distill.models.import_weights import find_network, import_network
    from distill.models.weights import file_sha256, read_weights
    from distill.weights_file import save_tensors

    state = read_weights(config.file, what="import-weights")
    found = find_network(state, what=str(config.file))
    network = import_network(state, found)
    if isinstance(network, RetrievalModel):
        use = _write_network(config, found, network)
    else:
        use = f"a backbone, for model.weights where model.arch is {found.config.arch}"
        save_tensors(config.out, network.get_submodule("backbone").state_dict())
    count = sum(parameter.numel() for parameter in network.parameters())
    sys.stdout.write(
        f"{config.file} is read as {found.kind.name}: {found.config.arch}, {count:,} parameters in "
        f"use; written to {config.out} (sha256 {file_sha256(config.out)}): {use}\n"
    )
    return DONE


def _write_network(config: ImportConfig, found: "Found", model: "RetrievalModel") -> str:
    """Write an imported network with its head, and return what it can be used for."""
    from distill.models.weights import Origin, file_sha256
    from distill.teacher.source import class_places
    from distill.weights_file import TrainingData, save_weights

    data = DataConfig(
        shards=config.shards or "",
        image_size=config.image_size,
        resampling="pillow-bicubic",
        altitudes=config.altitudes,
    )
    places, trained_on = tuple(map(str, range(found.num_places))), TrainingData()
    use = "evaluate it with --checkpoint; import it with --shards to teach or to start with it"
    if config.shards:
        shards = open_without_images(data)
        places, trained_on = class_places(shards), TrainingData.of(shards)
        use = "evaluate it with --checkpoint, teach with it (teacher.run), or start from it (start)"
    if len(places) != found.num_places:
        raise RecipeError(
            f"{config.file} tells {found.num_places} places apart and {config.shards} has "
            f"{len(places)} to train on; give the shards of its own data set"
        )
    assert found.kind.role is not None
    model.origin = Origin(source=str(config.file), sha256=file_sha256(config.file))
    save_weights(
        config.out,
        config.out.with_suffix(".md"),
        model,
        DistillConfig(
            name=config.out.stem,
            method="bicrossnet",
            role=found.kind.role,
            data=data,
            model=found.config,
            objectives=ObjectivesConfig(
                cross_entropy=CrossEntropyConfig(weight=1.0), triplet=TripletConfig(weight=1.0)
            ),
        ),
        places=places,
        trained_on=trained_on,
        step=0,
        history=f"trained: elsewhere, as {found.kind.name}\n- use: {use}",
    )
    return use


def _probes(config: DistillConfig, shards: ShardSet) -> list["Probe"]:
    """Return the looks that the loop takes at held-out places, where the recipe holds some out."""
    from evaluation.probe import RetrievalProbe

    return [RetrievalProbe(shards, config.data)] if config.data.validation_fraction else []


def _read_arguments(
    argv: Sequence[str], *, prog: str, usage: str
) -> tuple[DistillConfig, str, bool] | None:
    """Return the recipe, how a person types it for a single process, and whether it is a dry run.

    None when only help was asked for.
    """
    if "-h" in argv or "--help" in argv:
        print_recipe_help(
            DistillConfig,
            prog=prog,
            usage=f"{prog} [RECIPE.yaml] [--dry-run] [--key value ...]{usage}",
        )
        return None
    words = [word for word in argv if word not in ("--dry-run", "--profile")]
    if "--profile" in argv:
        words += ["--profile_steps", "5"]
    is_default = not words or words[0].startswith("--")
    recipe = DEFAULT_RECIPE if is_default else Path(words.pop(0))
    config = load_recipe(DistillConfig, recipe, words)
    shards = Path(config.data.shards)
    if recipe == DEFAULT_RECIPE and not words and not (shards / MANIFEST_NAME).is_file():
        raise RecipeError(
            f"the default recipe {recipe} needs the shards {shards}, not there yet; run skydistill "
            "demo, which makes shards, teacher and cache, or give a recipe"
        )
    if is_default:
        log_on_rank_zero(f"no recipe given: {recipe} it is")
    typed = [str(recipe), *words]
    if config.expected_world_size not in (None, 1):
        typed += ["--expected_world_size", "1"]
    return config, shlex.join(typed), "--dry-run" in argv


def _dry_cache(config: DistillConfig) -> None:
    """Print what the teacher pass would write; write nothing."""
    from distill.teacher.cache import cached_shards
    from distill.teacher.source import cache_key, load_teacher

    shards = open_without_images(config.data)
    key = cache_key(config, shards, load_teacher(config, shards))
    described = cached_shards(shards, key.altitudes).values()
    rows = sum(map(len, described)) * config.augment.slots
    size = rows * key.row.itemsize
    log_on_rank_zero(
        f"would write {rows} rows of {key.row.itemsize} bytes ({key.codec}, {size / 2**20:.1f} "
        f"MiB) to {config.teacher.cache}"
    )
