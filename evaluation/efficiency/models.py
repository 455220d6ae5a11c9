"""Every model a recipe can name, with what it costs: the table of `skydistill models`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from data_shards.errors import RecipeError, require_known
from distill.config import ModelConfig
from distill.methods import METHODS
from distill.models import ARCHS, to_device
from distill.models.backbones import patch_of
from distill.models.weights import origin_at_timm
from evaluation.config import ModelsConfig
from evaluation.efficiency.measure import MIB, RUNS, cost, measure_speed

CONVENTION = """\
Parameters in millions, operations in billions per image (1 MAC = 2 FLOPs).
Convolutions, matrix products and attention count; OPs = BOPs/64 + MACs.
A pair is a drone image and a satellite tile; class heads, which only train, are
left out. MiB are those of a file with one bit per binary parameter, 32 for others."""


def list_models(config: ModelsConfig) -> None:
    """Write every model with what it costs, without `names` all of them by size.

    Raises:
        RecipeError: there is no model of such a name, or none of such a size.
    """
    chosen = [require_known(name, ARCHS, what="model", error=RecipeError) for name in config.names]
    listed = [model for name in chosen or ARCHS if (model := listed_model(name, config))]
    if not chosen:
        listed.sort(key=lambda model: model["cost"]["parameters"])
    if config.json:
        sys.stdout.write(json.dumps(listed) + "\n")
        return
    sources: dict[str, list[str]] = {}
    for model in listed:
        if model["licence"]:
            sources.setdefault(model["licence"], []).append(model["source"])
    width = None if sys.stdout.isatty() else 100
    console = Console(file=sys.stdout, highlight=False, width=width)
    console.print(models_table(listed))
    console.print(CONVENTION)
    for licence, of in sources.items():
        console.print(f"Weights of timm under {licence}: {', '.join(of)}.")
    if speed := listed[0]["speed"]:
        console.print(
            f"Measured on {speed['machine']}, batch {config.batch_size}:\n"
            f"median of at most {RUNS} batches of images in memory, normalization included;\n"
            "peak: MiB of memory at most in use above the model."
        )


def listed_model(name: str, config: ModelsConfig) -> dict[str, Any] | None:
    """Count what a model costs, where no weight takes memory, and time it if that is asked for.

    As plain values, with operations per image and per pair, in both conventions. None where its
    patches do not divide the size, and nobody asked for this model.
    """
    build, model_config = METHODS[config.method].build, ModelConfig(arch=name, weights="none")
    with torch.device("meta"):
        model = build(model_config, num_places=2)
    if not config.names and config.image_size % patch_of(model.backbone):
        return None
    model.refuse_size(config.image_size, key="--image-size")
    origin, counted = origin_at_timm(name), cost(model, image_size=config.image_size)
    speed = None
    if config.measure_speed:  # with fresh weights, on the GPU where there is one
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        measured = measure_speed(
            to_device(build(model_config, num_places=2), device),
            image_size=config.image_size,
            batch_size=config.batch_size,
            precision=config.precision,
            threads=config.threads,
            most_seconds=config.most_seconds,
        )
        facts = {"machine": measured.machine, "images_per_second": measured.images_per_second}
        speed = asdict(measured) | facts
    return {
        "name": name,
        "method": config.method,
        "descriptor_width": model.width,
        "source": origin.source,
        "licence": origin.licence,
        "cost": {
            **asdict(counted),
            **{
                name: getattr(counted, name) for name in ("flops", "ops", "ops_per_pair", "ptflops")
            },
            "ptflops_per_pair": 2 * counted.ptflops,
            "stored_bytes": counted.stored_bytes,
            "packed_bytes": counted.packed_bytes(),
            "packed_float16_bytes": counted.packed_bytes(real=2),
        },
        "speed": speed,
    }


def models_table(models: Sequence[dict[str, Any]]) -> Table:
    """Return the list as people read it."""
    counts = {"MACs": "macs", "BOPs": "bops", "OPs": "ops", "/ pair": "ops_per_pair"}
    if not any(model["cost"]["bops"] for model in models):
        del counts["BOPs"]
    speeds = {"ms/batch": "median_ms", "images/s": "images_per_second", "peak": "peak_memory_mib"}
    title = f"Models of {models[0]['method']} at {models[0]['cost']['image_size']} px"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    table.add_column("model.arch", no_wrap=True)
    for header in ("width", "params", "MiB", *counts, *(speeds if models[0]["speed"] else ())):
        table.add_column(header, justify="right", no_wrap=True)
    for model in models:
        counted, speed = model["cost"], model["speed"]
        cells = [str(model["descriptor_width"]), f"{counted['parameters'] / 1e6:.2f}"]
        cells.append(f"{counted['packed_bytes'] / MIB:.1f}")
        cells += [f"{counted[count] / 1e9:.3f}" for count in counts.values()]
        told = [speed[name] for name in speeds.values()] if speed else []
        cells += ["" if value is None else f"{value:,.1f}" for value in told]
        table.add_row(model["name"], *cells)
    return table
