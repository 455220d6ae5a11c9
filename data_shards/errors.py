"""The sentences that tell a user what is wrong, where, and what to do next."""


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
