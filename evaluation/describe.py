"""Every image described exactly once, shared among the ranks and brought together on each."""

# Shapes: N = images, D = descriptor width.

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_shards.augment.on_device import send
from data_shards.config import Resampling
from data_shards.decode import Pixels
from data_shards.errors import DescriptorError
from data_shards.loader import image_batches
from data_shards.progress import Progress
from data_shards.shards import RowNumbers, ShardSet
from data_shards.usable_cpus import usable_cpus
from distill.collectives import gather_arrays, rank, world_size
from distill.launched import ranks_on_this_node
from distill.models import RetrievalModel, inference, normalize

Change = Callable[[Pixels, str], Pixels]
"""What is laid over an image of the model's size, given the image's key: weather, light."""


@dataclass(frozen=True, kw_only=True)
class Descriptors:
    """Unit descriptors of some images, by row number."""

    rows: RowNumbers
    """Rows of the image table, ascending, each once [N]."""

    descriptor_ND: Tensor
    """On the CPU."""

    device: torch.device = torch.device("cpu")
    """Where they were computed, and are compared."""

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
    flip: bool = False,
    change: Change | None = None,
) -> Descriptors:
    """Describe the images of all `rows`, shared ones once; every rank calls it and gets them all.

    Args:
        model: on the device that computes.
        rows: of the image table; an image may stand in several.
        batch_size: images that a rank describes at once.
        threads: of this rank, which decode; 0 takes its share of the processors.
        progress: told how many images all ranks have described.
        flip: whether the mirrored image is described too, and added.
        change: laid over every image.

    Raises:
        ShardError: an image cannot be decoded.
        DescriptorError: a descriptor is not finite.
    """
    wanted = np.unique(np.concatenate(rows))
    threads = threads or max(1, usable_cpus() // ranks_on_this_node())
    device = next(model.parameters()).device
    batches = image_batches(
        shards,
        _dealt(wanted, batch_size, to=rank()),
        image_size=image_size,
        resampling=resampling,
        batch_size=batch_size,
        threads=threads,
    )
    parts: list[npt.NDArray[np.float32]] = []
    done = 0
    with inference(model), ThreadPoolExecutor(threads) as pool:
        for part, images in batches:
            if change:
                keys = shards.images.key[part].tolist()
                images = np.stack(list(pool.map(change, images, keys)))
            pixels = normalize(send(images, device))
            parts.append(model.describe(pixels, flip=flip).float().cpu().numpy())
            done += len(part)
            progress(min(done * world_size(), len(wanted)), len(wanted))
    descriptor_ND = _together(parts, wanted, batch_size)
    is_broken_N = ~descriptor_ND.isfinite().all(dim=1) | (descriptor_ND == 0).all(dim=1)
    if bool(is_broken_N.any()):
        first = int(is_broken_N.nonzero()[0])
        raise DescriptorError(
            f"{int(is_broken_N.sum())} of {len(wanted)} descriptors are zero or not finite, first "
            f"that of {shards.describe(int(wanted[first]))}; this model did not learn, train it "
            "again"
        )
    return Descriptors(rows=wanted, descriptor_ND=descriptor_ND, device=device)


def _dealt(rows: RowNumbers, batch_size: int, *, to: int) -> RowNumbers:
    """Return the rows of one rank: every so many batches, each as one process would cut it.

    So the bits of a descriptor do not depend on how many ranks described.
    """
    starts = range(to * batch_size, len(rows), world_size() * batch_size)
    return np.concatenate([rows[:0], *(rows[start : start + batch_size] for start in starts)])


def _together(
    parts: Sequence[npt.NDArray[np.float32]], wanted: RowNumbers, batch_size: int
) -> Tensor:
    """Bring the descriptors of all ranks together, in the order of `wanted` [N, D]."""
    # A rank without images knows no width, so its part is left out by its length.
    gathered = [
        part
        for part in gather_arrays(np.concatenate(parts or [np.empty((0, 1), np.float32)]))
        if len(part)
    ]
    rows = np.concatenate([_dealt(wanted, batch_size, to=number) for number in range(world_size())])
    descriptors = np.concatenate(gathered)
    order = np.argsort(rows)
    is_each_once = len(descriptors) == len(wanted) and np.array_equal(rows[order], wanted)
    assert is_each_once, "every image is described exactly once"
    return torch.from_numpy(descriptors[order])
