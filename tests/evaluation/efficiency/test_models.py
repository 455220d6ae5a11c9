"""`skydistill models`: every model, as a table and as JSON."""

import json
from typing import Any

import pytest

from data_shards.errors import RecipeError
from distill.models import ARCHS
from evaluation.cli import models


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert models([*arguments, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_every_model_is_listed_at_the_size_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, "--image-size", "64")
    names = [model["name"] for model in found]
    sizes = [model["cost"]["parameters"] for model in found]
    assert sorted(names) == sorted(name for name in ARCHS if "patch14" not in name), "64 = 4 x 16"
    assert sizes == sorted(sizes), "the smallest first"
    small = ("convnext_micro", "bnext_micro", "bnext_micro_float", "convnext_milli")
    assert tuple(names[:4]) == small
    assert {model["cost"]["image_size"] for model in found} == {64}
    assert all(model["speed"] is None for model in found)


def test_models_asked_for_by_name_come_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, "convnext_atto", "convnext_micro", "--image-size", "64")
    assert [model["name"] for model in found] == ["convnext_atto", "convnext_micro"]


def test_the_costs_of_pfeds_student(capsys: pytest.CaptureFixture[str]) -> None:
    (tiny,) = listed(capsys, "convnext_tiny")
    cost = tiny["cost"]
    assert (tiny["descriptor_width"], round(cost["macs"] / 1e9, 4)) == (768, 4.4548)
    assert (tiny["source"], tiny["licence"]) == ("timm/convnext_tiny.in12k_ft_in1k", "apache-2.0")
    assert cost["flops"] == 2 * cost["macs"]
    assert (cost["ops"], cost["ops_per_pair"]) == (cost["macs"], 2 * cost["macs"])


def test_measured_models_say_how(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convnext_micro", "--measure-speed", "--most-seconds", "0", "--image-size", "32"]
    (model,) = listed(capsys, *words, "--threads", "1", "--batch-size", "2")
    speed = model["speed"]
    assert (speed["batch_size"], speed["threads"], speed["runs"]) == (2, 1, 3)
    assert models([*words, "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert "images/s" in shown and "float32, 1 thread, batch 1:" in shown
    assert "MiB" in shown.splitlines()[2], "the memory at most in use stands in the table too"
    assert "…" not in shown


def test_the_table_fits_and_states_its_convention(capsys: pytest.CaptureFixture[str]) -> None:
    assert models([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ARCHS)
    assert "4.455" in shown and "8.910" in shown and "BOPs/64" in shown and "224 px" in shown
    assert "…" not in shown and max(map(len, shown.splitlines())) <= 100
    assert "under dinov3-license: timm/vit_small_patch16_dinov3.lvd1689m," in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["convnext_tinny"], "did you mean 'convnext_tiny'"),
        (["--image-size", "31"], "--image-size"),
        (["--batch-size", "0"], "--batch-size"),
        (["--precision", "int8"], "precision 'int8' is unknown; known: float32, bfloat16"),
        (["--batch-size", "4"], "--batch-size says nothing without --measure-speed"),
        (["--threads", "1"], "--threads says nothing without --measure-speed"),
        (["--precision", "bfloat16"], "--precision says nothing without --measure-speed"),
        (["--most-seconds", "1"], "--most-seconds says nothing without --measure-speed"),
    ],
)
def test_what_cannot_be_listed_is_refused(arguments: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        models(arguments)
