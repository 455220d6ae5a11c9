"""What a dry run says of memory and disk, beside what a training takes."""

import json
import re
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import pytest
from torch.profiler import ProfilerActivity, profile

from data_shards.errors import RecipeError, SkyDistillError
from distill.cli import cache, train
from distill.dry_run import memory_of_a_rank
from distill.mining import planned_batches
from distill.models import Shapes
from distill.models import weights as first_weights
from distill.session import Session
from distill.step import DTYPES, weigh
from distill.teacher.source import cache_key, load_teacher
from tests.distill.conftest import ALL_TERMS, BRANCHES, open_alone, run_alone, write_recipe


def most_held_in_a_step(session: Session, tmp_path: Path, *, precision: str) -> int:
    """Return the bytes that forward and backward hold at most, as torch's profiler counts them."""
    weights, session.whole.dtype = session.config.objectives.weights, DTYPES[precision]
    batch = session.on_device(next(planned_batches(session)))

    def forward_and_backward() -> None:
        session.step.zero_grad()
        weigh(session.step(batch, list(weights))[0], weights).backward()

    forward_and_backward()  # what stays is made
    session.step.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        forward_and_backward()
    seen.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    events = sorted((one for one in events if one.get("name") == "[memory]"), key=itemgetter("ts"))
    first = events[0]["args"]
    before = first["Total Allocated"] - first["Bytes"]  # by earlier profiles of this process
    return int(max(one["args"]["Total Allocated"] for one in events) - before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("changes", [{"objectives": {"cross_entropy": {"weight": 1}}}, BRANCHES])
def test_memory_is_within_a_fifth_of_what_torch_allocates(
    make_config, tmp_path, changes, precision
):
    data = {"image_size": 64, "global_batch": 8, "drones_per_row": 2}
    config = make_config(**changes, data=data)
    session = open_alone(config)
    config = replace(config, precision=precision)
    memory = memory_of_a_rank(config, session.shards, None, rows=8)
    held = most_held_in_a_step(session, tmp_path, precision=precision)
    assert memory["activations"] + memory["gradients"] == pytest.approx(held, rel=0.2)
    assert memory["activations"] > memory["gradients"]
    weights = sum(tensor.nbytes for tensor in session.step.state_dict().values())
    assert memory["weights"] == pytest.approx(weights, rel=0.01)


def test_a_dry_run_tells_what_a_run_will_be(distilled, tmp_path, capsys):
    config = distilled(schedule={"num_steps": 3}, augment={"slots": 1})
    recipe = write_recipe(tmp_path / "recipe.yaml", config)
    assert train([str(recipe), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert not config.run_folder.exists()
    session = run_alone(replace(config, teacher=replace(config.teacher, source="live")))
    shards = session.shards
    shapes: Shapes = cache_key(config, shards, load_teacher(config, shards)).shapes
    assert set(config.objectives.weights) == set(ALL_TERMS) and shapes["logits"]
    assert told["fingerprints"]["shards"] == shards.fingerprint
    assert len(told["fingerprints"]["teacher cache"]) == 64
    assert (told["ranks"], told["rows_per_rank"], told["steps"]) == (1, 4, 3)
    assert told["recipe"]["data"]["global_batch"] == told["global_batch"] == 4
    (newest,) = session.paths.checkpoints.iterdir()
    size = sum(path.stat().st_size for path in newest.rglob("*"))
    foretold = told["bytes_on_disk"]["checkpoints"] / (config.keep_checkpoints + 1)
    assert foretold == pytest.approx(size, rel=0.2)
    moments = [
        moment.nbytes
        for state in session.groups.state.values()
        for moment in state.values()
        if moment.ndim
    ]
    assert told["bytes_of_a_rank"]["moments"] == pytest.approx(sum(moments), rel=0.01)


def test_a_dry_run_ends_as_the_training_would(distilled, tmp_path, caplog):
    caplog.set_level("INFO")
    config = distilled(augment={"slots": 1}, teacher={"cache": str(tmp_path / "cache")})
    recipe = str(write_recipe(tmp_path / "recipe.yaml", config))
    assert train([recipe, "--dry-run"]) == 0
    assert cache([recipe]) == train([recipe, "--dry-run"]) == 0
    assert caplog.text.count("holds no teacher cache yet") == 1
    config.run_folder.mkdir(parents=True)
    write_recipe(config.run_folder / "recipe.yaml", config)
    cropped = ["--data.aspect", "crop", "--out", str(tmp_path / "cropped")]
    for words, sentence in (
        (["--data.validation_fraction", "0.01"], "holds out none for the probe"),
        (["--data.aspect", "crop"], "holds a run of another recipe (differs in data.aspect)"),
        (cropped, "decoder (simplejpeg+pillow, opencv-linear, here"),
    ):
        with pytest.raises(SkyDistillError, match=re.escape(sentence)):
            train([recipe, "--dry-run", *words])


def test_a_dry_run_tells_that_first_weights_cannot_be_had(make_config, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(first_weights, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(first_weights, "try_to_load_from_cache", lambda *_: None)
    recipe = str(write_recipe(tmp_path / "recipe.yaml", make_config()))
    words = ["--dry-run", "--model.arch", "convnext_atto", "--model.weights"]
    for given, sentence in (("timm", "could not be fetched"), ("no.pth", "no.pth cannot be read")):
        with pytest.raises(RecipeError, match=sentence):
            train([recipe, *words, given])
