"""The weights users take away: a safetensors file that suffices to load the model, and a card.

Nothing here unpickles anything.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data_shards.config import Aspect, Resampling
from data_shards.decode import Pixels, resize, square
from data_shards.errors import CheckpointError
from data_shards.layouts.published import is_official
from data_shards.manifest import write_text_aside
from data_shards.recipe import build_config, to_values
from data_shards.schema import Role, View
from data_shards.shards import ShardSet
from distill.config import DistillConfig, ModelConfig
from distill.methods import METHODS
from distill.models import RetrievalModel
from distill.models.preprocess import normalize
from distill.models.retrieval import inference
from distill.models.weights import Origin, file_sha256, not_finite
from distill.run_folder import RunPaths

WEIGHTS_FORMAT = "skydistill-weights-1"
IMAGES_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The data set that a model was trained on; all is empty where it is not known."""

    dataset: str = ""
    fingerprint: str = ""
    official: str = ""
    """Its layout, where every count is that of the public data set."""

    profile: str = ""
    """What became of its image files, as JSON: resized ones have other digests."""

    satellites: str = ""
    """64 bits of the digest of every satellite image trained on, sorted, in hexadecimal."""

    @classmethod
    def of(cls, shards: ShardSet) -> "TrainingData":
        """Describe the shards of a training."""
        manifest = shards.manifest
        return cls(
            dataset=manifest.name or manifest.layout,
            official=manifest.layout if is_official(shards) else "",
            fingerprint=shards.fingerprint,
            profile=json.dumps(manifest.profile, sort_keys=True),
            satellites=np.unique(_satellites(shards)).astype("<u8").tobytes().hex(),
        )

    def shows(self, shards: ShardSet) -> npt.NDArray[np.bool_]:
        """Return which images [N] of these shards are satellite images that were trained on."""
        trained = np.frombuffer(bytes.fromhex(self.satellites), dtype="<u8")
        images = shards.images
        satellites: npt.NDArray[np.bool_] = images.view == View.SATELLITE
        satellites[satellites] = np.isin(images.digest[satellites], trained)
        return satellites

    def is_of(self, theirs: "TrainingData", shards: ShardSet, *, places: Sequence[str]) -> bool:
        """Whether this, with these training places, is the data set of `shards`, named as it may.

        `theirs` is what a training on `shards` would be told to be of.

        It is where they are the very shards, show a satellite image that was trained on, or where
        both are the public data set. Where images cannot tell, the name does: the weights or the
        shards hold none to train on; or the shards store theirs in another way, and then the
        training places have to be the same too.
        """
        if (
            self.fingerprint == theirs.fingerprint
            or self.shows(shards).any()
            or self.official
            and self.official == theirs.official
        ):
            return True
        if not (self.satellites and theirs.satellites):
            return self.dataset == theirs.dataset
        is_stored_alike = self.profile == theirs.profile
        train_places = [shards.places[place] for place in shards.train_places.tolist()]
        return not is_stored_alike and (self.dataset, [*places]) == (theirs.dataset, train_places)


