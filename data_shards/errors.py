"""The sentences that tell a user what is wrong, where, and what to do next."""

import difflib
from collections.abc import Iterable


class SkyDistillError(Exception):
    """A mistake the user can mend; commands print it as one sentence and exit with `exit_code`."""

    exit_code = 2


class RecipeError(SkyDistillError):
    """A recipe or a command line that cannot mean what it says."""


class LayoutError(SkyDistillError):
    """Raw folders that are not the layout they were said to be."""


class ShardError(SkyDistillError):
    """Shards, their index or their manifest are missing, damaged or of another source."""


class PlanError(SkyDistillError):
    """A global batch, world size or split for which no exact plan exists."""


class CacheError(SkyDistillError):
    """A teacher cache that is missing, unfinished or made from something else."""


class CheckpointError(SkyDistillError):
    """A run folder or checkpoint that is missing, damaged or of another model."""


class WorldSizeError(SkyDistillError):
    """The processes that run are not the processes that were asked for."""


class ProcessEndedError(SkyDistillError):
    """A process of ours that was ended from outside."""


class DivergedError(SkyDistillError):
    """A training run whose losses stopped being finite."""


class DescriptorError(SkyDistillError):
    """Descriptors or labels that cannot be ranked."""


class TrackingError(SkyDistillError):
    """An MLflow store that is missing, does not answer, or lacks what was asked of it."""


def require_known(
    name: str, known: Iterable[str], *, what: str, error: type[SkyDistillError]
) -> str:
    """Return `name` if it is known.

    Raises:
        error: it is not; the sentence names the nearest known name and lists all of them.
    """
    names = list(known)
    if name in names:
        return name
    raise error(f"{what} {name!r} is unknown{did_you_mean(name, names)}; known: {', '.join(names)}")


def counted(count: int, noun: str) -> str:
    """Return `1 image` or `1,234 images`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return `, did you mean 'x'?`-like words, or nothing when no name is near."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
