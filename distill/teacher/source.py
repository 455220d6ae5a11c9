"""Where a step's teacher outputs come from: the cache, or the frozen teacher itself."""

import logging
import shlex
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from data_shards.augment.on_device import finish, send
from data_shards.augment.variations import Variations
from data_shards.decode import DECODER
from data_shards.decoders import ImageBatch
from data_shards.errors import CacheError, CheckpointError, RecipeError
from data_shards.loader import image_batches, slot_variations
from data_shards.shards import RowNumbers, ShardSet
from data_shards.usable_cpus import usable_cpus
from distill.batches import DeviceBatch
from distill.collectives import rank
from distill.config import DistillConfig
from distill.inputs import PAIRED_VIEWS, local_cache
from distill.methods import METHODS
from distill.models import Outputs, normalize, to_device
from distill.run_folder import RunPaths
from distill.teacher.cache import CacheKey, FeatureCache, augment_values
from distill.teacher.codec import CODECS
from distill.weights_file import LoadedModel, load_student

log = logging.getLogger(__name__)

TEACHER_RECIPE = "configs/{method}/demo_teacher.yaml"
"""What a sentence proposes to someone who has no teacher yet."""

CPU_BATCH, GPU_BATCH = 32, 256
"""Images of every forward pass of a teacher; on CPUs the last one is padded. Kernels are chosen by
the size of a batch, and others round otherwise; with one size an image has the same outputs in any
company, to the last bit, so that a cache holds exactly what the live teacher says."""

AUDITED_SHARE, LEAST_AUDITED, MOST_AUDITED = 0.001, 8, 512
"""Rows of a cache that the live teacher computes again when training starts."""

OTHER_PROCESSOR = {"fp32": 5e-3, "bf16": 5e-2}
"""What another processor may make of the same weights and pixels (TF32 on GPUs rounds at 5e-4, bf16
at 4e-3 in every layer), as a part of an output's largest number; what an audit allows beyond the
codec's own error."""


class CachedTeacher:
    """Reads the outputs of the very image in its very augmentation slot from disk."""

    image_size: int | None = None
    """Size of the images that a teacher looks at in every step; this one looks at none."""

    def __init__(self, cache: FeatureCache, teacher: LoadedModel, *, device: torch.device) -> None:
        self.space, self.origin = teacher.descriptor_space, teacher.model.origin
        self.cache, self.device, self.shapes = cache, device, cache.key.shapes

    def __call__(self, batch: DeviceBatch) -> Outputs:
        """Return the teacher's outputs [V, ...], satellites first."""
        return self.cache.lookup(batch.keys, batch.slots, self.device)


class LiveTeacher:
    """Runs the frozen teacher on the same crops that the student sees, at its own size."""

    def __init__(
        self,
        config: DistillConfig,
        shards: ShardSet,
        teacher: LoadedModel,
        device: torch.device,
    ) -> None:
        """Take a model that `load_teacher` froze."""
        self.config, self.shards, self.device = config, shards, device
        self.key = cache_key(config, shards, teacher)
        self.model, self.shapes = to_device(teacher.model, device), self.key.shapes
        self.image_size, self.precision = self.key.image_size, self.key.precision
        self.name, self.origin = teacher.name, teacher.model.origin
        self.space = teacher.descriptor_space
        self.is_as_released = config.teacher.mode == "train"
        if self.is_as_released:
            torch.nn.Module.train(self.model)  # all of it; its own `train` is deaf

    def __call__(self, batch: DeviceBatch) -> Outputs:
        """Return the teacher's outputs [V, ...], satellites first."""
        views = batch.teacher_satellite, batch.teacher_drone
        if not self.is_as_released:
            images = torch.cat(views)
            return teacher_outputs(self.model, images, self.shapes, precision=self.precision)
        is_bf16 = self.precision == "bf16"
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=is_bf16):
            # Each view by its own batch statistics, behind dropout.
            tiles, drones = (self.model(normalize(view)) for view in views)
        return Outputs(
            {name: torch.cat([tiles[name], drones[name]]).float() for name in self.shapes}
        )

    def of_slots(
        self, rows: RowNumbers, slots: npt.NDArray[np.int64], *, threads: int
    ) -> Iterator[Outputs]:
        """Yield what the teacher says of image rows [N], of any views, in slots [N].

        In order, at most a `teacher_batch` at a time. The image is decoded, varied and described:
        what is stored of a mirrored slot is the mirrored image's own description.
        """

        def variations(part: slice) -> Variations:
            return slot_variations(self.shards, self.config.augment, rows[part], slots[part])

        batches = partial(
            image_batches,
            self.shards,
            rows,
            image_size=self.image_size,
            resampling=self.config.data.resampling,
            batch_size=teacher_batch(self.device),
            threads=threads,
        )
        for pixels in varied_batches(batches, variations, self.device):
            yield teacher_outputs(self.model, pixels, self.shapes, precision=self.precision)