def _satellites(shards: ShardSet) -> npt.NDArray[np.uint64]:
    """Return the digests of the satellite images of all training places."""
    images = shards.images
    places = shards.train_places.tolist()
    return images.digest[images.where(role=Role.TRAIN, view=View.SATELLITE, places=places)]


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A trained model, ready to describe images."""

    model: RetrievalModel
    name: str
    role: str
    image_size: int
    resampling: Resampling
    aspect: Aspect
    step: int
    places: tuple[str, ...]
    """Places its class logits stand for."""

    trained_on: TrainingData
    recipe: dict[str, Any]
    sha256: str
    """Of the weight file."""

    descriptor_space: str
    """Where its unit descriptors live: `sha256`, or that of the teacher whose space they share."""

    path: Path
    run: RunPaths | None
    """The run it lies in, if it does."""


def save_weights(
    file: Path,
    card: Path,
    model: RetrievalModel,
    config: DistillConfig,
    *,
    places: Sequence[str],
    step: int,
    trained_on: TrainingData,
    descriptor_space: str = "",
    teacher: Origin | None = None,
    history: str = "",
) -> None:
    """Write a weight file, which alone suffices to load the model, and its card.

    `descriptor_space` is that of the teacher into whose space the model describes; empty for one of
    its own. `teacher` is where the weights of the teacher that it learned from came from, and
    `history` what the card says of a model that no training here made.

    Raises:
        CheckpointError: the disk is full.
    """
    meta = {"recipe": to_values(config), "places": places, "step": step}
    meta |= {"descriptor_space": descriptor_space, "origin": asdict(model.origin)}
    meta |= {"trained_on": asdict(trained_on)}
    # One entry: safetensors writes several in any order, and the digest names the teacher.
    entry = {WEIGHTS_FORMAT: json.dumps(meta, sort_keys=True)}
    save_tensors(file, model.state_dict(), entry)
    history = history or _training(config, step, teacher)
    write_text_aside(card, _card(config, model, history=history, space=descriptor_space))


def save_training_parts(paths: RunPaths, step: nn.Module) -> None:
    """Write what a step has beside its model: stage heads, projection, proxies, scale."""
    state = step.state_dict().items()
    parts = {name: value for name, value in state if not name.startswith("model.")}
    save_tensors(paths.training_parts, parts)


def save_tensors(
    path: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write named tensors to a `.safetensors` file, whole or not at all.

    Raises:
        CheckpointError: the disk is full, or closed to us.
    """
    on_host = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    aside = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(on_host, aside, metadata=metadata)
        aside.replace(path)
    except (OSError, SafetensorError) as error:
        aside.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path} could not be written ({error}); free space and run the same command again"
        ) from error


def start_from(step: nn.Module, run: Path, *, places: Sequence[str]) -> Origin:
    """Give a step the model of a finished run, and its training parts where both have them.

    A weight file is a run without training parts. Returns where that run's first weights came from:
    what is trained from them has their licence.

    Raises:
        CheckpointError: the run has not ended, or is of other places or another network.
    """
    earlier, file = load_student(run), RunPaths(run).training_parts
    if earlier.places != tuple(places) or run.is_dir() and not file.is_file():
        raise CheckpointError(
            f"start: {run} is no finished run on these places; give the run folder of one"
        )
    their_map = earlier.recipe["model"].get("attention_map", "whole")
    if getattr(step.get_submodule("model.head"), "attention_map", their_map) != their_map:
        raise CheckpointError(
            f"start: the attention of {run} looks at the {their_map} map; set "
            f"model.attention_map to {their_map}"
        )
    own = step.state_dict()
    parts = {
        name: value
        for name, value in (load_file(file) if run.is_dir() else {}).items()
        if name in own and own[name].shape == value.shape
    }
    try:
        step.get_submodule("model").load_state_dict(earlier.model.state_dict())
    except RuntimeError as error:
        raise CheckpointError(
            f"start: the model of {run} is another ({' '.join(str(error).split())[:300]}); give "
            "model.* as that run has it"
        ) from error
    step.load_state_dict(step.state_dict() | parts)
    return earlier.model.origin


