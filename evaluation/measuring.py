"""What a description costs in this evaluation, counted and, when asked, measured."""

from torch import Tensor, nn

from data_shards.errors import DescriptorError
from distill.models import RetrievalModel
from evaluation.efficiency.cost import Cost, Speed
from evaluation.efficiency.counts import cost
from evaluation.efficiency.speed import measure_speed
from evaluation.setting import Setting


class _AsAsked(nn.Module):
    """A model that describes as this evaluation does: with the mirrored image, or without."""

    def __init__(self, model: RetrievalModel, *, flip: bool) -> None:
        super().__init__()
        self.model, self.flip = model, flip

    def describe(self, images_BCHW: Tensor) -> Tensor:
        """Return unit descriptors [B, D]."""
        return self.model.describe(images_BCHW, flip=self.flip)


def measure_cost(setting: Setting) -> Cost:
    """Count parameters and operations of one description, the mirrored image's included.

    Raises:
        DescriptorError: images of this size are too small for the model.
    """
    try:
        return cost(_as_asked(setting), image_size=setting.image_size)
    except RuntimeError as error:
        raise DescriptorError(
            f"{setting.loaded.path} cannot describe images of {setting.image_size} x "
            f"{setting.image_size} px ({' '.join(str(error).split())[:200]}); give a larger "
            "--image-size"
        ) from error


def measure_speeds(setting: Setting) -> tuple[Speed, ...]:
    """Time the description at batch 1 and at the evaluation's batch, if that was asked."""
    if not setting.config.measure_speed:
        return ()
    return tuple(
        measure_speed(_as_asked(setting), image_size=setting.image_size, batch_size=batch_size)
        for batch_size in sorted({1, setting.config.batch_size})
    )


def _as_asked(setting: Setting) -> nn.Module:
    return _AsAsked(setting.loaded.model, flip=setting.config.flip)
