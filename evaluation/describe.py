"""Every image described exactly once, shared among the ranks and brought together on each."""

# Shapes: N = images, D = descriptor width.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_shards.config import Resampling
from data_shards.errors import DescriptorError
from data_shards.loader import image_batches
from data_shards.processors import processors
from data_shards.progress import Progress
from data_shards.shards import RowNumbers, ShardSet
from distill.collectives import gather_arrays, rank, ranks_on_this_node, world_size
from distill.models import RetrievalModel, inference, normalize


@dataclass(frozen=True, kw_only=True)
class Descriptors:
    """Unit descriptors of some images, by row number."""

    rows: RowNumbers
    """Rows of the image table, ascending, each once [N]."""

    descriptor_ND: Tensor
    """On the CPU."""

    def of(self, rows: RowNumbers) -> Tensor:
        """Return the descriptors of `rows`, in their order."""
        at = np.searchsorted(self.rows, rows)
        assert np.array_equal(self.rows[at], rows), "only described images have a descriptor"
        return self.descriptor_ND[torch.from_numpy(at)]


def describe(
    model: RetrievalModel,
    shards: ShardSet,
    rows: Sequence[RowNumbers],
    *,
    image_size: int,
    resampling: Resampling,
    batch_size: int,
    threads: int,
    progress: Progress,
) -> Descriptors:
    """Describe the images of all `rows`, shared ones once; every rank calls it and gets them all.

    Raises:
        ShardError: an image cannot be decoded.
        DescriptorError: a descriptor is not finite.
    """
    wanted = np.unique(np.concatenate(rows))
    own = wanted[rank() :: world_size()]
    device = next(model.parameters()).device
    batches = image_batches(
        shards,
        own,
        image_size=image_size,
        resampling=resampling,
        batch_size=batch_size,
        threads=threads or max(1, processors() // ranks_on_this_node()),
    )
    parts: list[npt.NDArray[np.float32]] = []
    done = 0
    with inference(model):
        for part, images in batches:
            described = model.describe(normalize(torch.from_numpy(images).to(device)))
            parts.append(described.float().cpu().numpy())
            done += len(part)
            progress(min(done * world_size(), len(wanted)), len(wanted))

    # A rank without images knows no width, so its part is left out by its length.
    gathered = [part for part in gather_arrays(np.concatenate(parts or [_NOTHING])) if len(part)]
    all_rows = np.concatenate([wanted[start :: world_size()] for start in range(world_size())])
    descriptors = np.concatenate(gathered)
    assert len(descriptors) == len(wanted), "every image is described exactly once"
    order = np.argsort(all_rows)
    descriptor_ND = torch.from_numpy(descriptors[order])
    _refuse_broken(descriptor_ND, shards, wanted)
    return Descriptors(rows=wanted, descriptor_ND=descriptor_ND)


_NOTHING = np.empty((0, 1), dtype=np.float32)


def _refuse_broken(descriptor_ND: Tensor, shards: ShardSet, rows: RowNumbers) -> None:
    is_broken_N = ~descriptor_ND.isfinite().all(dim=1) | (descriptor_ND == 0).all(dim=1)
    if bool(is_broken_N.any()):
        first = int(is_broken_N.nonzero()[0])
        raise DescriptorError(
            f"{int(is_broken_N.sum())} of {len(rows)} descriptors are zero or not finite, first "
            f"that of {shards.describe(int(rows[first]))}; this model did not learn, train it again"
        )
