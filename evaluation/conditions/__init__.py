"""Photographs of a clear day in, the same in weather and difficult light out: nine conditions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from data_shards.decode import Pixels
from data_shards.draws import mix
from data_shards.errors import RecipeError, require_known
from data_shards.shards import hash_text
from evaluation.conditions.effects import (
    RAIN,
    SNOW,
    Light,
    darken,
    fall,
    fog,
    over_expose,
    shake,
    to_light,
    to_pixels,
)

VERSION = 1
"""Raised when the same image and condition would give other pixels; stands in every report."""

ALL = "all"

Effect = Callable[[Light, np.random.Generator], None]
"""Changes the light in place."""

EFFECTS: dict[str, Effect] = {
    "fog": fog,
    "rain": partial(fall, what=RAIN),
    "snow": partial(fall, what=SNOW),
    "dark": darken,
    "over-exposure": over_expose,
    "wind": shake,
}


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One kind of weather or light."""

    name: str
    effects: tuple[str, ...]
    """From the scene to the camera: what is nearer covers what is farther."""

    def apply(self, pixels: Pixels, seed_key: str) -> Pixels:
        """Return the photograph [H, W, RGB] under this condition; `pixels` stay as they are.

        What falls, where it is thick and how strong it is depend on `seed_key`, the image's own
        key, on the effect and on `VERSION` alone, at every size; so the fog of fog and rain is the
        fog of fog.
        """
        light = to_light(pixels)
        for effect in self.effects:
            seed = int(mix(VERSION, hash_text(effect), hash_text(seed_key)))
            EFFECTS[effect](light, np.random.Generator(np.random.PCG64(seed)))
        return to_pixels(light)


CONDITIONS = {
    name: Condition(name=name, effects=(name,) if name in EFFECTS else tuple(name.split("-")))
    for name in "fog rain snow fog-rain fog-snow rain-snow dark over-exposure wind".split()
}
"""In the order of tables."""


def chosen_conditions(names: Iterable[str]) -> tuple[Condition, ...]:
    """Return the conditions of these names, each once and in the order of tables.

    Raises:
        RecipeError: a name is unknown; `all` stands for all of them.
    """
    chosen = {
        require_known(name, [*CONDITIONS, ALL], what="condition", error=RecipeError)
        for name in names
    }
    return tuple(one for name, one in CONDITIONS.items() if chosen & {name, ALL})