Teacher = CachedTeacher | LiveTeacher
"""Answers what the teacher says of a batch, `shapes` for one image; its descriptors live in
`space`, and the weights that it was trained from are of `origin`."""


def varied_batches(
    batches: Callable[..., Iterator[tuple[RowNumbers, ImageBatch]]],
    variations: Callable[[slice], Variations],
    device: torch.device,
) -> Iterator[Tensor]:
    """Yield the images [., S, S, 3] of `image_batches` as they are varied, whole, on `device`."""
    coming: deque[Variations] = deque()

    def drawn(part: slice) -> Variations:
        coming.append(variations(part))  # loader and device ask the same one, which is read once
        return coming[-1]

    for _, images in batches(variations=drawn):
        yield finish(send(images, device), coming.popleft())


def teacher_batch(device: torch.device) -> int:
    return CPU_BATCH if device.type == "cpu" else GPU_BATCH


@torch.no_grad()  # not inference_mode: autograd must be able to save what losses compare with
def teacher_outputs(
    model: torch.nn.Module, images_NHWC: Tensor, names: Collection[str], *, precision: str
) -> Outputs:
    """Run a frozen teacher on uint8 images, and keep the outputs of these names as float32."""
    assert not model.training, "a teacher is in eval mode for good"
    parts, device = [], images_NHWC.device
    batch = teacher_batch(device)
    for part in images_NHWC.split(batch):
        missing = batch - len(part) if device.type == "cpu" else 0
        padded = F.pad(part, (0, 0) * 3 + (0, missing))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            outputs: Outputs = model(normalize(padded))
        parts.append({name: outputs[name][: len(part)].float() for name in names})
    return Outputs({name: torch.cat([part[name] for part in parts]) for name in names})


def load_teacher(config: DistillConfig, shards: ShardSet) -> LoadedModel:
    """Load the teacher of a recipe, and check that its logits stand for the places of these shards.

    Raises:
        RecipeError: the recipe names none, or it was trained with another method or on other
            places, or its patches do not divide the size it is to look at.
        CheckpointError: there is no trained model where the recipe says.
    """
    if config.teacher.run is None:
        raise RecipeError(
            f"recipe {config.name} names no teacher; set teacher.run to its run folder"
        )
    _refuse_missing(config.teacher.run, config)
    teacher = load_student(config.teacher.run)
    if teacher.recipe["method"] != config.method:
        raise RecipeError(
            f"teacher {config.teacher.run} was trained with method {teacher.recipe['method']}, and "
            f"{config.method} compares other outputs; give a teacher trained with {config.method}"
        )
    if teacher.places != class_places(shards):
        raise RecipeError(
            f"teacher {config.teacher.run} was trained on other places ({len(teacher.places)}) "
            f"than {config.data.shards} holds ({len(class_places(shards))}); train a teacher on "
            "these shards"
        )
    known, wanted = set(teacher.recipe["data"]["altitudes"]), set(config.data.altitudes)
    is_of_these = not known or (wanted and wanted <= known)
    if not is_of_these and not config.teacher.any_altitude:
        raise RecipeError(
            f"teacher {config.teacher.run} was trained on drone views of {in_metres(known)} alone, "
            f"and this recipe's are of {in_metres(wanted) or 'all heights'}; train "
            "a teacher on these, or set teacher.any_altitude to true"
        )
    size = config.teacher.image_size or teacher.image_size
    teacher.model.refuse_size(size, key="teacher.image_size")
    data = config.data
    trained = f"{teacher.image_size} px by {teacher.resampling}{_unless_squeezed(teacher.aspect)}"
    seen = f"{size} px by {data.resampling}{_unless_squeezed(data.aspect)}"
    if trained != seen and rank() == 0:
        log.warning(
            "teacher %s was trained on images of %s and will look at %s; make teacher.image_size, "
            "data.resampling and data.aspect equal unless that is meant",
            config.teacher.run,
            trained,
            seen,
        )
    freeze(teacher.model)
    return teacher


def _unless_squeezed(aspect: str) -> str:
    return "" if aspect == "squeeze" else f", {aspect}"


def in_metres(altitudes: Iterable[float]) -> str:
    return ", ".join(f"{altitude:g} m" for altitude in sorted(altitudes))


