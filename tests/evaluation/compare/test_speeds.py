"""Images per second: a column where all were measured on one machine at one batch size."""

import csv
import io
from dataclasses import replace

import pytest

from evaluation.efficiency import Speed
from tests.evaluation.compare.conftest import make_report, make_speed

H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"


def at(device: str, images_per_second: float, *, batch_size: int = 64, **more) -> Speed:
    speed = make_speed(device, images_per_second)
    milliseconds = 1000 * batch_size / images_per_second
    more.setdefault("threads", 0)
    return replace(speed, batch_size=batch_size, median_ms=milliseconds, **more)


@pytest.fixture
def runs(run_folder):
    """Writes a run per seed, each with its speeds, and returns their folder."""

    def write(name: str, *speeds: tuple[Speed, ...]):
        for seed, speed in enumerate(speeds):
            report = make_report(f"{name}_seed{seed}", seed=seed, speed=speed)
            folder = run_folder(f"runs/{name}{seed}", report)
        return folder.parent

    return write


def speeds(table: dict) -> dict[str, dict]:
    return {
        row["label"]: number
        for row in table["rows"]
        for number in row["numbers"]
        if number["metric"] == "images_per_second"
    }


def test_seeds_of_one_machine_become_a_mean_that_says_where_it_was_measured(compare, runs) -> None:
    folder = runs("a", (at(H100, 4000),), (at(H100, 4200),), ())
    where = f"{H100}, float32, batch 64"
    table = compare(folder, "--json", "--no-published").table
    number = speeds(table)["a"]
    assert number["low"] == pytest.approx(4100) and number["runs"] == 2
    assert number["measured_on"] == where and f"images/s: {where}" in table["notes"]
    assert "4100 (2)" in compare(folder, "--no-published").out, "a run without a speed is said"
    lines = csv.DictReader(io.StringIO(compare(folder, "--format", "csv", "--no-published").out))
    told = {line["metric"]: line["measured_on"] for line in lines}
    assert [metric for metric, said in told.items() if said] == ["images_per_second"]
    assert told["images_per_second"] == where


def test_of_the_batch_sizes_that_all_have_the_fastest_is_told(compare, runs) -> None:
    runs("a", (at(H100, 300, batch_size=1), at(H100, 4000)))
    folder = runs("b", (at(H100, 320, batch_size=1), at(H100, 9000, batch_size=128)))
    table = compare(folder, "--json", "--no-published").table
    found = {label: number["low"] for label, number in speeds(table).items()}
    assert found == {"a": pytest.approx(300), "b": pytest.approx(320)}
    assert f"images/s: {H100}, float32, batch 1" in table["notes"]


@pytest.mark.parametrize(
    ("other", "where"),
    [
        (at(A100, 5000), f"{A100}, float32, batch 64"),
        (at(H100, 5000, precision="bfloat16"), f"{H100}, bfloat16, batch 64"),
        (at(H100, 5000, batch_size=128), f"{H100}, float32, batch 128"),
        (at("EPYC", 5000, threads=1), "EPYC, float32, 1 thread, batch 64"),
    ],
    ids=["device", "precision", "batch size", "processor"],
)
def test_speeds_measured_apart_are_left_out_and_said(compare, runs, tmp_path, other, where) -> None:
    runs("a", (at(H100, 4000),))
    folder = runs("b", (other,))
    figures = tmp_path / "figures"
    table = compare(folder, "--json", "--figures", figures).table
    assert speeds(table) == {}
    said = f"images/s are left out, they were measured apart: {H100}, float32, batch 64, {where}"
    assert said in table["notes"]
    assert not any("speed" in path.name for path in figures.iterdir())


def test_few_images_per_second_keep_their_digits(compare, runs) -> None:
    assert " 0.254" in compare(runs("a", (at("EPYC", 0.254),)), "--no-published").out
