"""The hall of `skydistill models`."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console

from data_shards.recipe import parse_command
from evaluation.efficiency.config import ModelsConfig
from evaluation.efficiency.models import (
    CONVENTION,
    counted_models,
    licence_lines,
    measured_line,
    measured_model,
    models_table,
)


def models(argv: Sequence[str]) -> int:
    """List every model with what it costs."""
    config = parse_command(ModelsConfig, argv, prog="skydistill models", positionals=("names",))
    listed = counted_models(config)
    if config.measure_speed:
        listed = [measured_model(model, config) for model in listed]
    if config.json:
        sys.stdout.write(json.dumps([model.to_json() for model in listed]) + "\n")
        return 0
    width = None if sys.stdout.isatty() else 100
    console = Console(file=sys.stdout, highlight=False, width=width)
    console.print(models_table(listed))
    console.print(CONVENTION)
    console.print(licence_lines(listed))
    if listed[0].speed is not None:
        console.print(measured_line(listed[0].speed))
    return 0