def _refuse_missing(run: Path, config: DistillConfig) -> None:
    """Say which command trains the teacher that is not there."""
    weights, own = RunPaths(run).weights, RunPaths(run).recipe
    if weights.is_file() or run.suffix == weights.suffix:
        return
    shipped = TEACHER_RECIPE.format(method=config.method)
    size = config.teacher.image_size or config.data.image_size
    more = ["--data.shards", str(config.data.shards), "--data.image_size", str(size)]
    if own.is_file():
        more = ["--expected_world_size", "null"]  # however many trained it so far
    words = [str(own) if own.is_file() else shipped, "--out", str(run), *more]
    raise CheckpointError(
        f"no trained model at {run}; train the teacher to its end: "
        f"skydistill train {shlex.join(words)}"
    )


def freeze(model: torch.nn.Module) -> None:
    """Put a model into eval mode for good: no gradient reaches it, and it is deaf to `.train()`."""
    model.eval().requires_grad_(requires_grad=False)
    model.train = lambda mode=True: model  # type: ignore[method-assign]


def class_places(shards: ShardSet) -> tuple[str, ...]:
    """Return the places of the class logits: all training places, held out or not, sorted."""
    return tuple(shards.places[place] for place in shards.train_places.tolist())


def cache_key(config: DistillConfig, shards: ShardSet, teacher: LoadedModel) -> CacheKey:
    """Return the key of the cache that this recipe needs."""
    shapes = METHODS[config.method].teacher_outputs(teacher.model)
    return CacheKey(
        teacher_sha256=teacher.sha256,
        outputs={name: list(shape) for name, shape in shapes.items()},
        shards=shards.fingerprint,
        image_size=config.teacher.image_size or teacher.image_size,
        altitudes=sorted(set(config.data.altitudes)),
        augment=augment_values(config.augment),
        decoder=f"{DECODER}, {config.data.resampling}{_unless_squeezed(config.data.aspect)}",
        codec=config.teacher.codec,
        precision=config.teacher.precision,
    )


def open_teacher(
    config: DistillConfig, shards: ShardSet, device: torch.device, *, recipe: str
) -> Teacher | None:
    """Return what the recipe's distillation terms compare with, or None when it has none."""
    if not config.objectives.needs_teacher:
        return None
    teacher = load_teacher(config, shards)
    if config.teacher.source == "live":
        return LiveTeacher(config, shards, teacher, device)
    key, folder = cache_key(config, shards, teacher), config.teacher.cache or Path()
    cache = FeatureCache.open(folder, shards=shards, key=key, recipe=recipe)
    if config.data.stage:
        cache = cache.staged(local_cache(config.data))
    if rank() == 0:
        audit(cache, LiveTeacher(config, shards, teacher, device))
    return CachedTeacher(cache, teacher, device=device)


def audit(cache: FeatureCache, teacher: LiveTeacher) -> None:
    """Compute some rows of a cache again, always the same, by the frozen teacher.

    Raises:
        CacheError: an output differs by more than codec and processor explain.
    """
    started, described = time.perf_counter(), cache.described
    total = len(described) * cache.slots
    allowed = CODECS[cache.key.codec].error + OTHER_PROCESSOR[cache.key.precision]
    count = min(total, max(LEAST_AUDITED, min(MOST_AUDITED, round(total * AUDITED_SHARE))))
    chosen = np.sort(np.random.default_rng(0).choice(total, count, replace=False))
    # Other ranks wait for this one; but more decoders than rows are no help.
    threads = min(teacher.config.data.threads or usable_cpus(), 1 + count // 32)
    worst = 0.0
    for view in PAIRED_VIEWS:
        of_view = chosen[cache.shards.images.view[described[chosen // cache.slots]] == view]
        rows, slots = described[of_view // cache.slots], of_view % cache.slots
        live = list(teacher.of_slots(rows, slots, threads=threads))
        for name, stored in cache.lookup(rows, slots, teacher.device).items() if live else ():
            values = torch.cat([part[name] for part in live])
            largest = values.flatten(1).abs().amax(1).clamp(min=torch.finfo(values.dtype).tiny)
            differs = ((stored - values).flatten(1).abs().amax(1) / largest).cpu()
            at = int(differs.nan_to_num(nan=torch.inf).argmax())
            if not differs[at] <= allowed:
                raise CacheError(
                    f"teacher cache {cache.folder} does not hold what the teacher says: "
                    f"{cache.shards.describe(int(rows[at]))} in slot {slots[at]}, output {name}, "
                    f"differs by {differs[at]:.2g} of its largest number ({allowed:.2g} is "
                    "allowed); remove the cache, and run skydistill cache again"
                )
            worst = max(worst, float(differs[at]))
    log.info(
        "audited %d of %d rows of teacher cache %s in %.2f s: they differ by %.1g of the largest "
        "number at most (%.1g is allowed)",
        count,
        total,
        cache.folder,
        time.perf_counter() - started,
        worst,
        allowed,
    )