def load_student(path: Path) -> LoadedModel:
    """Load a trained model (of any role) from a run folder or a `.safetensors` file, in eval mode.

    Raises:
        CheckpointError: there is none, it is damaged, or it was not written by SkyDistill.
    """
    file = RunPaths(path).weights if path.is_dir() else path
    if not file.is_file():
        runs = ", ".join(sorted(str(found.parent) for found in path.glob(f"*/{file.name}")))
        found = f"; below are {shorten(runs, 300, placeholder=' ...')}" if runs else ""
        raise CheckpointError(
            f"no trained model at {file}; give a run folder whose training has ended, or a weight "
            f"file{found}"
        )
    try:
        with safe_open(file, framework="pt") as opened:
            meta = json.loads((opened.metadata() or {})[WEIGHTS_FORMAT])
        recipe, places = meta["recipe"], tuple(meta["places"])
        values = recipe["model"] | {"weights": "none"}  # those of the file follow
        model = METHODS[recipe["method"]].build(
            build_config(ModelConfig, values, where=str(file)), num_places=len(places)
        )
        model.load_state_dict(state := load_file(file))
        model.origin = Origin(**meta.get("origin", {}))
        image_size, resampling = recipe["data"]["image_size"], recipe["data"]["resampling"]
    except Exception as error:  # noqa: BLE001 - what others wrote fails in many ways
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{file} does not fit this version of skydistill, is damaged, is a checkpoint, which "
            f"resumes a training, or a file of others ({reason}); give a run folder whose training "
            "has ended, or its weights"
        ) from error
    if bad := not_finite(state.items()):
        raise CheckpointError(f"{file} holds {bad}; give a run whose training went well")
    sha256 = file_sha256(file)
    return LoadedModel(
        model=model.eval().requires_grad_(requires_grad=False),
        name=recipe["name"],
        role=recipe["role"],
        image_size=image_size,
        resampling=resampling,
        aspect=recipe["data"].get("aspect", "squeeze"),
        step=meta["step"],
        places=places,
        trained_on=TrainingData(**meta.get("trained_on", {})),
        recipe=recipe,
        sha256=sha256,
        descriptor_space=meta.get("descriptor_space") or sha256,
        path=file,
        run=RunPaths(file.parent) if RunPaths(file.parent).recipe.is_file() else None,
    )


class ImageDescriber:
    """A trained model as MLflow loads it: `mlflow.pyfunc.load_model(...).predict(images)`."""

    def __init__(self, path: str) -> None:
        self.loaded = load_student(Path(path))
        if torch.cuda.is_available():
            self.loaded.model.cuda()

    def predict(self, images: Sequence[Pixels], params: object = None) -> Pixels:
        """Return unit descriptors [N, D] of uint8 images [N, H, W, 3] of any size."""
        model, size, resampling = self.loaded.model, self.loaded.image_size, self.loaded.resampling
        aspect = self.loaded.aspect
        device, described = next(model.parameters()).device, []
        for start in range(0, len(images), IMAGES_AT_ONCE):
            part = images[start : start + IMAGES_AT_ONCE]
            squares = (square(one, aspect) for one in part)
            resized = np.stack([resize(one, size=size, resampling=resampling) for one in squares])
            with inference(model):
                descriptors_ND = model.describe(normalize(torch.from_numpy(resized).to(device)))
            described.append(descriptors_ND.float().cpu().numpy())
        return np.concatenate(described)


_load_pyfunc = ImageDescriber
"""What MLflow calls."""


def _in_words(origin: Origin) -> str:
    """Tell where weights came from, and under which licence what is derived from them stands."""
    if origin.source == "none":
        return "fresh weights"
    return f"{origin.source} (sha256 {origin.sha256[:12]}), licence: {origin.licence_in_words}"


def _training(config: DistillConfig, step: int, teacher: Origin | None) -> str:
    terms = ", ".join(f"{name} x {weight:g}" for name, weight in config.objectives.weights.items())
    decay = config.optimizer.ema_decay
    ema = f"; weights averaged over steps, decay {decay:g}, batch statistics of the last"
    told = f"{config.teacher.run}, started from: {_in_words(teacher)}" if teacher else "none"
    return (
        f"trained: {step} steps of {config.data.global_batch} places; loss: {terms}"
        f"{ema if decay else ''}\n- teacher: {told}"
    )


def _card(config: DistillConfig, model: RetrievalModel, *, history: str, space: str) -> str:
    count = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"# {config.name}\n\n"
        f"- role: {config.role}, method: {config.method}\n"
        f"- backbone: {config.model.arch}, {count:,} parameters with class head\n"
        f"- started from: {f'run {config.start}, ' if config.start else ''}"
        f"{_in_words(model.origin)}\n"
        f"- input: {config.data.image_size} x {config.data.image_size} px RGB, by "
        f"{config.data.resampling} ({config.data.aspect}), ImageNet mean and deviation\n"
        f"- descriptor: {model.width} numbers, unit length, compared by cosine\n"
        f"- descriptor_space: {space or 'its own, named by the sha256 of its weights'}\n"
        f"- {history}\n\n"
        "Load it with `distill.weights_file.load_student`, evaluate it by `skydistill evaluate`.\n"
    )
