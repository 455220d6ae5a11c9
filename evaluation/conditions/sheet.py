"""A contact sheet: a few drone images, clean and under every condition, for eyes to judge.

`python -m evaluation.conditions.sheet SHARDS sheet.png` draws it.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from data_shards.config import bounded, refuse_out_of_bounds
from data_shards.decode import Pixels
from data_shards.errors import DescriptorError
from data_shards.loader import image_batches
from data_shards.recipe import parse_command
from data_shards.schema import Role, View
from data_shards.shards import RowNumbers, ShardSet
from data_shards.verbs import run_verb
from evaluation.conditions.named import CONDITIONS
from evaluation.figures.panels import evenly_spaced
from evaluation.figures.style import RULE, SMALL, pictures, save_figure, shortened, show, styled

log = logging.getLogger("evaluation.conditions.sheet")  # also where it is started as a module

CELL, CAPTION = 1.5, 0.22
"""In inches."""

CELLS_PER_ROW = 5
"""The clean image and its nine conditions stand in two rows."""


@dataclass(frozen=True, kw_only=True)
class SheetConfig:
    """Drone queries of a shard folder, clean and under every condition, in one picture."""

    shards: Path
    """Shard folder with a test set."""

    out: Path
    """Picture to write; the suffix says the format."""

    images: int = bounded(2, at_least=1)
    """Drone queries shown, evenly spaced."""

    image_size: int = bounded(384, at_least=1, at_most=4096)
    """Width and height in pixels at which the conditions are laid over."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn.

        Raises:
            RecipeError: what is wrong, by its option.
        """
        refuse_out_of_bounds(self)


@styled
def draw_conditions(photographs: Mapping[str, Pixels], *, title: str, subtitle: str) -> Figure:
    """Draw each photograph, by its key, clean and under every condition."""
    cells = []
    for key, clean in photographs.items():
        cells.append((key, clean))
        for name, condition in CONDITIONS.items():
            cells.append((name, condition.apply(clean, seed_key=key)))
    rows = -(-len(cells) // CELLS_PER_ROW)
    words = {"title": title, "subtitle": subtitle}
    figure, places = pictures(rows, CELLS_PER_ROW, **words, cell=CELL, caption=CAPTION)
    for axes, (caption, pixels) in zip(sum(places, []), cells, strict=True):
        show(axes, pixels, edge=RULE, width=0.6, caption=shortened(caption, CELL, size=SMALL))
    return figure


def photographs_of(
    shards: ShardSet, rows: RowNumbers, *, count: int, image_size: int
) -> dict[str, Pixels]:
    """Read `count` of these images by key, evenly spaced, at the size that a model would see.

    Raises:
        ShardError: an image cannot be decoded.
    """
    chosen = rows[evenly_spaced(len(rows), count)]
    batches = image_batches(
        shards,
        chosen,
        image_size=image_size,
        resampling="pillow-bicubic",
        batch_size=count,
        threads=1,
    )
    return {
        str(shards.images.key[row]): pixels.copy()
        for part, images in batches
        for row, pixels in zip(part.tolist(), images, strict=True)
    }


def draw(config: SheetConfig) -> int:
    """Draw the sheet of a shard folder.

    Raises:
        DescriptorError: no drone image is a query, or the picture cannot be written.
    """
    shards = ShardSet.open(config.shards)
    rows = shards.images.where(role=Role.QUERY, view=View.DRONE)
    if not len(rows):
        raise DescriptorError(
            f"{config.shards} holds no drone query to lay weather over; give shards with a test set"
        )
    photographs = photographs_of(shards, rows, count=config.images, image_size=config.image_size)
    figure = draw_conditions(
        photographs,
        title="The ten conditions",
        subtitle=f"{shards.manifest.layout}, {config.image_size} px; clean images carry their key",
    )
    try:
        log.info("%s", save_figure(figure, config.out))
    except (OSError, ValueError) as error:
        raise DescriptorError(f"{config.out} cannot be drawn ({error})") from error
    return 0


def main(argv: Sequence[str]) -> int:
    """Draw the sheet that a command line asks for."""
    prog = "python -m evaluation.conditions.sheet"
    return run_verb(
        lambda: draw(parse_command(SheetConfig, argv, prog=prog, positionals=["shards", "out"]))
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
